"""ingester.redrive on a real Postgres: twice at once, against a retry, killed in the middle, after an upgrade."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from subprocess import DEVNULL, Popen
from uuid import UUID

import asyncpg
import pytest

from ingester import __version__, redrive
from ingester.app import App
from ingester.clock import new_id, now
from ingester.core.resolve import content_claim, raw_claim
from ingester.redrive import Ending, Pace, Redriven, discard
from ingester.store.db import Database
from ingester.store.letters import Buried, Which, letter, piles, versions, waiting
from ingester.store.settling import still_dead
from ingester.store.sweeping import alone
from ingester.upgrade import _LOCK, AfterUpgrade
from tests.conftest import ROOT
from tests.daemon import Town, clean_environment, settle
from tests.test_pipeline import broken, mail, send, settings


@pytest.fixture
async def town(database_url: str) -> Town:
    return await settle(database_url, {"acme.test": ("support", "sales"), "globex.test": ("support",)})


@pytest.fixture
async def app(town: Town) -> AsyncIterator[App]:
    one = App(settings(town.url))
    await one.open()
    yield one
    await one.close()


async def bury(town: Town, *mails: bytes, to: tuple[str, ...] = ()) -> list[Buried]:
    """Bury these mails and give all letters that wait, oldest first."""
    digesting = await broken(town, "scan:raise")
    try:
        for raw in mails:
            assert not (await send(digesting, raw, *to)).stored
        async with digesting.database.connection() as connection:
            return await waiting(connection, Which(), limit=1000)
    finally:
        await digesting.close()


async def again(app: App, one: Buried, *, apply: bool = True) -> Redriven:
    return await redrive.redrive(app.pipeline, app.database, app.raws, one, apply=apply, by="the test")


async def count(town: Town, table: str, where: str = "true") -> int:
    return int((await town.fetch(f"SELECT count(*) FROM {table} WHERE {where}"))[0][0])


async def test_later_arrivals_go_to_the_message_for_their_mailbox(app: App, town: Town) -> None:
    """One by the same broken code, for all recipients in a receipt, and one by today's, a receipt for each mailbox."""
    raw, to = mail("several"), ("support@acme.test", "Sales@acme.test")
    await bury(town, raw, to=to)
    (one,) = await bury(town, raw, to=("sales@acme.test", "SUPPORT@acme.test"))
    await send(app, raw, *to)
    assert await count(town, "receipts", "message_id IS NULL") == 4
    done = await again(app, one)
    assert (done.ending, len(done.message_ids)) == (Ending.STORED, 2)
    await send(app, raw, *to)
    rows = await town.fetch(
        """
        SELECT b.local_part, r.duplicate, r.envelope_to FROM receipts r
        JOIN messages m USING (tenant_id) JOIN mailboxes b ON b.id = m.mailbox_id
        WHERE m.id = r.message_id ORDER BY b.local_part, r.duplicate, r.id
        """
    )
    told = [(row["local_part"], row["duplicate"], [name.lower() for name in row["envelope_to"]]) for row in rows]
    assert told == [
        (local, duplicate, [f"{local}@acme.test"])
        for local in ("sales", "support")
        for duplicate in (False, True, True, True)
    ]
    assert await count(town, "receipts", "message_id IS NULL") == 0


async def test_two_redrives_at_once_store_once(app: App, town: Town) -> None:
    letters = await bury(town, *(mail(f"m{n}") for n in range(6)))
    other = App(settings(town.url))
    await other.open()
    try:
        done = await asyncio.gather(*(again(one, each) for each in letters for one in (app, other)))
    finally:
        await other.close()
    assert sorted(one.ending for one in done) == [Ending.NOT_DEAD] * 6 + [Ending.STORED] * 6
    assert await count(town, "messages") == 6
    assert await count(town, "dead_letters", "state = 'redriven' AND settled_by = 'the test'") == 6


async def test_it_races_the_senders_own_retries(app: App, town: Town) -> None:
    mails = [mail(f"m{n}") for n in range(8)]
    letters = await bury(town, *mails)
    redriven = [again(app, one) for one in letters]
    retried = [send(app, raw) for raw in mails]
    done, said = await asyncio.gather(asyncio.gather(*redriven), asyncio.gather(*retried))
    assert {one.ending for one in done} == {Ending.STORED}
    assert {outcome.code.smtp for outcome in said} == {250}
    assert await count(town, "messages") == 8
    assert await count(town, "receipts", "message_id IS NULL") == 0


async def test_a_deadlock_with_a_retry_is_tried_again(app: App, town: Town) -> None:
    """A retry has taken the claim on the content, the redrive has released that on the bytes: each wants the other."""
    raw = mail("circle")
    (one,) = await bury(town, raw)
    (mailbox,) = await town.fetch("SELECT id FROM mailboxes WHERE domain = 'acme.test' AND local_part = 'support'")
    raw_sha256, message = await app.pipeline.scan(raw)
    retry = await asyncpg.connect(town.url)
    aborted = retry.transaction()
    await aborted.start()
    await retry.execute(
        """
        INSERT INTO claims (tenant_id, key, message_id, created_at, expires_at)
        VALUES ($1, $2, $3, now(), now() + interval '1 day')
        """,
        one.tenant_id,
        content_claim(mailbox["id"], message.content_key),
        new_id(),
    )
    redriving = asyncio.create_task(again(app, one))
    pid = await retry.fetchval("SELECT pg_backend_pid()")
    while not await count(town, "pg_stat_activity", f"{pid} = ANY (pg_blocking_pids(pid))"):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    # The redrive waits for us; as soon as we wait for it too, Postgres ends the one that has waited for longer.
    held = await retry.fetchval(
        "SELECT dead_letter_id FROM claims WHERE key = $1 FOR UPDATE", raw_claim(mailbox["id"], raw_sha256)
    )
    assert held == one.id, "the redrive was the one that was ended"
    await aborted.rollback()
    await retry.close()
    assert (await redriving).ending is Ending.STORED
    assert await count(town, "messages") == 1


async def test_a_commit_without_an_answer_is_looked_up(app: App, town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = await bury(town, mail("unknown"))
    attempt, done = redrive._try, []

    async def cut(*arguments: object, **named: object) -> Redriven:
        done.append(await attempt(*arguments, **named))  # type: ignore[arg-type]
        raise ConnectionResetError

    monkeypatch.setattr(redrive, "_try", cut)
    assert await again(app, one) == done[0]
    assert len(done) == 1


async def test_what_another_has_settled_does_not_rise_again(app: App, town: Town) -> None:
    (one,) = await bury(town, mail("late"))
    await again(app, one)
    async with app.database.connection() as connection:
        await still_dead(connection, one.tenant_id, one.id, detail="too late", version="9")
        found = await letter(connection, one.id)
    assert found is not None
    assert (found.state, found.attempts) == ("redriven", 2)


async def test_killed_in_the_middle_nothing_is_lost_and_nothing_is_there_twice(app: App, town: Town) -> None:
    letters = await bury(town, *(mail(f"m{n}") for n in range(30)))
    words = [sys.executable, "-m", "ingester", "dead", "redrive", "--all", "--apply", "--rate", "40"]
    environment = clean_environment() | {"INGESTER_DATABASE_URL": town.url}
    with Popen(words, cwd=ROOT, env=environment, stdout=DEVNULL, stderr=DEVNULL) as process:  # noqa: ASYNC220
        while await count(town, "messages") < 5:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    done = await count(town, "dead_letters", "state = 'redriven'")
    assert 5 <= done < 30
    assert await count(town, "messages") == done
    async for one in redrive.each(app.database, Which(), Pace(0)):
        assert (await again(app, one)).ending is Ending.STORED
    assert await count(town, "messages") == len(letters) == 30
    assert await count(town, "receipts") == 30
    assert await count(town, "claims", "dead_letter_id IS NOT NULL") == 0


async def test_a_discarded_letter_keeps_its_row_and_its_bytes_unless_told_otherwise(app: App, town: Town) -> None:
    kept, erased = await bury(town, mail("kept"), mail("erased"))
    async with app.database.connection() as connection:
        assert await discard(connection, kept, by="ada", why="spam", erase=False)
        assert await discard(connection, erased, by="ada", why=None, erase=True)
        assert not await discard(connection, kept, by="eve", why=None, erase=True)
        found = await letter(connection, kept.id)
        gone = await letter(connection, erased.id)
    assert found is not None
    assert gone is not None
    assert (found.state, found.settled_by, found.why, found.size, found.attempts) == (
        "discarded",
        "ada",
        "spam",
        len(mail("kept")),
        1,
    )
    assert (gone.state, gone.size) == ("discarded", 0)
    assert await count(town, "receipts") == 2
    # Whoever brings it once more is heard, or it would vanish behind a yes.
    assert (await send(app, mail("kept"))).stored


async def test_letters_are_gone_through_once_each_in_pages(
    app: App, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redrive, "PAGE", 3)
    letters = await bury(town, *(mail(f"m{n}") for n in range(7)))
    seen = [one.id async for one in redrive.each(app.database, Which(), Pace(0))]
    assert seen == [one.id for one in letters]


async def test_the_pace_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    pace = Pace(10)
    for _ in range(4):
        await pace.turn()
    assert waits == pytest.approx([0, 0.1, 0.2, 0.3], abs=0.05)
    waits.clear()
    for _ in range(3):
        await Pace(0).turn()
    assert waits == [0, 0, 0]


# -- after an upgrade --------------------------------------------------------------------------------------------------


async def of_version(town: Town, letter_id: UUID, version: str | None) -> None:
    await town.fetch("UPDATE dead_letters SET buried_by = $2 WHERE id = $1", letter_id, version)


def after_upgrade(app: App) -> AfterUpgrade:
    return AfterUpgrade(pipeline=app.pipeline, database=app.database, raws=app.raws, now=now)


async def test_letters_of_other_versions_are_tried_again_once_a_start(app: App, town: Town) -> None:
    old, ours, silent = await bury(town, mail("old"), mail("ours"), mail("silent"))
    assert (old.buried_by, ours.buried_by) == (__version__, __version__)
    await of_version(town, old.id, "0.0.9")
    await of_version(town, silent.id, None)
    async with app.database.connection() as connection:
        found = versions(await piles(connection, Which()), but=__version__)
    assert found == {"0.0.9": 1, "unknown": 1}
    upgrade = after_upgrade(app)
    await upgrade.redrive()
    states = {row["id"]: row["state"] for row in await town.fetch("SELECT id, state FROM dead_letters")}
    assert states == {old.id: "redriven", ours.id: "dead", silent.id: "redriven"}
    await of_version(town, ours.id, "0.0.9")
    await upgrade.redrive()
    assert await count(town, "dead_letters", "state = 'dead'") == 1, "one pass a start"


async def test_what_is_still_dead_is_this_versions_from_then_on(town: Town) -> None:
    (one,) = await bury(town, mail("poison"))
    await of_version(town, one.id, "0.0.9")
    digesting = await broken(town, "scan:raise")
    try:
        await after_upgrade(digesting).redrive()
    finally:
        await digesting.close()
    (row,) = await town.fetch("SELECT state, buried_by, attempts FROM dead_letters")
    assert tuple(row) == ("dead", __version__, 2)


async def test_one_daemon_is_at_it_at_a_time(app: App, town: Town) -> None:
    (one,) = await bury(town, mail("old"))
    await of_version(town, one.id, "0.0.9")
    upgrade = after_upgrade(app)
    async with alone(Database(app.settings), _LOCK) as free:
        assert free
        await upgrade.redrive()
        assert await count(town, "messages") == 0
    await upgrade.redrive()
    assert await count(town, "messages") == 1


async def test_the_daemon_does_it_by_itself_where_that_is_wanted(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingester.app.UPGRADE_SECONDS", 0.05)
    (one,) = await bury(town, mail("old"))
    await of_version(town, one.id, "0.0.9")
    app = App(settings(town.url, store__redrive_after_upgrade=True))
    await app.start([])
    try:
        async with asyncio.timeout(20):
            while not await count(town, "messages"):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    finally:
        await app.drain()
    (row,) = await town.fetch("SELECT state, settled_by FROM dead_letters")
    assert tuple(row) == ("redriven", f"ingester {__version__}, after an upgrade")


async def test_the_daemon_leaves_it_alone_by_default(town: Town) -> None:
    app = App(settings(town.url))
    await app.start([])
    try:
        assert "redrive_after_upgrade" not in {task.get_name() for task in asyncio.all_tasks()}
    finally:
        await app.drain()
