"""Sources: where the bytes of mails were fetched from (`s3://bucket/key`), and what became of each.

What lies in a bucket and has been tried is known by the rows that the try has left: receipts and refusals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from ingester.core.envelope import Envelope
from ingester.core.ids import SYSTEM_TENANT
from ingester.core.outcome import CODES, Reason, Stored
from ingester.store.db import Connection
from ingester.store.documents import receipt

_FOR_NOW = [reason.value for reason, code in CODES.items() if code.retry]


_SEARCH_LOCK: Final = 0x696E_6765_7374_5333
"""Whoever holds it searches the buckets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The last try of a source. `open`: some recipient was deferred then, so it must be tried again."""

    at: datetime
    open: bool


async def only_one(connection: Connection) -> bool:
    """Take the lock of the search, which ends with the transaction; False where another has it."""
    return await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _SEARCH_LOCK) is True


async def attempts(connection: Connection, tenant_id: UUID, sources: Sequence[str]) -> Mapping[str, Attempt]:
    """The last try of each of these sources of a tenant; those that nobody has tried are not in it."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT ON (source) source, at, open FROM (
            SELECT r.source, r.arrival_id, r.received_at AS at, false AS open
            FROM receipts r WHERE r.tenant_id = $1 AND r.source = ANY ($3::text[])
            UNION ALL
            SELECT f.source, f.arrival_id, f.minute, f.reason = ANY ($4::text[])
            FROM refusals f WHERE f.tenant_id IN ($1, $2) AND f.source = ANY ($3::text[])
        ) tried
        ORDER BY source, arrival_id DESC, open DESC
        """,
        tenant_id,
        SYSTEM_TENANT,
        sources,
        _FOR_NOW,
    )
    return {row["source"]: Attempt(at=row["at"], open=row["open"]) for row in rows}


async def stored_from(connection: Connection, tenant_id: UUID, source: str) -> tuple[Stored, ...]:
    """The messages that a source has become."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT m.id, m.mailbox_id, m.reply_match_status = 'matched' AS matched
        FROM receipts r JOIN messages m ON m.tenant_id = r.tenant_id AND m.id = r.message_id
        WHERE r.tenant_id = $1 AND r.source = $2 ORDER BY m.id
        """,
        tenant_id,
        source,
    )
    return tuple(
        Stored(
            tenant_id=tenant_id,
            mailbox_id=row["mailbox_id"],
            message_id=row["id"],
            matched=row["matched"],
            parts=0,
            duplicate=True,
        )
        for row in rows
    )


async def note_refused(
    connection: Connection, tenant_id: UUID, refusal_id: UUID, envelope: Envelope, reason: Reason, detail: str
) -> None:
    """Note that a source was refused, or deferred, as a whole; not where the try has left rows already."""
    await connection.execute(
        """
        INSERT INTO refusals (tenant_id, id, door, reason, client_prefix, minute, count, samples, arrival_id, envelope,
                              detail, source)
        SELECT t.id, $2, $4, $5, $6, date_trunc('minute', $7::timestamptz), 1, '[]', $8, $9, $10, $11
        FROM tenants t
        WHERE t.id = $1 AND t.status <> 'erasing'
          AND NOT EXISTS (SELECT FROM receipts r WHERE r.tenant_id = $1 AND r.source = $11 AND r.arrival_id = $8)
          AND NOT EXISTS (SELECT FROM refusals f
                          WHERE f.tenant_id IN ($1, $3) AND f.source = $11 AND f.arrival_id = $8)
        FOR KEY SHARE OF t
        """,
        tenant_id,
        refusal_id,
        SYSTEM_TENANT,
        envelope.door.value,
        reason.value,
        envelope.client.prefix,
        envelope.received_at,
        envelope.arrival_id,
        receipt(envelope) | {"envelope_to": [str(one.address) for one in envelope.recipients]},
        detail,
        envelope.source,
    )
