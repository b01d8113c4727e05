"""Stored unmatched mails, to be judged again; and the write that matches one after all."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from ingester.core.resolve import Method
from ingester.store.db import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmatched:
    """What is stored of an unmatched mail that a new judgement needs. The verdicts stay those of its arrival."""

    tenant_id: UUID
    tenant: str
    id: UUID
    mailbox_id: UUID
    domain: str
    raw_id: UUID
    from_address: str | None
    subject: str
    dmarc: str
    sender_verified: bool
    reason: str
    envelope_to: list[str]
    received_at: datetime


async def unmatched(
    connection: Connection, tenant_ids: Sequence[UUID], since: datetime, *, after: UUID, limit: int
) -> list[Unmatched]:
    """The next unmatched inbound mails in the order of their ids. System mailboxes hold theirs on purpose."""
    rows = await connection.fetch(
        """
        SELECT m.tenant_id, t.slug AS tenant, m.id, m.mailbox_id, b.domain, m.raw_id, m.from_address, m.subject,
               m.dmarc, m.sender_verified, coalesce(m.decision->>'reason', '') AS reason,
               coalesce((SELECT r.envelope_to FROM receipts r WHERE r.tenant_id = m.tenant_id AND r.message_id = m.id
                         ORDER BY r.duplicate, r.received_at LIMIT 1), '{}') AS envelope_to,
               m.received_at
        FROM messages m
        JOIN tenants t ON t.id = m.tenant_id
        JOIN mailboxes b ON b.tenant_id = m.tenant_id AND b.id = m.mailbox_id AND b.system IS NULL
        WHERE m.tenant_id = ANY ($1) AND m.received_at >= $2 AND m.id > $3 AND m.direction = 'inbound'
          AND m.reply_match_status = 'unmatched' AND m.raw_id IS NOT NULL
        ORDER BY m.id LIMIT $4
        """,
        tenant_ids,
        since,
        after,
        limit,
    )
    return [Unmatched(**dict(row)) for row in rows]


async def match(connection: Connection, tenant_id: UUID, message_id: UUID, parent_id: UUID, method: Method) -> bool:
    """Match a mail to the message that it answers. False when somebody was faster."""
    done = await connection.fetchval(
        "SELECT rematch_message($1, $2, $3, $4)", tenant_id, message_id, parent_id, method.value
    )
    return done is True
