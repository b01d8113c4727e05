"""ingester.following on a real Postgres: late and skewed ids are told once each; a restart is survived."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from ingester import following
from ingester.following import NEAR, SWEEP, Following, Refused, keep_looking, pages
from ingester.settings import load
from ingester.store import watching
from ingester.store.db import Connection, Database
from tests.postgres import Cluster
from tests.store.test_watching import id_at, receive, settle

LATE = timedelta(minutes=3)


class Clock:
    """The database's time, moved by the test."""

    def __init__(self, begin: datetime) -> None:
        self.now = begin

    async def __call__(self, _: Connection) -> datetime:
        return self.now


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await Database(load(database_url=database_url)).connect()
    yield connection
    await connection.close()


@pytest.fixture
async def acme(connection: asyncpg.Connection) -> UUID:
    (acme,) = await settle(connection, "acme")
    return acme


@pytest.fixture
async def clock(connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(await watching.now(connection))
    monkeypatch.setattr(watching, "now", clock)
    return clock


async def looked(follower: Following, connection: Connection) -> list[UUID]:
    """The ids that one look tells."""
    told = [one async for page in follower.look(connection) for one in page]
    return [one.row.id if isinstance(one, Refused) else one.receipt_id for one in told]


def begun(clock: Clock, *, refusals: bool = False) -> Following:
    return Following(tenant_ids=None, late=LATE, begin=clock.now, refusals=refusals)


async def test_a_row_that_becomes_visible_long_after_its_id_is_told_and_told_once(
    connection: asyncpg.Connection, acme: UUID, clock: Clock, database_url: str
) -> None:
    """A transaction is held open while others, with later ids, are committed and told."""
    follower, slow = begun(clock), await asyncpg.connect(database_url)
    held = slow.transaction()
    await held.start()
    late = await receive(slow, acme, id_at(clock.now, 1))
    told: list[UUID] = []
    for second in range(60):
        clock.now += timedelta(seconds=1)
        told.append(await receive(connection, acme, id_at(clock.now, second)))
        assert await looked(follower, connection) == told[-1:]
    await held.commit()
    await slow.close()
    for _ in range(SWEEP // timedelta(seconds=1)):
        clock.now += timedelta(seconds=1)
        told += await looked(follower, connection)
    assert told.count(late) == 1
    assert len(told) == 61
    clock.now += SWEEP
    assert await looked(follower, connection) == []


@pytest.mark.parametrize("behind", [-90, -30, -6, 0, 6, 30, 90])
async def test_daemons_whose_clocks_differ_are_told_once_each(
    connection: asyncpg.Connection, acme: UUID, clock: Clock, behind: int
) -> None:
    """One daemon is right, the other is so many seconds behind (or before) it, all the time."""
    follower, told, written = begun(clock), [], []
    for second in range(45):
        clock.now += timedelta(seconds=1)
        theirs = clock.now - timedelta(seconds=behind)
        written += [await receive(connection, acme, id_at(at, n)) for n, at in ((second, clock.now), (99, theirs))]
        told += await looked(follower, connection)
    clock.now += SWEEP
    told += await looked(follower, connection)
    assert sorted(told) == sorted(written)


async def test_what_was_there_before_is_skipped_but_what_only_becomes_visible_then_is_not(
    connection: asyncpg.Connection, acme: UUID, clock: Clock, database_url: str
) -> None:
    slow = await asyncpg.connect(database_url)
    held = slow.transaction()
    await held.start()
    late = await receive(slow, acme, id_at(clock.now - timedelta(seconds=50)))
    await receive(connection, acme, id_at(clock.now - timedelta(seconds=40)))
    follower = begun(clock)
    await follower.skip_arrivals(connection)
    await held.commit()
    await slow.close()
    clock.now += SWEEP
    assert await looked(follower, connection) == [late]


async def test_who_could_not_look_for_an_hour_has_missed_nothing(
    connection: asyncpg.Connection, acme: UUID, clock: Clock
) -> None:
    """The first look after a database that was away begins where the last one was."""
    follower = begun(clock)
    first = await receive(connection, acme, id_at(clock.now, 1))
    assert await looked(follower, connection) == [first]
    written = [await receive(connection, acme, id_at(clock.now + timedelta(minutes=n), n)) for n in range(1, 60)]
    clock.now += timedelta(hours=1)
    assert await looked(follower, connection) == written


async def test_a_clock_that_is_set_back_hides_nothing(connection: asyncpg.Connection, acme: UUID, clock: Clock) -> None:
    """As where a standby takes over whose clock is behind."""
    follower = begun(clock)
    clock.now -= timedelta(hours=1)
    late = await receive(connection, acme, id_at(clock.now - timedelta(minutes=1)))
    assert await looked(follower, connection) == [late]
    clock.now += timedelta(seconds=1)
    late = await receive(connection, acme, id_at(clock.now))
    assert await looked(follower, connection) == [late]
    clock.now += SWEEP
    assert await looked(follower, connection) == []


@pytest.mark.parametrize("apart", [timedelta(), timedelta(milliseconds=3), timedelta(minutes=7)])
async def test_pages_leave_nothing_out_however_close_the_ids_are(
    connection: asyncpg.Connection, acme: UUID, clock: Clock, apart: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "PAGE", 3)
    begin = clock.now - 40 * apart
    ids = [await receive(connection, acme, id_at(begin + n * apart, n)) for n in range(40)]
    ids.append(await receive(connection, acme, id_at(clock.now + timedelta(hours=1))))
    found = [
        row_id
        async for page in pages(connection, None, after=begin - timedelta(hours=1), now=clock.now)
        for _, row_id in page
    ]
    assert found == ids


async def test_what_is_remembered_is_bounded_by_time(connection: asyncpg.Connection, acme: UUID, clock: Clock) -> None:
    follower = begun(clock)
    for second in range(600):
        clock.now += timedelta(seconds=1)
        if not second % 5:
            await receive(connection, acme, id_at(clock.now, second))
            await looked(follower, connection)
    seconds = (LATE + SWEEP + NEAR).total_seconds()
    assert len(follower._told) <= seconds / 5 + 2


async def test_refusals_that_are_counted_together_are_told_by_how_many_more(
    connection: asyncpg.Connection, acme: UUID, clock: Clock
) -> None:
    row = id_at(clock.now)
    await connection.execute(
        """
        INSERT INTO refusals (tenant_id, id, door, reason, client_prefix, minute, count)
        VALUES ($1, $2, 'smtp', 'unknown_mailbox', '192.0.2.1/32', date_trunc('minute', $3::timestamptz), 3)
        """,
        acme,
        row,
        clock.now,
    )
    follower = begun(clock, refusals=True)

    async def more() -> list[int]:
        told = [one async for page in follower.look(connection) for one in page]
        return [one.more for one in told if isinstance(one, Refused)]

    assert await more() == [3]
    assert await more() == []
    await connection.execute("UPDATE refusals SET count = 8")
    clock.now += SWEEP
    assert await more() == [5]
    clock.now += timedelta(seconds=1)
    assert await more() == []


async def test_a_database_that_restarts_is_said_once_and_waited_for(own_postgres: Cluster) -> None:
    """Looks go on at a new connection; the one that was cut is not told as a fault."""
    said: list[bool] = []
    looks: list[int] = []
    seen, gone, back = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def look(connection: Connection) -> bool:
        looks.append(await connection.fetchval("SELECT 1"))
        seen.set()
        return not back.is_set()

    def away(away: bool) -> None:
        said.append(away)
        (gone if away else back).set()

    database = Database(load(database_url=own_postgres.url))
    looking = asyncio.create_task(keep_looking(database, look, seconds=0.05, away=away))
    await seen.wait()
    await asyncio.to_thread(own_postgres.server.stop)
    await gone.wait()
    own_postgres.server.start()  # it insists on the main thread
    async with asyncio.timeout(30):
        await looking
    assert said == [True, False]
    assert len(looks) >= 2


async def test_what_waiting_does_not_mend_is_raised(database_url: str) -> None:
    async def look(connection: Connection) -> bool:
        await connection.execute("SELECT nothing_like_it FROM receipts")
        return True

    with pytest.raises(asyncpg.UndefinedColumnError):
        await keep_looking(Database(load(database_url=database_url)), look, seconds=0.05, away=lambda _: None)
