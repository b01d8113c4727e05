"""What strangers may take of one worker: connections, bytes in flight, guesses at recipients. Counting, no sockets.

Every table is bounded by what it counts or by a fixed number of entries.
"""

from collections.abc import Callable
from typing import Final

_OVERLOADED: Final = 0.9
"""Share of the connection cap from which idle connections are cut early."""
_HOUR: Final = 3600.0
_PREFIXES: Final = 100_000
"""Prefixes whose guesses are counted; the oldest goes first."""


class Connections:
    """Connections of one worker, in all and by client prefix."""

    def __init__(self, *, total: int, per_prefix: int) -> None:
        self._total = total
        self._per_prefix = per_prefix
        self._count = 0
        self._prefixes: dict[str, int] = {}

    def __len__(self) -> int:
        return self._count

    @property
    def overloaded(self) -> bool:
        """Whether so many are open that idle ones must go sooner."""
        return self._count > _OVERLOADED * self._total

    def enter(self) -> bool:
        """Count one more. False, and not counted, when the cap is reached."""
        if self._count >= self._total:
            return False
        self._count += 1
        return True

    def leave(self) -> None:
        """One that entered is gone."""
        self._count -= 1

    def claim(self, prefix: str) -> bool:
        """Count one of this prefix. False, and not counted, when its cap is reached."""
        count = self._prefixes.get(prefix, 0)
        if count >= self._per_prefix:
            return False
        self._prefixes[prefix] = count + 1
        return True

    def release(self, prefix: str) -> None:
        """One that was claimed is gone."""
        count = self._prefixes[prefix] - 1
        if count:
            self._prefixes[prefix] = count
        else:
            del self._prefixes[prefix]


class Ticket:
    """The bytes that one transfer holds of the worker's bytes in flight."""

    __slots__ = ("_flight", "held", "shed")

    def __init__(self, flight: "Flight", shed: Callable[[], None]) -> None:
        self._flight = flight
        self.held = 0
        self.shed = shed

    def grow(self, held: int) -> None:
        """The transfer now holds so many bytes. May shed the newest transfers, this one included."""
        self._flight.hold(self, held)

    def settle(self) -> None:
        """The transfer is complete: its bytes still count, but it can no longer be shed."""
        self._flight.settle(self)

    def close(self) -> None:
        """The bytes are gone."""
        self._flight.close(self)


class Flight:
    """Bytes of mail in memory, from their arrival to the end of their acceptance (design page, law 8).

    Reading is never paused for lack of memory: when the bytes are spent, the newest transfer is told to drop what it
    has, and goes on without keeping anything.
    """

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._open: dict[Ticket, None] = {}
        self.used = 0

    def open(self, shed: Callable[[], None]) -> Ticket:
        """Begin a transfer. `shed` is called once when its bytes must go."""
        ticket = Ticket(self, shed)
        self._open[ticket] = None
        return ticket

    def hold(self, ticket: Ticket, held: int) -> None:
        """Account for the bytes a transfer holds now, and shed from the newest until all fit."""
        if ticket not in self._open:
            return
        self.used += held - ticket.held
        ticket.held = held
        while self.used > self._limit and self._open:
            newest = next(reversed(self._open))
            shed = newest.shed
            self.close(newest)
            shed()

    def settle(self, ticket: Ticket) -> None:
        """No longer a candidate for shedding."""
        self._open.pop(ticket, None)
        ticket.shed = _nothing  # else ticket and transfer hold each other, and every mail is work for the collector

    def close(self, ticket: Ticket) -> None:
        """Give the bytes back. Harmless when done twice."""
        self.settle(ticket)
        self.used -= ticket.held
        ticket.held = 0


def _nothing() -> None:
    return


class Harvest:
    """Unknown recipients by client prefix and hour: who guesses too much is no longer told what exists."""

    def __init__(self, *, per_hour: int, clock: Callable[[], float]) -> None:
        self._per_hour = per_hour
        self._clock = clock
        self._hour = 0
        self._counts: dict[str, int] = {}

    def note(self, prefix: str) -> None:
        """This prefix named a recipient that does not exist."""
        self._turn()
        if prefix not in self._counts and len(self._counts) >= _PREFIXES:
            del self._counts[next(iter(self._counts))]
        self._counts[prefix] = self._counts.get(prefix, 0) + 1

    def suspects(self, prefix: str) -> bool:
        """Whether this prefix has named more than the allowed number in this hour."""
        self._turn()
        return self._counts.get(prefix, 0) > self._per_hour

    def _turn(self) -> None:
        hour = int(self._clock() // _HOUR)
        if hour != self._hour:
            self._hour = hour
            self._counts.clear()
