"""The chore of raw bytes outside Postgres: what is to go is deleted, and now and then the place is searched for what is
lost. Segments are tended and compacted. Every daemon says here that it is there.

One worker of all daemons is at it at a time.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog

from ingester.clock import new_id
from ingester.settings import Settings
from ingester.store import hosts
from ingester.store.blobs import Blobs
from ingester.store.db import Database
from ingester.store.segments.compacting import compact, tend_all
from ingester.store.sweeping import NotOurs, alone, last_sweep, note_sweep, sweep
from ingester.store.trash import empty, trashed

COMPACT_EVERY: Final = timedelta(hours=1)
SETTLED: Final = 10
"""So many times as long as a commit may take, and it has been made or never comes."""

_log = structlog.get_logger(__name__)


class Tidying:
    """Called every so often; does what is due."""

    def __init__(self, *, settings: Settings, database: Database, blobs: Blobs, now: Callable[[], datetime]) -> None:
        self._every = timedelta(hours=settings.store.sweep_hours)
        self._age = timedelta(hours=settings.store.orphan_hours)
        self._settled = timedelta(seconds=settings.store.commit_seconds * SETTLED)
        self._segment_bytes = settings.store.segment_bytes
        self._here = hosts.this_host()
        self._database = database
        self._blobs = blobs
        self._now = now
        self._compacted_at: datetime | None = None

    async def tidy(self) -> None:
        """Empty the trash, sweep and compact where it is time. Raises what the database and the stores raise."""
        async with self._database.connection() as connection:
            await hosts.note(connection, self._here, self._blobs.place)
            full = await trashed(connection) > 0
            last = await last_sweep(connection, self._blobs.place)
        if self._blobs.in_segments:
            await self._blobs.segments.seal_old()
        sweeping, compacting = self._is_time_to_sweep(last), self._is_time_to_compact()
        if not (full or sweeping or self._blobs.in_segments):
            return
        async with alone(self._database) as free:
            if not free:
                return
            if self._blobs.in_segments:
                await tend_all(self._database, self._blobs.segments.shelf)
            if full:
                emptied = await empty(self._database, self._blobs)
                _log.info("objects deleted", deleted=emptied.deleted, left=emptied.left)
            if sweeping:
                await self._sweep(last)
            if compacting:
                await self._compact()

    async def leave(self) -> None:
        """Say that this daemon ends, so that another host may take its place at once."""
        async with self._database.connection() as connection:
            await hosts.leave(connection, self._here)

    def _is_time_to_sweep(self, last: datetime | None) -> bool:
        if not self._blobs.on or not self._every:
            return False
        return last is None or last + self._every <= self._now()

    def _is_time_to_compact(self) -> bool:
        last = self._compacted_at
        return self._blobs.in_segments and (last is None or last + COMPACT_EVERY <= self._now())

    async def _sweep(self, last: datetime | None) -> None:
        began = self._now()
        since = None if last is None else last - self._age - self._every
        try:
            swept = await sweep(self._database, self._blobs, before=began - self._age, since=since, apply=True)
        except NotOurs as error:
            # Tried again after the usual time only: nothing will have changed in a minute.
            _log.error("objects not swept, see `ingester blobs sweep`", why=str(error))
        else:
            _log.info("objects swept", objects=swept.objects, deleted=swept.orphans, bytes=swept.bytes)
        async with self._database.connection() as connection:
            await note_sweep(connection, self._blobs.place, began)

    async def _compact(self) -> None:
        now = self._now()
        done = await compact(
            self._database,
            self._blobs.segments.shelf,
            limit=self._segment_bytes,
            before=now - self._settled,
            new_id=new_id,
            faults=self._blobs.segments.faults,
        )
        self._compacted_at = now
        if done.removed:
            _log.info("segments compacted", removed=done.removed, made=done.made, freed=done.freed)
