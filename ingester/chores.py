"""Chores: what a worker does every so often, beside its mail. One that fails is told, counted and done again."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from ingester.telemetry.metrics import CHORE_FAILURES, CHORE_SUCCESS, Metrics

_AGAIN_SECONDS: Final = 1.0

_log = structlog.get_logger(__name__)


class Chores:
    """Those of one process."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def names(self) -> set[str]:
        """What is done."""
        return {task.get_name() for task in self._tasks}

    def every(self, seconds: float, name: str, chore: Callable[[], Awaitable[None]]) -> None:
        """Do it from now on, the first time after so many seconds."""
        self._metrics.count(CHORE_FAILURES, name, by=0)
        self._tasks.append(asyncio.create_task(self._repeat(seconds, name, chore), name=name))

    def always(self, name: str, chore: Callable[[], Awaitable[None]]) -> None:
        """Do what never ends by itself; where it does all the same, begin again."""
        self._tasks.append(asyncio.create_task(self._repeat(_AGAIN_SECONDS, name, chore), name=name))

    async def stop(self) -> None:
        """Cut them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _repeat(self, seconds: float, name: str, chore: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await chore()
            except Exception as error:  # noqa: BLE001  (a chore must not end with its first bad day)
                _log.warning("chore failed", chore=name, error=type(error).__name__)
                self._metrics.count(CHORE_FAILURES, name)
            else:
                self._metrics.set(CHORE_SUCCESS, time.time(), name)
