"""ingester.store.objects on a real S3 server: bytes there and back, ranges, listings, and the words for what fails."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import obstore
import pytest
from pydantic import SecretStr

from ingester.settings import S3
from ingester.store import objects
from ingester.store.objects import (
    MissingExtra,
    ObjectMissing,
    Objects,
    ObjectsUnavailable,
    ObjectTooLarge,
    open_objects,
    require_extra,
)
from tests.ports import free_port
from tests.swift import Swift

LIMIT = 64 << 20
OUTAGE_SECONDS = 0.3
"""Long enough to be refused, and a fraction of what is waited for."""


@pytest.fixture
def bucket(swift: Swift) -> str:
    return swift.make_bucket()


@pytest.fixture
async def store(swift: Swift, bucket: str) -> AsyncIterator[Objects]:
    one = open_objects(f"s3://{bucket}/mails/raw", swift.s3)
    yield one
    await one.close()


async def test_there_and_back(store: Objects, swift: Swift, bucket: str) -> None:
    """The prefix is part of the key, in the bucket; the bytes are the same."""
    await store.put("a/b", b"\0\xff\r\nmail")
    assert await store.get("a/b", max_bytes=8) == b"\0\xff\r\nmail"
    assert await store.size("a/b") == 8
    assert swift.keys(bucket) == ["mails/raw/a/b"]
    await store.put("a/b", b"again")
    assert await store.get("a/b", max_bytes=5) == b"again"
    await store.delete("a/b")
    assert swift.keys(bucket) == []


async def test_large_mail_is_one_object(store: Objects, swift: Swift, bucket: str) -> None:
    """No multipart upload, of which a crash would leave parts behind that no listing shows."""
    mail = os.urandom(25 << 20)
    await store.put("large", mail)
    assert await store.get("large", max_bytes=LIMIT) == mail
    assert swift.keys(bucket) == ["mails/raw/large"]
    tag = obstore.head(swift.store(bucket), "mails/raw/large")["e_tag"]
    assert tag is not None
    assert "-" not in tag, "S3 marks what was put together of parts so"


async def test_empty_object(store: Objects) -> None:
    await store.put("empty", b"")
    assert await store.get("empty", max_bytes=0) == b""
    assert await store.get_range("empty", 0, 0) == b""


async def test_ranges(store: Objects) -> None:
    await store.put("key", b"0123456789")
    assert await store.get_range("key", 0, 10) == b"0123456789"
    assert await store.get_range("key", 3, 4) == b"3456"
    assert await store.get_range("key", 9, 1) == b"9"
    for offset, length in ((9, 2), (10, 1), (100, 5)):
        with pytest.raises(ObjectMissing):
            await store.get_range("key", offset, length)


async def test_too_large_is_not_read(store: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.put("key", bytes(1001))
    with pytest.raises(ObjectTooLarge):
        await store.get("key", max_bytes=1000)
    assert len(await store.get("key", max_bytes=1001)) == 1001


async def test_missing(store: Objects) -> None:
    for wanted in (store.get("no", max_bytes=1), store.get_range("no", 0, 1), store.size("no")):
        with pytest.raises(ObjectMissing):
            await wanted
    await store.delete("no")


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../b", "./a", "a\0b", "a\nb"])
async def test_key_that_would_be_another(store: Objects, key: str) -> None:
    """obstore drops a slash in front: `/other` must not be `other`."""
    await store.put("a", b"x")
    with pytest.raises(ObjectMissing):
        await store.get(key, max_bytes=9)
    with pytest.raises(ObjectMissing):
        await store.put(key, b"")
    await store.delete(key)
    assert await store.get("a", max_bytes=9) == b"x"


@pytest.mark.parametrize("key", ["a b+c%20d", "ünïcode", "q?x=1&y#z", "a:b@c"])
async def test_odd_keys(store: Objects, swift: Swift, bucket: str, key: str) -> None:
    await store.put(key, b"x")
    assert await store.get(key, max_bytes=9) == b"x"
    assert [one.key async for one in store.list()] == [key]


async def test_listing(store: Objects, swift: Swift, bucket: str) -> None:
    """In key order, beneath the prefix only, and prefixes need not end at a slash."""
    swift.write(bucket, "mails/other", b"")
    swift.write(bucket, "mails/raw2", b"")
    for key in ("t2/b", "t1/a", "t1/c", "t10/x"):
        await store.put(key, key.encode())
    found = [one async for one in store.list()]
    assert [one.key for one in found] == ["t1/a", "t1/c", "t10/x", "t2/b"]
    assert [one.size for one in found] == [4, 4, 5, 4]
    assert all(abs(one.modified.timestamp() - time.time()) < 60 for one in found)
    assert [one.key async for one in store.list("t1/")] == ["t1/a", "t1/c"]
    assert [one.key async for one in store.list("t1")] == ["t1/a", "t1/c", "t10/x"]
    assert [one.key async for one in store.list("t1/", after="t1/a")] == ["t1/c"]
    assert [one.key async for one in store.list(after="t1/c")] == ["t10/x", "t2/b"]
    assert [one async for one in store.list("none/")] == []


async def test_listing_of_several_pages(store: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "PAGE", 3)
    await asyncio.gather(*(store.put(f"{n:02}", b"") for n in range(10)))
    assert [one.key async for one in store.list()] == [f"{n:02}" for n in range(10)]


async def test_whole_bucket(swift: Swift, bucket: str) -> None:
    one = open_objects(f"s3://{bucket}", swift.s3)
    await one.put("a/b", b"x")
    assert swift.keys(bucket) == ["a/b"]
    assert [item.key async for item in one.list()] == ["a/b"]


async def assert_unavailable(store: Objects) -> None:
    for wanted in (
        store.put("key", b"x"),
        store.get("key", max_bytes=1),
        store.get_range("key", 0, 1),
        store.size("key"),
        store.delete("key"),
        anext(store.list()),
    ):
        with pytest.raises(ObjectsUnavailable) as raised:
            await wanted
        assert not {"key", "ingester", "127.0.0.1"} & set(str(raised.value).split())


async def test_wrong_secret(swift: Swift, bucket: str) -> None:
    """The server checks signatures."""
    wrong = swift.s3.model_copy(update={"secret_access_key": SecretStr("wrong")})
    await assert_unavailable(open_objects(f"s3://{bucket}", wrong))


async def test_no_such_bucket(swift: Swift) -> None:
    """A bucket that is not there may be there tomorrow; an object in it is not known to be gone."""
    store = open_objects("s3://no-such-bucket", swift.s3)
    for wanted in (store.put("key", b"x"), store.get("key", max_bytes=1), anext(store.list())):
        with pytest.raises(ObjectsUnavailable):
            await wanted


@pytest.mark.long
async def test_server_is_away(swift: Swift, store: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "RETRY_SECONDS", 0.3)
    impatient = open_objects("s3://bucket", swift.s3)
    swift.stop()
    began = time.monotonic()
    await assert_unavailable(impatient)
    assert time.monotonic() - began < 15


async def test_server_hangs(swift: Swift, store: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every operation ends in its time; afterwards the same store works again."""
    monkeypatch.setattr(objects, "SECONDS", 0.2)
    with swift.frozen():
        await assert_unavailable(store)
    monkeypatch.setattr(objects, "SECONDS", 30)
    await store.put("key", b"x")


async def test_server_comes_back_meanwhile(swift: Swift, bucket: str) -> None:
    """A short outage is waited out."""
    port = free_port()
    store = open_objects(f"s3://{bucket}", swift.s3.model_copy(update={"endpoint": f"http://127.0.0.1:{port}"}))
    putting = asyncio.create_task(store.put("key", b"x"))
    await asyncio.sleep(OUTAGE_SECONDS)
    assert not putting.done()
    async with relay(port, swift.ports[0]):
        await putting
        assert await store.get("key", max_bytes=1) == b"x"
    await store.close()
    assert swift.keys(bucket) == ["key"]


@asynccontextmanager
async def relay(port: int, to: int) -> AsyncIterator[None]:
    """Listen on one port of this host and hand all bytes to another and back."""

    serving: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while some := await reader.read(1 << 16):
                writer.write(some)
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection("127.0.0.1", to)
        async with asyncio.TaskGroup() as both:
            both.create_task(pump(reader, ours))
            both.create_task(pump(theirs, writer))

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_server(begin, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()
        for one in serving:
            one.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


async def test_cancelled(swift: Swift, store: Objects) -> None:
    """Whoever gives up is not held."""
    with swift.frozen(), pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await store.put("key", b"x")


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "find_spec", lambda _: None)
    for call in (require_extra, lambda: open_objects("s3://bucket", S3())):
        with pytest.raises(MissingExtra, match=r"pip install 'ingester\[s3\]'"):
            call()


@pytest.mark.parametrize("url", ["gs://bucket/prefix", "az://container/prefix"])
def test_other_clouds(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No server of theirs runs here: they are opened, and what is missing is said, not raised as it comes."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    assert isinstance(open_objects(url, S3()), Objects)


def test_unusable_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(ObjectsUnavailable):
        open_objects("az://container", S3())
