"""One DATA under way: feeds the reader as chunks arrive, accounts for the bytes, and ends it when it is too slow."""

import asyncio
from enum import Enum
from typing import Final

from ingester.transport.data import DataReader, Verdict
from ingester.transport.limits import Flight
from ingester.transport.wire import Inbox

_WINDOW: Final = 60.0
"""Seconds over which the rate is measured: a stall shorter than this is forgiven."""
_ENDLESS: Final = 1 << 30
"""Octets after which a transfer that is no longer kept is cut: it will never be a mail."""


class Ending(Enum):
    """How a transfer ended."""

    COMPLETE = "complete"
    AMBIGUOUS = "ambiguous"
    ENDLESS = "endless"
    TOO_SLOW = "too_slow"
    LOST = "lost"


class Transfer:
    """From 354 to the end of the data. `done` gets the ending; `shed` tells that its bytes had to go."""

    def __init__(self, *, reader: DataReader, flight: Flight, inbox: Inbox, floor: int, now: float) -> None:
        """`floor` is the minimum rate in octets a second, `now` the time by the clock that `check` uses."""
        self.reader = reader
        self.shed = False
        self.ticket = flight.open(self._drop)
        self.done: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._inbox = inbox
        self._floor = floor
        self._moved = now
        self._seen = 0
        self._window_began = now
        self._window_seen = 0

    def begin(self) -> None:
        """Take everything that arrives, what has arrived included."""
        self._inbox.divert(self._feed)

    def check(self, now: float, *, idle: float) -> None:
        """End the transfer when nothing came for `idle` seconds, or less than the minimum rate over a window."""
        seen = self.reader.seen
        if seen != self._seen:
            self._seen, self._moved = seen, now
        if now - self._moved >= idle:
            self.finish(Ending.TOO_SLOW)
        elif now - self._window_began >= min(_WINDOW, idle):
            if seen - self._window_seen < self._floor * (now - self._window_began):
                self.finish(Ending.TOO_SLOW)
            self._window_began, self._window_seen = now, seen

    def finish(self, ending: Ending) -> None:
        """End it, once. Only a complete one keeps its bytes."""
        if self.done.done():
            return
        self._inbox.restore(self.reader.rest)
        if ending is Ending.COMPLETE and not self.reader.dropped:
            self.ticket.settle()
        else:
            self.reader.drop()
            self.ticket.close()
        self.done.set_result(ending)

    def _feed(self, chunk: bytes) -> None:
        reader = self.reader
        ended = reader.feed(chunk)
        held = reader.held
        if held != self.ticket.held:
            self.ticket.grow(held)
        if ended:
            self.finish(Ending.COMPLETE if reader.verdict is Verdict.COMPLETE else Ending.AMBIGUOUS)
        elif reader.dropped and reader.seen > _ENDLESS:
            self.finish(Ending.ENDLESS)

    def _drop(self) -> None:
        self.shed = True
        self.reader.drop()
