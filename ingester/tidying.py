"""The chore of the object store: what is to go is deleted, and now and then the place is searched for lost objects.

One worker of all daemons is at it at a time.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from ingester.settings import Settings
from ingester.store.blobs import Blobs
from ingester.store.db import Connection, Database
from ingester.store.sweeping import NotOurs, alone, last_sweep, note_sweep, sweep
from ingester.store.trash import empty, trashed

_log = structlog.get_logger(__name__)


class Tidying:
    """Called every so often; does what is due."""

    def __init__(self, *, settings: Settings, database: Database, blobs: Blobs, now: Callable[[], datetime]) -> None:
        self._every = timedelta(hours=settings.store.sweep_hours)
        self._age = timedelta(hours=settings.store.orphan_hours)
        self._database = database
        self._blobs = blobs
        self._now = now

    async def tidy(self) -> None:
        """Empty the trash, and sweep where it is time. Raises what the database and the object store raise."""
        async with self._database.connection() as connection:
            full = await trashed(connection) > 0
            due = await self._due(connection)
        if not (full or due):
            return
        async with alone(self._database) as free:
            if free and full:
                emptied = await empty(self._database, self._blobs)
                _log.info("objects deleted", deleted=emptied.deleted, left=emptied.left)
            if free and due:
                await self._sweep()

    async def _due(self, connection: Connection) -> bool:
        if not self._blobs.on or not self._every:
            return False
        last = await last_sweep(connection, self._blobs.place)
        return last is None or last + self._every <= self._now()

    async def _sweep(self) -> None:
        began = self._now()
        try:
            swept = await sweep(self._database, self._blobs, before=began - self._age, apply=True)
        except NotOurs as error:
            # Tried again after the usual time only: nothing will have changed in a minute.
            _log.error("objects not swept, see `ingester blobs sweep`", why=str(error))
        else:
            _log.info("objects swept", objects=swept.objects, deleted=swept.orphans, bytes=swept.bytes)
        async with self._database.connection() as connection:
            await note_sweep(connection, self._blobs.place, began)
