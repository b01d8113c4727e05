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
    in_reply_mailbox: bool
    """It lies where tokens are kept that were not true when it came."""
    raw_id: UUID
    from_address: str | None
    subject: str
    dmarc: str
    """For attaching: a From that cannot be judged is as good as forged, and where nothing is judged nothing fails."""
    sender_verified: bool
    reason: str
    envelope_to: list[str]
    received_at: datetime


async def unmatched(
    connection: Connection, tenant_ids: Sequence[UUID], since: datetime, *, after: UUID, limit: int
) -> list[Unmatched]:
    """The next unmatched inbound mails in the order of their ids, those to postmasters left out."""
    rows = await connection.fetch(
        """
        SELECT m.tenant_id, t.slug AS tenant, m.id, m.mailbox_id, b.domain, b.system IS NOT NULL AS in_reply_mailbox,
               m.raw_id, m.from_address, m.subject,
               CASE WHEN b.auth_policy = 'off' THEN 'unknown' WHEN a.at_fault THEN 'fail' ELSE m.dmarc END AS dmarc,
               m.sender_verified, coalesce(m.decision->>'reason', '') AS reason,
               coalesce(a.envelope_to, '{}') AS envelope_to, m.received_at
        FROM messages m
        JOIN tenants t ON t.id = m.tenant_id
        JOIN mailboxes b ON b.tenant_id = m.tenant_id AND b.id = m.mailbox_id
                        AND coalesce(b.system, 'reply') = 'reply'
        LEFT JOIN LATERAL (
            SELECT r.envelope_to, (r.auth_report->'dmarc'->>'mail_at_fault')::boolean AS at_fault
            FROM receipts r WHERE r.tenant_id = m.tenant_id AND r.message_id = m.id
            ORDER BY r.duplicate, r.received_at LIMIT 1
        ) a ON true
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


async def bring_home(
    connection: Connection,
    tenant_id: UUID,
    message_id: UUID,
    parent_id: UUID,
    *,
    claims: Sequence[bytes],
    until: datetime,
) -> bool:
    """Move a mail from the mailbox of false tokens to that of the message it answers. False when it is gone from there.

    `claims` are those of its new place, which hold `until`.
    """
    async with connection.transaction():
        done = await connection.fetchval(
            "SELECT rehome_message($1, $2, $3, $4, $5)", tenant_id, message_id, parent_id, list(claims), until
        )
    return done is True
