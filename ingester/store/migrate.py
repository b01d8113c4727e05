"""The migration runner: numbered, forward-only `.sql` files are the only source of the schema.

A file runs in a transaction together with the row that records it. One whose first line is `-- no transaction` runs
outside, for CREATE INDEX CONCURRENTLY: its statements are separated by lines `-- next`, and must bear being run again.
Several daemons may migrate at once; the first does the work. The lock belongs to a session: a pooler is refused.

Daemons go on receiving meanwhile. A statement that waits for a table makes everybody wait who comes after it, mail
included: so it waits a second at most, steps back, and tries again. CREATE INDEX CONCURRENTLY keeps nobody waiting.
What is added must bear the older code's writes. `store_message` writes whole rows of `messages`, without regard to
defaults: a new column there may be NULL, or the function is replaced in the same transaction.
"""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg
import structlog

from ingester.store.db import Connection, is_pooled
from ingester.store.roles import RolesError, renew

MIGRATIONS = Path(__file__).parent / "migrations"
WAIT_SECONDS = 300.0
"""How long to wait for another daemon that migrates."""

_LOCK = 0x696E6765737465  # "ingeste": any constant that is ours alone in a database
_NAME = re.compile(r"(\d{4})_([a-z0-9_]{1,80})\.sql")
_POLL_SECONDS = 0.1
LOCK_SECONDS = 1.0
"""How long a table is waited for: as long, mail may stand still."""
STEP_BACK_SECONDS = 2.0
"""How long those who stood behind us are let through."""
PATIENCE_SECONDS = 600.0
"""How long it is tried."""

_CREATE_TABLE = """
create table if not exists schema_migrations (
    number integer primary key,
    name text not null,
    sha256 text not null,
    applied_at timestamptz not null default now()
)"""
_SHORT_LOCKS = f"set local lock_timeout = '{LOCK_SECONDS:.0f}s'"
_CONCURRENTLY = re.compile(r"^[^-\n]*\bconcurrently\b", re.IGNORECASE | re.MULTILINE)
_RECORD = "insert into schema_migrations (number, name, sha256) values ($1, $2, $3)"


_log = structlog.get_logger(__name__)


class MigrationError(Exception):
    """The schema cannot be brought to what this code needs; the text says why, in one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file. `sha256` is of the text with LF line ends, so that a checkout with CRLF is the same migration."""

    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def in_transaction(self) -> bool:
        return not self.sql.startswith("-- no transaction")

    @property
    def statements(self) -> list[str]:
        return [self.sql] if self.in_transaction else re.split(r"^-- next$", self.sql, flags=re.MULTILINE)


def load(directory: Path = MIGRATIONS) -> list[Migration]:
    """Read the files in the order of their numbers. Raises MigrationError on a name that is not NNNN_name.sql."""
    found: dict[int, Migration] = {}
    for path in sorted(directory.glob("*.sql")):
        name = _NAME.fullmatch(path.name)
        if name is None:
            raise MigrationError(f"{path.name} is not named NNNN_name.sql")
        one = Migration(number=int(name[1]), name=name[2], sql=path.read_text(encoding="utf-8"))
        if one.number in found:
            raise MigrationError(f"Two migrations have the number {name[1]}: {found[one.number].name} and {one.name}")
        found[one.number] = one
    return list(found.values())


async def check(connection: Connection, *, directory: Path = MIGRATIONS) -> list[str]:
    """The migrations that the database lacks. It changes nothing, and reads no more than one table.

    Migrations that only the database knows are fine: during a rolling upgrade older daemons run on a newer schema.
    Raises MigrationError where the histories disagree.
    """
    return [f"{one.number:04}_{one.name}" for one in await _pending(connection, load(directory))]


async def migrate(
    connection: Connection,
    *,
    directory: Path = MIGRATIONS,
    wait_seconds: float = WAIT_SECONDS,
    patience_seconds: float = PATIENCE_SECONDS,
) -> list[str]:
    """Apply what is missing and give the names of it. Raises MigrationError; what came before the fault stays."""
    migrations = load(directory)
    if await is_pooled(connection):
        raise MigrationError(
            "Migrations must not go through a pooler: set INGESTER_DATABASE_DIRECT_URL to the server's own URL"
        )
    await _take_lock(connection, wait_seconds)
    try:
        pending = await _pending(connection, migrations)
        if pending:
            await connection.execute(_CREATE_TABLE)
        for one in pending:
            await _apply(connection, one, patience_seconds)
        await renew(connection)
    except RolesError as error:
        raise MigrationError(str(error)) from error
    finally:
        if not connection.is_closed():
            await connection.execute("select pg_advisory_unlock($1)", _LOCK)
    return [f"{one.number:04}_{one.name}" for one in pending]


async def _take_lock(connection: Connection, wait_seconds: float) -> None:
    """Poll: the blocking form holds a snapshot, which CREATE INDEX CONCURRENTLY waits for (a deadlock)."""
    end = asyncio.get_running_loop().time() + wait_seconds
    while not await connection.fetchval("select pg_try_advisory_lock($1)", _LOCK):
        if asyncio.get_running_loop().time() > end:
            raise MigrationError(f"Another process has been migrating this database for {wait_seconds:.0f} s")
        await asyncio.sleep(_POLL_SECONDS)


async def _pending(connection: Connection, migrations: list[Migration]) -> list[Migration]:
    if await connection.fetchval("select to_regclass('schema_migrations')") is None:
        return migrations
    rows = await connection.fetch("select number, name, sha256 from schema_migrations")
    applied = {row["number"]: row for row in rows}
    for one in migrations:
        row = applied.get(one.number)
        if row is not None and (row["name"], row["sha256"]) != (one.name, one.sha256):
            raise MigrationError(
                f"Migration {one.number:04}_{one.name} is not the one that was applied here ({row['name']}): "
                "an applied migration must never be edited, add a new one"
            )
    newest = max(applied, default=0)
    pending = [one for one in migrations if one.number not in applied]
    if pending and pending[0].number < newest:
        raise MigrationError(
            f"Migration {pending[0].number:04}_{pending[0].name} was never applied here, but {newest:04} was: "
            "give it a new number"
        )
    return pending


async def _apply(connection: Connection, one: Migration, patience_seconds: float) -> None:
    try:
        if one.in_transaction:
            await _insist(connection, one, _in_transaction, patience_seconds)
            return
        for statement in one.statements:
            if _CONCURRENTLY.search(statement):
                await connection.execute(statement)
            else:
                await _insist(connection, replace(one, sql=statement), _alone, patience_seconds)
        await connection.execute(_RECORD, one.number, one.name, one.sha256)
    except asyncpg.LockNotAvailableError as error:
        raise MigrationError(
            f"Migration {one.number:04}_{one.name} got no lock in {patience_seconds:.0f} s: a long transaction holds "
            "the table (pg_stat_activity shows it), end that and migrate again"
        ) from error
    except asyncpg.PostgresError as error:
        raise MigrationError(f"Migration {one.number:04}_{one.name} failed: {error}") from error


async def _insist(
    connection: Connection,
    one: Migration,
    run: Callable[[Connection, Migration], Awaitable[None]],
    patience_seconds: float,
) -> None:
    """Try again while somebody holds a table that is wanted, or waits for us in turn (a deadlock)."""
    end = asyncio.get_running_loop().time() + patience_seconds
    while True:
        try:
            await run(connection, one)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            if asyncio.get_running_loop().time() > end:
                raise
            _log.warning("a table is in use, stepping back", migration=f"{one.number:04}_{one.name}")
            await asyncio.sleep(STEP_BACK_SECONDS)
        else:
            return


async def _in_transaction(connection: Connection, one: Migration) -> None:
    async with connection.transaction():
        await connection.execute(_SHORT_LOCKS)
        await connection.execute(one.sql)
        await connection.execute(_RECORD, one.number, one.name, one.sha256)


async def _alone(connection: Connection, one: Migration) -> None:
    """One statement of a file that runs outside a transaction; it is still one of its own, with the lock's bound."""
    async with connection.transaction():
        await connection.execute(_SHORT_LOCKS)
        await connection.execute(one.sql)
