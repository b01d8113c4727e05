"""Databases for tests: one server a session, a template that is migrated once, a fresh clone for each test."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from ingester.store.embedded import LocalPostgres
from ingester.store.migrate import migrate

FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "max_wal_size": "256MB",
}
"""For the everyday tests, which do not pull plugs. Fault tests take `own_postgres`, where fsync is on."""
TEMPLATE = "ingester_template"
MEMORY = Path("/dev/shm")
"""A file system in memory: there a clone, hundreds of small files, takes 20 ms where a disk takes 200."""
ENOUGH = 4 << 30
"""Bytes that must be free there, for the servers of all workers."""


@dataclass(slots=True, kw_only=True)
class Cluster:
    """A running server. `url` names the administrator's database."""

    server: LocalPostgres
    url: str
    made: int = field(default=0)

    def url_of(self, database: str) -> str:
        return urlsplit(self.url)._replace(path=f"/{database}").geturl()

    @contextmanager
    def clone(self, template: str = TEMPLATE) -> Iterator[str]:
        """Make a database out of the template, give its URL, and drop it with whoever is still connected."""
        self.made += 1
        name = f"test_{self.made}"
        self.execute(f"create database {name} template {template} strategy file_copy")
        try:
            yield self.url_of(name)
        finally:
            self.execute(f"drop database {name} with (force)")

    def execute(self, statement: str) -> None:
        """Run one statement as the administrator, outside any loop of a test."""
        asyncio.run(_execute(self.url, statement))


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _migrate(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await migrate(connection)
    finally:
        await connection.close()


def _memory() -> Path | None:
    """Where a server that survives nothing may lie; None is where temporary files do."""
    return MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= ENOUGH else None


@contextmanager
def running(options: Mapping[str, str], *, place: Path | None = None) -> Iterator[Cluster]:
    """A server in a directory of its own, which is removed at the end. The schema is not there yet."""
    directory = Path(tempfile.mkdtemp(prefix="ingester-tests-", dir=place))
    directory.chmod(0o711)  # run by root, Postgres is another account and must get in
    server = LocalPostgres(directory, options=options)
    try:
        yield Cluster(server=server, url=server.start())
    finally:
        server.stop()
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """The session's server, with the migrated template."""
    with running(FAST, place=_memory()) as cluster:
        cluster.execute(f"create database {TEMPLATE}")
        asyncio.run(_migrate(cluster.url_of(TEMPLATE)))
        yield cluster


@pytest.fixture
def database_url(postgres: Cluster) -> Iterator[str]:
    """A database of one's own with the whole schema."""
    with postgres.clone() as url:
        yield url


@pytest.fixture
def empty_database_url(postgres: Cluster) -> Iterator[str]:
    """A database of one's own without any table."""
    with postgres.clone("template0") as url:
        yield url


@pytest.fixture
def own_postgres() -> Iterator[Cluster]:
    """A server of one's own with fsync on and the schema in place, to be stopped and started by the test."""
    with running({}) as cluster:
        asyncio.run(_migrate(cluster.url))
        yield cluster
