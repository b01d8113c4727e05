"""Raw mails in an object store: one object per mail and tenant, `<place>/<tenant id>/<raw id>`.

`raws.blob_key` holds the whole URL: what was written stays readable when INGESTER_BLOBS is changed, either way.
When an object is written, and when it may go, is decided by others.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from ingester.settings import Settings
from ingester.store.objects import Objects, open_objects

POSTGRES: Final = "postgres"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lying:
    """An object of ours in the place. `since` is the later of what the store's clock and its own id say."""

    tenant_id: UUID
    raw_id: UUID
    url: str
    size: int
    since: datetime


class Blobs:
    """The object stores of one process. They are opened when the first object is asked for."""

    def __init__(self, settings: Settings) -> None:
        self._place = settings.blobs
        self._s3 = settings.s3
        self._writing = asyncio.Semaphore(settings.store.uploads)
        self._deleting = asyncio.Semaphore(settings.store.uploads)  # of its own: no mail waits for a sweep
        self._opened: dict[str, Objects] = {}

    @property
    def on(self) -> bool:
        """Whether new mails go to an object store."""
        return self._place != POSTGRES

    @property
    def place(self) -> str:
        """The URL beneath which new objects are written."""
        return self._place

    def url(self, tenant_id: UUID, raw_id: UUID) -> str:
        """Where a new mail goes. Tenants come first, so that one tenant's mails can be listed or removed apart.

        The ids need no hash in front: S3 splits its partitions by itself, and tenants and times are many.
        """
        return f"{self._place}/{tenant_id}/{raw_id}"

    async def write(self, url: str, data: bytes) -> None:
        """Write one object, with a bound on how many are written at once. Raises ObjectsUnavailable or MissingExtra."""
        objects, key = self._of(url)
        async with self._writing:
            await objects.put(key, data)

    async def read(self, url: str, *, max_bytes: int) -> bytes:
        """A whole object. Raises ObjectMissing, ObjectTooLarge, ObjectsUnavailable or MissingExtra."""
        objects, key = self._of(url)
        return await objects.get(key, max_bytes=max_bytes)

    async def read_range(self, url: str, offset: int, length: int) -> bytes:
        """A piece of an object. Raises ObjectMissing, ObjectsUnavailable or MissingExtra."""
        objects, key = self._of(url)
        return await objects.get_range(key, offset, length)

    async def delete(self, url: str) -> None:
        """Delete an object; one that is not there is fine. Raises ObjectsUnavailable or MissingExtra."""
        objects, key = self._of(url)
        async with self._deleting:
            await objects.delete(key)

    async def list(self, tenant_id: UUID | None = None) -> AsyncIterator[Lying]:
        """The objects in the place that bear names as ours do, in order; all, or those of one tenant.

        What else lies there is nobody's business.
        """
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

    async def close(self) -> None:
        """Close the stores. One may be opened again."""
        opened, self._opened = self._opened, {}
        for objects in opened.values():
            await objects.close()

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


def _made(raw_id: UUID) -> datetime:
    """The time in a UUIDv7 (RFC 9562, 5.7), by the clock of the worker that made it."""
    return datetime.fromtimestamp((raw_id.int >> 80) / 1000, UTC)
