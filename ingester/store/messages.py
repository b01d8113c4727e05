"""Mails become rows: one write per tenant in one transaction.

The write is the function `store_deliveries` of the migrations; its documents are built in `documents`. Writing the same
mail twice is harmless: it finds its own claims.
"""

from collections.abc import AsyncIterator, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any
from uuid import UUID

import asyncpg

from ingester.core.resolve import Method, id_hash
from ingester.store.db import Connection
from ingester.store.documents import delivery_document, mail_document, refusal_document
from ingester.store.mail import Delivery, Mail, Written
from ingester.store.provider_events import claim_events
from ingester.store.trash import discard


async def write(connection: Connection, tenant_id: UUID, mails: Sequence[Mail]) -> list[Written]:
    """Write mails of one tenant inside the caller's transaction. Mails without deliveries write their refusals only.

    Raises EventConflict where a provider's event brought another mail before.
    """
    events = [(mail.event, mail.raw_sha256, mail.envelope.received_at) for mail in mails if mail.event is not None]
    if events:
        await claim_events(connection, tenant_id, events)
    streamed = await _stream_large(connection, mails)
    deliveries = [(n, mail, delivery) for n, mail in enumerate(mails) for delivery in mail.deliveries]
    with_bytes = [n for n, mail in enumerate(mails) if n not in streamed and _bytes_go_into_the_row(mail)]
    rows = await connection.fetch(
        _statement(tuple(with_bytes)),
        tenant_id,
        [mail_document(mail) for mail in mails],
        [delivery_document(n, mail, delivery) for n, mail, delivery in deliveries],
        [refusal_document(mail, refused) for mail in mails for refused in mail.refused],
        *_columns(_claims(deliveries), 4),
        *_columns(_mentions(deliveries), 4),
        sorted({_root(mail, delivery) for _, mail, delivery in deliveries}),
        *_columns([_raw(mail, is_there=mail.raw_stored or n in streamed) for n, mail in enumerate(mails)], 4),
        *(mails[n].envelope.raw for n in with_bytes),
    )
    fresh = {row["mail"] for row in rows if not row["duplicate"]}
    if streamed - fresh:
        await _take_back(connection, tenant_id, [mails[n].raw_id for n in streamed - fresh])
    needless = [(mail.raw_id, mail.blob_key) for n, mail in enumerate(mails) if mail.blob_key and n not in fresh]
    if needless:
        await discard(connection, tenant_id, needless)
    return [
        Written(
            mail=row["mail"],
            mailbox_id=row["mailbox"],
            message_id=row["message"],
            duplicate=row["duplicate"],
            matched=row["matched"],
            method=row["method"],
            dead=row["dead"],
        )
        for row in rows
    ]


def is_one_statement(mail: Mail) -> bool:
    """Whether `write` writes its rows in one statement, whatever becomes of it.

    What is noted after it, that bytes elsewhere were written for nothing, may be lost: a sweep finds them too.
    """
    return mail.event is None and not _is_large(mail)


def _is_large(mail: Mail) -> bool:
    """Whether its bytes are written piece by piece: as a parameter they would be copied twice in one step of the loop,
    which holds it for more than a millisecond a megabyte.
    """
    return len(mail.envelope.raw) >= LARGE_BYTES and _bytes_go_into_the_row(mail)


def _bytes_go_into_the_row(mail: Mail) -> bool:
    return bool(mail.deliveries) and not mail.raw_stored and mail.blob_key is None


@lru_cache(maxsize=1024)  # by which mails of a batch have bytes: nearly always all of them, or none
def _statement(with_bytes: tuple[int, ...]) -> str:
    """The write, and in the same statement the raws of what is new.

    Each mail's bytes are a parameter of their own: in an array, or handed to a function, they would be copied time and
    again on both sides, which costs more than to store them.
    """
    arms = " ".join(f"WHEN {n} THEN ${_FIRST_RAW + place}::bytea" for place, n in enumerate(with_bytes))
    data = f"CASE w.mail {arms} END" if arms else "NULL::bytea"
    return f"""
        WITH w AS MATERIALIZED (
            SELECT * FROM store_deliveries($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        ), r AS (
            INSERT INTO raws (tenant_id, id, sha256, size, blob_key, data)
            SELECT $1, u.id, u.sha256, u.size, u.blob_key, {data}
            FROM (SELECT DISTINCT mail FROM w WHERE fresh) w
            CROSS JOIN LATERAL (
                SELECT ($14::uuid[])[w.mail + 1] AS id, ($15::bytea[])[w.mail + 1] AS sha256,
                       ($16::bigint[])[w.mail + 1] AS size, ($17::text[])[w.mail + 1] AS blob_key) u
            WHERE u.id IS NOT NULL
        )
        SELECT mail, mailbox, message, duplicate, matched, method, dead FROM w ORDER BY mail, mailbox
        """  # noqa: S608  (only numbers are put in)


_FIRST_RAW = 18


async def _stream_large(connection: Connection, mails: Sequence[Mail]) -> set[int]:
    """Write the raws of large mails, before anything is locked for which others wait; gives their places.

    Postgres has no COPY into a table whose rows are guarded (`ingester roles`): there they go as those of other mails.
    So do those that are there already, from a commit of which nothing was heard: their mails are no longer new.
    """
    large = [n for n, mail in enumerate(mails) if _is_large(mail)]
    if not large or await connection.fetchval("SELECT row_security_active('raws')"):
        return set()
    try:
        async with connection.transaction():
            for n in large:
                await connection.copy_to_table("raws", source=_copied(mails[n]), columns=_COPIED, format="binary")
    except asyncpg.UniqueViolationError:
        return set()
    return set(large)


async def _copied(mail: Mail) -> AsyncIterator[bytes | memoryview]:
    """The row of a raw as binary COPY has it, in pieces between which the loop goes on."""
    raw = mail.envelope.raw
    fields = (mail.tenant_id.bytes, mail.raw_id.bytes, mail.raw_sha256, len(raw).to_bytes(8, "big"))
    yield b"".join((_COPY_BEGIN, (len(_COPIED)).to_bytes(2, "big"), *map(_sized, fields), len(raw).to_bytes(4, "big")))
    view = memoryview(raw)
    for at in range(0, len(raw), _COPY_PIECE):
        yield view[at : at + _COPY_PIECE]
    yield _COPY_END


def _sized(field: bytes) -> bytes:
    return len(field).to_bytes(4, "big") + field


async def _take_back(connection: Connection, tenant_id: UUID, raw_ids: Sequence[UUID]) -> None:
    """Delete raws that were streamed for mails that turn out not to be new."""
    await connection.execute("DELETE FROM raws WHERE tenant_id = $1 AND id = ANY ($2::uuid[])", tenant_id, raw_ids)


LARGE_BYTES = 1 << 20
"""From here on a mail has a commit of its own, so that no small one waits for it, and its bytes are streamed. Below it,
a round trip more costs more than it spares.
"""
_COPIED = ("tenant_id", "id", "sha256", "size", "data")
_COPY_PIECE = 128 << 10
_COPY_BEGIN = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_END = b"\xff\xff"


def _raw(mail: Mail, *, is_there: bool) -> tuple[UUID | None, bytes, int, str | None]:
    """The row of its bytes, without them; no id where the row is there already."""
    return None if is_there else mail.raw_id, mail.raw_sha256, len(mail.envelope.raw), mail.blob_key


def _claims(deliveries: Sequence[tuple[int, Mail, Delivery]]) -> list[tuple[Any, ...]]:
    return [
        (delivery.message_id, claim.key, mail.envelope.received_at, claim.expires_at)
        for _, mail, delivery in deliveries
        for claim in delivery.claims
    ]


def _mentions(deliveries: Sequence[tuple[int, Mail, Delivery]]) -> list[tuple[Any, ...]]:
    """The ids that each delivery bears or cites, and the thread that it is expected in."""
    return [
        (delivery.message_id, delivery.mailbox_id, hash_, delivery.attachment.thread_id or delivery.thread_id)
        for _, mail, delivery in deliveries
        for hash_ in (id_hash(mail.rfc_message_id), *(citation.hash for citation in delivery.attachment.cites))
    ]


def _root(mail: Mail, delivery: Delivery) -> int:
    """A 64-bit key that the mails of one conversation in one mailbox share, as far as the oldest cited id tells."""
    cites = delivery.attachment.cites
    chain = [citation for citation in cites if citation.method is not Method.REPORT] or cites
    oldest = chain[-1].hash if chain else id_hash(mail.rfc_message_id)
    return int.from_bytes(sha256(delivery.mailbox_id.bytes + oldest).digest()[:8], "big", signed=True)


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Rows as the arrays that `unnest` puts together again."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]
