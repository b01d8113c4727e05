"""ingester.placing within the pipeline: what is uploaded, how often, and what it holds up meanwhile."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import asyncpg
import pytest

from ingester.app import App
from ingester.committing import Committing
from ingester.core.outcome import Reason
from ingester.store.objects import Objects, ObjectsUnavailable
from tests.blobs import Bucket
from tests.daemon import Town, settle
from tests.test_pipeline import mail, send, settings

pytestmark = [pytest.mark.usefixtures("blobs"), pytest.mark.s3(only=True)]
MIB = 1 << 20


@pytest.fixture
async def town(database_url: str) -> Town:
    return await settle(database_url, {"acme.test": ("support", "sales"), "globex.test": ("support",)})


@pytest.fixture
async def app(town: Town) -> AsyncIterator[App]:
    one = App(settings(town.url, store__connections=2))
    await one.open()
    yield one
    await one.close()


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of all uploads, as they end."""
    done: list[str] = []
    put = Objects.put

    async def noted(self: Objects, key: str, data: bytes) -> None:
        await put(self, key, data)
        done.append(key)

    monkeypatch.setattr(Objects, "put", noted)
    return done


async def test_a_mail_is_uploaded_once_for_each_tenant(app: App, town: Town, blobs: Bucket, uploads: list[str]) -> None:
    outcome = await send(app, mail("both"), "support@acme.test", "support@globex.test", "sales@acme.test")
    assert len(outcome.stored) == 3
    rows = await town.fetch("SELECT tenant_id, id, blob_key, data FROM raws")
    assert [row["data"] for row in rows] == [None, None]
    assert {row["blob_key"] for row in rows} == {f"{blobs.url}/{row['tenant_id']}/{row['id']}" for row in rows}
    assert blobs.urls() == {row["blob_key"] for row in rows}
    assert len(uploads) == 2


async def test_refused_mail_is_not_uploaded(app: App, town: Town, uploads: list[str]) -> None:
    """Only what is decided to be stored; of two tenants, one may refuse."""
    refused = await send(app, b"Received: from x\r\n" * 101 + mail("loop"))
    assert refused.code.smtp == 554
    assert uploads == []
    since = "status_since = now() - interval '9 days'"
    await town.fetch(f"UPDATE mailboxes SET status = 'suspended', {since} WHERE domain = 'globex.test'")
    await send(app, mail("half"), "support@acme.test", "support@globex.test")
    assert len(uploads) == 1


async def test_a_commit_that_is_tried_again_uploads_nothing(
    app: App, town: Town, uploads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither after an outage, nor when the mails of a batch are taken one by one."""
    troubles: list[Exception] = [asyncpg.DeadlockDetectedError("x"), asyncpg.DataError("x"), OSError("x")]
    commit = Committing._commit

    async def troubled(*arguments: object) -> object:
        if troubles and len(uploads) > 2:
            raise troubles.pop(0)
        return await commit(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Committing, "_commit", troubled)
    outcomes = await asyncio.gather(*(send(app, mail(f"m{n}")) for n in range(17)))
    assert not troubles
    assert [outcome.reason for outcome in outcomes] == [Reason.ACCEPTED] * 17
    assert len(uploads) == len(set(uploads)) == 17


async def test_the_mail_that_cannot_be_uploaded_is_put_off_alone(
    app: App, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Objects.put

    async def picky(self: Objects, key: str, data: bytes) -> None:
        if b"Body of bad" in data:
            raise ObjectsUnavailable("x")
        await put(self, key, data)

    monkeypatch.setattr(Objects, "put", picky)
    names = ["m1", "m2", "bad", "m3", "m4"]
    outcomes = await asyncio.gather(*(send(app, mail(name)) for name in names))
    assert [outcome.code.smtp for outcome in outcomes] == [250, 250, 451, 250, 250]
    stored = await town.fetch("SELECT rfc_message_id FROM messages ORDER BY 1")
    assert [row["rfc_message_id"] for row in stored] == [f"m{n}@customer.test" for n in range(1, 5)]
    assert not await town.fetch("SELECT FROM dead_letters")


async def test_no_connection_is_held_while_uploading(app: App, town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them can be had by others meanwhile."""
    put = Objects.put

    async def greedy(self: Objects, key: str, data: bytes) -> None:
        async with AsyncExitStack() as stack:
            for _ in range(app.settings.store.connections):
                await stack.enter_async_context(app.database.connection(seconds=5))
        await put(self, key, data)

    monkeypatch.setattr(Objects, "put", greedy)
    assert (await send(app, mail("x"))).reason is Reason.ACCEPTED


async def test_duplicates_leave_no_object(app: App, town: Town, blobs: Bucket) -> None:
    """Their objects are noted with the commit and deleted after it."""
    outcomes = [await send(app, mail("same")) for _ in range(3)]
    assert [outcome.reason for outcome in outcomes] == [Reason.ACCEPTED, Reason.DUPLICATE, Reason.DUPLICATE]
    assert len(blobs.urls()) == 3
    await app._tidying.tidy()
    (row,) = await town.fetch("SELECT blob_key FROM raws")
    assert blobs.urls() == {row["blob_key"]}


async def test_a_fault_of_our_own_is_a_dead_letter(app: App, town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept in Postgres: an upload that fails in a way that nobody foresaw must not be tried for ever."""

    async def broken(*_: object) -> None:
        raise RuntimeError("x")

    monkeypatch.setattr(Objects, "put", broken)
    assert (await send(app, mail("x"))).code.smtp == 250
    (row,) = await town.fetch("SELECT d.reason, r.data FROM dead_letters d JOIN raws r ON r.id = d.raw_id")
    assert (row["reason"], row["data"]) == ("decide_failed", mail("x"))


async def test_a_large_mail_does_not_hold_the_loop(app: App, town: Town, blobs: Bucket) -> None:
    """25 MB there and back; the loop turns meanwhile (law 9). The bound is wide for a busy machine."""
    raw = mail("large") + os.urandom(12 * MIB).hex().encode()
    longest = await _longest_step(lambda: send(app, raw))
    assert longest < 0.1, f"{longest * 1000:.0f} ms"
    (row,) = await town.fetch("SELECT tenant_id, id FROM raws")
    async with app.database.connection() as connection:
        assert await app.raws.read(connection, row["tenant_id"], row["id"]) == raw


async def _longest_step(work: Callable[[], object]) -> float:
    """The longest time between two turns of the loop while `work` is done."""
    loop, longest = asyncio.get_running_loop(), 0.0
    task = asyncio.ensure_future(work())  # type: ignore[call-overload]
    last = loop.time()
    while not task.done():
        await asyncio.sleep(0)
        longest, last = max(longest, loop.time() - last), loop.time()
    task.result()
    return longest
