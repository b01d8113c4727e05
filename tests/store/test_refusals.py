"""ingester.store.refusals and ingester.store.housekeeping"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from ingester.clock import new_id
from ingester.core.envelope import Client, Door
from ingester.core.ids import SYSTEM_TENANT
from ingester.core.outcome import Reason
from ingester.settings import load
from ingester.store.db import Database
from ingester.store.housekeeping import expire_claims, expire_refusals
from ingester.store.refusals import MAX_COUNTERS, MAX_LINES, OVERFLOW, Refusals

NOON = datetime(2026, 11, 21, 12, 0, 30, tzinfo=UTC)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    one = Database(load({}).model_copy(update={"database_url": SecretStr(database_url)}))
    await one.open()
    yield one
    await one.close()


def note(refusals: Refusals, *, ip: str = "192.0.2.1", recipient: str = "x@acme.test", at: datetime = NOON) -> None:
    refusals.note(
        tenant_id=SYSTEM_TENANT,
        door=Door.SMTP,
        reason=Reason.UNKNOWN_MAILBOX,
        client=Client(ip=ip),
        mail_from="a\0b@c.test",
        recipients=(recipient,),
        detail="",
        now=at,
    )


async def rows(database: Database) -> list[tuple[str, int, int]]:
    async with database.connection() as connection:
        found = await connection.fetch("SELECT client_prefix, count, samples FROM refusals ORDER BY minute, count")
    return [(row["client_prefix"], row["count"], len(row["samples"])) for row in found]


async def test_refusals_of_a_minute_are_one_row_with_at_most_three_samples(database: Database) -> None:
    refusals = Refusals(database, new_id)
    for n in range(10):
        note(refusals, recipient=f"guess{n}@acme.test")
    note(refusals, at=NOON + timedelta(minutes=1))
    await refusals.flush()
    assert await rows(database) == [("192.0.2.1/32", 10, 3), ("192.0.2.1/32", 1, 1)]
    note(refusals)
    await refusals.flush()
    assert await rows(database) == [("192.0.2.1/32", 11, 3), ("192.0.2.1/32", 1, 1)]


async def test_ipv6_strangers_are_counted_by_their_64(database: Database) -> None:
    refusals = Refusals(database, new_id)
    note(refusals, ip="2001:db8::1")
    note(refusals, ip="2001:db8::ffff")
    await refusals.flush()
    assert await rows(database) == [("2001:db8::/64", 2, 2)]


async def test_many_strangers_cannot_grow_the_memory(database: Database) -> None:
    refusals = Refusals(database, new_id)
    for n in range(MAX_COUNTERS + 500):
        note(refusals, ip=f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")
    await refusals.flush()
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM refusals") == MAX_COUNTERS + 1
        assert await connection.fetchval("SELECT count FROM refusals WHERE client_prefix = $1", OVERFLOW) == 500


async def test_what_could_not_be_written_is_written_later(database: Database) -> None:
    refusals = Refusals(database, new_id)
    note(refusals)
    await database.close()
    await refusals.flush()
    note(refusals)
    await database.open()
    await refusals.flush()
    assert await rows(database) == [("192.0.2.1/32", 2, 2)]


async def test_what_is_over_its_time_is_removed_and_nothing_else(database: Database) -> None:
    refusals = Refusals(database, new_id)
    note(refusals)
    note(refusals, at=NOON - timedelta(days=31))
    await refusals.flush()
    async with database.connection() as connection:
        await connection.executemany(
            "INSERT INTO claims (tenant_id, key, message_id, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)",
            [
                (SYSTEM_TENANT, bytes([n >> 8, n & 255]), new_id(), NOON, NOON + timedelta(hours=1 if n < 5 else -1))
                for n in range(2505)
            ],
        )
        await expire_claims(connection, NOON)
        await expire_refusals(connection, NOON, 30)
        assert await connection.fetchval("SELECT count(*) FROM claims") == 5
        assert await connection.fetchval("SELECT count(*) FROM refusals") == 1


# -- the log's share --------------------------------------------------------------------------------------------------


async def test_refusals_of_one_client_are_one_line_between_two_flushes(database: Database) -> None:
    refusals = Refusals(database, new_id)
    with capture_logs() as lines:
        for n in range(1000):
            note(refusals, recipient=f"guess{n}@acme.test")
        await refusals.flush()
        note(refusals, recipient="again@acme.test")
        await refusals.flush()
        await refusals.flush()
    assert [(line["event"], line["door"], line["reason"], line["times"]) for line in lines] == [
        ("refused", "smtp", "unknown_mailbox", 1000),
        ("refused", "smtp", "unknown_mailbox", 1),
    ]
    assert lines[1]["rcpt_to"] == ["again@acme.test"]
    assert lines[1]["client"] == "192.0.2.1/32"


async def test_many_clients_are_few_lines_the_busiest_first(database: Database) -> None:
    refusals = Refusals(database, new_id)
    for n in range(MAX_LINES + 30):
        note(refusals, ip=f"192.0.2.{n}")
    for _ in range(5):
        note(refusals, ip="192.0.2.200")
    with capture_logs() as lines:
        await refusals.flush()
    assert len(lines) == MAX_LINES + 1
    assert (lines[0]["client"], lines[0]["times"]) == ("192.0.2.200/32", 5)
    assert (lines[-1]["times"], lines[-1]["clients"]) == (31, 31)


async def test_while_the_database_is_away_each_refusal_is_told_once() -> None:
    refusals = Refusals(Database(load({}, database_url="postgresql://127.0.0.1:1/none")), new_id)
    note(refusals)
    with capture_logs() as lines:
        await refusals.flush()
        note(refusals)
        note(refusals)
        await refusals.flush()
        await refusals.flush()
    assert [line["times"] for line in lines if line["event"] == "refused"] == [1, 2]
