"""How long the mail of a tenant is kept, as it was set."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import asyncpg

from ingester.store.db import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What holds for tenants that have no terms of their own, in days; 0 is for ever."""

    messages: int
    attachments: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How long mail of one tenant is kept; None is for ever. The raw bytes go with their messages at the latest."""

    tenant_id: UUID
    tenant: str
    messages: timedelta | None
    attachments: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Days:
    """What a tenant is given: so many days, 0 for ever, None what the settings say for all tenants."""

    days: int | None


async def set_terms(
    connection: Connection, tenant_id: UUID, *, messages: Days | None, attachments: Days | None
) -> None:
    """Set how long the mail of a tenant is kept; what is None stays as it is."""
    await connection.execute(
        """
        UPDATE tenants SET retention_days = CASE WHEN $2 THEN $3 ELSE retention_days END,
                           attachment_days = CASE WHEN $4 THEN $5 ELSE attachment_days END
        WHERE id = $1
        """,
        tenant_id,
        messages is not None,
        messages and messages.days,
        attachments is not None,
        attachments and attachments.days,
    )


async def terms(connection: Connection, defaults: Defaults, tenant_id: UUID | None = None) -> list[Terms]:
    """The terms of all tenants, or of one."""
    rows = await connection.fetch(
        """
        SELECT id, slug, coalesce(retention_days, $1) AS messages, coalesce(attachment_days, $2) AS attachments
        FROM tenants WHERE $3::uuid IS NULL OR id = $3 ORDER BY id
        """,
        defaults.messages,
        defaults.attachments,
        tenant_id,
    )
    return [_terms(row) for row in rows]


def _terms(row: asyncpg.Record) -> Terms:
    messages, attachments = (timedelta(days=row[name]) or None for name in ("messages", "attachments"))
    both = [one for one in (messages, attachments) if one is not None]
    return Terms(
        tenant_id=row["id"],
        tenant=row["slug"],
        messages=messages,
        attachments=min(both, default=None),
    )
