"""Objects without a mail: what a crash between the upload and the commit leaves behind. Found by listing, and deleted.

Nothing that has a row is deleted, nor what is younger than any commit may take, nor what bears another name than ours
do, nor what belongs to a tenant that this database does not know, nor what is newer than all mail that it has of the
tenant: a copy of a database knows nothing of what has come since.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ingester.core.ids import SYSTEM_TENANT
from ingester.store.blobs import Blobs, Lying
from ingester.store.db import Connection, Database
from ingester.store.segments.shelf import name_of

PAGE: Final = 500
"""Objects that are held against the rows, and deleted, together."""
FEW: Final = 20
"""So many objects without a mail in one page are no sign of anything."""
_LOCK: Final = 0x626C6F6273
"""The advisory lock of whoever empties and sweeps ("blobs")."""


class NotOurs(Exception):
    """Most of what lies there has no mail here: another database's place, or an old copy of this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a sweep saw: objects of any age, and those without a mail, which were or would be deleted."""

    objects: int
    orphans: int
    bytes: int


async def sweep(
    database: Database,
    blobs: Blobs,
    *,
    before: datetime,
    apply: bool,
    force: bool = False,
    since: datetime | None = None,
    watch: Callable[[int], None] = lambda _: None,
) -> Swept:
    """Go through the place; delete what is older than `before` and has no mail, if told to `apply`.

    Raises NotOurs, unless told to `force`, where most of a page has none; and ObjectsUnavailable. `since`: segments
    that were sealed before were gone through already, and nothing in them can have lost its row unnoticed.
    """
    objects = orphans = size = 0
    async for page in _pages(blobs, since):
        old = [one for one in page if one.since < before]
        async with database.connection() as connection:
            found = await _without_mail(connection, old, newest_too=force, by_name=blobs.in_segments)
        if len(found) > max(FEW, len(old) // 2) and apply and not force:
            raise NotOurs(f"{len(found)} of {len(old)} old objects in a row have no mail in this database")
        if apply:
            await _delete(blobs, found)
        objects += len(page)
        orphans += len(found)
        size += sum(one.size for one in found)
        watch(len(page))
    return Swept(objects=objects, orphans=orphans, bytes=size)


async def _pages(blobs: Blobs, since: datetime | None) -> AsyncIterator[Sequence[Lying]]:
    page: list[Lying] = []
    async for one in blobs.list(since=since):
        page.append(one)
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page


async def _without_mail(
    connection: Connection, objects: Sequence[Lying], *, newest_too: bool, by_name: bool
) -> list[Lying]:
    """Those of a known tenant that have no row, though a later mail of the tenant has one; all of erased tenants.

    `by_name`: nor have those whose row names another place. Only the end of a name counts, which no two records share:
    a directory may have several names.
    """
    rows = await connection.fetch(
        """
        SELECT o.n FROM unnest($1::uuid[], $2::uuid[], $4::text[]) WITH ORDINALITY AS o(tenant_id, raw_id, name, n)
        WHERE NOT EXISTS (
            SELECT FROM raws r WHERE r.tenant_id = o.tenant_id AND r.id = o.raw_id
            AND (o.name IS NULL OR right(r.blob_key, length(o.name)) = o.name))
          AND (EXISTS (SELECT FROM tenants t WHERE t.id = o.tenant_id)
               AND ($3 OR EXISTS (SELECT FROM raws r WHERE r.tenant_id = o.tenant_id AND r.id > o.raw_id))
               OR EXISTS (SELECT FROM erased_tenants e WHERE e.tenant_id = o.tenant_id))
        ORDER BY o.n
        """,
        [one.tenant_id for one in objects],
        [one.raw_id for one in objects],
        newest_too,
        [name_of(one.url) if by_name else None for one in objects],
    )
    return [objects[row["n"] - 1] for row in rows]


async def _delete(blobs: Blobs, objects: Sequence[Lying]) -> None:
    for failed in await blobs.remove(objects):
        if failed is not None:
            raise failed


async def last_sweep(connection: Connection, place: str) -> datetime | None:
    """When this place was last gone through, by any daemon."""
    swept: datetime | None = await connection.fetchval(
        "SELECT swept_at FROM blob_sweeps WHERE tenant_id = $1 AND place = $2", SYSTEM_TENANT, place
    )
    return swept


async def note_sweep(connection: Connection, place: str, now: datetime) -> None:
    """Record that this place was gone through to its end."""
    await connection.execute(
        """
        INSERT INTO blob_sweeps (tenant_id, place, swept_at) VALUES ($1, $2, $3)
        ON CONFLICT (tenant_id, place) DO UPDATE SET swept_at = excluded.swept_at
        """,
        SYSTEM_TENANT,
        place,
        now,
    )


@asynccontextmanager
async def alone(database: Database, lock: int = _LOCK) -> AsyncIterator[bool]:
    """Whether nobody else is at it, for as long as the block lasts: by default, at emptying and sweeping.

    The lock is a transaction's, which a pooler in transaction mode leaves together; idle, it holds no snapshot.
    """
    connection = await database.connect()
    try:
        async with connection.transaction():
            yield bool(await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", lock))
    finally:
        await connection.close()
