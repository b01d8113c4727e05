"""Intake tokens: who may hand in mail by HTTP, and for whom. A token is shown once, when it is made.

Finding the bearer is the one query that has no tenant to carry: the token says whose mail it may bring.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from ingester.store.db import Connection
from ingester.store.secret import is_same, secret_hash, secret_text

PREFIX: Final = "igi_"


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeToken:
    """A token as operators see it. Without `tenant` and `domains` it is for everybody's mail; `last_used_at` is right
    to the minute.
    """

    id: UUID
    name: str
    provider: str | None
    tenant_id: UUID | None
    tenant: str | None
    domains: tuple[str, ...]
    may_assert_envelope: bool
    created_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    """What a live token may do."""

    token_id: UUID
    provider: str | None
    tenant_id: UUID | None
    domains: tuple[str, ...]
    may_assert_envelope: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token to be stored. `domains` are lower-case A-labels."""

    id: UUID
    text: str
    name: str
    provider: str | None
    tenant_id: UUID | None
    domains: tuple[str, ...]
    may_assert_envelope: bool
    created_at: datetime


def token_text(entropy: bytes) -> str:
    """The text of a token: `igi_` and 256 bits in lower-case base32. Raises ValueError on another number of bits."""
    return secret_text(PREFIX, entropy)


async def add_token(connection: Connection, new: NewToken) -> None:
    """Store a new token by its hash."""
    await connection.execute(
        """
        INSERT INTO intake_tokens (id, tenant_id, name, hash, provider, domains, may_assert_envelope, created_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        """,
        new.id,
        new.tenant_id,
        new.name,
        secret_hash(new.text),
        new.provider,
        new.domains,
        new.may_assert_envelope,
        new.created_at,
    )


async def tokens(connection: Connection, tenant_ids: Sequence[UUID] | None = None) -> list[IntakeToken]:
    """All tokens, or those bound to these tenants, by tenant (those of nobody first) and age; revoked ones included."""
    rows = await connection.fetch(
        """
        SELECT k.id, k.name, k.provider, k.tenant_id, t.slug AS tenant, k.domains, k.may_assert_envelope, k.created_at,
               k.revoked_at, k.last_used_at
        FROM intake_tokens k LEFT JOIN tenants t ON t.id = k.tenant_id
        WHERE $1::uuid[] IS NULL OR k.tenant_id = ANY ($1)
        ORDER BY t.slug NULLS FIRST, k.created_at, k.id
        """,
        tenant_ids,
    )
    return [_token(dict(row)) for row in rows]


async def revoke_token(connection: Connection, token_id: UUID, at: datetime) -> IntakeToken | None:
    """Revoke a token; None when there is no such token. One that is revoked already keeps its time."""
    row = await connection.fetchrow(
        """
        WITH revoked AS (
            UPDATE intake_tokens SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1 RETURNING *
        )
        SELECT k.id, k.name, k.provider, k.tenant_id, t.slug AS tenant, k.domains, k.may_assert_envelope, k.created_at,
               k.revoked_at, k.last_used_at
        FROM revoked k LEFT JOIN tenants t ON t.id = k.tenant_id
        """,
        token_id,
        at,
    )
    return None if row is None else _token(dict(row))


def _token(row: dict[str, object]) -> IntakeToken:
    domains = row.pop("domains")
    assert isinstance(domains, list)
    return IntakeToken(**row, domains=tuple(domains))  # type: ignore[arg-type]


async def bearer(connection: Connection, text: str, at: datetime) -> Bearer | None:
    """What a token may do, None for one that is unknown or revoked: both in one query and one comparison.

    The use is noted at most once a minute, so that a busy provider does not write a row with each mail.
    """
    wanted = secret_hash(text)
    row = await connection.fetchrow(
        """
        WITH used AS (
            UPDATE intake_tokens SET last_used_at = $2
            WHERE hash = $1 AND revoked_at IS NULL
              AND (last_used_at IS NULL OR last_used_at < $2::timestamptz - interval '1 minute')
        )
        SELECT id, tenant_id, hash, provider, domains, may_assert_envelope, revoked_at
        FROM intake_tokens WHERE hash = $1
        """,
        wanted,
        at,
    )
    same = is_same(wanted, None if row is None else row["hash"])
    if row is None or not same or row["revoked_at"] is not None:
        return None
    return Bearer(
        token_id=row["id"],
        provider=row["provider"],
        tenant_id=row["tenant_id"],
        domains=tuple(row["domains"]),
        may_assert_envelope=row["may_assert_envelope"],
    )
