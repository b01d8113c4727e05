"""After an upgrade: what another version could not digest is tried again with this one's code, slowly, once a start.

Only where the operator has asked for it. One daemon of all is at it at a time; a letter that is still dead is from then
on one that this version could not digest, so that nobody of this version tries it again by himself.
"""

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog

from ingester import __version__
from ingester.pipeline import Pipeline
from ingester.redrive import Pace, each, redrive
from ingester.store.db import Database
from ingester.store.letters import Which, waiting
from ingester.store.raws import Raws
from ingester.store.sweeping import alone

RATE: Final = 2.0
"""Letters a second: mail that arrives goes first."""
_LOCK: Final = 0x72656472697665
"""The advisory lock of whoever redrives by himself ("redrive")."""

_log = structlog.get_logger(__name__)


class AfterUpgrade:
    """Called every so often until it is done, which it is after one pass over what was buried before the start."""

    def __init__(self, *, pipeline: Pipeline, database: Database, raws: Raws, now: Callable[[], datetime]) -> None:
        self._pipeline = pipeline
        self._database = database
        self._raws = raws
        self._which = Which(not_by=__version__, until=now())
        self._done = False

    async def redrive(self) -> None:
        """Try the letters of other versions again. Raises what the database raises: then the rest waits."""
        if self._done:
            return
        async with self._database.connection() as connection:
            if not await waiting(connection, self._which, limit=1):
                self._done = True
                return
        async with alone(self._database, _LOCK) as free:
            if free:
                await self._pass()
                self._done = True

    async def _pass(self) -> None:
        endings: Counter[str] = Counter()
        async for letter in each(self._database, self._which, Pace(RATE)):
            by = f"ingester {__version__}, after an upgrade"
            done = await redrive(self._pipeline, self._database, self._raws, letter, apply=True, by=by)
            _log.info("dead letter tried again", letter=str(letter.id), ending=done.ending, buried_by=letter.buried_by)
            endings[done.ending.value] += 1
        _log.info("dead letters of other versions tried again", version=__version__, **endings)
