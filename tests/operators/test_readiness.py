"""Readiness: true of database, migrations, listeners and drain; and cheap, also while the database hangs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from ingester.operators import readiness as room
from ingester.operators.readiness import Fault, Readiness
from ingester.settings import load
from ingester.store.db import Database


class Watched(Database):
    """A database whose uses are counted, and held back while the gate is shut."""

    def __init__(self, url: str) -> None:
        super().__init__(load({}, database_url=url))
        self.uses = 0
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    @asynccontextmanager
    async def connection(self, *, seconds: float = 10) -> AsyncIterator[Any]:
        self.uses += 1
        self.asked.set()
        await self.gate.wait()
        async with super().connection(seconds=seconds) as connection:
            yield connection


@asynccontextmanager
async def watched(url: str) -> AsyncIterator[tuple[Watched, Readiness]]:
    """A database, and the readiness of a worker that listens."""
    database = Watched(url)
    readiness = Readiness(database)
    readiness.listening = True
    await database.open()
    try:
        yield database, readiness
    finally:
        await readiness.close()
        await database.close()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine makes no database look hung."""
    monkeypatch.setattr(room, "PATIENCE_SECONDS", 30.0)


@pytest.fixture
def always_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "FRESH_SECONDS", 0.0)


async def test_a_worker_that_listens_and_has_its_database_is_ready(database_url: str) -> None:
    async with watched(database_url) as (_, readiness):
        assert await readiness.faults() == ()
        readiness.listening, readiness.draining = False, True
        assert await readiness.faults() == (Fault.STARTING, Fault.DRAINING)


async def test_a_schema_that_lacks_migrations_is_not_ready(empty_database_url: str) -> None:
    async with watched(empty_database_url) as (_, readiness):
        assert await readiness.faults() == (Fault.MIGRATIONS,)


async def test_a_schema_of_another_history_is_not_ready(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE schema_migrations SET sha256 = 'another' WHERE number = 3")
    await connection.close()
    async with watched(database_url) as (_, readiness):
        assert await readiness.faults() == (Fault.MIGRATIONS,)


async def test_it_is_ready_as_soon_as_somebody_has_migrated(database_url: str, always_asked: None) -> None:
    connection = await asyncpg.connect(database_url)
    row = await connection.fetchrow("DELETE FROM schema_migrations WHERE number = 6 RETURNING name, sha256")
    async with watched(database_url) as (_, readiness):
        assert await readiness.faults() == (Fault.MIGRATIONS,)
        await connection.execute("INSERT INTO schema_migrations VALUES (6, $1, $2)", row["name"], row["sha256"])
        await connection.close()
        assert await readiness.faults() == ()


async def test_a_database_that_is_away_is_not_ready() -> None:
    async with watched("postgresql://127.0.0.1:1/none") as (_, readiness):
        assert await readiness.faults() == (Fault.DATABASE,)


async def test_one_question_answers_all_who_ask_within_a_second(database_url: str) -> None:
    async with watched(database_url) as (database, readiness):
        assert await asyncio.gather(*(readiness.faults() for _ in range(200))) == [()] * 200
        assert database.uses == 1


async def test_questions_do_not_pile_up_while_the_database_hangs(
    database_url: str, always_asked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(database_url) as (database, readiness):
        assert await readiness.faults() == ()
        monkeypatch.setattr(room, "PATIENCE_SECONDS", 0.05)
        database.gate.clear()
        begun = asyncio.get_running_loop().time()
        for _ in range(5):
            assert await asyncio.gather(*(readiness.faults() for _ in range(100))) == [(Fault.DATABASE,)] * 100
        assert asyncio.get_running_loop().time() - begun < 5
        assert database.uses == 2
        monkeypatch.setattr(room, "PATIENCE_SECONDS", 30.0)
        database.gate.set()
        await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "readiness"))
        assert await readiness.faults() == ()


async def test_who_asks_while_it_has_hung_for_long_is_told_at_once(database_url: str) -> None:
    async with watched(database_url) as (database, _):
        database.gate.clear()
        now = 0.0
        readiness = Readiness(database, clock=lambda: now)
        readiness.listening = True
        first = asyncio.create_task(readiness.faults())
        await database.asked.wait()
        now = room.PATIENCE_SECONDS
        assert await asyncio.wait_for(readiness.faults(), 5) == (Fault.DATABASE,)
        assert database.uses == 1
        database.gate.set()
        assert await first == ()
        await readiness.close()
