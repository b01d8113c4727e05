"""The migration runner, on real databases: once each, together, outside transactions, and every refusal."""

import asyncio
import time
from pathlib import Path

import asyncpg
import pytest

from ingester.store import migrate as migrations
from ingester.store.migrate import MigrationError, check, load, migrate


def _write(directory: Path, **files: str) -> Path:
    for name, sql in files.items():
        (directory / f"{name[1:]}.sql").write_text(sql, encoding="utf-8")
    return directory


async def test_applies_each_file_once_in_order(empty_database_url: str, tmp_path: Path) -> None:
    files = _write(tmp_path, m0001_first="create table a (x int);", m0002_second="alter table a add y int;")
    connection = await asyncpg.connect(empty_database_url)
    assert await check(connection, directory=files) == ["0001_first", "0002_second"]
    assert await migrate(connection, directory=files) == ["0001_first", "0002_second"]
    assert await migrate(connection, directory=files) == []
    assert await check(connection, directory=files) == []
    await connection.execute("insert into a values (1, 2)")
    await connection.close()


async def test_check_changes_nothing(empty_database_url: str, tmp_path: Path) -> None:
    connection = await asyncpg.connect(empty_database_url)
    await check(connection, directory=_write(tmp_path, m0001_first="create table a (x int);"))
    assert await connection.fetchval("select count(*) from pg_class where relname in ('a', 'schema_migrations')") == 0
    await connection.close()


async def test_a_failed_file_leaves_nothing_and_is_tried_again(empty_database_url: str, tmp_path: Path) -> None:
    files = _write(tmp_path, m0001_first="create table a (x int);", m0002_bad="create table b (x int); select 1/0;")
    connection = await asyncpg.connect(empty_database_url)
    with pytest.raises(MigrationError, match="0002_bad failed: division by zero"):
        await migrate(connection, directory=files)
    assert await connection.fetchval("select to_regclass('b')") is None
    _write(tmp_path, m0002_bad="create table b (x int);")
    assert await migrate(connection, directory=files) == ["0002_bad"]
    await connection.close()


async def test_an_index_is_built_concurrently_outside_a_transaction(empty_database_url: str, tmp_path: Path) -> None:
    files = _write(
        tmp_path,
        m0001_first="create table a (x int);",
        m0002_index=(
            "-- no transaction\ndrop index concurrently if exists a_x;\n"
            "-- next\ncreate index concurrently a_x on a (x);\n"
        ),
    )
    connections = [await asyncpg.connect(empty_database_url) for _ in range(6)]
    done = await asyncio.gather(*(migrate(connection, directory=files) for connection in connections))
    assert sorted(done) == [[], [], [], [], [], ["0001_first", "0002_index"]]
    assert await connections[0].fetchval("select indisvalid from pg_index where indexrelid = 'a_x'::regclass")
    for connection in connections:
        await connection.close()


async def test_waiting_for_another_daemon_has_an_end(empty_database_url: str, tmp_path: Path) -> None:
    files = _write(tmp_path, m0001_slow="select pg_sleep(60);")
    busy, late, watch = [await asyncpg.connect(empty_database_url) for _ in range(3)]
    first = asyncio.ensure_future(migrate(busy, directory=files))
    while not await watch.fetchval("select exists (select 1 from pg_locks where locktype = 'advisory' and granted)"):
        assert not first.done()
    with pytest.raises(MigrationError, match="Another process has been migrating"):
        await migrate(late, directory=files, wait_seconds=0.1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await watch.fetchval("select count(*) from pg_locks where locktype = 'advisory'") == 0
    for connection in (busy, late, watch):
        await connection.close()


async def test_an_edited_migration_is_refused(empty_database_url: str, tmp_path: Path) -> None:
    connection = await asyncpg.connect(empty_database_url)
    await migrate(connection, directory=_write(tmp_path, m0001_first="create table a (x int);"))
    files = _write(tmp_path, m0001_first="create table a (x bigint);")
    for act in (migrate, check):
        with pytest.raises(MigrationError, match="0001_first is not the one that was applied here"):
            await act(connection, directory=files)
    await connection.close()


async def test_line_ends_of_a_checkout_do_not_count(empty_database_url: str, tmp_path: Path) -> None:
    connection = await asyncpg.connect(empty_database_url)
    (tmp_path / "0001_first.sql").write_bytes(b"create table a (\nx int);\n")
    await migrate(connection, directory=tmp_path)
    (tmp_path / "0001_first.sql").write_bytes(b"create table a (\r\nx int);\r\n")
    assert await check(connection, directory=tmp_path) == []
    await connection.close()


async def test_an_older_daemon_runs_on_a_newer_schema(empty_database_url: str, tmp_path: Path) -> None:
    connection = await asyncpg.connect(empty_database_url)
    files = _write(tmp_path, m0001_first="create table a (x int);", m0002_second="create table b (x int);")
    await migrate(connection, directory=files)
    (tmp_path / "0002_second.sql").unlink()
    assert await check(connection, directory=files) == []
    assert await migrate(connection, directory=files) == []
    await connection.close()


async def test_a_number_below_the_newest_is_refused(empty_database_url: str, tmp_path: Path) -> None:
    connection = await asyncpg.connect(empty_database_url)
    await migrate(connection, directory=_write(tmp_path, m0002_second="create table b (x int);"))
    files = _write(tmp_path, m0001_late="create table a (x int);")
    with pytest.raises(MigrationError, match="0001_late was never applied here, but 0002 was"):
        await migrate(connection, directory=files)
    await connection.close()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["0001_a.sql", "0001_b.sql"], "Two migrations have the number 0001: a and b"),
        (["1_a.sql"], "1_a.sql is not named"),
        (["0001_A.sql"], "0001_A.sql is not named"),
    ],
)
def test_names_are_checked(tmp_path: Path, names: list[str], words: str) -> None:
    for name in names:
        (tmp_path / name).write_text("", encoding="utf-8")
    with pytest.raises(MigrationError, match=words):
        load(tmp_path)


async def test_our_own_migrations_leave_nothing_pending(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    assert await check(connection) == []
    assert await connection.fetchval("select count(*) from schema_migrations") == len(load()) > 0
    await connection.close()


@pytest.mark.parametrize("committed", [True, False])
async def test_statistics_are_made_without_harm_to_mail(
    empty_database_url: str, tmp_path: Path, committed: bool
) -> None:
    """0011 fills and empties tables. What is there, or comes while it waits for them, stays."""
    *older, statistics = [one for one in load() if one.number <= 11]
    assert statistics.name == "statistics"
    _write(tmp_path, **{f"m{one.number:04}_{one.name}": one.sql for one in older})
    owner, door, reader = [await asyncpg.connect(empty_database_url) for _ in range(3)]
    await migrate(owner, directory=tmp_path)
    _write(tmp_path, m0011_statistics=statistics.sql)
    arrival = door.transaction()
    await arrival.start()
    await door.execute(
        "insert into receipts (tenant_id, id, arrival_id, dead_letter_id, door, envelope_from, envelope_to, raw_sha256,"
        " received_at, duplicate) select u, u, u, u, 'smtp', '', '{}', '', now(), false from gen_random_uuid() as u"
    )
    if committed:
        await arrival.commit()
        await migrate(owner, directory=tmp_path)
    else:
        migrating = asyncio.create_task(migrate(owner, directory=tmp_path))
        await _queued(reader, owner)
        await arrival.commit()
        await migrating
    assert await owner.fetchval("select count(*) from receipts") == 1
    assert await owner.fetchval("select count(*) from messages") == 0
    assert await owner.fetchval("select count(*) from pg_stats where tablename = 'messages'") == 0
    for connection in (owner, door, reader):
        await connection.close()


async def test_statistics_of_a_database_without_mail(database_url: str) -> None:
    """Each column by which mail is looked up is known to tell messages apart, and there is none."""
    connection = await asyncpg.connect(database_url)
    tables = ("messages", "threads", "thread_ids", "participants", "contacts", "receipts")
    known = await connection.fetch("select distinct tablename from pg_stats where tablename = any ($1)", tables)
    assert {row["tablename"] for row in known} == set(tables)
    told = await connection.fetch("select attname, n_distinct from pg_stats where tablename = 'messages'")
    apart = {row["attname"]: row["n_distinct"] for row in told}
    assert (apart["tenant_id"], apart["mailbox_id"], apart["id"], apart["rfc_id_hash"]) == (1, 10, -1, -1)
    for table in tables:
        assert await connection.fetchval(f"select count(*) from {table}") == 0
    await connection.close()


async def test_a_table_that_is_in_use_is_waited_for_in_short_turns(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes behind the migration is held up for a second at most; the migration gets its turn in the end."""
    monkeypatch.setattr(migrations, "STEP_BACK_SECONDS", 0.3)
    files = _write(tmp_path, m0001_first="create table a (x int);")
    owner, holder, reader = [await asyncpg.connect(empty_database_url) for _ in range(3)]
    await migrate(owner, directory=files)
    _write(tmp_path, m0002_second="alter table a add y int;", m0003_third="-- no transaction\nalter table a add z int;")
    long = holder.transaction()
    await long.start()
    await holder.fetch("select * from a")
    migrating = asyncio.create_task(migrate(owner, directory=files))
    waits = []
    for _ in range(3):
        await _queued(reader, owner)
        begun = time.monotonic()
        await reader.fetch("select * from a")
        waits.append(time.monotonic() - begun)
    assert max(waits) < 2 * migrations.LOCK_SECONDS
    await long.rollback()
    assert await migrating == ["0002_second", "0003_third"]
    for connection in (owner, holder, reader):
        await connection.close()


@pytest.mark.parametrize("mode", ["", "-- no transaction\n"])
async def test_who_never_gets_the_table_says_so(empty_database_url: str, tmp_path: Path, mode: str) -> None:
    files = _write(tmp_path, m0001_first="create table a (x int);")
    owner, holder = [await asyncpg.connect(empty_database_url) for _ in range(2)]
    await migrate(owner, directory=files)
    _write(tmp_path, m0002_second=f"{mode}alter table a add y int;")
    async with holder.transaction():
        await holder.fetch("select * from a")
        with pytest.raises(MigrationError, match="0002_second got no lock in 0 s: a long transaction holds the table"):
            await migrate(owner, directory=files, patience_seconds=0)
    assert await migrate(owner, directory=files) == ["0002_second"]
    for connection in (owner, holder):
        await connection.close()


async def _queued(reader: asyncpg.Connection, waiting: asyncpg.Connection) -> None:
    """Wait until a connection stands in the queue for a lock."""
    query = "select wait_event_type = 'Lock' from pg_stat_activity where pid = $1"
    async with asyncio.timeout(30):
        while not await reader.fetchval(query, waiting.get_server_pid()):  # noqa: ASYNC110  (Postgres tells nobody)
            await asyncio.sleep(0.01)
