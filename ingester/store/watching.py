"""What has arrived since one last looked, for whoever watches from afar: `ingester tail` and `top`. Nothing is changed.

Ids are made in the order of time, and receipts and refusals are looked up by keys that exist: a look costs one step
down the primary key in each tenant, however many rows there are. What a look finds is told by a second statement.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias
from uuid import UUID

import asyncpg

from ingester.core.address import Address
from ingester.store.db import Connection

Key: TypeAlias = tuple[UUID, UUID]
"""A row: its tenant and its id."""
PATIENCE: Final = 30.0
"""Seconds after which a database that says nothing is taken for away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """One receipt, and what became of the mail. Of a dead letter `message_id` and what a message tells are None."""

    tenant: str
    tenant_id: UUID
    receipt_id: UUID
    arrival_id: UUID
    message_id: UUID | None
    dead_letter_id: UUID | None
    received_at: datetime
    door: str
    mailbox: str | None
    envelope_from: str
    envelope_to: list[str]
    client_ip: str | None
    duplicate: bool
    from_address: str | None
    subject: str | None
    status: str | None
    """`matched` or `unmatched`."""
    method: str | None
    reason: str | None
    """Why it was matched or not; of a dead letter, what failed."""
    quarantined: bool
    spf: str | None
    dkim: str | None
    dmarc: str | None
    size: int | None
    """Bytes."""
    seconds: float | None
    """From its arrival to the write, by the clocks of daemon and database; None for what was written before."""


async def now(connection: Connection) -> datetime:
    """The database's clock, which all who watch have in common."""
    moment: datetime = await connection.fetchval("SELECT clock_timestamp()", timeout=PATIENCE)
    return moment


async def arrivals(
    connection: Connection, tenant_ids: Sequence[UUID] | None, *, after: UUID, until: UUID, limit: int
) -> list[Key]:
    """Receipts with a greater id than `after`, up to `until`, oldest first. Without `tenant_ids`: of all tenants."""
    rows = await connection.fetch(
        """
        SELECT x.tenant_id, x.id
        FROM tenants t
        CROSS JOIN LATERAL (
            SELECT r.tenant_id, r.id FROM receipts r
            WHERE r.tenant_id = t.id AND r.id > $2 AND r.id <= $3 ORDER BY r.id LIMIT $4
        ) x
        WHERE $1::uuid[] IS NULL OR t.id = ANY ($1)
        ORDER BY x.id LIMIT $4
        """,
        tenant_ids,
        after,
        until,
        limit,
        timeout=PATIENCE,
    )
    return [(row["tenant_id"], row["id"]) for row in rows]


async def newest(connection: Connection, tenant_ids: Sequence[UUID] | None, *, before: UUID, limit: int) -> list[Key]:
    """Receipts with a smaller id than `before`, newest first.

    The newest so many of all lie in those so many tenants whose own newest are the newest: nobody else is asked twice.
    """
    rows = await connection.fetch(
        """
        WITH busiest AS (
            SELECT t.id
            FROM tenants t
            CROSS JOIN LATERAL (
                SELECT r.id FROM receipts r WHERE r.tenant_id = t.id AND r.id < $2 ORDER BY r.id DESC LIMIT 1
            ) x
            WHERE $1::uuid[] IS NULL OR t.id = ANY ($1)
            ORDER BY x.id DESC LIMIT $3
        )
        SELECT x.tenant_id, x.id
        FROM busiest t
        CROSS JOIN LATERAL (
            SELECT r.tenant_id, r.id FROM receipts r
            WHERE r.tenant_id = t.id AND r.id < $2 ORDER BY r.id DESC LIMIT $3
        ) x
        ORDER BY x.id DESC LIMIT $3
        """,
        tenant_ids,
        before,
        limit,
        timeout=PATIENCE,
    )
    return [(row["tenant_id"], row["id"]) for row in rows]


async def told(connection: Connection, keys: Sequence[Key]) -> list[Arrived]:
    """What there is to tell of these receipts, in the order of their ids; one that is gone meanwhile is left out."""
    if not keys:
        return []
    rows = await connection.fetch(
        """
        SELECT t.slug AS tenant, r.tenant_id, r.id AS receipt_id, r.arrival_id, r.message_id, r.dead_letter_id,
               r.received_at, r.door, b.domain, b.local_part, r.envelope_from, r.envelope_to, r.client_ip, r.duplicate,
               m.from_address, m.subject, m.reply_match_status AS status, m.reply_match_method AS method,
               coalesce(m.decision->>'reason', d.reason) AS reason, coalesce(m.quarantined, false) AS quarantined,
               m.spf, m.dkim, m.dmarc, coalesce(m.size, w.size) AS size,
               CASE WHEN NOT r.duplicate AND r.dead_letter_id IS NULL
                    THEN extract(epoch FROM w.created_at - r.received_at)::float8 END AS seconds
        FROM unnest($1::uuid[], $2::uuid[]) AS k(tenant_id, id)
        JOIN receipts r ON r.tenant_id = k.tenant_id AND r.id = k.id
        JOIN tenants t ON t.id = r.tenant_id
        LEFT JOIN messages m ON m.tenant_id = r.tenant_id AND m.id = r.message_id
        LEFT JOIN mailboxes b ON b.tenant_id = r.tenant_id AND b.id = m.mailbox_id
        LEFT JOIN dead_letters d ON d.tenant_id = r.tenant_id AND d.id = r.dead_letter_id AND r.message_id IS NULL
        LEFT JOIN raws w ON w.tenant_id = r.tenant_id AND w.id = coalesce(m.raw_id, d.raw_id)
        ORDER BY r.id
        """,
        [tenant_id for tenant_id, _ in keys],
        [receipt_id for _, receipt_id in keys],
        timeout=PATIENCE,
    )
    return [_arrived(row) for row in rows]


def _arrived(row: asyncpg.Record) -> Arrived:
    values = dict(row)
    local, domain = values.pop("local_part"), values.pop("domain")
    return Arrived(mailbox=None if local is None else str(Address(local=local, domain=domain)), **values)


async def counts(
    connection: Connection, tenant_ids: Sequence[UUID] | None, *, since: datetime
) -> list[tuple[UUID, UUID, int]]:
    """The refusals of the minutes from `since` on, by an index of their own: tenant, id, and how many so far."""
    rows = await connection.fetch(
        """
        SELECT tenant_id, id, count FROM refusals
        WHERE minute >= date_trunc('minute', $2::timestamptz) AND ($1::uuid[] IS NULL OR tenant_id = ANY ($1))
        ORDER BY minute, id
        """,
        tenant_ids,
        since,
        timeout=PATIENCE,
    )
    return [(row["tenant_id"], row["id"], row["count"]) for row in rows]
