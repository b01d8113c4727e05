"""The whole check of one arrival: SPF, DKIM, ARC and the client side by side, then DMARC over them.

A fault of ours in one check is a temperror of that check, never a lost mail and never a fail. What a door cannot know
is `unknown`: without the client's address SPF says nothing, and DMARC then passes or is unknown.
"""

from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from typing import TypeVar

import structlog

from ingester.auth import arc, dkim, dmarc, peer, spf
from ingester.auth.client import client_address
from ingester.auth.dns import MailLookup, Resolver
from ingester.auth.header import Header, split
from ingester.auth.report import Arc, AuthReport, Dkim, Dmarc, Peer, Result, Spf
from ingester.auth.results import Statement, claims_to_be, read_statements
from ingester.auth.side_by_side import side_by_side
from ingester.core.envelope import Door, Envelope
from ingester.core.hashed_body import HashedBody

Verdict = TypeVar("Verdict")

_HELO_QUERIES = 15
"""What the HELO name may cost of a mail's questions: it only speaks for bounces."""
_EVIDENCE_SHARE = 2 / 3
"""Of the mail's questions and seconds, what all checks before DMARC may spend. A forger who makes them cost more than
that, with a slow zone of his own, still meets the policy of the domain that he forges."""
_NO_SPF: tuple[Spf, Spf | None] = (Spf(result=Result.TEMPERROR), None)
_UNKNOWN_SPF: tuple[Spf, Spf | None] = (Spf(result=Result.UNKNOWN), None)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The settings of the checks. `relays` are our own hosts in front of this one: their address is nobody's."""

    authserv_id: str
    relays: tuple[IPv4Network | IPv6Network, ...]
    block_zones: tuple[str, ...]
    allow_zones: tuple[str, ...]
    reverse_dns: bool
    max_signatures: int
    max_arc_sets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The report, and what others wrote into the mail: evidence only for whom a tenant trusts."""

    report: AuthReport
    statements: tuple[Statement, ...] = ()
    dns_seconds: float = 0.0
    """How long name servers were waited for."""


class Authenticator:
    """One per process."""

    def __init__(self, resolver: Resolver, rules: Rules, *, threads: Executor) -> None:
        self._resolver = resolver
        self._rules = rules
        self._threads = threads
        # Most mail comes from few hosts. A door's word for a client is short.
        self._sender = lru_cache(maxsize=1024)(self._address_of_sender)

    async def check(
        self, envelope: Envelope, *, authors: tuple[str, ...], from_fields: int, hashed: HashedBody | None = None
    ) -> Checked:
        """Check one arrival. Never raises. Ends within the budget of the mail's DNS questions.

        `hashed`: what the scan has hashed of the same mail.
        """
        lookup = self._resolver.lookup()
        evidence = lookup.part(_EVIDENCE_SHARE)
        ip = self._sender(envelope.client.ip)
        header = split(envelope.raw)
        (own, helo), signatures, chain, client = await side_by_side(
            _judged(lambda: self._spf(evidence, envelope, ip), _NO_SPF),
            _judged(lambda: self._dkim(evidence, envelope, header, hashed), Dkim(result=Result.TEMPERROR)),
            _judged(lambda: self._arc(evidence, envelope, header, hashed), Arc(result=Result.TEMPERROR)),
            _judged(lambda: self._peer(evidence, envelope, ip), None),
        )
        lookup.queries += evidence.queries
        verdict = await _judged(
            lambda: dmarc.evaluate(lookup, authors=authors, from_fields=from_fields, spf=own, dkim=signatures),
            Dmarc(result=Result.TEMPERROR, reason="Our own check failed."),
        )
        statements = read_statements(envelope.raw, header)
        report = AuthReport(
            spf=own,
            helo=helo,
            dkim=signatures,
            dmarc=within_knowledge(verdict, own),
            arc=chain,
            peer=client,
            set_aside=sum(claims_to_be(one, self._rules.authserv_id) for one in statements),
            queries=lookup.queries,
        )
        return Checked(report=report, statements=statements, dns_seconds=lookup.seconds_waited)

    def _address_of_sender(self, text: str) -> str | None:
        """The address that really sent it, or None where this door cannot know."""
        ip = client_address(text)
        if ip is None:
            return None
        ours = ip.is_loopback or any(ip in network for network in self._rules.relays)
        return None if ours else str(ip)

    async def _spf(self, lookup: MailLookup, envelope: Envelope, ip: str | None) -> tuple[Spf, Spf | None]:
        if ip is None:
            return _UNKNOWN_SPF
        helo, receiver, now = envelope.client.helo or "", self._rules.authserv_id, envelope.received_at
        sender = envelope.mail_from
        own = await spf.check_mail_from(lookup, ip=ip, helo=helo, mail_from=sender, receiver=receiver, now=now)
        if not sender:
            return own, None  # it was the HELO identity already
        return own, await spf.check_helo(
            lookup, ip=ip, helo=helo, receiver=receiver, now=now, max_queries=_HELO_QUERIES
        )

    async def _dkim(self, lookup: MailLookup, envelope: Envelope, header: Header, hashed: HashedBody | None) -> Dkim:
        return await dkim.verify(
            lookup,
            envelope.raw,
            now=envelope.received_at,
            max_signatures=self._rules.max_signatures,
            beside=self._threads,
            header=header,
            hashed=hashed,
        )

    async def _arc(self, lookup: MailLookup, envelope: Envelope, header: Header, hashed: HashedBody | None) -> Arc:
        return await arc.verify_chain(
            lookup,
            envelope.raw,
            now=envelope.received_at,
            max_sets=self._rules.max_arc_sets,
            beside=self._threads,
            header=header,
            hashed=hashed,
        )

    async def _peer(self, lookup: MailLookup, envelope: Envelope, ip: str | None) -> Peer | None:
        if ip is None or envelope.door not in (Door.SMTP, Door.LMTP):
            return None
        rules = self._rules
        zones = (*rules.block_zones, *rules.allow_zones)
        return await peer.observe(
            lookup, ip=ip, helo=envelope.client.helo or "", zones=zones, reverse_dns=rules.reverse_dns
        )


async def _judged(check: Callable[[], Awaitable[Verdict]], otherwise: Verdict) -> Verdict:
    """A check's verdict, or `otherwise` where our own code stumbled over a stranger's input."""
    try:
        return await check()
    except Exception as error:  # noqa: BLE001  (the surprise of the design page: an exception here is a temperror)
        _log.error("a check of the sender failed", exc_info=error)
        return otherwise


def within_knowledge(verdict: Dmarc, own: Spf) -> Dmarc:
    """Without the client's address a fail only says that DKIM did not align: SPF might have."""
    if verdict.result is Result.FAIL and own.result is Result.UNKNOWN:
        reason = "DKIM did not align, and this door cannot know the client's address."
        return replace(verdict, result=Result.UNKNOWN, reason=reason)
    return verdict
