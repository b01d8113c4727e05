"""Tenants and their domains as operators see and change them; mailboxes and routes are next door in `mailboxes`.

A change that cannot be made (a taken name) is None or False, not an exception; the caller finds the words. Names arrive
normalised: domains as lower-case A-labels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from ingester.core.address import Address
from ingester.store.db import Connection
from ingester.store.mailboxes import NewMailbox, add_mailbox, mailbox

SYSTEM_MAILBOXES = ("postmaster", "reply")
"""What every domain has besides its own mailboxes; no route leads there, the directory knows them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A customer."""

    id: UUID
    slug: str
    name: str
    status: str
    created_at: datetime
    retention_days: int | None
    """How long messages are kept: 0 is for ever, None what the settings say."""
    attachment_days: int | None
    """The same for the raw bytes, and the attachments in them."""


_TENANT = "id, slug, name, status, created_at, retention_days, attachment_days"


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """A receiving domain of a tenant. Several tenants may have it pending, one may have it verified."""

    tenant_id: UUID
    tenant: str
    name: str
    status: str
    invalid_tokens: str
    created_at: datetime


async def add_tenant(connection: Connection, *, tenant_id: UUID, slug: str, name: str) -> Tenant | None:
    """Make a tenant; None when the slug is taken."""
    row = await connection.fetchrow(
        f"""
        INSERT INTO tenants (id, slug, name) VALUES ($1, $2, $3) ON CONFLICT (slug) DO NOTHING
        RETURNING {_TENANT}
        """,  # noqa: S608  (only our own constant is put in)
        tenant_id,
        slug,
        name,
    )
    return None if row is None else Tenant(**dict(row))


async def tenants(connection: Connection) -> list[Tenant]:
    """All tenants by slug, the system's own first."""
    rows = await connection.fetch(
        f"""
        SELECT {_TENANT} FROM tenants
        ORDER BY id <> '00000000-0000-0000-0000-000000000000', slug
        """  # noqa: S608
    )
    return [Tenant(**dict(row)) for row in rows]


async def tenant(connection: Connection, slug: str) -> Tenant | None:
    """The tenant of a slug."""
    row = await connection.fetchrow(f"SELECT {_TENANT} FROM tenants WHERE slug = $1", slug)  # noqa: S608
    return None if row is None else Tenant(**dict(row))


async def set_tenant_status(connection: Connection, tenant_id: UUID, status: str) -> Tenant | None:
    """Make a tenant active or suspended; None where it is gone, or is being erased.

    Saying it again does not start the time of a suspension anew.
    """
    row = await connection.fetchrow(
        f"""
        UPDATE tenants SET status = $2, status_since = CASE WHEN status = $2 THEN status_since ELSE now() END
        WHERE id = $1 AND status <> 'erasing'
        RETURNING {_TENANT}
        """,  # noqa: S608
        tenant_id,
        status,
    )
    return None if row is None else Tenant(**dict(row))


async def enter(connection: Connection, tenant_id: UUID) -> None:
    """Share the lock of whoever writes for a tenant, until the end of the caller's transaction.

    Raises what the mail is tried again for where the tenant is being erased, or was.
    """
    await connection.execute("SELECT enter_tenant($1)", tenant_id)


async def enter_alone(connection: Connection, tenant_id: UUID) -> None:
    """Take that lock alone: whoever writes for the tenant is waited for, and waits until the end of the transaction."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1::uuid::text, 0))", tenant_id)


async def add_domain(
    connection: Connection, *, tenant_id: UUID, name: str, verified: bool, system_ids: tuple[UUID, UUID]
) -> Domain | None:
    """Make a domain and its system mailboxes. None when the tenant has it, or when another has it verified."""
    row = await connection.fetchrow(
        """
        WITH d AS (
            INSERT INTO domains (tenant_id, name, status) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
            RETURNING tenant_id, name, status, invalid_tokens, created_at
        ), made AS (
            INSERT INTO mailboxes (tenant_id, id, domain, local_part, system)
            SELECT d.tenant_id, s.id, d.name, s.name, s.name FROM d, unnest($4::uuid[], $5::text[]) AS s(id, name)
            ON CONFLICT DO NOTHING
        )
        SELECT d.tenant_id, t.slug AS tenant, d.name, d.status, d.invalid_tokens, d.created_at
        FROM d JOIN tenants t ON t.id = d.tenant_id
        """,
        tenant_id,
        name,
        "verified" if verified else "pending",
        system_ids,
        SYSTEM_MAILBOXES,
    )
    return None if row is None else Domain(**dict(row))


async def verify_domain(connection: Connection, tenant_id: UUID, name: str) -> Domain | None:
    """Make a domain verified. None when the tenant lacks it, or when another has it verified."""
    try:
        row = await connection.fetchrow(
            """
            UPDATE domains d SET status = 'verified' FROM tenants t
            WHERE d.tenant_id = $1 AND d.name = $2 AND t.id = d.tenant_id
            RETURNING d.tenant_id, t.slug AS tenant, d.name, d.status, d.invalid_tokens, d.created_at
            """,
            tenant_id,
            name,
        )
    except asyncpg.UniqueViolationError:
        return None
    return None if row is None else Domain(**dict(row))


async def owners(connection: Connection, name: str) -> list[Domain]:
    """Whoever has a domain: the verified owner first, then in the order in which they came."""
    rows = await connection.fetch(
        """
        SELECT d.tenant_id, t.slug AS tenant, d.name, d.status, d.invalid_tokens, d.created_at
        FROM domains d JOIN tenants t ON t.id = d.tenant_id
        WHERE d.name = $1
        ORDER BY d.status = 'verified' DESC, d.created_at, t.slug
        """,
        name,
    )
    return [Domain(**dict(row)) for row in rows]


async def domains(connection: Connection, tenant_ids: Sequence[UUID]) -> list[Domain]:
    """The domains of these tenants, by name."""
    rows = await connection.fetch(
        """
        SELECT d.tenant_id, t.slug AS tenant, d.name, d.status, d.invalid_tokens, d.created_at
        FROM domains d JOIN tenants t ON t.id = d.tenant_id
        WHERE d.tenant_id = ANY ($1)
        ORDER BY d.name, t.slug
        """,
        tenant_ids,
    )
    return [Domain(**dict(row)) for row in rows]


async def remove_domain(connection: Connection, tenant_id: UUID, name: str) -> bool:
    """Remove a domain that no route names any more; False otherwise. Its mailboxes and their mail stay."""
    removed = await connection.fetchval(
        """
        DELETE FROM domains d
        WHERE d.tenant_id = $1 AND d.name = $2
          AND NOT EXISTS (SELECT FROM routes r WHERE r.tenant_id = d.tenant_id AND r.domain = d.name)
        RETURNING true
        """,
        tenant_id,
        name,
    )
    return removed is True


async def seed(
    connection: Connection, *, tenant: str, domain: str, mailboxes: Sequence[str], new_id: Callable[[], UUID]
) -> None:
    """Make a tenant with a verified domain and mailboxes, where they are not there yet, in the caller's transaction."""
    await add_tenant(connection, tenant_id=new_id(), slug=tenant, name=tenant.title())
    tenant_id = await connection.fetchval("SELECT id FROM tenants WHERE slug = $1", tenant)
    await add_domain(connection, tenant_id=tenant_id, name=domain, verified=True, system_ids=(new_id(), new_id()))
    for local in mailboxes:
        address = Address(local=local, domain=domain)
        if await mailbox(connection, tenant_id, address) is None:
            await add_mailbox(
                connection, NewMailbox(tenant_id=tenant_id, id=new_id(), address=address), route_id=new_id()
            )
