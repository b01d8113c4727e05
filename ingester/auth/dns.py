"""The resolver: one for the process, with a cache, and for each mail a Lookup with that mail's budget.

A question that many mails ask at once is asked once. What became of it is an answer, never an exception. The question
of a mail that has gone is asked to its end all the same, so that the next one finds the answer.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

from ingester.auth.dns_cache import Cache, Held, Key
from ingester.auth.dns_exchange import ask
from ingester.auth.dns_message import MALFORMED, MAX_ALIASES, UNAVAILABLE, Entry, Kind, Question, read
from ingester.auth.dns_name import canonical
from ingester.auth.dns_outage import Outage
from ingester.auth.dns_servers import SYSTEM_FILE, Nameservers
from ingester.auth.lookup import Answer, Exchange, Status
from ingester.telemetry.metrics import DNS_CACHE, DNS_QUESTIONS, Metrics

TRIES = 3
"""How often a question is put before it is given up, all servers together."""
CACHE_BYTES = 32 << 20


Asked = tuple[Key, Entry]
"""A question as the cache knows it, and what was answered."""


@dataclass(slots=True)
class _Flight:
    """A question on its way, and how many wait for it."""

    task: asyncio.Task[Entry] | None = None
    waiters: int = 0


class Resolver:
    """Asks the name servers. Raises NoNameserver when made without any. Times are in seconds."""

    def __init__(
        self,
        nameservers: Sequence[tuple[str, int]] = (),
        *,
        try_seconds: float = 2.0,
        mail_queries: int = 75,
        mail_seconds: float = 15.0,
        in_flight: int = 50,
        cache_entries: int = 20_000,
        cache_bytes: int = CACHE_BYTES,
        system_file: Path = SYSTEM_FILE,
        clock: Callable[[], float] = time.monotonic,
        metrics: Metrics | None = None,
    ) -> None:
        """`metrics`: by default some that nobody reads."""
        self.clock = clock
        self._metrics = metrics or Metrics()
        self._servers = Nameservers(nameservers, system_file, clock)
        self.outage = Outage(self._servers, try_seconds, clock)
        self._try_seconds = try_seconds
        self._mail_queries = mail_queries
        self._mail_seconds = mail_seconds
        self._cache = Cache(max_entries=cache_entries, max_bytes=cache_bytes)
        self._flights: dict[Key, _Flight] = {}
        self._places = asyncio.Semaphore(in_flight)
        self._closed = False

    def lookup(self, *, max_queries: int | None = None, deadline: float | None = None) -> "MailLookup":
        """DNS for one mail. The deadline is in this resolver's clock; without one the mail's seconds start now."""
        return MailLookup(
            self,
            max_queries=self._mail_queries if max_queries is None else max_queries,
            deadline=self.clock() + self._mail_seconds if deadline is None else deadline,
        )

    @property
    def entries(self) -> int:
        """Answers in the cache."""
        return len(self._cache)

    async def close(self) -> None:
        """End what is on its way; who waits for it is told that it is unavailable, and so is who asks later."""
        self._closed = True
        tasks = [flight.task for flight in self._flights.values() if flight.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.outage.close()

    def held(self, key: Key, deadline: float) -> Entry | None:
        """What can be said of a canonical name and a type without asking anybody; None where somebody must be asked."""
        now = self.clock()
        if now >= deadline:
            return UNAVAILABLE
        held = self._cache.get(key, now)
        self._metrics.count(DNS_CACHE, "miss" if held is None else "hit")
        if held is None and (self._closed or self.outage.lasts):
            return UNAVAILABLE
        return held

    def held_for(self, asked: Sequence[Asked]) -> tuple[Held, ...] | None:
        """Where the cache holds these very answers; None where it does not hold all of them."""
        places = [self._cache.held(key, entry) for key, entry in asked]
        found = tuple([place for place in places if place is not None])
        return found if len(found) == len(places) else None

    def holds(self, answers: Sequence[Held], deadline: float) -> bool:
        """Whether all of these can be had now without asking anybody: the cache still holds them."""
        now = self.clock()
        return now < deadline and self._cache.holds(answers, now)

    def count_hits(self, number: int) -> None:
        """So many answers of the cache were used without being sought in it."""
        self._metrics.count(DNS_CACHE, "hit", by=number)

    async def ask(self, key: Key, deadline: float) -> Entry:
        """What the name servers say, once for all who ask it at the same time."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight()
            flight.task = asyncio.get_running_loop().create_task(self._fly(key, flight))
        return await self._await(flight, deadline - self.clock())

    async def _await(self, flight: _Flight, seconds: float) -> Entry:
        """Wait, without a say in the flight's fate: others wait for it too."""
        assert flight.task
        flight.waiters += 1
        try:
            await asyncio.wait((flight.task,), timeout=seconds)
        finally:
            flight.waiters -= 1
        return flight.task.result() if flight.task.done() and not flight.task.cancelled() else UNAVAILABLE

    async def _fly(self, key: Key, flight: _Flight) -> Entry:
        try:
            async with self._places:
                if not flight.waiters:  # all gave up before it was its turn
                    return UNAVAILABLE
                entry = await self._query(Question(*key))
            self._metrics.count(DNS_QUESTIONS, entry.answer.status)
            self._cache.put(key, entry, self.clock())
            return entry
        finally:
            del self._flights[key]

    async def _query(self, question: Question) -> Entry:
        """Ask server after server. The last word counts: a server may be broken, all of them hardly are."""
        servers = list(self._servers.current())
        last = UNAVAILABLE
        heard = silent = False
        for _ in range(TRIES):
            if not servers:
                break
            one = servers.pop(0)
            message = await ask(one, question, self._try_seconds)
            entry = UNAVAILABLE if message is None else read(message, question)
            heard = heard or message is not None
            if message is None:
                silent = True
                servers.append(one)
            elif entry is not None and entry is not MALFORMED:
                if silent:
                    self._servers.prefer(one)
                return entry
            last = entry or UNAVAILABLE
        if not heard:
            self.outage.suspect()
        return last


class _Waiting:
    """How long one mail has waited for DNS, in seconds; questions that are asked side by side are one wait."""

    __slots__ = ("_asking", "_begun", "seconds")

    def __init__(self) -> None:
        self._asking = 0
        self._begun = 0.0
        self.seconds = 0.0

    def begin(self, now: float) -> None:
        if not self._asking:
            self._begun = now
        self._asking += 1

    def end(self, now: float) -> None:
        self._asking -= 1
        if not self._asking:
            self.seconds += now - self._begun


class MailLookup:
    """DNS as one mail sees it: a `Lookup`. Answers from the cache count too, so that a hostile record tree ends."""

    __slots__ = ("_deadline", "_max_queries", "_resolver", "_waiting", "known", "queries")

    def __init__(
        self, resolver: Resolver, *, max_queries: int, deadline: float, waiting: _Waiting | None = None
    ) -> None:
        self._resolver = resolver
        self._max_queries = max_queries
        self._deadline = deadline
        self._waiting = waiting or _Waiting()
        self.queries = 0
        self.known = 0
        """Of these, what was charged only."""

    @property
    def seconds_waited(self) -> float:
        """How long this mail has waited for answers, all its parts together."""
        return self._waiting.seconds

    def part(self, share: float) -> "MailLookup":
        """A lookup of its own with a share (0 to 1) of the questions and seconds that are left here."""
        now = self._resolver.clock()
        return MailLookup(
            self._resolver,
            max_queries=int(share * (self._max_queries - self.queries)),
            deadline=now + share * (self._deadline - now),
            waiting=self._waiting,
        )

    async def txt(self, name: str) -> Answer[bytes]:
        """TXT records, the strings of each joined (RFC 7208, 3.3)."""
        return await self.ask(name, Kind.TXT)

    async def a(self, name: str) -> Answer[IPv4Address]:
        """IPv4 addresses."""
        return await self.ask(name, Kind.A)

    async def aaaa(self, name: str) -> Answer[IPv6Address]:
        """IPv6 addresses."""
        return await self.ask(name, Kind.AAAA)

    async def mx(self, name: str) -> Answer[Exchange]:
        """Mail exchanges, the most preferred first."""
        return await self.ask(name, Kind.MX)

    async def ptr(self, ip: IPv4Address | IPv6Address) -> Answer[str]:
        """The names of an address (RFC 1035, 3.5; RFC 3596, 2.5)."""
        return await self.ask(ip.reverse_pointer, Kind.PTR)

    async def ns(self, name: str) -> Answer[str]:
        """The name servers of a zone, by name. Nobody who judges mail asks for them."""
        return await self.ask(name, Kind.NS)

    async def cname(self, name: str) -> Answer[str]:
        """What a name is an alias of. Nobody who judges mail asks for it."""
        return await self.ask(name, Kind.CNAME)

    def holds(self, answers: Sequence[Held]) -> bool:
        """Whether all of these are still true, and can be had in time."""
        return self._resolver.holds(answers, self._deadline)

    def charge(self, known: Sequence[Held]) -> bool:
        """Pay for answers that it holds, as if each was asked for; nothing where there are too few questions left."""
        if self.queries + len(known) > self._max_queries:
            return False
        self.queries += len(known)
        self.known += len(known)
        return True

    async def ask(self, name: str, kind: Kind, noted: list[Asked] | None = None) -> Answer[Any]:
        """Follow aliases that lead out of an answer; each is a question of its own. Too many are a loop.

        `noted` gets each question with its answer.
        """
        asked = canonical(name)
        if asked is None:
            return Answer(Status.MALFORMED)
        for _ in range(MAX_ALIASES + 1):
            if self.queries >= self._max_queries:
                return Answer(Status.UNAVAILABLE)
            self.queries += 1
            key = asked, kind
            entry = self._resolver.held(key, self._deadline) or await self._wait_for(key)
            if noted is not None:
                noted.append((key, entry))
            if not entry.alias:
                return entry.answer
            asked = entry.alias
        return Answer(Status.MALFORMED)

    async def _wait_for(self, key: Key) -> Entry:
        clock = self._resolver.clock
        self._waiting.begin(clock())
        try:
            return await self._resolver.ask(key, self._deadline)
        finally:
            self._waiting.end(clock())
