"""Judging stored unmatched mail again, with today's outbound messages and secrets: what joins a conversation now?

The verdicts on the sender stay those of the arrival: DNS of today says nothing about a mail of last week.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import UUID

from ingester.attaching import cited_tokens, steps, token_ids
from ingester.core.address import normalise, parse_path
from ingester.core.envelope import Route, RouteKind
from ingester.core.message import Message, digest
from ingester.core.mime import Bounds
from ingester.core.resolve import (
    Attachment,
    Citation,
    Method,
    Sender,
    attach,
    citations,
    content_claim,
    id_hash,
    raw_claim,
)
from ingester.core.token import token_in_local_part, verify
from ingester.store.db import Connection
from ingester.store.finding import Outbound, Query, find
from ingester.store.raws import Raws
from ingester.store.unmatched import Unmatched, bring_home, match, unmatched

PAGE = 100
CLAIM_LIFE = timedelta(days=14)
"""How long a retry of a mail that was brought home is known there (design page, Claims)."""
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
    raws: Raws,
    tenant_ids: Sequence[UUID],
    since: datetime,
    *,
    bounds: Bounds,
    secrets: Sequence[bytes],
    apply: bool,
    watch: Callable[[int], None] = lambda _: None,
    lost: Callable[[UUID], None] = lambda _: None,
) -> AsyncIterator[Rematched]:
    """Go through the unmatched mails, oldest first; write only if told to `apply`.

    `watch` hears of each page, `lost` of each mail whose bytes are gone: erased just now, or an object that is lost.
    """
    after = _FIRST
    while page := await unmatched(connection, tenant_ids, since, after=after, limit=PAGE):
        for one in page:
            try:
                raw = await raws.read(connection, one.tenant_id, one.raw_id)
            except LookupError:
                lost(one.id)
                continue
            found = await _judge(connection, raw, one, bounds, secrets)
            attachment = found.attachment
            if attachment.reply_to is None or attachment.method is None:
                continue
            done = apply and await _write(connection, one, found, attachment.reply_to, attachment.method)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What a mail joins today; `home` is another mailbox, to which a true token leads after all."""

    attachment: Attachment
    home: UUID | None
    raw_sha256: bytes
    content_key: bytes | None
    """None where the mail has no Message-ID: then only its bytes tell that it came again."""


async def _judge(
    connection: Connection, raw: bytes, one: Unmatched, bounds: Bounds, secrets: Sequence[bytes]
) -> _Found:
    """The decision of today, by the same steps as an arrival's."""
    message = digest(raw, bounds)
    tokens, cited = cited_tokens(message), _cited(message)
    route = Route(
        tenant_id=one.tenant_id,
        mailbox_id=one.mailbox_id,
        domain=one.domain,
        kind=RouteKind.TOKEN if one.in_reply_mailbox else RouteKind.EXACT,
        tag=None,
        policy="",
        answers=_answers(one, secrets) if one.in_reply_mailbox else None,
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
                from_hash=id_hash(normalise(one.from_address)) if one.from_address else None,
                day=one.received_at.date(),
            )
        ],
    )
    assert finding.standing is not None  # the mail's mailbox was joined
    named = finding.outbound.get(route.answers) if route.answers else None
    if named is not None and not _counts(named, one):
        finding.outbound.pop(named.candidate.message_id)
        named = None
    found = steps(route, tokens, cited, finding, secrets=secrets, now=one.received_at)
    # What lies among the false tokens comes home by its token or not at all.
    found = [step for step in found if step.by is Method.TOKEN_RECIPIENT] if one.in_reply_mailbox else found
    sender = Sender(verified=one.sender_verified, dmarc=one.dmarc)
    return _Found(
        attachment=attach(found, cited, sender, strict=finding.standing.strict_senders),
        home=named.mailbox_id if named is not None else None,
        raw_sha256=sha256(raw).digest(),
        content_key=message.content_key if message.rfc_message_id else None,
    )


def _answers(one: Unmatched, secrets: Sequence[bytes]) -> UUID | None:
    """The outbound message whose token is among the recipients, and true today."""
    for recipient in one.envelope_to:
        address = parse_path(recipient)
        token = token_in_local_part(address.local) if address is not None else None
        if token is not None and verify(token, secrets, tenant=one.tenant, domain=one.domain):
            return token.id
    return None


def _counts(row: Outbound, one: Unmatched) -> bool:
    """Whether the token was for this domain, and had not expired when the mail came."""
    return row.reply_domain == one.domain and (row.expires_at is None or row.expires_at > one.received_at)


async def _write(connection: Connection, one: Unmatched, found: _Found, parent: UUID, method: Method) -> bool:
    if found.home is None:
        return await match(connection, one.tenant_id, one.id, parent, method)
    claims = [raw_claim(found.home, found.raw_sha256)]
    claims += [content_claim(found.home, found.content_key)] if found.content_key else []
    until = one.received_at + CLAIM_LIFE
    return await bring_home(connection, one.tenant_id, one.id, parent, claims=sorted(claims), until=until)


def _cited(message: Message) -> tuple[Citation, ...]:
    own = message.rfc_message_id or ""  # what has no id cannot cite itself
    return citations(own, message.in_reply_to, message.reference_ids, message.report_message_ids)
