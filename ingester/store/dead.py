"""Dead letters: mails that our code could not digest, kept whole with their context, and claimed."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any
from uuid import UUID

from ingester.core.envelope import Envelope
from ingester.store.db import Connection
from ingester.store.documents import clean, receipt
from ingester.store.registry import enter


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """One mail to bury, for one tenant. `claims` are the raw claims of the mailboxes it was for."""

    tenant_id: UUID
    id: UUID
    receipt_id: UUID
    raw_id: UUID
    raw_sha256: bytes
    envelope: Envelope
    recipients: tuple[str, ...]
    claims: tuple[bytes, ...]
    expires_at: datetime
    reason: str
    detail: str
    version: str
    """Of the code that could not digest it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """How many dead letters an hour may bring, per tenant and per tenant and client prefix."""

    tenant: int
    prefix: int


class Kept(Enum):
    """What became of a letter that was to be buried."""

    NEW = auto()
    KNOWN = auto()
    """A second arrival of a claimed mail: a receipt of the first."""
    OVER_CAPS = auto()
    """Nothing was kept (answer 451)."""


async def bury(connection: Connection, letter: DeadLetter, caps: Caps) -> Kept:
    """Keep a mail as a dead letter, in the caller's transaction. Burying the same letter twice changes nothing."""
    now = letter.envelope.received_at
    await enter(connection, letter.tenant_id)
    held = await _claim(connection, letter, now)
    if held is not None:
        await _receipt(connection, letter, message_id=held[0], dead_letter_id=held[1], duplicate=True)
        return Kept.KNOWN
    if not await _within(connection, letter, caps, now):
        return Kept.OVER_CAPS
    await connection.execute(
        "INSERT INTO raws (tenant_id, id, sha256, size, data) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        letter.tenant_id,
        letter.raw_id,
        letter.raw_sha256,
        len(letter.envelope.raw),
        letter.envelope.raw,
    )
    await connection.execute(
        """
        INSERT INTO dead_letters (tenant_id, id, kind, reason, detail, envelope, client_prefix, raw_id, created_at,
                                  buried_by)
        VALUES ($1, $2, 'mail', $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING
        """,
        letter.tenant_id,
        letter.id,
        letter.reason,
        letter.detail,
        _envelope(letter),
        letter.envelope.client.prefix,
        letter.raw_id,
        now,
        letter.version,
    )
    await _receipt(connection, letter, message_id=None, dead_letter_id=letter.id, duplicate=False)
    return Kept.NEW


async def _claim(connection: Connection, letter: DeadLetter, now: datetime) -> tuple[UUID | None, UUID | None] | None:
    """Take the claims; when none was free, say who holds them."""
    taken = await connection.fetch(
        """
        INSERT INTO claims AS c (tenant_id, key, dead_letter_id, created_at, expires_at)
        SELECT $1, k, $3, $4, $5 FROM unnest($2::bytea[]) AS k ORDER BY k
        ON CONFLICT (tenant_id, key) DO UPDATE
        SET message_id = NULL, dead_letter_id = excluded.dead_letter_id, created_at = excluded.created_at,
            expires_at = excluded.expires_at
        WHERE c.expires_at <= $4 OR c.dead_letter_id = $3
        RETURNING key
        """,
        letter.tenant_id,
        list(letter.claims),
        letter.id,
        now,
        letter.expires_at,
    )
    if taken or not letter.claims:
        return None
    row = await connection.fetchrow(
        "SELECT message_id, dead_letter_id FROM claims WHERE tenant_id = $1 AND key = ANY ($2::bytea[]) LIMIT 1",
        letter.tenant_id,
        list(letter.claims),
    )
    return None if row is None else (row["message_id"], row["dead_letter_id"])


async def _within(connection: Connection, letter: DeadLetter, caps: Caps, now: datetime) -> bool:
    row = await connection.fetchrow(
        """
        SELECT count(*) AS tenant, count(*) FILTER (WHERE client_prefix = $3) AS prefix
        FROM dead_letters WHERE tenant_id = $1 AND created_at > $2
        """,
        letter.tenant_id,
        now - timedelta(hours=1),
        letter.envelope.client.prefix,
    )
    assert row is not None
    return bool(row["tenant"] < caps.tenant and row["prefix"] < caps.prefix)


async def _receipt(
    connection: Connection, letter: DeadLetter, *, message_id: UUID | None, dead_letter_id: UUID | None, duplicate: bool
) -> None:
    await connection.execute(
        """
        INSERT INTO receipts (tenant_id, id, arrival_id, message_id, dead_letter_id, door, provider, provider_event_id,
                              envelope_from, envelope_to, client_ip, helo, tls, raw_sha256, received_at, duplicate,
                              metadata, source)
        SELECT $1, $2, r.arrival_id, $3, $4, r.door, r.provider, r.provider_event_id, r.envelope_from, $5, r.client_ip,
               r.helo, r.tls, $6, r.received_at, $7, r.metadata, r.source
        FROM jsonb_populate_record(NULL::receipts, $8) AS r
        ON CONFLICT (tenant_id, id) DO NOTHING
        """,
        letter.tenant_id,
        letter.receipt_id,
        message_id,
        dead_letter_id,
        [clean(text) for text in letter.recipients],
        letter.raw_sha256,
        duplicate,
        receipt(letter.envelope),
    )


def _envelope(letter: DeadLetter) -> dict[str, Any]:
    """What a redrive needs to make the envelope again; the bytes are in `raws`."""
    return receipt(letter.envelope) | {
        "recipients": [clean(text) for text in letter.recipients],
        "flags": list(letter.envelope.flags),
    }
