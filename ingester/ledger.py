"""The store as doors over HTTP see it: a bounded piece of work on one connection; a store that is away is a Problem."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from ingester.settings import Settings
from ingester.store.db import Connection, Database, Trouble, Unavailable, classify
from ingester.web.problem import UNAVAILABLE, UNPROCESSABLE, Problem

STORE_SECONDS: Final = 10.0
"""How long one piece of work may wait for the store, its turn included."""

Found = TypeVar("Found")

_log = structlog.get_logger(__name__)


class Ledger:
    """One for each kind of asker, of a worker. `share` is how many parts of the connections there are of which it may
    have one: mail must not wait for those who ask, strangers with wrong keys among them.
    """

    def __init__(self, *, settings: Settings, database: Database, share: int = 4) -> None:
        self._database = database
        self._turns = asyncio.Semaphore(max(1, settings.store.connections // share))

    async def ask(self, work: Callable[[Connection], Awaitable[Found]]) -> Found | Problem:
        """Do it. Raises surprises."""
        try:
            async with asyncio.timeout(STORE_SECONDS), self._turns, self._database.connection() as connection:
                return await work(connection)
        except Exception as error:
            trouble = Trouble.TRANSIENT if isinstance(error, Unavailable) else classify(error)
            if trouble is None:
                raise
            _log.warning("http.store", trouble=trouble.name.lower(), error=type(error).__name__)
            return UNPROCESSABLE if trouble is Trouble.DATA else UNAVAILABLE
