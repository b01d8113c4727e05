"""Appending: the bytes of a commit in one write and one sync, in a thread, while the loop goes on.

Places are given out on the loop, at once; what is written for them comes in the same order. Commits that wait together
share a sync. Only what `done` has said to be on the disk may be committed. One writer per file: this process.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

import structlog

from ingester.faults import Faults
from ingester.store.objects import ObjectsUnavailable
from ingester.store.segments import record as form
from ingester.store.segments import segment as files
from ingester.store.segments.record import HEAD_BYTES, HEADER_BYTES, Piece
from ingester.store.segments.shelf import Seal, Shelf, told, url_of

SYNC_BYTES: Final = 64 << 20
"""Bytes that share a sync at most: who waits for the first of them waits for all."""
AGE_SECONDS: Final = 86_400.0
"""After so long a segment is sealed, however small: what is not sealed is not compacted."""
CLOSE_SECONDS: Final = 10.0
"""How long the end of a daemon waits for its disk."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """Pieces on their way to the disk: their URLs, and a future that says when they are there, or raises.

    It raises ObjectsUnavailable. Several may wait for it.
    """

    urls: tuple[str, ...]
    done: "asyncio.Future[None]"


@dataclass(slots=True, kw_only=True)
class _Open:
    """A segment that is appended to. `end` is where the next place begins; up to `durable` all is on the disk."""

    id: UUID
    url: str
    """How the URLs of its records begin."""
    born: float
    descriptor: int = -1
    end: int = HEAD_BYTES
    durable: int = HEAD_BYTES
    records: int = 0
    digest: Any = field(default_factory=sha256)
    lost: bool = False
    """The disk has failed to sync it: nobody knows what of it is there, and nothing more is written to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """What was handed in together. `buffers` are headers and bytes by turns."""

    segment: _Open
    buffers: list[bytes]
    size: int
    done: "asyncio.Future[None]"


class Appender:
    """The open segment of this process, in one directory."""

    def __init__(
        self,
        shelf: Shelf,
        *,
        limit: int,
        new_id: Callable[[], UUID],
        faults: Faults,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`limit` is how large a segment may get, in bytes; a larger mail has one of its own."""
        self._shelf = shelf
        self._limit = limit
        self._new_id = new_id
        self._faults = faults
        self._clock = clock
        self._open: _Open | None = None
        self._waiting: deque[_Batch] = deque()
        self._writing: asyncio.Task[None] | None = None
        self._full: list[_Open] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="segment")
        self.trouble = ""
        """Why the last write failed; nothing when it did not."""
        self._refused = 0

    def append(self, pieces: Sequence[Piece]) -> Landing:
        """Give each piece its place, and begin to write."""
        segment = self._room(sum(HEADER_BYTES + len(piece.data) for piece in pieces))
        buffers: list[bytes] = []
        urls: list[str] = []
        end = segment.end
        for piece in pieces:
            urls.append(f"{segment.url}{end}")
            buffers += (form.header(segment.id, end, piece), piece.data)
            end += HEADER_BYTES + len(piece.data)
        done = asyncio.get_running_loop().create_future()
        done.add_done_callback(_seen)
        self._waiting.append(_Batch(segment=segment, buffers=buffers, size=end - segment.end, done=done))
        segment.end = end
        self._begin()
        return Landing(urls=tuple(urls), done=done)

    async def probe(self) -> None:
        """Where the last write failed: look whether the disk takes anything now."""
        if self.trouble:
            try:
                await asyncio.to_thread(files.probe, self._shelf.directory, self._refused)
            except OSError as error:
                self.trouble = error.strerror or type(error).__name__
            else:
                self.trouble = ""

    async def seal_old(self) -> None:
        """Seal the open segment where it is old. For a chore."""
        if self._open is not None and self._clock() - self._open.born > AGE_SECONDS:
            self._retire()
            self._begin()
            await self._settled()

    async def close(self) -> None:
        """Write what waits, and seal. A disk that does not answer is left to whoever comes next."""
        self._retire()
        self._begin()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._settled()
        except TimeoutError:
            _log.error("a segment could not be sealed in time")
        self._thread.shutdown(wait=False)

    # -- on the loop ------------------------------------------------------------------------------------------------

    def _room(self, size: int) -> _Open:
        """The open segment, or a new one where it is full. The file is made by the thread."""
        if self._open is not None and self._open.end > HEAD_BYTES and self._open.end + size > self._limit:
            self._retire()
        if self._open is None:
            segment = self._new_id()
            url = url_of(self._shelf.directory, segment, "")
            self._open = _Open(id=segment, url=url, born=self._clock())
        return self._open

    def _retire(self) -> None:
        if self._open is not None:
            self._full.append(self._open)
            self._open = None

    def _begin(self) -> None:
        if self._writing is None and (self._waiting or self._full):
            self._writing = asyncio.create_task(self._work(), name="segment")

    async def _settled(self) -> None:
        if self._writing is not None:
            await asyncio.shield(self._writing)

    async def _work(self) -> None:
        """Write until nothing waits; no await stands between the last look and the end."""
        while self._waiting or self._full:
            if self._waiting:
                await self._write_some()
            while self._full and not any(one.segment is self._full[0] for one in self._waiting):
                await self._seal(self._full.pop(0))
        self._writing = None

    async def _write_some(self) -> None:
        """What waits for the oldest segment, in one write and one sync."""
        batches = [self._waiting.popleft()]
        size = batches[0].size
        while self._waiting and self._waiting[0].segment is batches[0].segment and size < SYNC_BYTES:
            batches.append(self._waiting.popleft())
            size += batches[-1].size
        segment = batches[0].segment
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, partial(self._write, segment, [one.buffers for one in batches]))
        except Exception as error:  # noqa: BLE001  (whatever it is: nothing of it may be committed)
            self._fail(segment, batches, error)
            return
        self.trouble = ""
        for one in batches:
            if not one.done.done():
                one.done.set_result(None)

    def _fail(self, segment: _Open, batches: list[_Batch], error: Exception) -> None:
        """Nothing of what was given a place here behind the last sync is there."""
        while self._waiting and self._waiting[0].segment is segment:
            batches.append(self._waiting.popleft())
        self.trouble = str(error) or type(error).__name__
        self._refused = sum(one.size for one in batches)
        _log.error("raw mails could not be written", error=self.trouble, commits=len(batches))
        segment.end = segment.durable
        if segment.lost and segment is self._open:
            self._open = None  # whoever tends the directory seals what is left of it
        for one in batches:
            if not one.done.done():
                known = isinstance(error, ObjectsUnavailable)
                one.done.set_exception(error if known else ObjectsUnavailable(type(error).__name__))

    async def _seal(self, segment: _Open) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._finish, segment)
        except Exception as error:  # noqa: BLE001  (it is let go all the same, and tended)
            _log.warning("a segment could not be sealed, it is tried again later", error=str(error))

    # -- in the thread ----------------------------------------------------------------------------------------------

    def _write(self, segment: _Open, batches: Sequence[list[bytes]]) -> None:
        """Write and sync. Raises ObjectsUnavailable; the file is then as it was, or lost."""
        buffers = batches[0] if len(batches) == 1 else [one for batch in batches for one in batch]
        with told():
            if segment.descriptor < 0:
                segment.descriptor = files.make(self._shelf.path(segment.id), segment.id, compacted=False)
            try:
                self._faults.hit("append")
                self._write_torn(segment, buffers)
                end = files.write_all(segment.descriptor, buffers, segment.durable)
                self._faults.hit("unsynced")
                segment.lost = True  # a kernel that fails to sync takes the bytes for written the next time
                self._faults.hit("sync")
                os.fdatasync(segment.descriptor)
                segment.lost = False
            except BaseException:
                self._cut(segment)
                raise
        segment.durable = end
        headers = buffers[::2]
        segment.records += len(headers)
        segment.digest.update(form.lasting(headers))

    def _write_torn(self, segment: _Open, buffers: Sequence[bytes]) -> None:
        """Where a test wants it: half of the bytes, and then whatever it wants to happen there."""
        if "torn" in self._faults.points:
            data = b"".join(buffers)
            files.write_all(segment.descriptor, [data[: len(data) // 2]], segment.durable)
            self._faults.hit("torn")

    def _cut(self, segment: _Open) -> None:
        """Take away what was not written whole. A lost segment is let go: somebody will tend it."""
        try:
            os.ftruncate(segment.descriptor, segment.durable)
        except OSError:
            segment.lost = True
        if segment.lost:
            os.close(segment.descriptor)

    def _finish(self, segment: _Open) -> None:
        """Seal it and let go; one that holds nothing is removed."""
        if segment.descriptor < 0 or segment.lost:
            return
        try:
            if segment.records:
                self._faults.hit("before_seal")
                sha256_hex = segment.digest.hexdigest()
                seal = Seal(segment=segment.id, bytes=segment.durable, records=segment.records, sha256=sha256_hex)
                self._shelf.seal(seal)
                self._faults.hit("after_seal")
            else:
                self._shelf.remove(segment.id)
        finally:
            os.close(segment.descriptor)


def _seen(done: "asyncio.Future[None]") -> None:
    """A commit that was given up meanwhile asks no more; asyncio would complain of an error that nobody has seen."""
    if not done.cancelled():
        done.exception()
