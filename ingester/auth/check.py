"""The whole check of one arrival: SPF, DKIM, ARC and the client side by side, then DMARC over them.

A fault of ours in one check is a temperror of that check, never a lost mail and never a fail. What a door cannot know
is `unknown`: without the client's address SPF says nothing, and DMARC then passes or is unknown.
"""

from collections.abc import Awaitable, Hashable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple, TypeVar

import structlog

from ingester.auth import arc, dkim, dmarc, peer, spf
from ingester.auth.client import client_address
from ingester.auth.dns import MailLookup, Resolver
from ingester.auth.header import Header, split
from ingester.auth.remembered import Known, Remembered, Watched
from ingester.auth.report import Arc, AuthReport, Dkim, Dmarc, Peer, Result, Spf
from ingester.auth.results import Statement, claims_to_be, read_statements
from ingester.auth.side_by_side import side_by_side
from ingester.core.envelope import Door, Envelope
from ingester.core.fields import HeaderBlock
from ingester.core.hashed_body import HashedBody

Verdict = TypeVar("Verdict")

_HELO_QUERIES = 15
"""What the HELO name may cost of a mail's questions: it only speaks for bounces."""
_EVIDENCE_SHARE = 2 / 3
"""Of the mail's questions and seconds, what all checks before DMARC may spend. A forger who makes them cost more than
that, with a slow zone of his own, still meets the policy of the domain that he forges."""
_LONGEST_HELO = 255
"""Characters of a HELO of which verdicts are remembered: a domain has no more (RFC 5321, 4.5.3.1.2)."""
_LOOKED_AT = (Door.SMTP, Door.LMTP)
"""Doors whose client is a mail server."""

Spfs = tuple[Spf, Spf | None]
"""SPF on the envelope sender, and on HELO where that is another identity."""

_NO_SPF: Spfs = (Spf(result=Result.TEMPERROR), None)
_UNKNOWN_SPF: Spfs = (Spf(result=Result.UNKNOWN), None)
_NO_DKIM = Dkim(result=Result.TEMPERROR)
_NO_ARC = Arc(result=Result.TEMPERROR)
_NO_DMARC = Dmarc(result=Result.TEMPERROR, reason="Our own check failed.")

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


class _Arrival(NamedTuple):
    """A mail as the checks see it. Without `ip` its door cannot know the client's address."""

    envelope: Envelope
    ip: str | None
    helo: str
    header: Header
    hashed: HashedBody | None


class Authenticator:
    """One per process. It remembers what it found of hosts and domains, as long as DNS says the same of them."""

    def __init__(self, resolver: Resolver, rules: Rules, *, threads: Executor) -> None:
        self._resolver = resolver
        self._rules = rules
        self._threads = threads
        # Most mail comes from few hosts. A door's word for a client is short.
        self._sender = lru_cache(maxsize=1024)(self._address_of_sender)
        self._spfs: Remembered[Spfs] = Remembered(resolver)
        self._peers: Remembered[Peer] = Remembered(resolver)
        self._policies: Remembered[Dmarc] = Remembered(resolver)

    async def check(
        self,
        envelope: Envelope,
        *,
        authors: tuple[str, ...],
        from_fields: int,
        hashed: HashedBody | None = None,
        block: HeaderBlock | None = None,
    ) -> Checked:
        """Check one arrival. Never raises. Ends within the budget of the mail's DNS questions.

        `hashed` and `block`: what the scan has hashed and read of the same mail. Nothing beyond the scan's bounds is
        judged; without a block the bounds are the default ones.
        """
        lookup = self._resolver.lookup()
        evidence = lookup.part(_EVIDENCE_SHARE)
        client = envelope.client
        header = split(envelope.raw) if block is None else Header(envelope.raw, block)
        arrival = _Arrival(envelope, self._sender(client.ip), client.helo or "", header, hashed)
        (own, helo), signatures, chain, peer_seen = await self._look(evidence, arrival)
        lookup.queries += evidence.queries
        verdict = await _judged(self._dmarc(lookup, authors, from_fields, own, signatures), _NO_DMARC)
        self._resolver.count_hits(evidence.known + lookup.known)
        statements = read_statements(envelope.raw, header)
        report = AuthReport(
            spf=own,
            helo=helo,
            dkim=signatures,
            dmarc=within_knowledge(verdict, own),
            arc=chain,
            peer=peer_seen,
            set_aside=len([one for one in statements if claims_to_be(one, self._rules.authserv_id)]),
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

    async def _look(self, lookup: MailLookup, arrival: _Arrival) -> tuple[Spfs, Dkim, Arc, Peer | None]:
        """All checks before DMARC: side by side, but where DKIM alone may have to wait they need no tasks."""
        sender = self._spfs.find(_sender_of(arrival), lookup)
        client = self._peers.find(_client_of(arrival), lookup)
        chain = arc.at_once(arrival.header)
        remembered = arrival.ip is None or (sender is not None and (client is not None or not _is_peer(arrival)))
        if remembered and chain is not None:
            return (
                await _judged(self._spf(lookup, arrival, sender), _NO_SPF),
                await _judged(self._dkim(lookup, arrival), _NO_DKIM),
                chain,
                await _judged(self._peer(lookup, arrival, client), None),
            )
        return await side_by_side(
            _judged(self._spf(lookup, arrival, sender), _NO_SPF),
            _judged(self._dkim(lookup, arrival), _NO_DKIM),
            _judged(self._arc(lookup, arrival), _NO_ARC),
            _judged(self._peer(lookup, arrival, client), None),
        )

    async def _spf(self, lookup: MailLookup, arrival: _Arrival, known: Known[Spfs] | None) -> Spfs:
        ip, helo, sender = arrival.ip, arrival.helo, arrival.envelope.mail_from
        if ip is None:
            return _UNKNOWN_SPF
        if known is not None and lookup.charge(known.answers):
            own, of_helo = known.verdict
            return spf.as_of(own, sender), of_helo
        watched = Watched(lookup)
        cited: set[str] = set()
        receiver, now = self._rules.authserv_id, arrival.envelope.received_at
        own = await spf.check_mail_from(
            watched, ip=ip, helo=helo, mail_from=sender, receiver=receiver, now=now, cited=cited
        )
        of_helo = None
        if sender:  # otherwise it was the HELO identity already
            of_helo = await spf.check_helo(
                watched, ip=ip, helo=helo, receiver=receiver, now=now, max_queries=_HELO_QUERIES, cited=cited
            )
        if not cited & spf.PERSONAL:
            self._spfs.keep(_sender_of(arrival), (own, of_helo), watched)
        return own, of_helo

    async def _dkim(self, lookup: MailLookup, arrival: _Arrival) -> Dkim:
        return await dkim.verify(
            lookup,
            arrival.envelope.raw,
            now=arrival.envelope.received_at,
            max_signatures=self._rules.max_signatures,
            beside=self._threads,
            header=arrival.header,
            hashed=arrival.hashed,
        )

    async def _arc(self, lookup: MailLookup, arrival: _Arrival) -> Arc:
        return await arc.verify_chain(
            lookup,
            arrival.envelope.raw,
            now=arrival.envelope.received_at,
            max_sets=self._rules.max_arc_sets,
            beside=self._threads,
            header=arrival.header,
            hashed=arrival.hashed,
        )

    async def _peer(self, lookup: MailLookup, arrival: _Arrival, known: Known[Peer] | None) -> Peer | None:
        ip, rules = arrival.ip, self._rules
        if ip is None or not _is_peer(arrival):
            return None
        if known is not None and lookup.charge(known.answers):
            return known.verdict
        watched = Watched(lookup)
        zones = (*rules.block_zones, *rules.allow_zones)
        seen = await peer.observe(watched, ip=ip, helo=arrival.helo, zones=zones, reverse_dns=rules.reverse_dns)
        self._peers.keep(_client_of(arrival), seen, watched)
        return seen

    async def _dmarc(
        self, lookup: MailLookup, authors: tuple[str, ...], from_fields: int, own: Spf, signatures: Dkim
    ) -> Dmarc:
        evidence = dmarc.evidence(authors, from_fields, own, signatures)
        known = self._policies.find(evidence, lookup)
        if known is not None and lookup.charge(known.answers):
            return known.verdict
        watched = Watched(lookup)
        verdict = await dmarc.evaluate(watched, authors=authors, from_fields=from_fields, spf=own, dkim=signatures)
        if verdict.result is not Result.TEMPERROR:
            self._policies.keep(evidence, verdict, watched)
        return verdict


def _sender_of(arrival: _Arrival) -> Hashable:
    """What SPF depends on apart from DNS, while no macro is `spf.PERSONAL`; None where it is not to be remembered."""
    sender = arrival.envelope.mail_from
    if arrival.ip is None or len(arrival.helo) > _LONGEST_HELO or len(sender) > spf.MAX_SENDER:
        return None
    return arrival.ip, arrival.helo, sender.rpartition("@")[2] if sender else None


def _client_of(arrival: _Arrival) -> Hashable:
    """What is seen of a client depends on this and DNS; None where it is not to be remembered."""
    return None if arrival.ip is None or len(arrival.helo) > _LONGEST_HELO else (arrival.ip, arrival.helo)


def _is_peer(arrival: _Arrival) -> bool:
    return arrival.envelope.door in _LOOKED_AT


async def _judged(check: Awaitable[Verdict], otherwise: Verdict) -> Verdict:
    """A check's verdict, or `otherwise` where our own code stumbled over a stranger's input."""
    try:
        return await check
    except Exception as error:  # noqa: BLE001  (the surprise of the design page: an exception here is a temperror)
        _log.error("a check of the sender failed", exc_info=error)
        return otherwise


def within_knowledge(verdict: Dmarc, own: Spf) -> Dmarc:
    """Without the client's address a fail only says that DKIM did not align: SPF might have."""
    if verdict.result is Result.FAIL and own.result is Result.UNKNOWN:
        reason = "DKIM did not align, and this door cannot know the client's address."
        return replace(verdict, result=Result.UNKNOWN, reason=reason)
    return verdict
