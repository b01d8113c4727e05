"""What is so now is looked at once a second and told as gauges: never on the way of a mail. It changes nothing."""

import asyncio
import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from ingester import __version__
from ingester.auth.dns import Resolver
from ingester.core.envelope import Door
from ingester.operators.readiness import Readiness
from ingester.settings import Settings
from ingester.store.backlog import backlog
from ingester.store.db import Database
from ingester.store.directory import Directory
from ingester.telemetry import metrics as names
from ingester.telemetry.metrics import Metrics
from ingester.transport.limits import Flight

SAMPLE_SECONDS: Final = 1.0
BACKLOG_SECONDS: Final = 15.0
_BEAT_SECONDS: Final = 0.1
_STATM: Final = Path("/proc/self/statm")
_DESCRIPTORS: Final = Path("/proc/self/fd")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Listening(Protocol):
    """A door, as far as it can be counted."""

    @property
    def DOOR(self) -> Door:  # noqa: N802  (a constant of each)
        """Which door it is."""

    @property
    def open_connections(self) -> int:
        """Connections that are open now."""

    @property
    def certificate_ends(self) -> float | None:
        """When the certificate that it shows ends, in seconds since 1970; None where it shows none."""


class Sampling:
    """One per process."""

    def __init__(
        self,
        *,
        settings: Settings,
        metrics: Metrics,
        database: Database,
        directory: Directory,
        resolver: Resolver,
        flight: Flight,
        readiness: Readiness,
        doors: Sequence[Listening],
    ) -> None:
        """`doors` may grow while the worker starts."""
        self._metrics = metrics
        self._database = database
        self._directory = directory
        self._resolver = resolver
        self._flight = flight
        self._readiness = readiness
        self._doors = doors
        metrics.set(names.WORKERS, 1)
        metrics.set(names.BUILD_INFO, 1, __version__, platform.python_version())
        metrics.set(names.BYTES_LIMIT, settings.max_bytes_in_flight)
        metrics.set(names.DATABASE_LIMIT, settings.store.connections)

    async def sample(self) -> None:
        """Look at everything that costs nothing, and at the readiness, which may wait a second."""
        say = self._metrics.set
        for door in self._doors:
            say(names.OPEN_CONNECTIONS, door.open_connections, door.DOOR)
        ends = [end for door in self._doors if (end := door.certificate_ends) is not None]
        if ends:
            say(names.CERTIFICATE_EXPIRY, min(ends))
        say(names.BYTES_IN_FLIGHT, self._flight.used)
        say(names.DATABASE_CONNECTIONS, self._database.used, "used")
        say(names.DATABASE_CONNECTIONS, self._database.idle, "idle")
        say(names.DNS_ENTRIES, self._resolver.entries)
        say(names.DIRECTORY_ENTRIES, len(self._directory))
        with suppress(OSError):  # no Linux
            say(names.RESIDENT_MEMORY, int(_STATM.read_text().split()[1]) * _PAGE)
            say(names.OPEN_DESCRIPTORS, len(os.listdir(_DESCRIPTORS)))  # noqa: PTH208  (names only)
        await self._tell_readiness()

    async def _tell_readiness(self) -> None:
        """A worker that was replaced and only drains does not speak for the daemon: its successor does."""
        self._metrics.set(names.WORKERS, not self._readiness.draining)
        self._metrics.set(names.READY, self._readiness.replaced or not await self._readiness.faults())

    async def count_dead_letters(self) -> None:
        """How many wait, and since when. Raises what the database raises."""
        async with self._database.connection() as connection:
            waiting = await backlog(connection)
        self._metrics.set(names.DEAD_LETTERS, waiting.letters)
        self._metrics.set(names.DEAD_LETTERS_OLDEST, waiting.oldest_seconds)

    async def beat(self) -> None:
        """See how late the loop comes to what is due, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _BEAT_SECONDS
            await asyncio.sleep(_BEAT_SECONDS)
            self._metrics.observe(names.LOOP_DELAY, max(0.0, loop.time() - due))
