"""The workers as their supervisor knows them: one in each place, another while it is being replaced, some that leave.

It notes what they say and when. What is to be done about it is `supervising`'s.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ingester.settings import Settings
from ingester.supervisor.doors import Sockets
from ingester.supervisor.worker import Word

_READ_BYTES = 65536


@dataclass(slots=True, eq=False, kw_only=True)
class Worker:
    """One process, from its birth until it has been waited for. Times are of the monotonic clock, in seconds."""

    pid: int
    place: "Place"
    settings: Settings
    pipe: int
    """The end of the pipe from which we read."""
    born: float
    heard: float
    """When it gave a sign of life."""
    ready: bool = False
    leaving: bool = False
    """It drains: told to, or by itself."""
    deaf: bool = False
    """It has said that it takes no connection any more."""
    kill_at: float | None = None
    """When the drain has lasted too long."""
    killed: bool = False
    faults: list[str] = field(default_factory=list)
    """Why it cannot serve with its settings."""
    _rest: bytes = b""

    def listen(self, now: float) -> bool:
        """Read what it has said. False when it will not say anything more."""
        try:
            while data := os.read(self.pipe, _READ_BYTES):
                self.heard = now
                *lines, self._rest = (self._rest + data).split(b"\n")
                for line in lines:
                    self._take(*line.decode(errors="replace").split(" ", 1))
        except BlockingIOError:
            return True
        return False

    def _take(self, word: str, text: str = "") -> None:
        if word == Word.READY:
            self.ready = True
        elif word == Word.LEAVING:
            self.leaving = self.deaf = True
        elif word == Word.UNUSABLE:
            self.faults.append(text)


@dataclass(slots=True, eq=False, kw_only=True)
class Place:
    """Where one worker stands: sockets of its own, which outlive it."""

    number: int
    sockets: Sockets
    worker: Worker | None = None
    successor: Worker | None = None
    """The one that takes over as soon as it is ready."""
    not_before: float = 0.0
    """When the next may be started."""

    @property
    def served(self) -> bool:
        """Whether somebody takes connections."""
        return self.worker is not None and self.worker.ready


class Crew:
    """All of them."""

    def __init__(self, sockets: Sequence[Sockets]) -> None:
        self.places = [Place(number=number, sockets=one) for number, one in enumerate(sockets)]
        self.leaving: list[Worker] = []

    def __iter__(self) -> Iterator[Worker]:
        for place in self.places:
            yield from (one for one in (place.worker, place.successor) if one is not None)
        yield from self.leaving

    @property
    def served(self) -> int:
        """How many places are served."""
        return sum(place.served for place in self.places)

    @property
    def complete(self) -> bool:
        """Whether all are."""
        return self.served == len(self.places)

    def see_off(self, worker: Worker) -> None:
        """It leaves: its place is free for another."""
        worker.leaving = True
        self.leaving.append(worker)
        self._vacate(worker)

    def forget(self, worker: Worker) -> None:
        """It has ended."""
        if worker in self.leaving:
            self.leaving.remove(worker)
        self._vacate(worker)
        os.close(worker.pipe)

    def _vacate(self, worker: Worker) -> None:
        place = worker.place
        if place.worker is worker:
            place.worker = None
        if place.successor is worker:
            place.successor = None
