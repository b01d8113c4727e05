"""What is measured: a real `ingester serve` on a real Postgres with fsync on, a fresh database for every run.

A fresh database has never been analysed, and autovacuum is as Postgres has it: it comes by when it likes. Plans must be
good before it does, as they must on an installation's first day.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import asyncpg

from ingester.store.embedded import LocalPostgres
from ingester.store.migrate import migrate
from tests.bench.corpus import DOMAIN
from tests.bench.driver import CLIENTS, introduction
from tests.bench.probe import DIRECTORY as PROBE
from tests.ports import free_port

POSTGRES_OPTIONS = {"shared_buffers": "256MB", "max_wal_size": "4GB", "wal_init_zero": "off"}
"""Beside the defaults. Room for the log, so that no checkpoint falls into one run and not into the other. A server that
has run for an hour uses the files of its log again, and this one is always new: it would fill each with zeros first.
"""
DURABLE = ("fsync", "synchronous_commit", "full_page_writes")
READY_SECONDS = 30.0
STOP_SECONDS = 60.0
TENANT = UUID("00000000-0000-7000-8000-00000000be7c")
TEMPLATE = "bench_template"
PROXIED = MappingProxyType({"INGESTER_SMTP__PROXY_NETWORKS": "127.0.0.0/8"})
"""The settings of a daemon for a driver that sends a PROXY header (`Plan.proxied`)."""

T = TypeVar("T")


class BenchError(Exception):
    """The benchmark cannot be run, or its figures would mean nothing; the text is for the operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The Postgres of the benchmark."""

    url: str
    pid: int
    version: str
    directory: Path

    def database(self, name: str) -> str:
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """A serving daemon; `pid` is the root of its process tree."""

    pid: int
    port: int


@contextmanager
def postgres(directory: Path | None) -> Iterator[Server]:
    """A Postgres of its own below `directory` (default: /var/tmp, which is a disk where /tmp may be memory)."""
    home = Path(tempfile.mkdtemp(prefix="ingester-bench-", dir=directory or "/var/tmp"))
    home.chmod(0o711)  # so that the account which root drops to may enter
    local = LocalPostgres(home, options=POSTGRES_OPTIONS)
    try:
        url = local.start()
        pid = int((local.log.parent / "data" / "postmaster.pid").read_text(encoding="utf-8").split()[0])
        version = query(url, _check_durable)
        server = Server(url=url, pid=pid, version=version, directory=home)
        _make_template(server)
        yield server
    finally:
        local.stop()
        shutil.rmtree(home, ignore_errors=True)


async def _check_durable(connection: asyncpg.Connection) -> str:
    for name in DURABLE:
        if await connection.fetchval("SELECT current_setting($1)", name) != "on":
            raise BenchError(f"Postgres has {name} off: figures without durability mean nothing")
    return str(await connection.fetchval("SHOW server_version"))


def _make_template(server: Server) -> None:
    """Migrations and the directory once; each run clones it."""
    query(server.url, lambda connection: connection.execute(f"CREATE DATABASE {TEMPLATE}"))
    url = server.database(TEMPLATE)
    query(url, migrate)
    query(url, fill_directory)


async def fill_directory(
    connection: asyncpg.Connection, *, tenant: UUID = TENANT, slug: str = "bench", domain: str = DOMAIN
) -> None:
    """A tenant, two mailboxes with addresses of their own and one that takes all the rest."""
    await connection.execute(
        "INSERT INTO tenants (id, slug, name, status) VALUES ($1, $2, 'Bench', 'active')", tenant, slug
    )
    await connection.execute(
        "INSERT INTO domains (name, tenant_id, status) VALUES ($1, $2, 'verified')", domain, tenant
    )
    routes = (("support", "exact", "support"), ("sales", "exact", "sales"), ("everything", "catch_all", ""))
    for number, (local_part, kind, routed) in enumerate(routes, start=1):
        mailbox, route = UUID(int=tenant.int + number), UUID(int=tenant.int + 16 + number)
        await connection.execute(
            "INSERT INTO mailboxes (tenant_id, id, domain, local_part) VALUES ($1, $2, $3, $4)",
            *(tenant, mailbox, domain, local_part),
        )
        await connection.execute(
            "INSERT INTO routes (tenant_id, id, domain, kind, local_part, mailbox_id) VALUES ($1, $2, $3, $4, $5, $6)",
            *(tenant, route, domain, kind, routed, mailbox),
        )


@contextmanager
def fresh_database(server: Server, *, template: str = TEMPLATE) -> Iterator[str]:
    """A clone of the template, with the log checkpointed; gives its URL and drops it afterwards."""
    name = "bench_run"
    query(server.url, lambda connection: connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}"))
    query(server.url, lambda connection: connection.execute("CHECKPOINT"))
    try:
        yield server.database(name)
    finally:
        query(server.url, lambda connection: connection.execute(f"DROP DATABASE {name} WITH (FORCE)"))


@contextmanager
def daemon(
    url: str,
    *,
    workers: int,
    log: Path,
    nameserver: tuple[str, int],
    settings: Mapping[str, str] = MappingProxyType({}),
    probe: Path | None = None,
) -> Iterator[Daemon]:
    """A serving daemon on a free port; `settings` are further INGESTER_* ones and win over ours.

    With `probe` its workers' loops are watched, and what is seen lies in that directory (see `tests.bench.probe`).
    Ends it by SIGTERM; raises BenchError when it does not end well.
    """
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.probe" if probe else "ingester", "serve"]
    environment = own_environment() | {
        "INGESTER_ENV": "development",
        "INGESTER_DATABASE_URL": url,
        "INGESTER_LOG__FORMAT": "json",  # as in production
        "INGESTER_SMTP__LISTEN": f"127.0.0.1:{port}",
        "INGESTER_SMTP__MAX_CONNECTIONS_PER_PREFIX": "1000",
        "INGESTER_WORKERS": str(workers),
        "INGESTER_DNS__NAMESERVERS": "{}:{}".format(*nameserver),
        **settings,
        **({PROBE: str(probe)} if probe else {}),
    }
    proxied = "INGESTER_SMTP__PROXY_NETWORKS" in environment
    with serving(command, environment, port=port, log=log, proxied=proxied) as process:
        yield Daemon(pid=process.pid, port=port)
    if process.returncode:
        raise BenchError(f"the daemon ended with status {process.returncode}:\n{_tail(log)}")


@contextmanager
def serving(
    command: Sequence[str], environment: Mapping[str, str], *, port: int, log: Path, proxied: bool
) -> Iterator[subprocess.Popen[bytes]]:
    """A process from its greeting to its end by SIGTERM."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        await_greeting(process, port, log, proxied=proxied)
        yield process
    finally:
        _stop(process)


def own_environment() -> dict[str, str]:
    """Ours without any setting of a daemon."""
    return {name: value for name, value in os.environ.items() if not name.startswith("INGESTER_")}


def await_greeting(process: subprocess.Popen[bytes], port: int, log: Path, *, proxied: bool) -> None:
    """Return when the door greets. The port is closed until then, so that trying is the only way to know.

    Raises BenchError when it does not in time.
    """
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        try:
            process.wait(0.02)
            break
        except subprocess.TimeoutExpired:
            pass
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as visitor:
                if proxied:
                    visitor.sendall(introduction(CLIENTS[0]))
                if visitor.recv(3) == b"220":
                    visitor.sendall(b"QUIT\r\n")
                    return
        except OSError:
            continue
    raise BenchError(f"nobody greets at the door (status {process.poll()}):\n{_tail(log)}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:]) if log.exists() else ""


def query(url: str, ask: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
    """Run one exchange with a database on a connection of its own."""

    async def exchange() -> T:
        connection = await asyncpg.connect(url)
        try:
            return await ask(connection)
        finally:
            await connection.close()

    return asyncio.run(exchange())
