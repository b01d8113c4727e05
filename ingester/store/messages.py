"""Mails become rows: one write per tenant in one transaction.

The write is the function `store_batch` of the migrations; here its argument is built. Writing the same mail twice is
harmless: it finds its own claims.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any
from uuid import UUID

import asyncpg

from ingester.core.address import normalise
from ingester.core.envelope import Envelope
from ingester.core.kind import Verdict
from ingester.core.message import Message
from ingester.core.outbound_status import outranked_by
from ingester.core.outcome import Reason
from ingester.core.resolve import Attachment, Method, Sender, id_hash
from ingester.core.rows import PartRow
from ingester.store.db import Connection
from ingester.store.provider_events import Event, claim_events
from ingester.store.trash import discard


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthColumns:
    """The verdicts as columns, and how much they say beside those of another arrival of the same mail."""

    spf: str
    dkim: str
    dmarc: str
    arc: str
    strength: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What makes a second arrival a duplicate, and for how long."""

    key: bytes
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message for one mailbox, decided to be stored."""

    mailbox_id: UUID
    message_id: UUID
    thread_id: UUID
    receipt_id: UUID
    claims: tuple[Claim, ...]
    envelope_to: tuple[str, ...]
    role: str
    tag: str | None
    verdict: Verdict
    sender: Sender
    quarantined: bool
    auth: AuthColumns
    auth_report: Any
    attachment: Attachment
    answered_status: str | None
    """What the mail makes of the message that it answers: bounced, complained, or nothing."""
    decision: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """One recipient's refusal after DATA."""

    id: UUID
    reason: Reason
    recipients: tuple[str, ...]
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """One mail for one tenant: what is written, all or nothing. `stored` raws (a redrive) are not written again."""

    tenant_id: UUID
    envelope: Envelope
    raw_id: UUID
    raw_sha256: bytes
    raw_stored: bool
    rfc_message_id: str
    message: Message | None
    auth_report: Any
    contact_id: UUID
    """For a contact that may be made of the sender."""
    deliveries: tuple[Delivery, ...]
    refused: tuple[Refused, ...]
    blob_key: str | None = None
    """The URL of the object with the bytes, written before; None where they go into the row."""
    event: Event | None = None
    """The provider's event that brought it, where it has an id of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What became of one delivery. `dead`: the id is a dead letter's, as the first arrival could not be digested."""

    mail: int
    mailbox_id: UUID
    message_id: UUID
    duplicate: bool
    matched: bool
    method: str | None
    """On what evidence it was matched; None for what is not, or was there already."""
    dead: bool


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
        [_mail(mail) for mail in mails],
        [_delivery(n, mail, delivery) for n, mail, delivery in deliveries],
        [_refusal(mail, refused) for mail in mails for refused in mail.refused],
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
    """Whether `write` needs one statement for it and no more, whatever becomes of it."""
    return mail.event is None and mail.blob_key is None and not _is_large(mail)


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
"""From here on the bytes of a mail are streamed. Below it, a round trip more costs more than it spares."""
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


def _mail(mail: Mail) -> dict[str, Any]:
    """What the deliveries of a mail share."""
    message = mail.message
    if message is None:
        return {}
    arrived = receipt(mail.envelope, mail.auth_report)
    arrived["raw_sha256"] = _hex(mail.raw_sha256)
    contact = _contact(mail, message)
    return {
        "receipt": arrived,
        "contact": contact,
        "message": _message(mail, message, contact.get("hash")),
        "parts": [_part(part) for part in message.parts],
    }


def _contact(mail: Mail, message: Message) -> dict[str, Any]:
    """Whom the From field names, by the address in its one spelling."""
    if message.from_address is None:
        return {}
    address = normalise(message.from_address)
    return {
        "id": mail.contact_id,
        "address": address,
        "hash": _hex(id_hash(address)),
        "name": message.from_name,
        "seen_at": mail.envelope.received_at,
    }


def receipt(envelope: Envelope, auth_report: Any = None) -> dict[str, Any]:
    """The arrival's facts, as the receipt's columns. Without a report: a mail that could not be judged."""
    return {
        "arrival_id": envelope.arrival_id,
        "door": envelope.door,
        "provider": envelope.provider,
        "provider_event_id": None if envelope.provider_event_id is None else clean(envelope.provider_event_id),
        "envelope_from": clean(envelope.mail_from),
        "client_ip": envelope.client.ip or None,
        "helo": None if envelope.client.helo is None else clean(envelope.client.helo),
        "tls": envelope.client.tls,
        "auth_report": {} if auth_report is None else auth_report,
        "received_at": envelope.received_at,
        "metadata": envelope.metadata,
        "source": envelope.source,
    }


def _message(mail: Mail, message: Message, from_hash: str | None) -> dict[str, Any]:
    """The columns that all deliveries of a mail share."""
    return {
        "tenant_id": mail.tenant_id,
        "direction": "inbound",
        "status": "received",
        "rfc_message_id": mail.rfc_message_id,
        "rfc_id_hash": _hex(id_hash(mail.rfc_message_id)),
        "in_reply_to": message.in_reply_to[0] if message.in_reply_to else None,
        "reference_ids": message.reference_ids,
        "from_address": message.from_address,
        "from_name": message.from_name,
        "to_addresses": message.to_addresses,
        "cc_addresses": message.cc_addresses,
        "reply_to_addresses": message.reply_to_addresses,
        "header_to": message.header_to,
        "envelope_from": clean(mail.envelope.mail_from),
        "subject": message.subject,
        "body_text": message.body_text,
        "body_html": message.body_html,
        "reply_text": message.reply_text,
        "shown_hash": _hex(message.shown_hash),
        "from_hash": from_hash if message.from_address else None,
        "flags": sorted({*mail.envelope.flags, *message.flags}),
        "raw_id": mail.raw_id,
        "size": len(mail.envelope.raw),
        "sent_at": message.sent_at,
        "received_at": mail.envelope.received_at,
    }


def _delivery(n: int, mail: Mail, delivery: Delivery) -> dict[str, Any]:
    """One delivery of the nth mail: what the write decides by, and the columns that are its message's own."""
    attachment, message = delivery.attachment, mail.message
    cites = [{"hash": _hex(citation.hash), "method": citation.method} for citation in attachment.cites]
    return {
        "mail": n,
        "message_id": delivery.message_id,
        "mailbox_id": delivery.mailbox_id,
        "thread_id": delivery.thread_id,
        "receipt_id": delivery.receipt_id,
        "envelope_to": [clean(text) for text in delivery.envelope_to],
        "id_hash": _hex(id_hash(mail.rfc_message_id)),
        "answers": attachment.reply_to,
        "joins": attachment.thread_id,
        "method": attachment.method,
        "adopts": delivery.sender.dmarc != "fail",
        "answered_status": delivery.answered_status,
        "sender_verified": delivery.sender.verified,
        "own": {
            "id": delivery.message_id,
            "mailbox_id": delivery.mailbox_id,
            "kind": delivery.verdict.kind,
            "details": {
                "kind_evidence": delivery.verdict.evidence,
                "calendar": message.calendar if message else None,
                "report": message.report if message else None,
            },
            "thread_id": attachment.thread_id or delivery.thread_id,
            "reply_match_status": "unmatched" if attachment.reply_to is None else "matched",
            "delivery_role": delivery.role,
            "adopts": delivery.sender.dmarc != "fail",
            "sender_verified": delivery.sender.verified,
            "sender_expected": delivery.attachment.expected,
            "spf": delivery.auth.spf,
            "dkim": delivery.auth.dkim,
            "dmarc": delivery.auth.dmarc,
            "arc": delivery.auth.arc,
            "auth_strength": delivery.auth.strength,
            "quarantined": delivery.quarantined,
            "recipient_tag": None if delivery.tag is None else clean(delivery.tag),
            "reply_match_method": attachment.method,
            "reply_to_email_id": attachment.reply_to,
            "cited_hashes": [one["hash"] for one in cites],
            "cites": cites,
            "answered_status": delivery.answered_status,
            "answered_over": outranked_by(delivery.answered_status),
            "decision": delivery.decision,
        },
    }


def _part(part: PartRow) -> dict[str, Any]:
    """A part's columns. Bytes that are no view on the raw mail go as hex, which is twice their size."""
    return {
        "ordinal": part.ordinal,
        "parent_ordinal": part.parent_ordinal,
        "path": part.path,
        "role": part.role,
        "content_type": part.content_type,
        "charset": part.charset,
        "filename": part.filename,
        "original_filename": part.original_filename,
        "content_id": part.content_id,
        "encoding": part.encoding,
        "offset": part.offset if part.data is None else None,
        "length": part.length if part.data is None else None,
        "decoded_size": part.decoded_size,
        "sha256": _hex(part.sha256),
        "flags": part.flags,
        "data": None if part.data is None else _hex(part.data),
    }


def _refusal(mail: Mail, refused: Refused) -> dict[str, Any]:
    envelope = mail.envelope
    return {
        "id": refused.id,
        "door": envelope.door,
        "reason": refused.reason,
        "client_prefix": envelope.client.prefix,
        "minute": envelope.received_at.replace(second=0, microsecond=0),
        "arrival_id": envelope.arrival_id,
        "envelope": receipt(envelope, mail.auth_report) | {"envelope_to": [clean(text) for text in refused.recipients]},
        "detail": refused.detail,
        "source": envelope.source,
    }


def clean(text: str) -> str:
    """Text that Postgres takes: no NUL, no lone surrogate (envelope text may hold both)."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _hex(data: bytes) -> str:
    return f"\\x{data.hex()}"
