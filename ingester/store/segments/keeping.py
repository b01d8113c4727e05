"""Segments as one process uses them: claimed before the first byte, appended to, read, erased from. Never blocks.

Reading and erasing need no claim: commands do it beside the daemon, in any directory that a URL names.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import UUID

import structlog

from ingester.clock import new_id
from ingester.core.ids import SYSTEM_TENANT
from ingester.faults import Faults
from ingester.settings import Settings
from ingester.store import hosts
from ingester.store.db import Connection
from ingester.store.objects import ObjectMissing, ObjectsUnavailable, ObjectsUnusable
from ingester.store.segments import deed
from ingester.store.segments.appending import Appender, Landing
from ingester.store.segments.record import Piece, Record
from ingester.store.segments.shelf import Shelf, Spot, spot_of

LARGE_BYTES: Final = 1 << 20
"""Of the mails of a commit, on average: from here on they have a segment of their own."""

_log = structlog.get_logger(__name__)


class Segments:
    """Those of one directory for writing, and of any for reading."""

    def __init__(self, settings: Settings) -> None:
        self.place = settings.blobs
        self.shelf = Shelf(Path(settings.blobs.removeprefix(hosts.FILES)))
        self.faults = Faults.parse(settings.test.faults)
        self._limit = settings.store.segment_bytes
        self._appenders: dict[bool, Appender] = {}
        self._held: deed.Held | None = None
        self._claiming = asyncio.Lock()

    # -- writing ----------------------------------------------------------------------------------------------------

    async def claim(self, connection: Connection) -> None:
        """Make the directory ours before anything is written. Raises ObjectsUnusable where it cannot be."""
        if self._held is not None:
            return
        async with self._claiming:
            if self._held is None:
                try:
                    self._held = await self._claim(connection)
                except ObjectsUnavailable as error:
                    _log.error("segments cannot be used", why=str(error))
                    raise ObjectsUnusable(str(error)) from error

    async def _claim(self, connection: Connection) -> deed.Held:
        here = hosts.this_host()
        database = await hosts.database_identity(connection)
        async with connection.transaction():
            await hosts.lock(connection)
            for one in await hosts.seen(connection, here):
                if one.fresh and one.keeps_segments and not one.here:
                    raise ObjectsUnavailable(f"the host {one.name} keeps segments for this database, see `doctor`")
            known = await connection.fetchval(
                "SELECT store FROM blob_hosts WHERE tenant_id = $1 AND place = $2 AND store IS NOT NULL"
                " ORDER BY seen_at DESC LIMIT 1",
                SYSTEM_TENANT,
                self.place,
            )
            held = await asyncio.to_thread(
                deed.hold, self.shelf.directory, known=known, database=database, new_id=new_id
            )
            await hosts.note(connection, here, self.place, held.store)
        if held.taken_over:
            _log.warning("the directory of segments was another database's, and is taken over", place=self.place)
        return held

    def append(self, pieces: Sequence[Piece]) -> Landing:
        """Give each mail its place in a segment and begin to write. Only what has landed may be committed.

        Large mails have a segment of their own: no small one waits until they are on the disk.
        """
        large = sum(len(piece.data) for piece in pieces) >= LARGE_BYTES * len(pieces)
        if large not in self._appenders:
            self._appenders[large] = Appender(self.shelf, limit=self._limit, new_id=new_id, faults=self.faults)
        return self._appenders[large].append(pieces)

    @property
    def trouble(self) -> str:
        """Why the last write failed; nothing when it did not."""
        return next((one.trouble for one in self._appenders.values() if one.trouble), "")

    async def probe(self) -> str:
        """Why nothing can be written now; nothing where it can. Looks at the disk only where the last write failed."""
        for one in list(self._appenders.values()):
            await one.probe()
        return self.trouble

    async def seal_old(self) -> None:
        """Seal what has been open for long. For a chore."""
        for one in list(self._appenders.values()):
            await one.seal_old()

    async def close(self) -> None:
        """Write what waits, seal, and let the directory go. It may be used again."""
        appenders, self._appenders = self._appenders, {}
        await asyncio.gather(*(one.close() for one in appenders.values()))
        held, self._held = self._held, None
        if held is not None:
            held.let_go()

    # -- reading and erasing ----------------------------------------------------------------------------------------

    async def read(self, url: str, tenant_id: UUID, raw_id: UUID, *, max_bytes: int) -> bytes:
        """A whole mail. Raises ObjectMissing, ObjectTooLarge or ObjectsUnavailable."""
        directory, spot = spot_of(url, tenant_id, raw_id)
        return await asyncio.to_thread(Shelf(directory).read, spot, max_bytes=max_bytes)

    async def read_range(self, url: str, tenant_id: UUID, raw_id: UUID, offset: int, length: int) -> bytes:
        """A piece of a mail. Raises ObjectMissing or ObjectsUnavailable."""
        directory, spot = spot_of(url, tenant_id, raw_id)
        return await asyncio.to_thread(Shelf(directory).read_range, spot, offset, length)

    async def erase(self, records: Sequence[tuple[str, UUID, UUID]]) -> None:
        """Remove the bytes of mails (URL, tenant, raw mail) for good; what is not there is fine.

        Raises ObjectsUnavailable.
        """
        spots: dict[Path, list[Spot]] = {}
        for url, tenant_id, raw_id in records:
            with suppress(ObjectMissing):
                directory, spot = spot_of(url, tenant_id, raw_id)
                spots.setdefault(directory, []).append(spot)
        for directory, some in spots.items():
            await asyncio.to_thread(Shelf(directory).erase, some)

    async def walk(self, since: datetime | None) -> AsyncIterator[tuple[UUID, Record]]:
        """All records that are not erased, segment by segment, those left out that were sealed before `since`."""
        for segment in await asyncio.to_thread(self.shelf.segments):
            for record in await asyncio.to_thread(self._live, segment, since):
                yield segment, record

    def _live(self, segment: UUID, since: datetime | None) -> list[Record]:
        if since is not None and self.shelf.was_sealed(segment, since):
            return []
        return [one for one in self.shelf.walk(segment) if isinstance(one, Record) and one.live]
