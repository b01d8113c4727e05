"""Judging stored unmatched mail again, with today's outbound messages and secrets: what joins a conversation now?

The verdicts on the sender stay those of the arrival: DNS of today says nothing about a mail of last week.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from ingester.attaching import cited_tokens, steps, token_ids
from ingester.core.envelope import Route, RouteKind
from ingester.core.message import Message, digest
from ingester.core.mime import Bounds
from ingester.core.resolve import Attachment, Citation, Sender, attach, citations, id_hash
from ingester.store.db import Connection
from ingester.store.finding import Query, find
from ingester.store.messages import read_raw
from ingester.store.unmatched import Unmatched, match, unmatched

PAGE = 100
_FIRST = UUID(int=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rematched:
    """One mail that would be, or was, matched."""

    id: UUID
    tenant: str
    subject: str
    from_address: str | None
    was: str
    """Why it was unmatched."""
    method: str
    reply_to_email_id: UUID
    done: bool


async def rematch(
    connection: Connection,
    tenant_ids: Sequence[UUID],
    since: datetime,
    *,
    bounds: Bounds,
    secrets: Sequence[bytes],
    apply: bool,
    watch: Callable[[int], None] = lambda _: None,
) -> AsyncIterator[Rematched]:
    """Go through the unmatched mails, oldest first; write only if told to `apply`. `watch` hears of each page."""
    after = _FIRST
    while page := await unmatched(connection, tenant_ids, since, after=after, limit=PAGE):
        for one in page:
            attachment = await _judge(connection, one, bounds, secrets)
            if attachment.reply_to is None or attachment.method is None:
                continue
            done = apply and await match(connection, one.tenant_id, one.id, attachment.reply_to, attachment.method)
            yield Rematched(
                id=one.id,
                tenant=one.tenant,
                subject=one.subject,
                from_address=one.from_address,
                was=one.reason,
                method=attachment.method.value,
                reply_to_email_id=attachment.reply_to,
                done=done,
            )
        after = page[-1].id
        watch(len(page))


async def _judge(connection: Connection, one: Unmatched, bounds: Bounds, secrets: Sequence[bytes]) -> Attachment:
    """The decision of today, by the same steps as an arrival's."""
    raw = await read_raw(connection, one.tenant_id, one.raw_id)
    message = digest(raw, bounds)
    tokens, cited = cited_tokens(message), _cited(message)
    route = Route(
        tenant_id=one.tenant_id,
        mailbox_id=one.mailbox_id,
        domain=one.domain,
        kind=RouteKind.EXACT,
        tag=None,
        policy="",
    )
    (finding,) = await find(
        connection,
        [
            Query(
                tenant_id=one.tenant_id,
                mailbox_id=one.mailbox_id,
                hashes=tuple(citation.hash for citation in cited),
                patterns=(),
                forwarders=(),
                token_ids=token_ids(route, tokens),
                from_hash=id_hash(one.from_address.lower()) if one.from_address else None,
                day=one.received_at.date(),
            )
        ],
    )
    assert finding.standing is not None  # the mail's mailbox was joined
    found = steps(route, tokens, cited, finding, secrets=secrets, now=one.received_at)
    sender = Sender(verified=one.sender_verified, dmarc=one.dmarc)
    return attach(found, cited, sender, strict=finding.standing.strict_senders)


def _cited(message: Message) -> tuple[Citation, ...]:
    own = message.rfc_message_id or ""  # what has no id cannot cite itself
    return citations(own, message.in_reply_to, message.reference_ids, message.report_message_ids)
