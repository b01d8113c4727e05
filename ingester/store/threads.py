"""What `thread show` reads: one conversation with its messages and who takes part. Nothing is changed here."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from ingester.store.db import Connection
from ingester.store.reading import with_mailbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A thread, with the names of its tenant and mailbox."""

    tenant_id: UUID
    tenant: str
    id: UUID
    mailbox_id: UUID
    mailbox: str
    subject: str
    is_read: bool
    has_outbound: bool
    message_count: int
    last_message_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message of a conversation: who wrote it, whether that was sure, and what it answers."""

    id: UUID
    direction: str
    kind: str
    status: str
    rfc_message_id: str
    from_address: str | None
    from_name: str | None
    to_addresses: list[str]
    subject: str
    sender_verified: bool
    sender_expected: bool
    quarantined: bool
    reply_match_status: str
    reply_match_method: str | None
    reply_to_email_id: UUID | None
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Participant:
    """Who takes part in a conversation: whom we wrote to, and verified senders."""

    address: str
    role: str
    contact_id: UUID | None
    added_at: datetime


async def owner(connection: Connection, thread_id: UUID) -> UUID | None:
    """The tenant of a thread, by one look-up by key in each tenant; there is no index on an id alone."""
    found: UUID | None = await connection.fetchval(
        """
        SELECT t.id FROM tenants t
        CROSS JOIN LATERAL (SELECT FROM threads h WHERE h.tenant_id = t.id AND h.id = $1 OFFSET 0) x
        """,
        thread_id,
    )
    return found


async def thread_of(connection: Connection, tenant_id: UUID, message_id: UUID) -> UUID | None:
    """The thread that a message is in."""
    found: UUID | None = await connection.fetchval(
        "SELECT thread_id FROM messages WHERE tenant_id = $1 AND id = $2", tenant_id, message_id
    )
    return found


async def conversation(connection: Connection, tenant_id: UUID, thread_id: UUID) -> Conversation | None:
    """One thread."""
    row = await connection.fetchrow(
        """
        SELECT h.tenant_id, t.slug AS tenant, h.id, h.mailbox_id, b.local_part, b.domain, h.subject, h.is_read,
               h.has_outbound, h.message_count, h.last_message_at
        FROM threads h
        JOIN tenants t ON t.id = h.tenant_id
        JOIN mailboxes b ON b.tenant_id = h.tenant_id AND b.id = h.mailbox_id
        WHERE h.tenant_id = $1 AND h.id = $2
        """,
        tenant_id,
        thread_id,
    )
    return None if row is None else Conversation(**with_mailbox(row))


async def turns(connection: Connection, tenant_id: UUID, thread_id: UUID, limit: int) -> list[Turn]:
    """The newest `limit` messages of a thread, oldest first."""
    rows = await connection.fetch(
        """
        SELECT id, direction, kind, status, rfc_message_id, from_address, from_name, to_addresses, subject,
               sender_verified, sender_expected, quarantined, reply_match_status, reply_match_method,
               reply_to_email_id, received_at
        FROM messages WHERE tenant_id = $1 AND thread_id = $2 ORDER BY received_at DESC, id DESC LIMIT $3
        """,
        tenant_id,
        thread_id,
        limit,
    )
    return [Turn(**dict(row)) for row in reversed(rows)]


async def participants(connection: Connection, tenant_id: UUID, thread_id: UUID, limit: int) -> list[Participant]:
    """The first `limit` who took part in a thread."""
    rows = await connection.fetch(
        """
        SELECT address, role, contact_id, added_at
        FROM participants WHERE tenant_id = $1 AND thread_id = $2 ORDER BY added_at, address LIMIT $3
        """,
        tenant_id,
        thread_id,
        limit,
    )
    return [Participant(**dict(row)) for row in rows]
