"""What the owner of a name says of it now: the zone's own name servers are asked, and no cache.

For proofs of ownership. Where the zone's servers cannot be found or do not answer (a firewall that lets only the
resolver out), the resolver is asked, and the answer says so: it may be as old as the record may be.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from ingester.auth.dns import MailLookup, Resolver
from ingester.auth.dns_exchange import Server, ask, server
from ingester.auth.dns_message import UNAVAILABLE, Kind, Question, authoritative, read
from ingester.auth.dns_name import canonical
from ingester.auth.hosts import addresses_of
from ingester.auth.lookup import Answer, Status

PORT: Final = 53
MAX_SERVERS: Final = 6
"""Name servers of a zone that are asked; registries want two to thirteen."""
MAX_ALIASES: Final = 5
SECONDS: Final = 3.0
"""How long one server may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One server's answer. `who` is its name and address, for people."""

    who: str
    answer: Answer[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What those who answered say. `authoritative` is false where it is the resolver's word."""

    told: tuple[Told, ...]
    authoritative: bool

    @property
    def asked(self) -> str:
        """Who said it, in words."""
        names = ", ".join(one.who for one in self.told) or "nobody"
        return names if self.authoritative else f"{names}, whose answer may be as old as the record's time to live"


class Owners:
    """Asks the owners of names. The resolver is only asked where their servers are."""

    def __init__(self, resolver: Resolver, *, port: int = PORT, seconds: float = SECONDS) -> None:
        self._resolver = resolver
        self._port = port
        self._seconds = seconds

    async def ask(self, name: str, kind: Kind) -> Live:
        """The answer of every server of the zone that a name is in; aliases are followed to their own zones.

        All of them: where the servers of a zone disagree, one of them (forgotten, and had by somebody else now) must
        not lead to where another answer is while the others keep silent.
        """
        lookup = self._resolver.lookup()
        asked = canonical(name)
        names = [] if asked is None else [asked]
        told: list[Told] = []
        unanswered = ""
        for one in names:  # it grows
            here, aliases = await self._ask_zone(lookup, Question(one, kind))
            told += here
            further = [alias for alias in aliases if alias not in names]
            names += further[: MAX_ALIASES + 1 - len(names)]
            if not (here or aliases) or len(names) > MAX_ALIASES:
                unanswered = one
        if told:
            silent = (Told(who=f"the servers of {unanswered}", answer=UNAVAILABLE.answer),) if unanswered else ()
            return Live(told=tuple(dict.fromkeys([*told, *silent])), authoritative=True)
        answer = await _by_kind(lookup, name, kind)
        return Live(told=(Told(who="the resolver", answer=answer),), authoritative=False)

    async def _ask_zone(self, lookup: MailLookup, question: Question) -> tuple[list[Told], set[str]]:
        """What the servers of the name's zone say, and to where they lead; nothing where nobody answers."""
        servers = await self._servers(lookup, question.name)
        messages = await asyncio.gather(*(ask(one, question, self._seconds) for _, one in servers))
        told: list[Told] = []
        aliases: set[str] = set()
        for (who, _), message in zip(servers, messages, strict=True):
            # What is not authoritative comes from a cache: a firewall's resolver, or a server that lost the zone.
            entry = read(message, question) if message is not None and authoritative(message) else None
            if entry is not None and entry.alias:
                aliases.add(entry.alias)
            elif entry is not None and entry.answer.status is not Status.UNAVAILABLE:
                told.append(Told(who=who, answer=entry.answer))
        return told, aliases

    async def _servers(self, lookup: MailLookup, name: str) -> Sequence[tuple[str, Server]]:
        """The name servers of the closest zone around a name (RFC 1034, 4.2.1)."""
        labels = name.split(".")
        for cut in range(len(labels) - 1):
            hosts = (await lookup.ns(".".join(labels[cut:]))).records[:MAX_SERVERS]
            if hosts:
                found = await asyncio.gather(*(addresses_of(lookup, host) for host in hosts))
                pairs = [(host, str(ips[0])) for host, ips in zip(hosts, found, strict=True) if ips]
                return [(f"{host} ({ip})", server(ip, self._port)) for host, ip in pairs]
        return ()


async def _by_kind(lookup: MailLookup, name: str, kind: Kind) -> Answer[Any]:
    return await (lookup.mx(name) if kind is Kind.MX else lookup.txt(name))
