"""Segments whose writer is gone: what was not written whole is cut off, and they are sealed. Blocks: never on the loop.

Torn bytes at the end are of commits that never came. What is damaged before them is left as it is, and told.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from ingester.store.objects import ObjectMissing
from ingester.store.segments import record as form
from ingester.store.segments import segment as files
from ingester.store.segments.record import HEAD_BYTES, Record
from ingester.store.segments.segment import Found
from ingester.store.segments.shelf import FROM, NEW, SEAL, SEGMENT, Shelf, seal_for, told


@dataclass(frozen=True, slots=True, kw_only=True)
class Tended:
    """A segment that was sealed, or was none (`records` is 0) and was removed. `cut` and `gaps` are bytes."""

    segment: UUID
    records: int
    cut: int
    gaps: int


def orphaned(shelf: Shelf) -> list[UUID]:
    """Segments without a seal. Those that somebody appends to are among them."""
    sealed = set(shelf.segments(SEAL))
    return [one for one in shelf.segments(SEGMENT) if one not in sealed]


def tend(shelf: Shelf, segment: UUID, copies: Callable[[list[Record]], list[Record]]) -> Tended | None:
    """Cut and seal a segment, unless its writer lives: then None.

    Of one that a compaction has left, `copies` says which records nothing needs; they are erased.
    """
    with told():
        try:
            descriptor = os.open(shelf.path(segment), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            if not files.lock(descriptor) or shelf.is_sealed(segment):
                return None
            return _tend(shelf, segment, descriptor, copies)
        finally:
            os.close(descriptor)


def _tend(
    shelf: Shelf, segment: UUID, descriptor: int, copies: Callable[[list[Record]], list[Record]]
) -> Tended | None:
    head = os.pread(descriptor, HEAD_BYTES, 0)
    size = os.fstat(descriptor).st_size
    if not form.is_head(head, segment):
        # The head is on the disk before anything else is written: without one there never was anything.
        if size > HEAD_BYTES:
            raise ObjectMissing("a segment has lost its head")
        shelf.remove(segment)
        return Tended(segment=segment, records=0, cut=size, gaps=0)
    found = list(files.walk(descriptor, segment))
    found, end = _whole(descriptor, found)
    os.ftruncate(descriptor, end)
    os.fsync(descriptor)
    records = [one for one in found if isinstance(one, Record)]
    if not records:
        shelf.remove(segment)
        return Tended(segment=segment, records=0, cut=size - end, gaps=0)
    if form.is_compacted(head, segment):
        for one in copies([one for one in records if one.live]):
            files.erase(descriptor, one)
        os.fsync(descriptor)
    shelf.seal(seal_for(descriptor, segment, found))
    gaps = sum(one.end - one.offset for one in found if not isinstance(one, Record))
    return Tended(segment=segment, records=len(records), cut=size - end, gaps=gaps)


def _whole(descriptor: int, found: list[Found]) -> tuple[list[Found], int]:
    """What is left without the torn end, and where it ends: behind the last record whose bytes are all there."""
    for count in range(len(found), 0, -1):
        one = found[count - 1]
        if isinstance(one, Record) and files.is_sound(descriptor, one):
            return found[:count], one.end
    return [], HEAD_BYTES


def clear(shelf: Shelf) -> int:
    """Remove what compactions have begun and left. Gives how many there were."""
    many = 0
    for segment in shelf.segments(NEW):
        with told():
            try:
                descriptor = os.open(shelf.path(segment, NEW), os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                if files.lock(descriptor):
                    shelf.path(segment, NEW).unlink(missing_ok=True)
                    many += 1
            finally:
                os.close(descriptor)
    return many


def left_copies(shelf: Shelf) -> list[UUID]:
    """Copies whose compaction has not come to its end: those that are sealed, but still say what they are made of.

    Nobody is at them: one compaction is made at a time, and whoever asks is the one who may make it.
    """
    left = []
    for copy in shelf.segments(FROM):
        if shelf.is_sealed(copy):
            left.append(copy)
        elif not shelf.path(copy).exists() and not shelf.path(copy, NEW).exists():
            shelf.forget_sources(copy)
    return left
