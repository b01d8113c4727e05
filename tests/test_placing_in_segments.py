"""ingester.placing within the pipeline, in segments: what a commit waits for, and what becomes of failures."""

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator

import asyncpg
import pytest

from ingester.app import App
from ingester.committing import Committing
from ingester.core.outcome import Reason
from ingester.operators.readiness import Fault
from tests.blobs import Directory
from tests.daemon import Town, settle
from tests.test_pipeline import mail, send, settings

pytestmark = [pytest.mark.usefixtures("blobs"), pytest.mark.segments(only=True)]
MIB = 1 << 20


@pytest.fixture
async def town(database_url: str) -> Town:
    return await settle(database_url, {"acme.test": ("support", "sales"), "globex.test": ("support",)})


@pytest.fixture
async def app(town: Town) -> AsyncIterator[App]:
    one = App(settings(town.url, store__commit_seconds=5))
    await one.open()
    yield one
    await one.close()


async def held(town: Town, blobs: Directory) -> None:
    """Every row names a record with its bytes, whose header says the same as the row."""
    rows = await town.fetch("SELECT tenant_id, id, sha256, size, blob_key FROM raws")
    records = dict(blobs.records())
    for row in rows:
        one = records[row["blob_key"]]
        assert (one.tenant_id, one.raw_id, one.sha256, one.size) == tuple(row)[:4]
        assert one.live


async def test_each_tenant_has_its_own_copy(app: App, town: Town, blobs: Directory) -> None:
    outcome = await send(app, mail("one"), "support@acme.test", "sales@acme.test", "support@globex.test")
    assert outcome.reason is Reason.ACCEPTED
    assert len(blobs.urls()) == 2
    await held(town, blobs)


async def test_rows_wait_for_the_disk(app: App, town: Town, blobs: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Yes means synced and committed; what waits for the disk holds no connection."""
    await send(app, mail("first"))
    let, syncing = threading.Event(), threading.Event()

    def slow(_: int) -> None:
        syncing.set()
        let.wait(30)

    monkeypatch.setattr(os, "fdatasync", slow)
    sending = asyncio.create_task(send(app, mail("second")))
    assert await asyncio.to_thread(syncing.wait, 30)
    await asyncio.wait((sending,), timeout=0.2)
    assert not sending.done()
    assert app.database.used == 0
    assert len(await town.fetch("SELECT FROM messages")) == 1
    let.set()
    assert (await sending).reason is Reason.ACCEPTED
    assert len(await town.fetch("SELECT FROM messages")) == 2
    await held(town, blobs)


async def test_a_slow_disk_locks_nobody_out(
    app: App, town: Town, blobs: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mail whose bytes are on their way stands in no other's way: an answer to it that another worker commits."""
    other = App(settings(town.url, store__commit_seconds=5))
    await other.open()
    let, syncing = threading.Event(), threading.Event()
    sync = os.fdatasync

    def slow_once(descriptor: int) -> None:
        if not syncing.is_set():
            syncing.set()
            let.wait(30)
        sync(descriptor)

    try:
        monkeypatch.setattr(os, "fdatasync", slow_once)
        sending = asyncio.create_task(send(app, mail("question")))
        assert await asyncio.to_thread(syncing.wait, 30)
        answer = mail("answer", reply="question")
        assert (await send(other, answer)).reason is Reason.ACCEPTED
        assert not sending.done()
        let.set()
        assert (await sending).reason is Reason.ACCEPTED
    finally:
        let.set()
        await other.close()
    (row,) = await town.fetch("SELECT count(DISTINCT thread_id) AS threads, count(*) AS messages FROM messages")
    assert tuple(row) == (1, 2)
    await held(town, blobs)


async def test_bytes_are_written_once_however_often_it_is_tried(
    app: App, town: Town, blobs: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection dies in the commit, and a batch falls back to one by one: what has landed stays where it is."""
    troubles: list[Exception] = [asyncpg.ConnectionDoesNotExistError("x"), asyncpg.DataError("x")]
    commit = Committing._commit

    async def troubled(self: Committing, connection: object, judged: object) -> object:
        if troubles:
            raise troubles.pop(0)
        return await commit(self, connection, judged)  # type: ignore[arg-type]

    monkeypatch.setattr(Committing, "_commit", troubled)
    outcomes = await asyncio.gather(*(send(app, mail(f"m{n}")) for n in range(9)))
    assert not troubles
    assert [outcome.reason for outcome in outcomes] == [Reason.ACCEPTED] * 9
    assert len(blobs.urls()) == 9
    await held(town, blobs)


async def test_a_disk_that_fails_once(app: App, town: Town, blobs: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again, elsewhere; nobody is the wiser."""
    failures = [OSError(errno.EIO, "Input/output error")]
    sync = os.fdatasync

    def broken(descriptor: int) -> None:
        if failures:
            raise failures.pop()
        sync(descriptor)

    monkeypatch.setattr(os, "fdatasync", broken)
    outcomes = await asyncio.gather(*(send(app, mail(f"m{n}")) for n in range(5)))
    assert not failures
    assert [outcome.reason for outcome in outcomes] == [Reason.ACCEPTED] * 5
    await held(town, blobs)


async def test_a_full_disk_is_451_and_is_seen(town: Town, blobs: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No dead letter, no row; the daemon is not ready until the disk takes writes again."""
    app = App(settings(town.url, store__commit_seconds=0.5))
    await app.open()
    app.readiness.listening = True
    monkeypatch.setattr("ingester.operators.readiness.FRESH_SECONDS", 0.0)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    try:
        assert (await send(app, mail("one"))).reason is Reason.ACCEPTED
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwritev", full)
            outcomes = await asyncio.gather(*(send(app, mail(f"m{n}")) for n in range(5)))
            assert [outcome.code.smtp for outcome in outcomes] == [451] * 5
            assert await app.readiness.faults() == (Fault.DISK,)
        assert await app.readiness.faults() == ()
        assert (await send(app, mail("two"))).reason is Reason.ACCEPTED
        assert not await town.fetch("SELECT FROM dead_letters")
        assert len(await town.fetch("SELECT FROM messages")) == 2
        await held(town, blobs)
    finally:
        await app.close()


async def test_a_disk_that_hangs_is_451(town: Town, blobs: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the deadline; the connection to the database is given back, and nothing of it is committed."""
    app = App(settings(town.url, store__commit_seconds=0.5))
    await app.open()
    let = threading.Event()
    try:
        assert (await send(app, mail("one"))).reason is Reason.ACCEPTED
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", lambda _: let.wait(30))
            assert (await send(app, mail("two"))).code.smtp == 451
            await asyncio.gather(*app.pipeline._committing._small._running)
            assert app.database.used == 0
            let.set()
        assert (await send(app, mail("two"))).reason is Reason.ACCEPTED
        assert len(await town.fetch("SELECT FROM messages")) == 2
        await held(town, blobs)
    finally:
        let.set()
        await app.close()


async def test_refused_mail_and_dead_letters_are_not_written(
    app: App, town: Town, blobs: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = b"Received: from x\r\n" * 101 + mail("loop")
    assert (await send(app, loop)).reason is Reason.MAIL_LOOP

    def surprised(*_: object, **__: object) -> None:
        raise RuntimeError("x")

    monkeypatch.setattr("ingester.pipeline.scan", surprised, raising=False)
    monkeypatch.setattr("ingester.committing.judge", surprised)
    assert (await send(app, mail("dead"))).code.smtp == 250
    (row,) = await town.fetch("SELECT data, blob_key FROM raws")
    assert (row["data"], row["blob_key"]) == (mail("dead"), None)
    assert blobs.urls() == set()


async def test_duplicates_leave_no_bytes(app: App, town: Town, blobs: Directory) -> None:
    outcomes = [await send(app, mail("same")) for _ in range(3)]
    assert [outcome.reason for outcome in outcomes] == [Reason.ACCEPTED, Reason.DUPLICATE, Reason.DUPLICATE]
    await app._tidying.tidy()
    (row,) = await town.fetch("SELECT blob_key FROM raws")
    assert blobs.urls() == {row["blob_key"]}


async def test_large_mails_have_a_segment_of_their_own(app: App, town: Town, blobs: Directory) -> None:
    """And come back byte for byte."""
    raw = mail("large") + os.urandom(3 * MIB).hex().encode()
    await send(app, mail("small"))
    await send(app, raw)
    rows = await town.fetch("SELECT tenant_id, id FROM raws ORDER BY size")
    assert len(blobs.shelf.segments()) == 2
    async with app.database.connection() as connection:
        assert await app.raws.read(connection, rows[1]["tenant_id"], rows[1]["id"]) == raw
    await held(town, blobs)


async def test_a_large_mail_does_not_hold_the_loop(app: App, town: Town) -> None:
    """25 MB there and back; the loop turns meanwhile (law 9). The bound is wide for a busy machine."""
    raw = mail("large") + os.urandom(12 * MIB).hex().encode()
    loop = asyncio.get_running_loop()
    longest, task, last = 0.0, asyncio.ensure_future(send(app, raw)), loop.time()
    while not task.done():
        await asyncio.sleep(0)
        longest, last = max(longest, loop.time() - last), loop.time()
    assert task.result().reason is Reason.ACCEPTED
    assert longest < 0.1, f"{longest * 1000:.0f} ms"
