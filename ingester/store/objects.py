"""Objects in S3, Google Cloud Storage or Azure. The only module that knows obstore, which is an extra.

It moves bytes and says what went wrong in three words: missing, too large, unavailable. It decides nothing, and what a
store answers is never quoted: it may hold keys.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from ingester.settings import S3

if TYPE_CHECKING:
    from obstore.store import AzureStore, GCSStore, S3Store

SECONDS: Final = 60.0
"""How long one operation may take, its retries included."""
RETRY_SECONDS: Final = 10.0
"""For how long a server that is away or overloaded is asked again."""
PAGE: Final = 1000
"""Keys of one listing request: no store gives more."""


_STATUS: Final = re.compile(r"status code: ([0-9]{3})")


class MissingExtra(Exception):
    """obstore is not installed; the text says how to get it."""


class ObjectMissing(Exception):
    """There is no such object, or not so much of it."""


class ObjectTooLarge(Exception):
    """The object is larger than the caller takes. Nothing of it was read."""


class ObjectsUnavailable(Exception):
    """The store cannot be reached, is too slow, or refuses us: it may pass. The text names the kind of fault only."""


class ObjectsUnusable(ObjectsUnavailable):
    """It is not ours to use, or not what it should be: somebody has to see to it, and a second try is for later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One object of a listing. `modified` is by the store's clock."""

    key: str
    size: int
    modified: datetime


class Objects:
    """The objects beneath one URL; keys are relative to it. May be used by one event loop after another."""

    def __init__(self, store: "S3Store | GCSStore | AzureStore", *, prefix: str) -> None:
        """`prefix` is empty or ends with a slash."""
        self._store = store
        self._prefix = prefix

    async def put(self, key: str, data: bytes) -> None:
        """Write one object in one request, all or nothing: parts of an upload would be left behind by a crash.

        Raises ObjectsUnavailable. After a timeout the object may be there or not.
        """
        import obstore

        path = self._path(key)
        async with _told():
            try:
                await obstore.put_async(self._store, path, data, use_multipart=False)
            except FileNotFoundError as error:
                raise ObjectsUnavailable("no such bucket") from error

    async def get(self, key: str, *, max_bytes: int) -> bytes:
        """A whole object. Raises ObjectMissing, ObjectTooLarge (before its bytes are read) or ObjectsUnavailable."""
        import obstore

        path = self._path(key)
        async with _told():
            result = await obstore.get_async(self._store, path)
            if result.meta["size"] > max_bytes:
                raise ObjectTooLarge(f"{result.meta['size']} bytes")
            return (await result.bytes_async()).to_bytes()

    async def get_range(self, key: str, offset: int, length: int) -> bytes:
        """`length` bytes from `offset` on. Raises ObjectMissing where the object has fewer, or ObjectsUnavailable."""
        import obstore

        if length == 0:  # HTTP has no empty range (RFC 9110, 14.1.2)
            return b""
        path = self._path(key)
        async with _told():
            data = (await obstore.get_range_async(self._store, path, start=offset, length=length)).to_bytes()
        if len(data) != length:
            raise ObjectMissing("the object is shorter")
        return data

    async def size(self, key: str) -> int:
        """The size in bytes. Raises ObjectMissing or ObjectsUnavailable."""
        import obstore

        path = self._path(key)
        async with _told():
            return (await obstore.head_async(self._store, path))["size"]

    async def delete(self, key: str) -> None:
        """Delete an object; one that is not there is fine. Raises ObjectsUnavailable."""
        import obstore

        try:
            path = self._path(key)
            async with _told():
                await obstore.delete_async(self._store, path)
        except ObjectMissing:
            return

    async def list(self, prefix: str = "", *, after: str | None = None) -> AsyncIterator[Item]:
        """The objects whose keys begin with `prefix`, in key order, those behind the key `after`.

        Raises ObjectsUnavailable. Pages are fetched as they are wanted, each within its own time.
        """
        import obstore

        whole = self._prefix + prefix
        folder, _, _ = whole.rpartition("/")  # obstore takes whole folders only
        offset = None if after is None else self._prefix + after
        pages = obstore.list(self._store, prefix=folder or None, offset=offset, chunk_size=PAGE)
        while True:
            async with _told():
                page = await anext(pages, None)
            if page is None:
                return
            for one in page:
                if one["path"].startswith(whole):
                    key = one["path"].removeprefix(self._prefix)
                    yield Item(key=key, size=one["size"], modified=one["last_modified"])

    async def close(self) -> None:
        """Give the connections up. Nothing is under way any more."""
        del self._store

    def _path(self, key: str) -> str:
        """The full key. Raises ObjectMissing for one that obstore would read as another or cannot say."""
        path = self._prefix + key
        if any(step in ("", ".", "..") for step in path.split("/")) or not path.isprintable():
            raise ObjectMissing("a key that cannot be asked for")
        return path


@asynccontextmanager
async def _told() -> AsyncIterator[None]:
    """Bound an operation in time, and say in our words what obstore raises."""
    from obstore.exceptions import BaseError

    try:
        async with asyncio.timeout(SECONDS):
            yield
    except FileNotFoundError as error:
        if "<Code>NoSuchBucket<" in str(error):
            raise ObjectsUnavailable("no such bucket") from None
        raise ObjectMissing("no such object") from None
    except TimeoutError:
        raise ObjectsUnavailable("timeout") from None
    except (BaseError, ValueError, OSError) as error:
        if "416 Range Not Satisfiable" in str(error):
            raise ObjectMissing("the object is shorter") from None
        raise ObjectsUnavailable(_kind(error)) from None


def _kind(error: Exception) -> str:
    """The kind of fault. The whole text quotes the server, and names of buckets and keys."""
    text = str(error)
    status = _STATUS.search(text)
    if status is not None:
        return f"HTTP status {status[1]}"
    return "no connection" if "error sending request" in text else type(error).__name__


def require_extra() -> None:
    """Raises MissingExtra where obstore is not installed; loads nothing."""
    if find_spec("obstore") is None:
        raise MissingExtra("Object stores need an extra: pip install 'ingester[s3]'")


def open_objects(url: str, s3: S3) -> Objects:
    """The objects beneath `s3://bucket[/prefix]`, `gs://bucket[/prefix]` or `az://container[/prefix]`.

    Nothing is asked for yet. What the settings do not say is found as the provider's own tools find it. Raises
    MissingExtra, and ObjectsUnavailable where what was found makes no sense.
    """
    require_extra()
    from obstore.exceptions import BaseError
    from obstore.store import AzureStore, GCSStore, S3Store

    parts = urlsplit(url)
    prefix = f"{parts.path.strip('/')}/".removeprefix("/")
    common: dict[str, Any] = {
        "retry_config": {"max_retries": 10, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
        "client_options": {"timeout": timedelta(seconds=SECONDS), "connect_timeout": timedelta(seconds=5)},
    }
    try:
        if parts.scheme == "gs":
            return Objects(GCSStore(parts.netloc, **common), prefix=prefix)
        if parts.scheme == "az":
            return Objects(AzureStore(parts.netloc, **common), prefix=prefix)
        return Objects(S3Store(parts.netloc, **_s3(s3, common)), prefix=prefix)
    except (BaseError, ValueError) as error:
        raise ObjectsUnavailable(type(error).__name__) from None


def _s3(s3: S3, common: dict[str, Any]) -> dict[str, Any]:
    secret = s3.secret_access_key.get_secret_value()
    said = {
        "endpoint": s3.endpoint,
        "region": s3.region,
        "access_key_id": s3.access_key_id,
        "secret_access_key": secret,
    }
    if s3.endpoint.startswith("http://"):
        common["client_options"]["allow_http"] = True
    return {name: value for name, value in said.items() if value} | common
