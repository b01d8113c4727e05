"""What `show` and `raw` read: one message with its parts, receipts and thread. Nothing is changed here.

An operator names an id and no tenant: `locate` finds the tenant first, by one look-up by key in each, and every other
statement carries it.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from ingester.core.address import Address
from ingester.core.envelope import Door
from ingester.store.db import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """What an id stands for: a message, or a dead letter that became none."""

    tenant_id: UUID
    message_id: UUID | None
    dead_letter_id: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMessage:
    """A message as it lies in the table, with the names of its tenant and mailbox."""

    tenant_id: UUID
    tenant: str
    id: UUID
    mailbox_id: UUID
    mailbox: str
    thread_id: UUID
    direction: str
    kind: str
    details: dict[str, Any]
    status: str
    rfc_message_id: str
    in_reply_to: str | None
    reference_ids: list[str]
    from_address: str | None
    from_name: str | None
    to_addresses: list[str]
    cc_addresses: list[str]
    reply_to_addresses: list[str]
    header_to: str | None
    delivery_role: str | None
    recipient_tag: str | None
    envelope_from: str | None
    subject: str
    body_text: str
    body_html: str | None
    reply_text: str | None
    reply_match_status: str
    reply_match_method: str | None
    reply_to_email_id: UUID | None
    sender_verified: bool
    sender_expected: bool
    spf: str
    dkim: str
    dmarc: str
    arc: str
    quarantined: bool
    flags: list[str]
    decision: dict[str, Any]
    raw_id: UUID | None
    raw_kept: bool
    """Whether the raw bytes, and the attachments in them, are still there: they may go before the message."""
    size: int
    sent_at: datetime | None
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPart:
    """A part as it lies in the table; `offset` and `length` are None where its bytes are stored."""

    ordinal: int
    parent_ordinal: int | None
    path: str
    role: str
    content_type: str
    charset: str | None
    filename: str | None
    original_filename: str | None
    content_id: str | None
    encoding: str
    offset: int | None
    length: int | None
    decoded_size: int
    sha256: str
    flags: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredReceipt:
    """One arrival of a message."""

    id: UUID
    arrival_id: UUID
    dead_letter_id: UUID | None
    door: str
    provider: str | None
    provider_event_id: str | None
    envelope_from: str
    envelope_to: list[str]
    client_ip: str | None
    helo: str | None
    tls: str | None
    raw_sha256: str
    auth_report: dict[str, Any]
    received_at: datetime
    duplicate: bool

    @property
    def return_path(self) -> str | None:
        """The envelope's sender in its brackets; None where nobody told it: that is not the null sender."""
        known = self.envelope_from or self.door in (Door.SMTP, Door.LMTP)
        return f"<{self.envelope_from}>" if known else None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredThread:
    """The conversation of a message."""

    id: UUID
    subject: str
    is_read: bool
    message_count: int
    last_message_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadLine:
    """One message of a conversation, in a line."""

    id: UUID
    direction: str
    from_address: str | None
    subject: str
    reply_match_status: str
    received_at: datetime


async def locate(connection: Connection, any_id: UUID) -> list[Located]:
    """What the id of a message, an arrival or a dead letter stands for; an arrival may stand for several messages.

    LATERAL with OFFSET 0 makes each branch a look-up by key in every tenant; there is no index on an id alone.
    """
    rows = await connection.fetch(
        """
        SELECT t.id AS tenant_id, x.id AS message_id, NULL::uuid AS dead_letter_id
        FROM tenants t
        CROSS JOIN LATERAL (SELECT m.id FROM messages m WHERE m.tenant_id = t.id AND m.id = $1 OFFSET 0) x
        UNION
        SELECT t.id, x.message_id, CASE WHEN x.message_id IS NULL THEN x.dead_letter_id END
        FROM tenants t
        CROSS JOIN LATERAL (SELECT r.message_id, r.dead_letter_id FROM receipts r
                            WHERE r.tenant_id = t.id AND r.arrival_id = $1 OFFSET 0) x
        UNION
        SELECT t.id, NULL, x.id
        FROM tenants t
        CROSS JOIN LATERAL (SELECT d.id FROM dead_letters d WHERE d.tenant_id = t.id AND d.id = $1 OFFSET 0) x
        ORDER BY tenant_id, message_id, dead_letter_id
        """,
        any_id,
    )
    return [Located(**dict(row)) for row in rows]


async def message(connection: Connection, tenant_id: UUID, message_id: UUID) -> StoredMessage | None:
    """One message."""
    row = await connection.fetchrow(
        """
        SELECT m.tenant_id, t.slug AS tenant, m.id, m.mailbox_id, b.domain, b.local_part, m.thread_id, m.direction,
               m.kind, m.details, m.status, m.rfc_message_id, m.in_reply_to, m.reference_ids, m.from_address,
               m.from_name, m.to_addresses, m.cc_addresses, m.reply_to_addresses, m.header_to, m.delivery_role,
               m.recipient_tag, m.envelope_from, m.subject, m.body_text, m.body_html, m.reply_text,
               m.reply_match_status, m.reply_match_method, m.reply_to_email_id, m.sender_verified, m.sender_expected,
               m.spf, m.dkim, m.dmarc, m.arc, m.quarantined, m.flags, m.decision, m.raw_id,
               EXISTS (SELECT FROM raws r WHERE r.tenant_id = m.tenant_id AND r.id = m.raw_id) AS raw_kept,
               m.size, m.sent_at, m.received_at
        FROM messages m
        JOIN tenants t ON t.id = m.tenant_id
        JOIN mailboxes b ON b.tenant_id = m.tenant_id AND b.id = m.mailbox_id
        WHERE m.tenant_id = $1 AND m.id = $2
        """,
        tenant_id,
        message_id,
    )
    return None if row is None else StoredMessage(**with_mailbox(row))


def with_mailbox(row: asyncpg.Record) -> dict[str, Any]:
    """The values of a row, with `mailbox`, the address, in the place of `local_part` and `domain`."""
    values = dict(row)
    mailbox = Address(local=values.pop("local_part"), domain=values.pop("domain"))
    return values | {"mailbox": str(mailbox)}


async def parts(connection: Connection, tenant_id: UUID, message_id: UUID) -> list[StoredPart]:
    """The parts of a message, depth-first."""
    rows = await connection.fetch(
        """
        SELECT ordinal, parent_ordinal, path, role, content_type, charset, filename, original_filename, content_id,
               encoding, "offset", length, decoded_size, encode(sha256, 'hex') AS sha256, flags
        FROM parts WHERE tenant_id = $1 AND message_id = $2 ORDER BY ordinal
        """,
        tenant_id,
        message_id,
    )
    return [StoredPart(**dict(row)) for row in rows]


async def part_bytes(connection: Connection, tenant_id: UUID, message_id: UUID, ordinal: int) -> bytes | None:
    """The bytes of a part that is stored itself, because it is no view on the raw mail; None for a view."""
    data = await connection.fetchval(
        "SELECT data FROM parts WHERE tenant_id = $1 AND message_id = $2 AND ordinal = $3",
        tenant_id,
        message_id,
        ordinal,
    )
    return None if data is None else bytes(data)


async def receipts(connection: Connection, tenant_id: UUID, message_id: UUID) -> list[StoredReceipt]:
    """The arrivals of a message, oldest first."""
    rows = await connection.fetch(
        """
        SELECT id, arrival_id, dead_letter_id, door, provider, provider_event_id, envelope_from, envelope_to, client_ip,
               helo, tls, encode(raw_sha256, 'hex') AS raw_sha256, auth_report, received_at,
               duplicate
        FROM receipts WHERE tenant_id = $1 AND message_id = $2 ORDER BY duplicate, received_at, id
        """,
        tenant_id,
        message_id,
    )
    return [StoredReceipt(**dict(row)) for row in rows]


async def thread(connection: Connection, tenant_id: UUID, thread_id: UUID) -> StoredThread | None:
    """One conversation."""
    row = await connection.fetchrow(
        "SELECT id, subject, is_read, message_count, last_message_at FROM threads WHERE tenant_id = $1 AND id = $2",
        tenant_id,
        thread_id,
    )
    return None if row is None else StoredThread(**dict(row))


async def thread_lines(connection: Connection, tenant_id: UUID, thread_id: UUID, limit: int) -> list[ThreadLine]:
    """The newest `limit` messages of a conversation, oldest first."""
    rows = await connection.fetch(
        """
        SELECT id, direction, from_address, subject, reply_match_status, received_at
        FROM messages WHERE tenant_id = $1 AND thread_id = $2 ORDER BY received_at DESC, id DESC LIMIT $3
        """,
        tenant_id,
        thread_id,
        limit,
    )
    return [ThreadLine(**dict(row)) for row in reversed(rows)]
