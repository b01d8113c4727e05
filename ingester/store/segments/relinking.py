"""Rows whose mail is not where they say, and records that hold it: after a restore, or when a directory was moved."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ingester.store.db import Connection, Database
from ingester.store.objects import ObjectMissing, ObjectsUnavailable
from ingester.store.segments.record import Record
from ingester.store.segments.shelf import Shelf, spot_of, url_of

PAGE: Final = 500
"""Records that are held against the rows together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relinked:
    """Records that were looked at, and rows that name another of them now, or would."""

    records: int
    rows: int


async def relink(
    database: Database, shelf: Shelf, *, apply: bool, watch: Callable[[int], None] = lambda _: None
) -> Relinked:
    """Let rows name the records that hold their mails, where nothing is to be had at the place that they name.

    Raises ObjectsUnavailable and what the database raises.
    """
    records = rows = 0
    for segment in await asyncio.to_thread(shelf.segments):
        found = await asyncio.to_thread(_live, shelf, segment)
        for start in range(0, len(found), PAGE):
            page = found[start : start + PAGE]
            async with database.connection() as connection:
                rows += await _page(connection, shelf, segment, page, apply=apply)
            records += len(page)
            watch(len(page))
    return Relinked(records=records, rows=rows)


def _live(shelf: Shelf, segment: UUID) -> list[Record]:
    return [one for one in shelf.walk(segment) if isinstance(one, Record) and one.live]


async def _page(connection: Connection, shelf: Shelf, segment: UUID, page: Sequence[Record], *, apply: bool) -> int:
    """Only rows that mean these very bytes: the same mail of the same tenant, with the same checksum."""
    urls = [url_of(shelf.directory, segment, one.offset) for one in page]
    rows = await connection.fetch(
        """
        SELECT r.tenant_id, r.id, r.blob_key, o.url
        FROM unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::text[]) AS o(tenant_id, raw_id, sha256, url)
        JOIN raws r ON r.tenant_id = o.tenant_id AND r.id = o.raw_id AND r.sha256 = o.sha256
        WHERE r.blob_key LIKE 'file:%' AND r.blob_key <> o.url
        """,
        [one.tenant_id for one in page],
        [one.raw_id for one in page],
        [one.sha256 for one in page],
        urls,
    )
    wrong = [
        row for row in rows if not await asyncio.to_thread(_is_there, row["blob_key"], row["tenant_id"], row["id"])
    ]
    if not apply:
        return len(wrong)
    changed = 0
    for row in wrong:
        changed += bool(
            await connection.fetchval(
                "UPDATE raws SET blob_key = $4 WHERE tenant_id = $1 AND id = $2 AND blob_key = $3 RETURNING true",
                row["tenant_id"],
                row["id"],
                row["blob_key"],
                row["url"],
            )
        )
    return changed


def _is_there(url: str, tenant_id: UUID, raw_id: UUID) -> bool:
    try:
        directory, spot = spot_of(url, tenant_id, raw_id)
        Shelf(directory).read_range(spot, 0, 0)
    except (ObjectMissing, ObjectsUnavailable):
        return False
    return True
