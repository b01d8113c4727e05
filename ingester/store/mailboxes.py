"""Mailboxes and the routes that lead to them, as operators see and change them. Which one a mail reaches: `directory`.

A change that cannot be made (a taken address) is None or False, not an exception; the caller finds the words. Domains
arrive as lower-case A-labels; local parts are kept and compared in lower case.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from ingester.core.address import Address
from ingester.store.db import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMailbox:
    """A mailbox to be made."""

    tenant_id: UUID
    id: UUID
    address: Address
    external_id: str | None = None
    email_type: str = "transactional"
    accepts_cold_inbound: bool = True
    unsubscribable: bool = False
    auth_policy: str = "monitor"
    strict_senders: bool = False
    require_alignment: bool = False
    accept_forwarded: bool = True
    sender_mode: str = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mailbox:
    """A mailbox with its posture and policy."""

    tenant_id: UUID
    tenant: str
    id: UUID
    address: str
    external_id: str | None
    email_type: str
    accepts_cold_inbound: bool
    unsubscribable: bool
    auth_policy: str
    strict_senders: bool
    require_alignment: bool
    accept_forwarded: bool
    sender_mode: str
    system: str | None
    status: str
    status_since: datetime
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteEntry:
    """A route as it lies in the table. `address` is `@domain` for a catch_all, `to` the address of its mailbox."""

    tenant_id: UUID
    tenant: str
    id: UUID
    kind: str
    address: str
    mailbox_id: UUID
    to: str


def _mailbox(row: asyncpg.Record) -> Mailbox:
    values = dict(row)
    address = Address(local=values.pop("local_part"), domain=values.pop("domain"))
    return Mailbox(address=str(address), **values)


async def add_mailbox(connection: Connection, new: NewMailbox, *, route_id: UUID) -> Mailbox | None:
    """Make a mailbox and its exact route. None when either is there already: then nothing is made."""
    try:
        row = await connection.fetchrow(
            """
            WITH m AS (
                INSERT INTO mailboxes (tenant_id, id, domain, local_part, external_id, email_type, accepts_cold_inbound,
                                       unsubscribable, auth_policy, strict_senders, require_alignment,
                                       accept_forwarded, sender_mode)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
                RETURNING *
            ), r AS (
                INSERT INTO routes (tenant_id, id, domain, kind, local_part, mailbox_id)
                SELECT m.tenant_id, $14, m.domain, 'exact', m.local_part, m.id FROM m
            )
            SELECT m.tenant_id, t.slug AS tenant, m.id, m.domain, m.local_part, m.external_id, m.email_type,
                   m.accepts_cold_inbound, m.unsubscribable, m.auth_policy, m.strict_senders, m.require_alignment,
                   m.accept_forwarded, m.sender_mode, m.system, m.status, m.status_since, m.created_at
            FROM m JOIN tenants t ON t.id = m.tenant_id
            """,
            new.tenant_id,
            new.id,
            new.address.domain,
            new.address.key,
            new.external_id,
            new.email_type,
            new.accepts_cold_inbound,
            new.unsubscribable,
            new.auth_policy,
            new.strict_senders,
            new.require_alignment,
            new.accept_forwarded,
            new.sender_mode,
            route_id,
        )
    except asyncpg.UniqueViolationError:
        return None
    return None if row is None else _mailbox(row)


async def mailboxes(connection: Connection, tenant_ids: Sequence[UUID]) -> list[Mailbox]:
    """The mailboxes of these tenants, the system's own ones included, by address."""
    rows = await connection.fetch(
        """
        SELECT m.tenant_id, t.slug AS tenant, m.id, m.domain, m.local_part, m.external_id, m.email_type,
               m.accepts_cold_inbound, m.unsubscribable, m.auth_policy, m.strict_senders, m.require_alignment,
               m.accept_forwarded, m.sender_mode, m.system, m.status, m.status_since, m.created_at
        FROM mailboxes m JOIN tenants t ON t.id = m.tenant_id
        WHERE m.tenant_id = ANY ($1)
        ORDER BY m.domain, m.system IS NOT NULL, m.local_part, t.slug
        """,
        tenant_ids,
    )
    return [_mailbox(row) for row in rows]


async def mailbox(connection: Connection, tenant_id: UUID, address: Address) -> Mailbox | None:
    """A tenant's own mailbox (no system mailbox) by its address."""
    row = await connection.fetchrow(
        """
        SELECT m.tenant_id, t.slug AS tenant, m.id, m.domain, m.local_part, m.external_id, m.email_type,
               m.accepts_cold_inbound, m.unsubscribable, m.auth_policy, m.strict_senders, m.require_alignment,
               m.accept_forwarded, m.sender_mode, m.system, m.status, m.status_since, m.created_at
        FROM mailboxes m JOIN tenants t ON t.id = m.tenant_id
        WHERE m.tenant_id = $1 AND m.domain = $2 AND m.local_part = $3 AND m.system IS NULL
        """,
        tenant_id,
        address.domain,
        address.key,
    )
    return None if row is None else _mailbox(row)


async def set_mailbox_status(connection: Connection, tenant_id: UUID, mailbox_id: UUID, status: str) -> bool:
    """Make a mailbox active or suspended. Saying it again does not start the time of a suspension anew."""
    found = await connection.fetchval(
        """
        UPDATE mailboxes SET status = $3, status_since = CASE WHEN status = $3 THEN status_since ELSE now() END
        WHERE tenant_id = $1 AND id = $2
        RETURNING true
        """,
        tenant_id,
        mailbox_id,
        status,
    )
    return found is True


async def change_mailbox(
    connection: Connection,
    tenant_id: UUID,
    mailbox_id: UUID,
    *,
    accepts_cold_inbound: bool | None = None,
    auth_policy: str | None = None,
    strict_senders: bool | None = None,
    require_alignment: bool | None = None,
    accept_forwarded: bool | None = None,
    sender_mode: str | None = None,
) -> bool:
    """Change what a mailbox asks of senders; None leaves a value as it is. False when the mailbox is gone."""
    found = await connection.fetchval(
        """
        UPDATE mailboxes SET accepts_cold_inbound = coalesce($3, accepts_cold_inbound),
                             auth_policy = coalesce($4, auth_policy),
                             strict_senders = coalesce($5, strict_senders),
                             require_alignment = coalesce($6, require_alignment),
                             accept_forwarded = coalesce($7, accept_forwarded),
                             sender_mode = coalesce($8, sender_mode)
        WHERE tenant_id = $1 AND id = $2
        RETURNING true
        """,
        tenant_id,
        mailbox_id,
        accepts_cold_inbound,
        auth_policy,
        strict_senders,
        require_alignment,
        accept_forwarded,
        sender_mode,
    )
    return found is True


def _route(row: asyncpg.Record) -> RouteEntry:
    values = dict(row)
    address = Address(local=values.pop("local_part"), domain=values.pop("domain"))
    to = Address(local=values.pop("to_local_part"), domain=values.pop("to_domain"))
    return RouteEntry(address=str(address) if address.local else f"@{address.domain}", to=str(to), **values)


async def add_route(
    connection: Connection, *, tenant_id: UUID, route_id: UUID, kind: str, address: Address, mailbox_id: UUID
) -> bool:
    """Make a route (`address.local` is "" for a catch_all). False when the tenant has one of this kind and address."""
    made = await connection.fetchval(
        """
        INSERT INTO routes (tenant_id, id, domain, kind, local_part, mailbox_id) VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (tenant_id, domain, local_part, kind) DO NOTHING
        RETURNING true
        """,
        tenant_id,
        route_id,
        address.domain,
        kind,
        address.key,
        mailbox_id,
    )
    return made is True


async def routes(connection: Connection, tenant_ids: Sequence[UUID]) -> list[RouteEntry]:
    """The routes of these tenants in the order in which they are tried for an address."""
    rows = await connection.fetch(
        """
        SELECT r.tenant_id, t.slug AS tenant, r.id, r.kind, r.domain, r.local_part, r.mailbox_id,
               m.domain AS to_domain, m.local_part AS to_local_part
        FROM routes r
        JOIN mailboxes m ON m.tenant_id = r.tenant_id AND m.id = r.mailbox_id
        JOIN tenants t ON t.id = r.tenant_id
        WHERE r.tenant_id = ANY ($1)
        ORDER BY r.domain, array_position('{exact,alias,catch_all}', r.kind), r.local_part, t.slug
        """,
        tenant_ids,
    )
    return [_route(row) for row in rows]


async def remove_route(connection: Connection, *, tenant_id: UUID, kind: str, address: Address) -> bool:
    """Remove a route; False when there is none. The mailbox and its mail stay."""
    removed = await connection.fetchval(
        """
        DELETE FROM routes WHERE tenant_id = $1 AND domain = $2 AND kind = $3 AND local_part = $4
        RETURNING true
        """,
        tenant_id,
        address.domain,
        kind,
        address.key,
    )
    return removed is True
