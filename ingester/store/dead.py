"""Dead letters: mails that our code could not digest, kept whole with their context, claimed and redriven."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from ingester.core.address import parse_path
from ingester.core.envelope import Client, Door, Envelope, Recipient
from ingester.store.db import Connection
from ingester.store.messages import clean, receipt


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """How many dead letters an hour may bring, per tenant and per tenant and client prefix."""

    tenant: int
    prefix: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Buried:
    """A dead letter as it lies in the table."""

    tenant_id: UUID
    id: UUID
    kind: str
    state: str
    reason: str
    detail: str
    envelope: dict[str, Any]
    raw_id: UUID
    attempts: int
    created_at: datetime
    size: int


async def bury(connection: Connection, letter: DeadLetter, caps: Caps) -> bool:
    """Keep a mail as a dead letter, in the caller's transaction. False when the caps forbid it (answer 451).

    A second arrival of a claimed mail becomes a receipt of the first; burying the same letter twice changes nothing.
    """
    now = letter.envelope.received_at
    held = await _claim(connection, letter, now)
    if held is not None:
        await _receipt(connection, letter, message_id=held[0], dead_letter_id=held[1], duplicate=True)
        return True
    if not await _within(connection, letter, caps, now):
        return False
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
        INSERT INTO dead_letters (tenant_id, id, kind, reason, detail, envelope, client_prefix, raw_id, created_at)
        VALUES ($1, $2, 'mail', $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING
        """,
        letter.tenant_id,
        letter.id,
        letter.reason,
        letter.detail,
        _envelope(letter),
        letter.envelope.client.prefix,
        letter.raw_id,
        now,
    )
    await _receipt(connection, letter, message_id=None, dead_letter_id=letter.id, duplicate=False)
    return True


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


def revive(buried: Buried, raw: bytes) -> Envelope:
    """The envelope of a buried mail, as it arrived. Routes are not kept: today's directory decides."""
    stored = buried.envelope
    addresses = [parse_path(text) for text in stored["recipients"]]
    return Envelope(
        door=Door(stored["door"]),
        raw=raw,
        mail_from=stored["envelope_from"],
        recipients=tuple(Recipient(address=address) for address in addresses if address is not None),
        client=Client(ip=stored["client_ip"] or "", helo=stored["helo"], tls=stored["tls"]),
        arrival_id=UUID(stored["arrival_id"]),
        received_at=datetime.fromisoformat(stored["received_at"]),
        flags=tuple(stored["flags"]),
        provider=stored["provider"],
        provider_event_id=stored["provider_event_id"],
        metadata=stored.get("metadata") or {},
        source=stored.get("source"),
    )


_COLUMNS = """d.tenant_id, d.id, d.kind, d.state, d.reason, d.detail, d.envelope, d.raw_id, d.attempts, d.created_at,
              coalesce(r.size, 0) AS size"""


async def letters(connection: Connection, *, tenant_id: UUID | None, state: str | None, limit: int) -> Sequence[Buried]:
    """Dead letters, newest first; of every tenant when none is named (the operator's view)."""
    rows = await connection.fetch(
        f"""
        SELECT {_COLUMNS}
        FROM dead_letters d LEFT JOIN raws r ON r.tenant_id = d.tenant_id AND r.id = d.raw_id
        WHERE ($1::uuid IS NULL OR d.tenant_id = $1) AND ($2::text IS NULL OR d.state = $2)
        ORDER BY d.created_at DESC, d.id LIMIT $3
        """,  # noqa: S608  (only our own constant is put in)
        tenant_id,
        state,
        limit,
    )
    return [Buried(**dict(row)) for row in rows]


async def letter(connection: Connection, letter_id: UUID) -> Buried | None:
    """One dead letter by id (the operator's view)."""
    row = await connection.fetchrow(
        f"""
        SELECT {_COLUMNS}
        FROM dead_letters d LEFT JOIN raws r ON r.tenant_id = d.tenant_id AND r.id = d.raw_id
        WHERE d.id = $1
        """,  # noqa: S608
        letter_id,
    )
    return None if row is None else Buried(**dict(row))


async def lock(connection: Connection, tenant_id: UUID, letter_id: UUID) -> bool:
    """Lock a dead letter for its redrive. False when it is not dead (any more)."""
    row = await connection.fetchrow(
        "SELECT state FROM dead_letters WHERE tenant_id = $1 AND id = $2 FOR UPDATE", tenant_id, letter_id
    )
    return row is not None and row["state"] == "dead"


async def release(connection: Connection, tenant_id: UUID, letter_id: UUID) -> None:
    """Give up the claims of a dead letter, so that the message can take them in the same transaction."""
    await connection.execute("DELETE FROM claims WHERE tenant_id = $1 AND dead_letter_id = $2", tenant_id, letter_id)


async def settle(
    connection: Connection, tenant_id: UUID, letter_id: UUID, *, state: str, message_id: UUID | None, detail: str | None
) -> None:
    """Record how a redrive ended; the receipts of the dead letter name the message from now on."""
    await connection.execute(
        """
        UPDATE dead_letters SET state = $3, attempts = attempts + 1, detail = coalesce($4, detail)
        WHERE tenant_id = $1 AND id = $2
        """,
        tenant_id,
        letter_id,
        state,
        detail,
    )
    if message_id is None:
        return
    # The first arrival has receipts of the message's own by now, one a mailbox: they take the place of the letter's.
    await connection.execute(
        """
        WITH gone AS (
            DELETE FROM receipts WHERE tenant_id = $1 AND dead_letter_id = $2 AND NOT duplicate RETURNING arrival_id
        )
        UPDATE receipts r SET dead_letter_id = $2
        FROM gone WHERE r.tenant_id = $1 AND r.arrival_id = gone.arrival_id AND r.message_id IS NOT NULL
        """,
        tenant_id,
        letter_id,
    )
    await connection.execute(
        "UPDATE receipts SET message_id = $3 WHERE tenant_id = $1 AND dead_letter_id = $2 AND message_id IS NULL",
        tenant_id,
        letter_id,
        message_id,
    )
