"""What the doctor asks of Postgres."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from ingester.core.ids import uuid7
from ingester.settings import load
from ingester.store import survey
from ingester.store.db import Database
from tests.daemon import settle

NOW = datetime.now(UTC)


async def test_a_commit_is_a_real_one_and_leaves_nothing_behind(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        rows = "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint FROM pg_stat_xact_all_tables"
        before = await connection.fetchval("SELECT pg_current_wal_insert_lsn()")
        written = await connection.fetchval(rows)
        took = await survey.seconds_to_commit(connection)
        assert 0 < took < 5
        assert await connection.fetchval("SELECT pg_current_wal_insert_lsn() > $1::pg_lsn", before)
        assert await connection.fetchval(rows) == written
    finally:
        await connection.close()


async def test_how_the_server_is_set_up(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        seen = await survey.server(connection)
        assert seen.version == connection.get_server_version().major * 10_000 + connection.get_server_version().micro
    finally:
        await connection.close()
    assert (seen.fsync, seen.synchronous_commit, seen.full_page_writes) == ("off", "off", "off")
    assert (seen.encoding, seen.standby, seen.read_only, seen.max_connections) == ("UTF8", False, "off", 200)
    assert seen.local
    assert seen.directory is not None
    assert abs(seen.clock - datetime.now(UTC)) < timedelta(seconds=5)


async def test_without_a_pooler_no_connection_is_shared(database_url: str) -> None:
    database = Database(load(env="development", database_url=database_url))
    await database.open()
    try:
        assert not await survey.is_shared(database)
    finally:
        await database.close()


async def _receipt(connection: asyncpg.Connection, tenant_id: UUID, ip: str, *, age: timedelta, door: str) -> None:
    moment = NOW - age
    await connection.execute(
        """
        INSERT INTO receipts (tenant_id, id, arrival_id, message_id, door, envelope_from, envelope_to, client_ip,
                              raw_sha256, received_at, duplicate)
        VALUES ($1, $2, $3, $3, $4, '', '{}', $5, '', $6, false)
        """,
        tenant_id,
        uuid7(unix_ms=int(moment.timestamp() * 1000), entropy=uuid4().bytes[:10]),
        uuid4(),
        door,
        ip,
        moment,
    )


async def test_where_the_mail_of_a_day_came_from(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every tenant, by SMTP alone, and no more of each than is needed."""
    await settle(database_url, {"acme.test": (), "globex.test": ()})
    connection = await asyncpg.connect(database_url)
    try:
        acme, globex = [row["id"] for row in await connection.fetch("SELECT id FROM tenants WHERE slug <> 'system'")]
        hour = timedelta(hours=1)
        for tenant, ip, age, door in (
            (acme, "192.0.2.1", hour, "smtp"),
            (acme, "192.0.2.1", 2 * hour, "smtp"),
            (globex, "192.0.2.1", hour, "smtp"),
            (globex, "192.0.2.2", hour, "smtp"),
            (globex, "192.0.2.3", hour, "http"),
            (globex, "", hour, "smtp"),
            (globex, "192.0.2.4", 30 * hour, "smtp"),
        ):
            await _receipt(connection, tenant, ip, age=age, door=door)
        since = NOW - timedelta(days=1)
        found = [(one.client_ip, one.mails) for one in await survey.origins(connection, since=since)]
        assert found == [("192.0.2.1", 3), ("192.0.2.2", 1)]
        monkeypatch.setattr(survey, "RECEIPTS", 1)
        assert sum(one.mails for one in await survey.origins(connection, since=since)) <= 2
    finally:
        await connection.close()
