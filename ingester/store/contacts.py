"""What `contact show` reads: one contact of a tenant, what came from there, and where it takes part.

Nothing is changed here. Contacts are made in the mail's own transaction, of verified senders and of whom we wrote to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from ingester.core.resolve import id_hash
from ingester.store.db import Connection
from ingester.store.reading import with_mailbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """A contact as it lies in the table."""

    tenant_id: UUID
    id: UUID
    address: str
    name: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactMessage:
    """One message from a contact."""

    id: UUID
    thread_id: UUID
    mailbox: str
    kind: str
    subject: str
    sender_verified: bool
    reply_match_status: str
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactThread:
    """A conversation with a contact; `role` is None where it wrote, but was never sure enough to take part."""

    thread_id: UUID
    mailbox: str
    subject: str
    role: str | None
    message_count: int
    last_message_at: datetime


async def by_address(connection: Connection, tenant_id: UUID, spellings: Sequence[str]) -> Contact | None:
    """The contact of an address, in any of these spellings in lower case; the oldest where several are known."""
    row = await connection.fetchrow(
        """
        SELECT tenant_id, id, address, name, created_at FROM contacts
        WHERE tenant_id = $1 AND address_hash = ANY ($2::bytea[]) ORDER BY created_at, id LIMIT 1
        """,
        tenant_id,
        [id_hash(text) for text in spellings],
    )
    return None if row is None else Contact(**dict(row))


async def by_id(connection: Connection, tenant_id: UUID, contact_id: UUID) -> Contact | None:
    """The contact of an id."""
    row = await connection.fetchrow(
        "SELECT tenant_id, id, address, name, created_at FROM contacts WHERE tenant_id = $1 AND id = $2",
        tenant_id,
        contact_id,
    )
    return None if row is None else Contact(**dict(row))


async def messages_from(connection: Connection, tenant_id: UUID, contact_id: UUID, limit: int) -> list[ContactMessage]:
    """The newest `limit` messages from a contact, newest first."""
    rows = await connection.fetch(
        """
        SELECT m.id, m.thread_id, b.local_part, b.domain, m.kind, m.subject, m.sender_verified, m.reply_match_status,
               m.received_at
        FROM messages m JOIN mailboxes b ON b.tenant_id = m.tenant_id AND b.id = m.mailbox_id
        WHERE m.tenant_id = $1 AND m.contact_id = $2 AND m.direction = 'inbound'
        ORDER BY m.received_at DESC, m.id DESC LIMIT $3
        """,
        tenant_id,
        contact_id,
        limit,
    )
    return [ContactMessage(**with_mailbox(row)) for row in rows]


async def threads_with(connection: Connection, tenant_id: UUID, contact_id: UUID, limit: int) -> list[ContactThread]:
    """The `limit` conversations that a contact wrote in or takes part in, the liveliest first."""
    rows = await connection.fetch(
        """
        SELECT h.id AS thread_id, b.local_part, b.domain, h.subject, max(x.role) AS role, h.message_count,
               h.last_message_at
        FROM (
            SELECT p.thread_id, p.role FROM participants p WHERE p.tenant_id = $1 AND p.contact_id = $2
            UNION
            SELECT m.thread_id, NULL FROM messages m WHERE m.tenant_id = $1 AND m.contact_id = $2
        ) x
        JOIN threads h ON h.tenant_id = $1 AND h.id = x.thread_id
        JOIN mailboxes b ON b.tenant_id = h.tenant_id AND b.id = h.mailbox_id
        GROUP BY h.tenant_id, h.id, b.tenant_id, b.id
        ORDER BY h.last_message_at DESC, h.id LIMIT $3
        """,
        tenant_id,
        contact_id,
        limit,
    )
    return [ContactThread(**with_mailbox(row)) for row in rows]
