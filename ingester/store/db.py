"""The connection pool, and what an error of the database means: wait, give the mail up, or neither.

asyncpg: an error on COMMIT means unknown, not failed; whoever commits must be able to look again.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum, auto
from time import perf_counter
from typing import TypeAlias

import asyncpg
import msgspec
from asyncpg.pool import PoolConnectionProxy

from ingester.settings import Settings
from ingester.store.objects import MissingExtra, ObjectsUnavailable, ObjectsUnusable
from ingester.telemetry.metrics import DATABASE_WAIT, Metrics

Connection: TypeAlias = asyncpg.Connection | PoolConnectionProxy
"""What a store function takes first: a connection of the pool or one of its own."""


class Trouble(Enum):
    """What an error says about the mail at hand."""

    TRANSIENT = auto()
    """Ours, and it may pass: try again, then 4xx."""
    DATA = auto()
    """The database will never take these values: a dead letter."""
    LASTING = auto()
    """Ours, and a second try will not help (a wrong schema, a missing right, a directory not ours): 4xx at once."""


_DATA_CLASSES = ("22", "23", "54")
_LASTING_CLASSES = ("28", "3D", "42", "0A")
_RETRY_AT_ONCE = (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError)


def classify(error: BaseException) -> Trouble | None:
    """Say what an error means, or None when it comes from neither database nor objects (a surprise of our own)."""
    if isinstance(error, _RETRY_AT_ONCE):
        return Trouble.TRANSIENT
    if isinstance(error, asyncpg.PostgresError):
        state = str(error.sqlstate or "")
        if state[:2] in _DATA_CLASSES:
            return Trouble.DATA
        return Trouble.LASTING if state[:2] in _LASTING_CLASSES else Trouble.TRANSIENT
    if isinstance(error, asyncpg.DataError):
        return Trouble.DATA
    if isinstance(error, ObjectsUnusable):
        return Trouble.LASTING
    if isinstance(error, ObjectsUnavailable | MissingExtra):
        return Trouble.TRANSIENT
    if isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError | OSError | TimeoutError | EOFError):
        return Trouble.TRANSIENT
    return None


class Unavailable(Exception):
    """The database could not do it in time; the caller answers 4xx. The text names no values."""


class Database:
    """One pool. It opens lazily: a daemon that starts while Postgres is down answers 451 and recovers by itself."""

    def __init__(self, settings: Settings, metrics: Metrics | None = None) -> None:
        """`metrics`: by default some that nobody reads."""
        self._metrics = metrics or Metrics()
        self._url = settings.database_url.get_secret_value()
        self._direct_url = settings.database_direct_url.get_secret_value() or self._url
        self._settings = settings.store
        self._pool: asyncpg.Pool | None = None

    async def open(self) -> None:
        """Make the pool; no connection is made until one is wanted."""
        self._pool = asyncpg.create_pool(
            self._url,
            min_size=0,
            max_size=self._settings.connections,
            max_inactive_connection_lifetime=300,
            statement_cache_size=self._settings.statement_cache,
            command_timeout=self._settings.commit_seconds,
            timeout=5,
            server_settings=_SESSION,
            init=_prepare,
            reset=_as_it_is,
        )
        await self._pool

    async def close(self) -> None:
        """Close the pool; connections still in use are cut after two seconds."""
        if self._pool is None:
            return
        pool, self._pool = self._pool, None
        try:
            await asyncio.wait_for(pool.close(), 2)
        except TimeoutError:
            pool.terminate()

    @asynccontextmanager
    async def connection(self, *, seconds: float = 10) -> AsyncIterator[Connection]:
        """Borrow a connection, waiting at most `seconds`. Raises what `classify` knows."""
        if self._pool is None:
            raise asyncpg.InterfaceError("the pool is closed")
        begun = perf_counter()
        async with self._pool.acquire(timeout=seconds) as connection:
            self._metrics.observe(DATABASE_WAIT, perf_counter() - begun)
            yield connection

    @property
    def used(self) -> int:
        """Connections of the pool that are lent now."""
        return 0 if self._pool is None else self._pool.get_size() - self._pool.get_idle_size()

    @property
    def idle(self) -> int:
        """Connections of the pool that nobody uses now."""
        return 0 if self._pool is None else self._pool.get_idle_size()

    async def connect(self) -> asyncpg.Connection:
        """A connection of one's own, outside the pool and past a pooler (LISTEN, migrations)."""
        connection = await asyncpg.connect(
            self._direct_url,
            timeout=5,
            statement_cache_size=self._settings.statement_cache,
            server_settings=_SESSION,
        )
        await _prepare(connection)
        return connection


async def is_pooled(connection: Connection) -> bool:
    """Whether a pooler stands between: the process that answered the log-in is then not the one that answers now.

    In transaction mode, what belongs to a session (notifications, its locks) does not come through or is left behind.
    """
    return bool(connection.get_server_pid() != await connection.fetchval("SELECT pg_backend_pid()"))


_SESSION = {"application_name": "ingester", "timezone": "UTC"}


_ENCODER = msgspec.json.Encoder()


def _jsonb(value: object) -> bytearray:
    """A value in jsonb's binary form, made in one piece: a mail's text is not copied to put a byte in front of it."""
    out = bytearray(b"\x01")
    _ENCODER.encode_into(value, out, 1)
    return out


async def _prepare(connection: asyncpg.Connection) -> None:
    """jsonb as Python values both ways, in the binary form: one version byte, then JSON in UTF-8."""
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="binary",
        encoder=_jsonb,
        decoder=lambda data: msgspec.json.decode(data[1:]),
    )


async def _as_it_is(_: asyncpg.Connection) -> None:
    """Between two uses a connection needs nothing: no code of ours changes its session, and a reset costs a trip."""


async def provoke_data_fault(connection: Connection) -> None:
    """Make Postgres raise a real SQLSTATE 22012: what the fault action `data` stands for."""
    await connection.execute("SELECT 1 / 0")
