"""SPF (RFC 7208): whether the owner of a domain lets this client send for it. The identities, and the report on them.

It does not decide about the mail. Records are evaluated by `spf_check`, our own evaluator. Nothing here raises.
"""

from datetime import datetime
from typing import NamedTuple

import idna

from ingester.auth.client import client_address
from ingester.auth.dns_name import MAX_NAME, canonical
from ingester.auth.lookup import Lookup
from ingester.auth.report import Identity, Result, Spf
from ingester.auth.spf_check import MAX_QUERIES, Arrival, Check, Outcome

MAX_TEXT = 256
"""Characters of anything that a stranger puts into the report."""
MAX_SENDER = 512
"""Characters. Doors let no longer path in (RFC 5321, 4.5.3.1)."""
PERSONAL = frozenset("lst")
"""Letters of macros that stand for more than the client, its HELO and the sender's domain: local part and time."""


async def check_mail_from(
    lookup: Lookup,
    *,
    ip: str,
    helo: str,
    mail_from: str,
    receiver: str,
    now: datetime,
    max_queries: int = MAX_QUERIES,
    cited: set[str] | None = None,
) -> Spf:
    """SPF on the envelope sender; on postmaster@HELO when it is null (RFC 7208, 2.4), which `identity` then tells.

    `receiver` is our own host name and `now` the time: an explanation may cite them. Without a client address the
    result is unknown. `cited` gets the letters of all macros that had a say.
    """
    if not mail_from:
        return await check_helo(
            lookup, ip=ip, helo=helo, receiver=receiver, now=now, max_queries=max_queries, cited=cited
        )
    local, _, domain = mail_from.rpartition("@") if len(mail_from) <= MAX_SENDER else ("", "", mail_from)
    sender = _Sender(Identity.MAIL_FROM, mail_from, local or "postmaster", domain)  # RFC 7208, 4.3
    return await _report(lookup, sender, ip, helo, receiver, now, max_queries, cited)


async def check_helo(
    lookup: Lookup,
    *,
    ip: str,
    helo: str,
    receiver: str,
    now: datetime,
    max_queries: int = MAX_QUERIES,
    cited: set[str] | None = None,
) -> Spf:
    """SPF on the name in HELO or EHLO (RFC 7208, 2.3)."""
    sender = _Sender(Identity.HELO, "", "postmaster", helo)
    return await _report(lookup, sender, ip, helo, receiver, now, max_queries, cited)


def as_of(known: Spf, mail_from: str) -> Spf:
    """The same verdict for another sender of the same domain, where no macro had a say that is `PERSONAL`."""
    shown = _readable(mail_from)
    if shown == known.envelope_from:
        return known
    return Spf(
        result=known.result,
        domain=known.domain,
        identity=known.identity,
        client_ip=known.client_ip,
        helo=known.helo,
        envelope_from=shown,
        mechanism=known.mechanism,
        explanation=known.explanation,
        problem=known.problem,
    )


class _Sender(NamedTuple):
    """Who is checked: the identity, what the envelope has, and its two parts."""

    identity: Identity
    envelope_from: str
    local: str
    domain: str


async def _report(
    lookup: Lookup,
    sender: _Sender,
    ip: str,
    helo: str,
    receiver: str,
    now: datetime,
    max_queries: int,
    cited: set[str] | None,
) -> Spf:
    """What was asked, with the answer; all text in it cut."""
    address = client_address(ip)
    name = _ascii_name(sender.domain)
    explanation = None
    if address is None:
        outcome = Outcome(result=Result.UNKNOWN, problem="The address of the client is not known.")
    elif name is None:
        outcome = Outcome(result=Result.NONE, problem=f"{sender.domain[:MAX_NAME]} is not the full name of a domain.")
    else:
        arrival = Arrival(address=address, helo=helo, local=sender.local, domain=name, receiver=receiver, now=now)
        check = Check(lookup, arrival, max_queries)
        outcome = await check.run()
        if outcome.result is Result.FAIL:
            explanation = await check.explain(outcome)
        if cited is not None:
            cited |= check.cited
    return Spf(
        result=outcome.result,
        domain=_readable(name or ""),
        identity=sender.identity,
        client_ip=_readable(ip) if address is None else str(address),
        helo=_readable(helo),
        envelope_from=_readable(sender.envelope_from),
        mechanism=None if outcome.mechanism is None else _readable(outcome.mechanism),
        explanation=None if explanation is None else _readable(explanation),
        problem=None if outcome.problem is None else _readable(outcome.problem),
    )


def _ascii_name(domain: str) -> str | None:
    """The A-labels of a name that a check can start with (RFC 7208, 4.3): no literal, and of two labels or more."""
    if len(domain) > MAX_NAME + 1:
        return None
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True).decode("ascii")
        except UnicodeError:  # which idna's own errors are, too
            return None
    name = canonical(domain)
    return name if name and "." in name and not name.startswith("[") else None


def _readable(text: str) -> str:
    cut = text[:MAX_TEXT]
    return cut if cut.isprintable() else "".join(char if char.isprintable() else "?" for char in cut)
