"""Raw mails outside Postgres: an object each in an object store, or records in segments on this host.

`raws.blob_key` holds the whole URL, `<place>/<tenant id>/<raw id>` or `file:///DIR/<segment>/<offset>`: what was
written stays readable when INGESTER_BLOBS is changed, either way. When bytes are written, and when they may go, is
decided by others.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from ingester.settings import Settings
from ingester.store.hosts import FILES
from ingester.store.objects import Objects, open_objects
from ingester.store.segments.keeping import Segments
from ingester.store.segments.shelf import url_of

POSTGRES: Final = "postgres"


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """The bytes of a mail, by their URL, and whose they are."""

    tenant_id: UUID
    raw_id: UUID
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lying(Named):
    """Bytes of ours that lie in the place. `since` is the later of what the store's clock and its own id say."""

    size: int
    since: datetime


class Blobs:
    """The stores of one process. They are opened when the first mail is asked for."""

    def __init__(self, settings: Settings) -> None:
        self._place = settings.blobs
        self._s3 = settings.s3
        self._writing = asyncio.Semaphore(settings.store.uploads)
        self._deleting = asyncio.Semaphore(settings.store.uploads)  # of its own: no mail waits for a sweep
        self._opened: dict[str, Objects] = {}
        self.segments = Segments(settings)

    @property
    def on(self) -> bool:
        """Whether new mails go anywhere but into Postgres."""
        return self._place != POSTGRES

    @property
    def in_segments(self) -> bool:
        """Whether new mails go into segments."""
        return self._place.startswith(FILES)

    @property
    def place(self) -> str:
        """The URL beneath which new mails are written."""
        return self._place

    def url(self, tenant_id: UUID, raw_id: UUID) -> str:
        """The object of a new mail. Tenants come first, so that one tenant's mails can be listed or removed apart.

        The ids need no hash in front: S3 splits its partitions by itself, and tenants and times are many.
        """
        return f"{self._place}/{tenant_id}/{raw_id}"

    async def write(self, url: str, data: bytes) -> None:
        """Write one object, with a bound on how many are written at once. Raises ObjectsUnavailable or MissingExtra."""
        objects, key = self._of(url)
        async with self._writing:
            await objects.put(key, data)

    async def read(self, one: Named, *, max_bytes: int) -> bytes:
        """A whole mail. Raises ObjectMissing, ObjectTooLarge, ObjectsUnavailable or MissingExtra."""
        if one.url.startswith(FILES):
            return await self.segments.read(one.url, one.tenant_id, one.raw_id, max_bytes=max_bytes)
        objects, key = self._of(one.url)
        return await objects.get(key, max_bytes=max_bytes)

    async def read_range(self, one: Named, offset: int, length: int) -> bytes:
        """A piece of a mail. Raises ObjectMissing, ObjectsUnavailable or MissingExtra."""
        if one.url.startswith(FILES):
            return await self.segments.read_range(one.url, one.tenant_id, one.raw_id, offset, length)
        objects, key = self._of(one.url)
        return await objects.get_range(key, offset, length)

    async def delete(self, url: str) -> None:
        """Delete an object; one that is not there is fine. Raises ObjectsUnavailable or MissingExtra."""
        objects, key = self._of(url)
        async with self._deleting:
            await objects.delete(key)

    async def remove(self, some: Sequence[Named]) -> list[BaseException | None]:
        """Remove bytes for good, wherever they lie; gives for each what kept it from going, or None."""
        records = [one for one in some if one.url.startswith(FILES)]
        erased = asyncio.gather(self._erase(records), return_exceptions=True)
        deleted = asyncio.gather(
            *(self.delete(one.url) for one in some if not one.url.startswith(FILES)), return_exceptions=True
        )
        (in_segments,), objects = await erased, iter(await deleted)
        return [in_segments if one.url.startswith(FILES) else next(objects) for one in some]

    async def _erase(self, records: Sequence[Named]) -> None:
        if records:
            await self.segments.erase([(one.url, one.tenant_id, one.raw_id) for one in records])

    async def list(self, tenant_id: UUID | None = None, *, since: datetime | None = None) -> AsyncIterator[Lying]:
        """What lies in the place and bears names as ours do, in order; all, or that of one tenant.

        What else lies there is nobody's business. `since`: without segments that were sealed before.
        """
        if self.in_segments:
            async for one in self._records(since):
                if tenant_id in (None, one.tenant_id):
                    yield one
            return
        folder = urlsplit(self._place).path.strip("/")
        objects, _ = self._of(self._place)
        prefix = (f"{folder}/" if folder else "") + (f"{tenant_id}/" if tenant_id else "")
        async for item in objects.list(prefix):
            names = item.key.removeprefix(f"{folder}/").split("/")
            ids = [_uuid(name) for name in names]
            if len(ids) != 2 or ids[0] is None or ids[1] is None:
                continue
            since = max(item.modified, _made(ids[1]))
            yield Lying(tenant_id=ids[0], raw_id=ids[1], url=self.url(ids[0], ids[1]), size=item.size, since=since)

    async def _records(self, since: datetime | None) -> AsyncIterator[Lying]:
        async for segment, record in self.segments.walk(since):
            yield Lying(
                tenant_id=record.tenant_id,
                raw_id=record.raw_id,
                url=url_of(self.segments.shelf.directory, segment, record.offset),
                size=record.size,
                since=max(_made(segment), _made(record.raw_id)),
            )

    async def close(self) -> None:
        """Close the stores. One may be opened again."""
        opened, self._opened = self._opened, {}
        for objects in opened.values():
            await objects.close()
        await self.segments.close()

    def _of(self, url: str) -> tuple[Objects, str]:
        """The store that a URL names, a bucket, and the key in it."""
        bucket = bucket_of(url)
        if bucket not in self._opened:
            self._opened[bucket] = open_objects(bucket, self._s3)
        return self._opened[bucket], urlsplit(url).path.strip("/")


def bucket_of(url: str) -> str:
    """Where a URL leads, without the key: what is away for one of its objects is away for all."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _uuid(text: str) -> UUID | None:
    """An id in its one spelling."""
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text else None


def _made(one: UUID) -> datetime:
    """The time in a UUIDv7 (RFC 9562, 5.7), by the clock of the worker that made it."""
    return datetime.fromtimestamp((one.int >> 80) / 1000, UTC)
