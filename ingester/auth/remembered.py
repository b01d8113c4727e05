"""What a check came to, remembered while every DNS answer behind it is in the resolver's cache, and no longer.

Most mail comes from few hosts for few domains, and their records say the same each time. A remembered verdict is
charged to the mail like one that was found anew. What rests on an answer that could not be had is not remembered.
"""

from collections import OrderedDict
from collections.abc import Hashable
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Generic, NamedTuple, TypeVar

from ingester.auth.dns import Asked, MailLookup, Resolver
from ingester.auth.dns_cache import Held
from ingester.auth.dns_message import Kind
from ingester.auth.lookup import Answer, Exchange, Status

MOST = 2048
"""Verdicts of one kind. Each is small: the texts in it are cut, and it holds no answer alive."""
MOST_ANSWERS = 24
"""Answers behind a verdict that is remembered: ten includes of usual records, and as many hosts."""

Verdict = TypeVar("Verdict")


class Watched:
    """A mail's lookup, a `Lookup` itself, that notes what one check asks and gets."""

    __slots__ = ("_lookup", "certain", "questions")

    def __init__(self, lookup: MailLookup) -> None:
        self._lookup = lookup
        self.questions: list[Asked] = []
        self.certain = True
        """Whether there was an answer each time."""

    async def txt(self, name: str) -> Answer[bytes]:
        """TXT records, the strings of each joined (RFC 7208, 3.3)."""
        return await self._ask(name, Kind.TXT)

    async def a(self, name: str) -> Answer[IPv4Address]:
        """IPv4 addresses."""
        return await self._ask(name, Kind.A)

    async def aaaa(self, name: str) -> Answer[IPv6Address]:
        """IPv6 addresses."""
        return await self._ask(name, Kind.AAAA)

    async def mx(self, name: str) -> Answer[Exchange]:
        """Mail exchanges, the most preferred first."""
        return await self._ask(name, Kind.MX)

    async def ptr(self, ip: IPv4Address | IPv6Address) -> Answer[str]:
        """The names of an address (RFC 1035, 3.5; RFC 3596, 2.5)."""
        return await self._ask(ip.reverse_pointer, Kind.PTR)

    async def _ask(self, name: str, kind: Kind) -> Answer[Any]:
        answer = await self._lookup.ask(name, kind, self.questions)
        if answer.status is Status.UNAVAILABLE:
            self.certain = False
        return answer


class Known(NamedTuple, Generic[Verdict]):
    """A verdict and the answers behind it, one for each question that it cost."""

    verdict: Verdict
    answers: tuple[Held, ...]


class Remembered(Generic[Verdict]):
    """The verdicts of one check, by everything that they depend on but DNS. The least recently used goes first."""

    def __init__(self, resolver: Resolver, *, most: int = MOST) -> None:
        self._resolver = resolver
        self._most = most
        self._known: OrderedDict[Hashable, Known[Verdict]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def find(self, key: Hashable, lookup: MailLookup) -> Known[Verdict] | None:
        """The verdict, if DNS says still what it said. It is the mail's once `lookup` was charged. None has none."""
        known = self._known.get(key)
        if known is None or not lookup.holds(known.answers):
            return None
        self._known.move_to_end(key)
        return known

    def keep(self, key: Hashable, verdict: Verdict, watched: Watched) -> None:
        """Remember what a check came to that asked `watched` and depends on nothing but that and the key."""
        if key is None or not watched.certain or len(watched.questions) > MOST_ANSWERS:
            return
        answers = self._resolver.held_for(watched.questions)
        if answers is None:  # one held for this mail only, or has gone already
            return
        self._known[key] = Known(verdict, answers)
        self._known.move_to_end(key)
        if len(self._known) > self._most:
            self._known.popitem(last=False)
