"""What an operator asks of the database when something is wrong: how it is set up, how fast it is, who sends.

Read-only but for a commit that leaves nothing behind. It judges nothing.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Final
from uuid import UUID

from ingester.core.ids import uuid7
from ingester.store.db import Connection, Database, is_pooled

COMMITS: Final = 11
"""Commits that are measured; the middle one counts."""
TURNS: Final = 10
"""How often each of two connections is asked who serves it."""
RECEIPTS: Final = 2000
"""Receipts of one tenant that are looked at, the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """How Postgres is set up, as this connection has it. Sizes in bytes, `clock` is its own."""

    version: int
    """As in server_version_num: 150004 is 15.4."""
    encoding: str
    fsync: str
    synchronous_commit: str
    full_page_writes: str
    standby: bool
    read_only: str
    max_connections: int
    reserved: int
    """Of those, kept for others than us."""
    connections: int
    """In use now, by everybody."""
    clock: datetime
    size: int
    directory: str | None
    """Where its files lie; None where this role may not know."""
    local: bool
    """Whether it runs on this machine, as far as the connection tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Mails that came from one address through one door."""

    door: str
    client_ip: str
    mails: int


async def server(connection: Connection) -> Server:
    """Ask for all of it in one statement."""
    row = await connection.fetchrow(
        """
        SELECT current_setting('server_version_num')::integer AS version,
               current_setting('server_encoding') AS encoding, current_setting('fsync') AS fsync,
               current_setting('synchronous_commit') AS synchronous_commit,
               current_setting('full_page_writes') AS full_page_writes,
               pg_is_in_recovery() AS standby, current_setting('default_transaction_read_only') AS read_only,
               current_setting('max_connections')::integer AS max_connections,
               current_setting('superuser_reserved_connections')::integer
                   + coalesce(current_setting('reserved_connections', true), '0')::integer AS reserved,
               (SELECT count(*)::integer FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
               pg_database_size(current_database()) AS size,
               CASE WHEN pg_has_role('pg_read_all_settings', 'USAGE') THEN current_setting('data_directory') END
                   AS directory,
               coalesce(inet_server_addr() <<= '127.0.0.0/8' OR inet_server_addr() = '::1', true) AS local,
               clock_timestamp() AS clock
        """
    )
    assert row is not None
    return Server(**dict(row))


async def clock(connection: Connection) -> datetime:
    """The server's clock, now."""
    moment: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return moment


async def seconds_to_commit(connection: Connection) -> float:
    """How long a small commit takes, the way there and back included: what no mail can be faster than.

    A message in the write-ahead log that nobody reads makes the commit a real one, and no row is left behind.
    """
    took: list[float] = []
    for _ in range(COMMITS):
        begin = time.perf_counter()
        await connection.execute("SELECT pg_logical_emit_message(true, 'ingester.doctor', '')")
        took.append(time.perf_counter() - begin)
    return median(took)


async def is_shared(database: Database) -> bool:
    """Whether a pooler gives a connection now this and now that server process: its transaction mode.

    Both connections stay open, so that in any other mode each has one process and both have two.
    """
    async with database.connection() as first, database.connection() as second:
        if not await is_pooled(first):
            return False
        seen: tuple[set[int], set[int]] = (set(), set())
        for _ in range(TURNS):
            for connection, pids in zip((first, second), seen, strict=True):
                pids.add(await connection.fetchval("SELECT pg_backend_pid()"))
    return max(map(len, seen)) > 1 or not seen[0].isdisjoint(seen[1])


async def origins(connection: Connection, *, since: datetime) -> Sequence[Origin]:
    """Where mail came from by SMTP, most first. By key: of each tenant the newest receipts, at most RECEIPTS."""
    rows = await connection.fetch(
        """
        SELECT r.door, r.client_ip, count(*)::integer AS mails
        FROM tenants t, LATERAL (
            SELECT x.door, x.client_ip FROM receipts x
            WHERE x.tenant_id = t.id AND x.id >= $1
            ORDER BY x.id DESC LIMIT $2
        ) r
        WHERE r.door = 'smtp' AND r.client_ip <> ''
        GROUP BY r.door, r.client_ip ORDER BY count(*) DESC, r.client_ip LIMIT 100
        """,
        _first_id(since),
        RECEIPTS,
    )
    return [Origin(**dict(row)) for row in rows]


def _first_id(moment: datetime) -> UUID:
    """The lowest id that a row can have that was made then or later (RFC 9562, 5.7)."""
    return uuid7(unix_ms=int(moment.timestamp() * 1000), entropy=bytes(10))
