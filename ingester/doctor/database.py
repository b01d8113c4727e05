"""Postgres: is it there, does it keep what it has promised, is the schema ours, are there connections, is it fast?"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from ingester.doctor.finding import Finding, Pen
from ingester.doctor.patient import NoDatabase, Patient
from ingester.store import migrate
from ingester.store.db import Connection, Database, Unavailable, classify, is_pooled
from ingester.store.standing import Standing, standing
from ingester.store.survey import Server, clock, is_shared, seconds_to_commit, server

OLDEST, NEWEST = 15, 18
"""Versions of Postgres that are tested."""
SLOW_COMMIT: Final = 0.05
"""Seconds. A disk of today needs 1 to 10 ms; every mail waits so long at least."""
CLOCK_SECONDS: Final = 2.0
LISTENING: Final = 1
"""Connections of a worker beside its pool: the one that hears of changes in the directory."""

_pen = Pen("database")
_pooler = Pen("pooler")
_commit = Pen("commit")
_roles = Pen("roles")
_clock = Pen("clock")


async def look(patient: Patient) -> Sequence[Finding]:
    """Reachable, durable, migrated, with room for our connections."""
    try:
        async with patient.connection() as connection:
            seen = await server(connection)
            return [*_promises(seen), *_connections(patient, seen), *await _schema(connection)]
    except NoDatabase:
        return [_pen.fault("no database is named", "Set INGESTER_DATABASE_URL.")]
    except Exception as error:
        if classify(error) is None and not isinstance(error, Unavailable):
            raise
        return [_away(error)]


def _away(error: Exception) -> Finding:
    state = str(getattr(error, "sqlstate", None) or "")
    if state.startswith("28"):
        return _pen.fault(
            "it refuses the user or the password of INGESTER_DATABASE_URL",
            "Change the URL, or the role's password, or pg_hba.conf.",
        )
    if state.startswith("3D"):
        return _pen.fault(
            "the server has no database of that name", "Make it (`createdb`), or change INGESTER_DATABASE_URL."
        )
    if state == "53300":
        return _pen.fault(
            "it takes no more connections",
            "Raise max_connections, or lower INGESTER_STORE__CONNECTIONS or the workers.",
        )
    return _pen.fault(
        f"it cannot be reached ({type(error).__name__}): every mail is deferred until it is back",
        "Look whether it runs, and whether host and port of INGESTER_DATABASE_URL can be reached from here.",
    )


def _promises(seen: Server) -> Iterator[Finding]:
    """What makes a yes mean committed."""
    major = seen.version // 10_000
    if major < OLDEST:
        yield _pen.fault(f"it is Postgres {major}, older than {OLDEST}", f"Upgrade it to {OLDEST} to {NEWEST}.")
    elif major > NEWEST:
        yield _pen.warning(f"it is Postgres {major}, which is not tested", f"Take {OLDEST} to {NEWEST}, or report.")
    if seen.fsync != "on":
        yield _pen.fault(
            "fsync is off: a power cut destroys the database, mails said yes to included",
            "ALTER SYSTEM SET fsync = on, then SELECT pg_reload_conf().",
        )
    if seen.synchronous_commit == "off":
        yield _pen.fault(
            "synchronous_commit is off: a crash loses mails that were said yes to",
            "ALTER SYSTEM (or ROLE, or DATABASE) SET synchronous_commit = on, then SELECT pg_reload_conf().",
        )
    if seen.full_page_writes != "on":
        yield _pen.warning(
            "full_page_writes is off: a crash may leave half-written pages",
            "Set it on, unless the file system (ZFS) never tears a page.",
        )
    if seen.standby or seen.read_only == "on":
        yield _pen.fault(
            "it takes no writes: it is a standby, or read-only", "Point INGESTER_DATABASE_URL at the primary."
        )
    if seen.encoding != "UTF8":
        yield _pen.fault(
            f"its encoding is {seen.encoding}: most mails cannot be stored", "Make a database with ENCODING 'UTF8'."
        )
    yield _pen.ok(f"Postgres {major} answers, {seen.size / 2**20:,.0f} MiB")


def _connections(patient: Patient, seen: Server) -> Iterator[Finding]:
    settings = patient.settings
    ours = settings.workers * (settings.store.connections + LISTENING)
    room = seen.max_connections - seen.reserved
    if ours > room:
        yield _pen.fault(
            f"this daemon may open {ours} connections ({settings.workers} workers), the server has room for {room}",
            "Raise max_connections, lower INGESTER_STORE__CONNECTIONS (8 do for two cores), or put pgbouncer between.",
        )
    elif seen.connections > 0.9 * room:
        yield _pen.warning(
            f"{seen.connections} of {room} connections are in use", "Raise max_connections, or close what is idle."
        )
    else:
        yield _pen.ok(f"{seen.connections} of {room} connections in use; this daemon may open {ours}")


async def _schema(connection: Connection) -> list[Finding]:
    try:
        pending = await migrate.check(connection)
    except migrate.MigrationError as error:
        return [_pen.fault(f"{error}", "Run the version of ingester that migrated here, or restore the file it had.")]
    if pending:
        return [_pen.fault(f"it lacks migrations: {', '.join(pending)}", "Run `ingester migrate`.")]
    return [_pen.ok("all migrations are there, unedited")]


async def look_at_pooler(patient: Patient) -> Sequence[Finding]:
    """A pooler in transaction mode gives each transaction another server process."""
    async with patient.database() as database:
        if not await is_shared(database):
            return []
        direct = bool(patient.settings.database_direct_url.get_secret_value())
        around = await _around(database) if direct else _NO_WAY_AROUND
    findings = [_pooler.ok("a pooler in transaction mode stands between")]
    if patient.settings.store.statement_cache:
        findings.append(
            _pooler.fault(
                "a pooler in transaction mode stands between, and prepared statements are kept: mails will be deferred",
                "Set INGESTER_STORE__STATEMENT_CACHE=0.",
            )
        )
    return findings if around is None else [*findings, around]


async def _around(database: Database) -> Finding | None:
    """Whether INGESTER_DATABASE_DIRECT_URL leads past the pooler."""
    try:
        connection = await database.connect()
    except Exception as error:
        if classify(error) is None:
            raise
        return _pooler.fault(
            f"INGESTER_DATABASE_DIRECT_URL cannot be reached ({type(error).__name__})",
            "Correct it: changes in the directory are heard over it, and migrations run there.",
        )
    try:
        return _NO_WAY_AROUND if await is_pooled(connection) else None
    finally:
        await connection.close()


async def look_at_commit(patient: Patient) -> Sequence[Finding]:
    """How long a commit takes."""
    async with patient.connection() as connection:
        return [judge_commit(await seconds_to_commit(connection))]


def judge_commit(took: float) -> Finding:
    """`took` is in seconds, the way to the database and back included."""
    told = f"a commit takes {took * 1000:.1f} ms"
    if took > SLOW_COMMIT:
        return _commit.warning(
            f"{told}, and every mail waits for one",
            "Look at the disk of the write-ahead log, at synchronous standbys, and at the way to the database.",
        )
    return _commit.ok(told)


async def look_at_clock(patient: Patient) -> Sequence[Finding]:
    """Our clock beside the database's: claims, quotas and ids are made by ours."""
    async with patient.connection() as connection:
        await clock(connection)  # the first one pays for the plan
        begin = datetime.now(UTC)
        theirs = await clock(connection)
        ours = begin + (datetime.now(UTC) - begin) / 2
    return [judge_clock((ours - theirs).total_seconds())]


def judge_clock(ahead: float) -> Finding:
    """`ahead` is how many seconds our clock is before the database's."""
    if abs(ahead) > CLOCK_SECONDS:
        return _clock.fault(
            f"this host's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the database's",
            "Run chrony or systemd-timesyncd on both.",
        )
    return _clock.ok(f"this host and the database agree to {abs(ahead) * 1000:.0f} ms")


async def look_at_roles(patient: Patient) -> Sequence[Finding]:
    """Whom the daemon is in the database: it needs to change rows, never tables."""
    async with patient.connection() as connection:
        return judge_roles(await standing(connection))


def judge_roles(seen: Standing) -> list[Finding]:
    """What the role may that it should not, and the other way round."""
    if seen.superuser:
        return [_roles.warning(f"the daemon is {seen.role}, a superuser: a fault in it could do anything", _OWN_ROLE)]
    if seen.guarded and seen.unguarded:
        return [
            _roles.fault(
                f"tables of tenants without row-level security: {', '.join(seen.unguarded)}",
                "Run `ingester roles --apply` as the owner, as after every migration that adds a table.",
            )
        ]
    if seen.owner:
        return [_roles.warning(f"the daemon is {seen.role}, who owns the tables and could drop them", _OWN_ROLE)]
    if seen.guarded and not seen.sees_all:
        return [
            _roles.fault(
                f"{seen.role} is no runtime role of this database: it sees no rows", "Run `ingester roles --apply`."
            )
        ]
    if seen.bound and seen.api is None:
        return [
            _roles.fault(
                f"{seen.role} may not take the API's role: /v1 answers 503",
                "Run `ingester roles --apply` as the owner.",
            )
        ]
    return [_roles.ok(f"the daemon is {seen.role}, who can change rows and no tables")]


_NO_WAY_AROUND = _pooler.fault(
    "a pooler in transaction mode stands between: notifications and migrations do not come through",
    "Set INGESTER_DATABASE_DIRECT_URL to the server itself.",
)
_OWN_ROLE = "Make a role of its own for the daemon (`ingester roles`), and log in as that."
