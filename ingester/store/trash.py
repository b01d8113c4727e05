"""Objects that are to go: noted in the transaction that makes them superfluous, deleted afterwards.

A deletion that fails is tried again; what has a row in `raws` is never deleted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ingester.store.blobs import Blobs, Named, bucket_of
from ingester.store.db import Connection, Database
from ingester.store.objects import MissingExtra, ObjectsUnavailable

PAGE: Final = 100
"""Objects that are deleted together."""
_FIRST = UUID(int=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Emptied:
    """What became of the trash: objects deleted, and those whose store did not do it."""

    deleted: int
    left: int


async def discard(connection: Connection, tenant_id: UUID, blobs: Sequence[tuple[UUID, str]]) -> None:
    """Note objects (raw id and URL) that were written for nothing.

    One that a mail has all the same, written by an attempt whose answer was lost, is left alone.
    """
    await connection.execute(
        """
        INSERT INTO blob_trash (tenant_id, raw_id, blob_key)
        SELECT $1, b.raw_id, b.blob_key FROM unnest($2::uuid[], $3::text[]) AS b(raw_id, blob_key)
        WHERE NOT EXISTS (SELECT FROM raws r WHERE r.tenant_id = $1 AND r.id = b.raw_id)
        ON CONFLICT DO NOTHING
        """,
        tenant_id,
        [raw_id for raw_id, _ in blobs],
        [url for _, url in blobs],
    )


async def trashed(connection: Connection, tenant_id: UUID | None = None) -> int:
    """How many objects are to go, of all tenants or of one."""
    statement = "SELECT count(*) FROM blob_trash WHERE $1::uuid IS NULL OR tenant_id = $1"
    return int(await connection.fetchval(statement, tenant_id))


async def waits(connection: Connection, tenant_id: UUID, raw_id: UUID) -> bool:
    """Whether the object of this raw mail is still to go."""
    statement = "SELECT EXISTS (SELECT FROM blob_trash WHERE tenant_id = $1 AND raw_id = $2)"
    return bool(await connection.fetchval(statement, tenant_id, raw_id))


async def empty(database: Database, blobs: Blobs) -> Emptied:
    """Delete what lies in the trash, page by page. No connection is held while the store is at work.

    A bucket that fails once is left alone until the next time: another one may be well.
    """
    deleted = left = 0
    away: set[str] = set()
    after = (_FIRST, _FIRST)
    while True:
        async with database.connection() as connection:
            page = await _page(connection, after)
        if not page:
            return Emptied(deleted=deleted, left=left)
        after = (page[-1].tenant_id, page[-1].raw_id)
        done = await _delete([one for one in page if bucket_of(one.url) not in away], blobs, away)
        async with database.connection() as connection:
            await _forget(connection, done)
        deleted += len(done)
        left += len(page) - len(done)


async def _page(connection: Connection, after: tuple[UUID, UUID]) -> list[Named]:
    """The next objects to go. One whose mail is there after all stays, and so does its row, which tells of it."""
    rows = await connection.fetch(
        """
        SELECT t.tenant_id, t.raw_id, t.blob_key FROM blob_trash t
        WHERE (t.tenant_id, t.raw_id) > ($1, $2)
          AND NOT EXISTS (SELECT FROM raws r WHERE r.tenant_id = t.tenant_id AND r.id = t.raw_id)
        ORDER BY t.tenant_id, t.raw_id LIMIT $3
        """,
        *after,
        PAGE,
    )
    return [Named(tenant_id=row["tenant_id"], raw_id=row["raw_id"], url=row["blob_key"]) for row in rows]


async def _delete(pieces: Sequence[Named], blobs: Blobs, away: set[str]) -> list[Named]:
    """Delete them side by side; gives those that are gone, and notes the buckets that did not do it."""
    done: list[Named] = []
    for one, result in zip(pieces, await blobs.remove(pieces), strict=True):
        if result is None:
            done.append(one)
        elif isinstance(result, ObjectsUnavailable | MissingExtra):
            away.add(bucket_of(one.url))
        else:
            raise result
    return done


async def _forget(connection: Connection, pieces: Sequence[Named]) -> None:
    await connection.execute(
        """
        DELETE FROM blob_trash t USING unnest($1::uuid[], $2::uuid[]) AS d(tenant_id, raw_id)
        WHERE t.tenant_id = d.tenant_id AND t.raw_id = d.raw_id
        """,
        [one.tenant_id for one in pieces],
        [one.raw_id for one in pieces],
    )
