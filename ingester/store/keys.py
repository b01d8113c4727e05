"""API keys: who may register what a tenant sends. A key is shown once, when it is made; only its hash is kept.

Finding the holder is the one query that has no tenant to carry: it is how the tenant is found.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from ingester.store.db import Connection
from ingester.store.secret import is_same, secret_hash, secret_text

PREFIX: Final = "igk_"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as operators see it. `last_used_at` is right to the minute."""

    id: UUID
    tenant_id: UUID
    tenant: str
    name: str
    created_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Whom a live key stands for."""

    key_id: UUID
    tenant_id: UUID
    tenant: str


def key_text(entropy: bytes) -> str:
    """The text of a key: `igk_` and 256 bits in lower-case base32. Raises ValueError on another number of bits."""
    return secret_text(PREFIX, entropy)


async def add_key(connection: Connection, *, key_id: UUID, tenant_id: UUID, name: str, text: str, at: datetime) -> None:
    """Store the hash of a new key."""
    await connection.execute(
        "INSERT INTO api_keys (id, tenant_id, name, hash, created_at) VALUES ($1, $2, $3, $4, $5)",
        key_id,
        tenant_id,
        name,
        secret_hash(text),
        at,
    )


async def keys(connection: Connection, tenant_ids: Sequence[UUID]) -> list[ApiKey]:
    """The keys of these tenants, revoked ones included, by tenant and age."""
    rows = await connection.fetch(
        """
        SELECT k.id, k.tenant_id, t.slug AS tenant, k.name, k.created_at, k.revoked_at, k.last_used_at
        FROM api_keys k JOIN tenants t ON t.id = k.tenant_id
        WHERE k.tenant_id = ANY ($1)
        ORDER BY t.slug, k.created_at, k.id
        """,
        tenant_ids,
    )
    return [ApiKey(**dict(row)) for row in rows]


async def revoke_key(connection: Connection, key_id: UUID, at: datetime) -> ApiKey | None:
    """Revoke a key; None when there is no such key. One that is revoked already keeps its time."""
    row = await connection.fetchrow(
        """
        UPDATE api_keys k SET revoked_at = coalesce(k.revoked_at, $2) FROM tenants t
        WHERE k.id = $1 AND t.id = k.tenant_id
        RETURNING k.id, k.tenant_id, t.slug AS tenant, k.name, k.created_at, k.revoked_at, k.last_used_at
        """,
        key_id,
        at,
    )
    return None if row is None else ApiKey(**dict(row))


async def holder(connection: Connection, text: str, at: datetime) -> Holder | None:
    """Whom a key stands for, None for one that is unknown or revoked: both in one query and one comparison.

    The use is noted at most once a minute, so that a busy application does not write a row with each call.
    """
    wanted = secret_hash(text)
    row = await connection.fetchrow(
        """
        WITH used AS (
            UPDATE api_keys SET last_used_at = $2
            WHERE hash = $1 AND revoked_at IS NULL
              AND (last_used_at IS NULL OR last_used_at < $2::timestamptz - interval '1 minute')
        )
        SELECT k.id, k.tenant_id, k.hash, k.revoked_at, t.slug
        FROM api_keys k JOIN tenants t ON t.id = k.tenant_id
        WHERE k.hash = $1
        """,
        wanted,
        at,
    )
    same = is_same(wanted, None if row is None else row["hash"])
    if row is None or not same or row["revoked_at"] is not None:
        return None
    return Holder(key_id=row["id"], tenant_id=row["tenant_id"], tenant=row["slug"])
