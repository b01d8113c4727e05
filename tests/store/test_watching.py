"""ingester.store.watching on a real Postgres: what a look finds, and what it costs with many tenants and rows."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest

from ingester.core.ids import uuid7
from ingester.following import LAST_ID, first_id
from ingester.store import watching

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
TENANTS = 2000


def id_at(moment: datetime, n: int = 0) -> UUID:
    """An id made at a moment; ids of one moment are told apart, and ordered, by `n`."""
    return uuid7(unix_ms=int(moment.timestamp() * 1000), entropy=n.to_bytes(10, "big"))


async def receive(connection: asyncpg.Connection, tenant_id: UUID, receipt_id: UUID) -> UUID:
    """A receipt as bare as the table allows."""
    await connection.execute(
        """
        INSERT INTO receipts (tenant_id, id, arrival_id, dead_letter_id, door, envelope_from, envelope_to, raw_sha256,
                              received_at, duplicate)
        VALUES ($1, $2, $2, $2, 'smtp', 'ada@customer.test', '{support@acme.test}', '\\x00', $3, false)
        """,
        tenant_id,
        receipt_id,
        NOW,
    )
    return receipt_id


async def settle(connection: asyncpg.Connection, *names: str) -> list[UUID]:
    ids = [uuid4() for _ in names]
    await connection.executemany(
        "INSERT INTO tenants (id, slug, name) VALUES ($1, $2, $2)", list(zip(ids, names, strict=True))
    )
    return ids


async def test_arrivals_come_in_the_order_of_their_ids_across_tenants_page_by_page(
    connection: asyncpg.Connection,
) -> None:
    acme, globex = await settle(connection, "acme", "globex")
    ids = [await receive(connection, (globex, acme)[n % 2], id_at(NOW, n)) for n in range(1, 8)]
    found: list[UUID] = []
    after = first_id(NOW)
    while page := await watching.arrivals(connection, None, after=after, until=LAST_ID, limit=3):
        found += [row_id for _, row_id in page]
        after = found[-1]
    assert found == ids
    theirs = await watching.arrivals(connection, [globex], after=first_id(NOW), until=ids[4], limit=9)
    assert [row_id for _, row_id in theirs] == [ids[1], ids[3]]
    later = first_id(NOW + timedelta(seconds=1))
    assert await watching.arrivals(connection, None, after=later, until=LAST_ID, limit=9) == []
    assert [row_id for _, row_id in await watching.newest(connection, None, before=LAST_ID, limit=2)] == ids[:-3:-1]
    assert [row_id for _, row_id in await watching.newest(connection, [acme], before=ids[4], limit=9)] == [
        ids[2],
        ids[0],
    ]


async def test_what_was_erased_meanwhile_is_left_out_and_a_dead_letter_has_no_message(
    connection: asyncpg.Connection,
) -> None:
    (acme,) = await settle(connection, "acme")
    here, gone = await receive(connection, acme, id_at(NOW, 1)), id_at(NOW, 2)
    (told,) = await watching.told(connection, [(acme, gone), (acme, here)])
    assert (told.tenant, told.receipt_id, told.message_id, told.status) == ("acme", here, None, None)
    assert await watching.told(connection, []) == []


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def crowd(connection: asyncpg.Connection) -> asyncpg.Connection:
    """Thousands of tenants."""
    await connection.execute(
        "INSERT INTO tenants (id, slug, name) SELECT gen_random_uuid(), 't' || n, 't' FROM generate_series(1, $1) n",
        TENANTS,
    )
    return connection


async def fill(connection: asyncpg.Connection, mails: int) -> None:
    """So many mails for each tenant, all of them old."""
    await connection.execute(
        """
        INSERT INTO receipts (tenant_id, id, arrival_id, dead_letter_id, door, envelope_from, envelope_to, raw_sha256,
                              received_at, duplicate)
        SELECT t.id, ('0190000000' || lpad(to_hex(n), 2, '0') || substr(md5(t.slug || n || $2), 1, 20))::uuid,
               t.id, t.id, 'smtp', '', '{}', '\\x00', $3, false
        FROM tenants t, generate_series(1, $1) n WHERE t.slug LIKE 't%'
        """,
        mails,
        str(mails),
        NOW,
    )
    await connection.execute("VACUUM ANALYZE receipts")
    await connection.execute("ANALYZE tenants")


async def cost(connection: asyncpg.Connection, look: Awaitable[object], *arguments: str) -> tuple[int, str]:
    """Buffers that a look touches, and its plan."""
    statements: list[str] = []
    with connection.query_logger(lambda record: statements.append(record.query)):
        await look
        await connection.execute("SELECT 1")  # what is logged comes with the loop's next turn
    (statement,) = (one for one in statements if "FROM receipts r" in one)
    for n, argument in enumerate(arguments, 1):
        statement = statement.replace(f"${n}", argument)
    (plan,) = msgspec.json.decode(await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"))
    root = plan["Plan"]
    return root["Shared Hit Blocks"] + root["Shared Read Blocks"], str(plan)


async def forward(connection: asyncpg.Connection) -> tuple[int, str]:
    """A look that finds nothing."""
    look = watching.arrivals(connection, None, after=first_id(NOW), until=LAST_ID, limit=500)
    return await cost(connection, look, "NULL", f"'{first_id(NOW)}'", f"'{LAST_ID}'", "500")


async def backward(connection: asyncpg.Connection) -> tuple[int, str]:
    """The last ten."""
    look = watching.newest(connection, None, before=LAST_ID, limit=10)
    return await cost(connection, look, "NULL", f"'{LAST_ID}'", "10")


@pytest.mark.parametrize("look", [forward, backward])
async def test_a_look_costs_a_step_down_the_primary_key_in_each_tenant_whatever_lies_there(
    crowd: asyncpg.Connection, look: Callable[[asyncpg.Connection], Awaitable[tuple[int, str]]]
) -> None:
    """Buffers, not milliseconds: with nine times the rows it may be one more level of the tree, and no more."""
    await fill(crowd, 5)
    few, plan = await look(crowd)
    assert "receipts_pkey" in plan
    await fill(crowd, 40)
    many, plan = await look(crowd)
    assert "receipts_pkey" in plan
    assert few <= TENANTS * 4 + 200
    assert many <= few + TENANTS + 200


async def test_refusals_are_found_by_their_minute(crowd: asyncpg.Connection) -> None:
    await crowd.execute(
        """
        INSERT INTO refusals (tenant_id, id, door, reason, client_prefix, minute, count)
        SELECT t.id, gen_random_uuid(), 'smtp', 'unknown_mailbox', n::text, $1::timestamptz - n * interval '1 hour', 3
        FROM tenants t, generate_series(1, 10) n
        """,
        NOW,
    )
    await crowd.execute("VACUUM ANALYZE refusals")
    (acme,) = await settle(crowd, "acme")
    await crowd.execute(
        """
        INSERT INTO refusals (tenant_id, id, door, reason, client_prefix, minute)
        VALUES ($1, $1, 'smtp', 'oversized', '', $2)
        """,
        acme,
        NOW,
    )
    assert await watching.counts(crowd, None, since=NOW + timedelta(seconds=59)) == [(acme, acme, 1)]
