"""Copying what is needed of old segments into a new one. Blocks: never on the loop. It knows no database.

The copy is on the disk, under its final name, before anybody is told of it; it is locked until it is sealed, so that
nobody tends it meanwhile.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from ingester.faults import Faults
from ingester.store.segments import record as form
from ingester.store.segments import segment as files
from ingester.store.segments.record import HEAD_BYTES, Piece, Record
from ingester.store.segments.shelf import NEW, Shelf, Spot, seal_for, told


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """One record: where it was, and where its copy is."""

    was: Spot
    offset: int


class Copy:
    """A segment of copies, from its making to its seal."""

    def __init__(self, shelf: Shelf, segment: UUID, faults: Faults) -> None:
        self.segment = segment
        self._shelf = shelf
        self._faults = faults
        self._descriptor = -1

    def write(self, records: Sequence[tuple[UUID, Record]]) -> list[Copied]:
        """Copy records, each of a segment. Raises ObjectMissing where one is damaged: then nothing was done."""
        new = self._shelf.path(self.segment, NEW)
        with told():
            self._descriptor = files.make(new, self.segment, compacted=True)
        try:
            copied = self._write(records)
            self._shelf.note_sources(self.segment, sorted({segment for segment, _ in records}))
            with told():
                os.fsync(self._descriptor)
                self._faults.hit("copied")
                new.rename(self._shelf.path(self.segment))
                files.sync_directory(self._shelf.directory)
        except BaseException:
            new.unlink(missing_ok=True)
            self.let_go()
            raise
        return copied

    def _write(self, records: Sequence[tuple[UUID, Record]]) -> list[Copied]:
        copied = []
        end = HEAD_BYTES
        for segment, one in records:
            was = Spot(segment=segment, offset=one.offset, tenant_id=one.tenant_id, raw_id=one.raw_id)
            data = self._shelf.read(was, max_bytes=one.size)
            piece = Piece(tenant_id=one.tenant_id, raw_id=one.raw_id, sha256=one.sha256, data=data)
            with told():
                files.write_all(self._descriptor, [form.header(self.segment, end, piece), data], end)
            copied.append(Copied(was=was, offset=end))
            end += len(data) + form.HEADER_BYTES
        return copied

    def finish(self, needless: Sequence[Spot]) -> None:
        """Erase what nobody needs after all, and seal."""
        self._shelf.erase(needless)
        with told():
            found = list(files.walk(self._descriptor, self.segment))
            self._faults.hit("before_seal")
            self._shelf.seal(seal_for(self._descriptor, self.segment, found))
        self.let_go()

    def let_go(self) -> None:
        """Leave it as it is. What is not sealed is tended."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def drop(shelf: Shelf, copy: UUID | None, segments: Sequence[UUID], faults: Faults) -> None:
    """Remove segments of which nothing is needed any more."""
    for segment in segments:
        faults.hit("drop")
        shelf.remove(segment)
    if copy is not None:
        shelf.forget_sources(copy)
