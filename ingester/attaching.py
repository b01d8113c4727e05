"""Which conversation a mail names: reply tokens and cited ids, each held against what is stored. Pure.

Foreign and forged tokens are indistinguishable here too: both were looked for, both cost an HMAC a secret.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from ingester.core.envelope import Route, RouteKind
from ingester.core.message import Message
from ingester.core.resolve import Citation, Method, Step
from ingester.core.token import Token, parse_token, token_in_id, verify
from ingester.store.finding import Finding, Outbound

MAX_TOKENS = 5
"""Tokens of one mail that are proven; an honest mail has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CitedToken:
    """A token in the mail itself, and where it stood."""

    token: Token
    method: Method


def cited_tokens(message: Message) -> tuple[CitedToken, ...]:
    """The tokens of a mail: in its header, then in In-Reply-To, then in References from the newest; each once."""
    found: dict[str, CitedToken] = {}
    named = parse_token(message.reply_token) if message.reply_token else None
    if named is not None:
        found[named.text] = CitedToken(token=named, method=Method.TOKEN_HEADER)
    for rfc_id in (*message.in_reply_to, *reversed(message.reference_ids)):
        token = token_in_id(rfc_id)
        if token is not None:
            found.setdefault(token.text, CitedToken(token=token, method=Method.TOKEN_REFERENCE))
    return tuple(found.values())[:MAX_TOKENS]


def token_ids(route: Route, tokens: Sequence[CitedToken]) -> tuple[UUID, ...]:
    """The outbound messages that must be looked up for this recipient."""
    return tuple(dict.fromkeys([*([route.answers] if route.answers else []), *(one.token.id for one in tokens)]))


def steps(
    route: Route,
    tokens: Sequence[CitedToken],
    cited: Sequence[Citation],
    finding: Finding,
    *,
    secrets: Sequence[bytes],
    now: datetime,
) -> list[Step]:
    """Every place that names a message, in the order in which they are believed."""
    out: list[Step] = []
    if route.kind is RouteKind.TOKEN:
        out.append(_by_recipient(route, finding))
    out += [_by_token(one, route, finding, secrets, now) for one in tokens]
    out += [Step(by=one.method, names=one.rfc_id, candidate=finding.candidates.get(one.hash)) for one in cited]
    return out


def _by_recipient(route: Route, finding: Finding) -> Step:
    """The token in the address: it was proven when the route was looked up, and led to this mailbox."""
    row = finding.outbound.get(route.answers) if route.answers else None
    return Step(
        by=Method.TOKEN_RECIPIENT,
        names=str(route.answers or ""),
        candidate=None if row is None else row.candidate,
        why_not="token_invalid" if row is None else None,
    )


def _by_token(one: CitedToken, route: Route, finding: Finding, secrets: Sequence[bytes], now: datetime) -> Step:
    assert finding.standing is not None
    row = finding.outbound.get(one.token.id)
    domain = row.reply_domain if row is not None else route.domain
    signed = verify(one.token, secrets, tenant=finding.standing.tenant, domain=domain)
    why = _why_not(row, route, now) if signed else "token_invalid"
    candidate = row.candidate if row is not None and why is None else None
    return Step(by=one.method, names=str(one.token.id), candidate=candidate, why_not=why)


def _why_not(row: Outbound | None, route: Route, now: datetime) -> str | None:
    if row is None or (row.expires_at is not None and row.expires_at <= now):
        return "token_invalid"
    return "cross_mailbox" if row.mailbox_id != route.mailbox_id else None
