"""Compacting: segments of which much was erased, and many small ones, are written anew without what nobody needs.

What is not known for sure to be needless is kept: a record that no row names may be a mail on its way, or another
database's. It may be killed at any moment; what it leaves is found and finished. One process does it at a time.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, auto
from itertools import groupby
from typing import Final
from uuid import UUID

import structlog

from ingester.faults import Faults
from ingester.store.db import Connection, Database
from ingester.store.objects import ObjectMissing, ObjectsUnavailable
from ingester.store.segments.copying import Copied, Copy, drop
from ingester.store.segments.record import HEADER_BYTES, Record
from ingester.store.segments.shelf import SEAL, Shelf, Spot, name_of, url_of
from ingester.store.segments.tending import clear, left_copies, orphaned, tend

PAGE: Final = 500
"""Records that are held against the rows, or whose rows are changed, together."""
DEAD_SHARE: Final = 0.5
"""Of a segment's bytes: with so many that nobody needs it is written anew."""
SMALL: Final = 1 / 16
"""Of the size that a segment may have: so small ones are put together, where there are `MANY`."""
MANY: Final = 16

_log = structlog.get_logger(__name__)


class _Need(Enum):
    """Whether a record is needed."""

    YES = auto()
    NO = auto()
    """Its mail lies elsewhere now, or is to go."""
    UNKNOWN = auto()
    """No row speaks of it. A sweep, which sees more, may erase it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacted:
    """What was done: so many segments went, so many were made, and so many bytes came free."""

    removed: int = 0
    made: int = 0
    freed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Old:
    """A sealed segment, what of it is alive, and its size in bytes."""

    segment: UUID
    records: tuple[Record, ...]
    size: int

    @property
    def live(self) -> int:
        return sum(one.size + HEADER_BYTES for one in self.records)


async def tend_all(database: Database, shelf: Shelf) -> int:
    """Cut and seal the segments whose writers are gone. Gives how many there were."""
    await asyncio.to_thread(clear, shelf)
    loop = asyncio.get_running_loop()
    many = 0
    for segment in await asyncio.to_thread(orphaned, shelf):

        def needless(records: list[Record], segment: UUID = segment) -> list[Record]:
            return asyncio.run_coroutine_threadsafe(_needless(database, segment, records), loop).result()

        try:
            tended = await asyncio.to_thread(tend, shelf, segment, needless)
        except (ObjectMissing, ObjectsUnavailable) as error:  # the others are tended all the same
            _log.error("a segment that has lost its writer could not be sealed", why=str(error), segment=str(segment))
            continue
        if tended is not None:
            many += 1
            told = {"records": tended.records, "cut": tended.cut, "gaps": tended.gaps}
            _log.log(40 if tended.gaps else 20, "a segment was sealed in its writer's place", **told)
    for copy in await asyncio.to_thread(left_copies, shelf):
        await _finish(database, shelf, copy)
    return many


async def _finish(database: Database, shelf: Shelf, copy: UUID) -> None:
    """Erase from the segments that a copy was made of what no row names any more: it was moved, or its mail is gone."""
    copied = {(one.tenant_id, one.raw_id) for one in await asyncio.to_thread(_records, shelf, copy)}
    for source in await asyncio.to_thread(shelf.sources_of, copy):
        records = [
            one
            for one in await asyncio.to_thread(_records, shelf, source)
            if one.live and (one.tenant_id, one.raw_id) in copied
        ]
        needs = await _needs(database, source, records)
        stale = [_spot(source, one) for one, need in zip(records, needs, strict=True) if need is not _Need.YES]
        await asyncio.to_thread(shelf.erase, stale)
    await asyncio.to_thread(shelf.forget_sources, copy)


async def compact(
    database: Database,
    shelf: Shelf,
    *,
    limit: int,
    before: datetime,
    new_id: Callable[[], UUID],
    faults: Faults,
) -> Compacted:
    """Go through the sealed segments once. `before`: what was sealed later may have mails whose commit is under way.

    Raises ObjectsUnavailable and what the database raises.
    """
    done = Compacted()
    due = await asyncio.to_thread(_due, shelf, limit, before)
    while due:
        group = [due.pop(0)]
        while due and sum(one.live for one in group) + due[0].live <= limit:
            group.append(due.pop(0))
        try:
            done = await _renew(database, shelf, group, done, new_id, faults)
        except ObjectMissing as error:
            _log.error("segments are damaged and were left alone", why=str(error), segments=len(group))
    return done


def _due(shelf: Shelf, limit: int, before: datetime) -> list[_Old]:
    """The segments that are to be written anew."""
    worn: list[_Old] = []
    small: list[UUID] = []
    for segment in shelf.segments(SEAL):
        try:
            sealed_at, size, worn_since = shelf.wear(segment)
        except ObjectMissing:  # a seal without a segment: what a removal has left
            shelf.remove(segment)
            continue
        if sealed_at >= before:
            continue
        if worn_since:
            old = _looked_at(shelf, segment, size)
            if old.live < size * (1 - DEAD_SHARE):
                worn.append(old)
                continue
        if size < limit * SMALL:
            small.append(segment)
    if len(small) < MANY:
        return worn
    return worn + [_looked_at(shelf, one, shelf.wear(one)[1]) for one in small]


def _looked_at(shelf: Shelf, segment: UUID, size: int) -> _Old:
    return _Old(segment=segment, records=tuple(one for one in _records(shelf, segment) if one.live), size=size)


def _records(shelf: Shelf, segment: UUID) -> list[Record]:
    return [one for one in shelf.walk(segment) if isinstance(one, Record)]


def _spot(segment: UUID, one: Record) -> Spot:
    return Spot(segment=segment, offset=one.offset, tenant_id=one.tenant_id, raw_id=one.raw_id)


async def _renew(
    database: Database,
    shelf: Shelf,
    group: Sequence[_Old],
    done: Compacted,
    new_id: Callable[[], UUID],
    faults: Faults,
) -> Compacted:
    """Write a group anew, as far as it is known what is needed of it."""
    known: list[_Old] = []
    wanted: list[tuple[UUID, Record]] = []
    for one in group:
        needs = await _needs(database, one.segment, one.records)
        if _Need.UNKNOWN not in needs:
            known.append(one)
            wanted += [
                (one.segment, record) for record, need in zip(one.records, needs, strict=True) if need is _Need.YES
            ]
    if not known:
        return done
    freed = sum(one.size for one in known)
    copy = None
    if wanted:
        copy = Copy(shelf, new_id(), faults)
        copied = await asyncio.to_thread(copy.write, wanted)
        try:
            faults.hit("named")
            left = await _move(database, shelf, copy.segment, copied, faults)
            faults.hit("moved")
            await asyncio.to_thread(copy.finish, left)
        finally:
            copy.let_go()
        freed -= sum(record.size + HEADER_BYTES for _, record in wanted)
    await asyncio.to_thread(drop, shelf, copy.segment if copy else None, [one.segment for one in known], faults)
    return replace(
        done, removed=done.removed + len(known), made=done.made + bool(wanted), freed=done.freed + max(0, freed)
    )


# -- the database ---------------------------------------------------------------------------------------------------


async def _needs(database: Database, segment: UUID, records: Sequence[Record]) -> list[_Need]:
    """What the rows say of records."""
    needs: list[_Need] = []
    for start in range(0, len(records), PAGE):
        async with database.connection() as connection:
            needs += await _page_of_needs(connection, segment, records[start : start + PAGE])
    return needs


async def _page_of_needs(connection: Connection, segment: UUID, records: Sequence[Record]) -> list[_Need]:
    """Rows that somebody changes at this moment are waited for: a move that is under way may come to its end."""
    async with connection.transaction():
        rows = await connection.fetch(
            """
            SELECT o.n, right(r.blob_key, length(o.name)) IS NOT DISTINCT FROM o.name AS here
            FROM unnest($1::uuid[], $2::uuid[], $3::text[]) WITH ORDINALITY AS o(tenant_id, raw_id, name, n)
            JOIN raws r ON r.tenant_id = o.tenant_id AND r.id = o.raw_id
            FOR SHARE OF r
            """,
            *_columns(segment, records),
        )
        needs = {row["n"] - 1: _Need.YES if row["here"] else _Need.NO for row in rows}
        trash = await connection.fetch(
            """
            SELECT o.n FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY AS o(tenant_id, raw_id, n)
            JOIN blob_trash t ON t.tenant_id = o.tenant_id AND t.raw_id = o.raw_id
            """,
            *_columns(segment, records)[:2],
        )
    for row in trash:
        needs.setdefault(row["n"] - 1, _Need.NO)
    return [needs.get(n, _Need.UNKNOWN) for n in range(len(records))]


async def _needless(database: Database, segment: UUID, records: Sequence[Record]) -> list[Record]:
    """Of copies that a compaction has left: those that no row names. Their mails are where they were, or gone."""
    needs = await _needs(database, segment, records)
    return [one for one, need in zip(records, needs, strict=True) if need is not _Need.YES]


async def _move(
    database: Database, shelf: Shelf, segment: UUID, copied: Sequence[Copied], faults: Faults
) -> list[Spot]:
    """Let the rows name the copies. Gives the copies of mails that went meanwhile."""
    left: list[Spot] = []
    by_tenant = sorted(copied, key=lambda one: one.was.tenant_id)
    for tenant_id, group in groupby(by_tenant, key=lambda one: one.was.tenant_id):
        some = list(group)
        for start in range(0, len(some), PAGE):
            page = some[start : start + PAGE]
            async with database.connection() as connection:
                moved = await _move_page(connection, tenant_id, shelf, segment, page)
            faults.hit("moving")
            left += [
                Spot(segment=segment, offset=one.offset, tenant_id=tenant_id, raw_id=one.was.raw_id)
                for one in page
                if one.was.raw_id not in moved
            ]
    return left


async def _move_page(
    connection: Connection, tenant_id: UUID, shelf: Shelf, segment: UUID, page: Sequence[Copied]
) -> set[UUID]:
    """Rows are changed in the order of their key, as all writers do."""
    rows = await connection.fetch(
        """
        WITH o AS (
            SELECT r.id, n.url FROM unnest($2::uuid[], $3::text[], $4::text[]) AS n(raw_id, was, url)
            JOIN raws r ON r.tenant_id = $1 AND r.id = n.raw_id AND right(r.blob_key, length(n.was)) = n.was
            ORDER BY r.id FOR UPDATE OF r
        )
        UPDATE raws r SET blob_key = o.url FROM o WHERE r.tenant_id = $1 AND r.id = o.id RETURNING r.id
        """,
        tenant_id,
        [one.was.raw_id for one in page],
        [name_of(url_of(shelf.directory, one.was.segment, one.was.offset)) for one in page],
        [url_of(shelf.directory, segment, one.offset) for one in page],
    )
    return {row["id"] for row in rows}


def _columns(segment: UUID, records: Sequence[Record]) -> tuple[list[UUID], list[UUID], list[str]]:
    return (
        [one.tenant_id for one in records],
        [one.raw_id for one in records],
        [f"/{segment}/{one.offset}" for one in records],
    )
