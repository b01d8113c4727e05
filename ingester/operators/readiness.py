"""Whether this worker takes mail now: its doors listen, it is not draining, the database answers and is up to date.

Cheap, however often and by however many it is asked: the database is asked at most once a second, by one at a time, on
one connection, and who asks when it has hung for a second is told so at once.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Final

from ingester.store.db import Database
from ingester.store.migrate import MigrationError, check

FRESH_SECONDS: Final = 1.0
"""How long an answer of the database is good for."""
PATIENCE_SECONDS: Final = 1.0
"""How long an answer is waited for. What is later counts as none, and is not asked again before it is there."""
QUERY_SECONDS: Final = 5.0


class Fault(StrEnum):
    """Why it is not ready."""

    STARTING = "starting"
    DRAINING = "draining"
    DATABASE = "database"
    """It cannot be reached, or does not answer in time."""
    MIGRATIONS = "migrations"
    """It lacks some, or has others."""
    DISK = "disk"
    """Raw mails cannot be written to their segments."""


async def _no_disk() -> str:
    return ""


class Readiness:
    """One per process."""

    def __init__(
        self,
        database: Database,
        *,
        disk: Callable[[], Awaitable[str]] = _no_disk,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`disk` says why raw mails cannot be written, or nothing."""
        self.listening = False
        self.draining = False
        self.replaced = False
        """Another worker has taken over: what this one drains is no matter of the daemon's readiness."""
        self._database = database
        self._disk = disk
        self._clock = clock
        self._migrated = False
        self._fault: Fault | None = Fault.DATABASE
        self._looked: float | None = None
        self._begun = 0.0
        self._looking: asyncio.Task[None] | None = None

    async def faults(self) -> tuple[Fault, ...]:
        """What stands in the way; nothing when it is ready. Never raises; takes little more than a second."""
        found = [] if self.listening else [Fault.STARTING]
        if self.draining:
            found.append(Fault.DRAINING)
        fault = await self._store()
        return (*found, fault) if fault is not None else tuple(found)

    async def close(self) -> None:
        """Give up a question that is on its way."""
        looking = self._looking
        if looking is not None:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _store(self) -> Fault | None:
        if self._looked is not None and self._clock() - self._looked < FRESH_SECONDS:
            return self._fault
        if self._looking is None:
            self._begun = self._clock()
            self._looking = asyncio.create_task(self._look(), name="readiness")
        looking = self._looking
        await asyncio.wait((looking,), timeout=max(0.0, self._begun + PATIENCE_SECONDS - self._clock()))
        return self._fault if looking.done() else Fault.DATABASE

    async def _look(self) -> None:
        try:
            self._fault = await self._ask()
        except MigrationError:
            self._fault = Fault.MIGRATIONS
        except Exception:  # noqa: BLE001  (whatever it is, mail cannot be stored)
            self._fault = Fault.DATABASE
        finally:
            self._looked = self._clock()
            self._looking = None

    async def _ask(self) -> Fault | None:
        async with self._database.connection(seconds=QUERY_SECONDS) as connection:
            if self._migrated:
                await connection.execute("SELECT", timeout=QUERY_SECONDS)
            else:  # what is complete once stays so: migrations only go forward
                async with asyncio.timeout(QUERY_SECONDS):
                    self._migrated = not await check(connection)
        if not self._migrated:
            return Fault.MIGRATIONS
        return Fault.DISK if await self._disk() else None
