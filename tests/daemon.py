"""The real process for end-to-end tests: `python -m ingester serve`, its log, its doors, its death."""

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE, STDOUT, CompletedProcess, Popen, run
from typing import IO, Any, Final
from uuid import UUID

import asyncpg
import msgspec
import psutil

from ingester.clock import new_id
from ingester.store import registry
from tests.ports import free_port
from tests.quiet_dns import nameservers

ROOT = Path(__file__).parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ingester-tests"
DIED = "worker died, starting another"
START_SECONDS = 30.0
END_SECONDS = 60.0
"""Safety nets. What is waited for takes a second or two."""


OURS: Final = (sys.executable, "-m", "ingester")
EMPTY: Final[Mapping[str, socket.socket]] = {}
OF_THIS_TEST: dict[str, str] = {}
"""Settings that every process of the test that runs is started with; fixtures fill it and empty it again."""


class Died(AssertionError):
    """The daemon ended while something was expected of it."""


@dataclass(slots=True)
class Daemon:
    """One running daemon (or its supervisor). Log lines are read by a thread; tests wait on them, never on time."""

    process: Popen[bytes]
    port: int
    lines: list[dict[str, Any]] = field(default_factory=list)
    raw: list[str] = field(default_factory=list)
    news: threading.Condition = field(default_factory=threading.Condition)
    ended: bool = False

    def wait_for(
        self, what: Callable[[dict[str, Any]], bool], seconds: float = START_SECONDS, *, times: int = 1, after: int = 0
    ) -> dict[str, Any]:
        """Wait for a log line, or for so many, not looking at the first `after` lines; gives the last of them.

        Raises Died when the process ends without it.
        """
        end = time.monotonic() + seconds
        seen = after
        with self.news:
            while True:
                for line in self.lines[seen:]:
                    times -= what(line)
                    if not times:
                        return line
                seen = max(seen, len(self.lines))
                if self.ended:
                    raise Died("the daemon ended:\n" + "\n".join(self.raw[-20:]))
                if not self.news.wait(end - time.monotonic()):
                    raise Died("no such log line in time:\n" + "\n".join(self.raw[-20:]))

    def wait_event(
        self, event: str, seconds: float = START_SECONDS, *, times: int = 1, after: int = 0
    ) -> dict[str, Any]:
        """Wait for a log line by its event name."""
        return self.wait_for(lambda line: line.get("event") == event, seconds, times=times, after=after)

    def wait_end(self, seconds: float = END_SECONDS) -> int:
        """Wait for the end of the process. Gives its exit status, below zero for the signal that ended it."""
        return self.process.wait(seconds)

    def wait_silence(self, seconds: float = END_SECONDS) -> None:
        """Wait until nobody can log any more: the process and all that it has forked are gone."""
        with self.news:
            if not self.news.wait_for(lambda: self.ended, seconds):
                raise Died("somebody lives on:\n" + "\n".join(self.raw[-20:]))

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process (the supervisor, where there are workers)."""
        self.process.send_signal(number)

    def terminate(self) -> int:
        """SIGTERM, and wait for the end of the drain. Gives the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait_end()

    @property
    def worker(self) -> int:
        """The process id of the worker that said last that it serves."""
        return int(self.wait_event("serving", times=sum(one.get("event") == "serving" for one in self.lines))["pid"])

    def kill(self) -> None:
        """kill -9 of all that it consists of: the supervisor, and the workers, which would drain."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.wait_end()

    def wait_killed(self) -> None:
        """Wait until a fault point has killed a worker with -9; its supervisor is then killed too."""
        self.wait_for(lambda line: line.get("event") == DIED and line["status"] == -signal.SIGKILL)
        self.kill()

    def wait_text(self, text: str, seconds: float = START_SECONDS, *, times: int = 1, after: int = 0) -> int:
        """Wait for a line that holds this text, or for so many. Gives the number of lines up to it."""
        end = time.monotonic() + seconds
        with self.news:
            while True:
                found = [number for number, line in enumerate(self.raw[after:], after + 1) if text in line]
                if len(found) >= times:
                    return found[times - 1]
                if self.ended or not self.news.wait(end - time.monotonic()):
                    raise Died(f"{len(found)} lines with {text!r}:\n" + "\n".join(self.raw[-20:]))

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            text = line.decode(errors="replace").rstrip()
            with self.news:
                self.raw.append(text)
                try:
                    decoded = msgspec.json.decode(line)
                except msgspec.DecodeError:
                    decoded = {}
                self.lines.append(decoded if isinstance(decoded, dict) else {})
                self.news.notify_all()
        with self.news:
            self.ended = True
            self.news.notify_all()


def clean_environment() -> dict[str, str]:
    """This process's environment without any setting of the machine.

    Bytecode is kept even where the machine forbids it: a hundred starts would compile everything anew.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("INGESTER_")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment.setdefault("PYTHONPYCACHEPREFIX", str(CACHE / "bytecode"))
    environment["INGESTER_DNS__NAMESERVERS"] = nameservers()
    return environment | OF_THIS_TEST


def command(database_url: str | None, *arguments: object, status: int = 0, **settings: str) -> str:
    """Run `ingester ...` as a process of its own, on this database if one is named, and give what it prints."""
    environment = clean_environment() | settings
    if database_url is not None:
        environment["INGESTER_DATABASE_URL"] = database_url
    words = [sys.executable, "-m", "ingester", *map(str, arguments)]
    done: CompletedProcess[str] = run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


@contextmanager
def serving(
    database_url: str,
    *,
    port: int | None = None,
    settings: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
    wait: bool = True,
    handed: Mapping[str, socket.socket] | None = None,
    command: Sequence[str] = OURS,
) -> Iterator[Daemon]:
    """Start the daemon on 127.0.0.1 and [::1] and end it at the latest with the test.

    `handed`: listening sockets that it is given as systemd does; `port` is then that of SMTP.
    """
    if handed and "smtp" in handed:
        port = handed["smtp"].getsockname()[1]
    port = port or free_port()
    environment = clean_environment() | {
        "INGESTER_ENV": "development",
        "INGESTER_LOG__FORMAT": "json",
        "INGESTER_DATABASE_URL": database_url,
        "INGESTER_SMTP__LISTEN": f"127.0.0.1:{port},[::1]:{port}",
        **(settings or {}),
    }
    with _running([*command, "serve", *arguments], environment, port, handed=handed or {}) as daemon:
        if wait:
            daemon.wait_event("serving")
        yield daemon


@contextmanager
def developing(directory: Path, *arguments: str, port: int | None = None) -> Iterator[Daemon]:
    """Start `ingester dev` in this directory; `raw` is what it prints."""
    port = port or free_port()
    words = ["dev", "--dir", str(directory), "--smtp", f"127.0.0.1:{port}", "--http", "127.0.0.1:0", *arguments]
    with _running([*OURS, *words], clean_environment(), port) as daemon:
        yield daemon


@contextmanager
def _running(
    words: list[str], environment: dict[str, str], port: int, *, handed: Mapping[str, socket.socket] = EMPTY
) -> Iterator[Daemon]:
    """A process whose output, both streams in one, is read line by line."""
    if handed:
        named = [f"{name}={sock.fileno()}" for name, sock in handed.items()]
        words = [sys.executable, "-m", "tests.activated", *named, "--", *words]
    process = Popen(
        words,
        cwd=ROOT,
        env=environment,
        stdout=PIPE,
        stderr=STDOUT,
        start_new_session=True,
        pass_fds=[sock.fileno() for sock in handed.values()],
    )
    assert process.stdout is not None
    daemon = Daemon(process, port)
    reader = threading.Thread(target=daemon._read, args=(process.stdout,), daemon=True)
    reader.start()
    try:
        yield daemon
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # workers too, which may have outlived their supervisor
        psutil.wait_procs(children, END_SECONDS)  # Postgres ends by itself when its parent has died
        process.wait(END_SECONDS)
        reader.join(END_SECONDS)
        process.stdout.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Town:
    """Two tenants with a domain each, to send to."""

    url: str

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """Ask the database."""
        connection = await asyncpg.connect(self.url)
        try:
            return list(await connection.fetch(query, *arguments))
        finally:
            await connection.close()

    def ask(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """Ask the database outside a loop."""
        return asyncio.run(self.fetch(query, *arguments))

    def count(self, table: str) -> int:
        """Rows of a table."""
        return int(self.ask(f"SELECT count(*) FROM {table}")[0][0])


async def settle(url: str, names: Mapping[str, tuple[str, ...]]) -> Town:
    """Make a tenant per domain, named after its first label, with mailboxes."""
    connection = await asyncpg.connect(url)
    try:
        for domain, mailboxes in names.items():
            await registry.seed(
                connection, tenant=domain.partition(".")[0], domain=domain, mailboxes=mailboxes, new_id=new_id
            )
    finally:
        await connection.close()
    return Town(url=url)


def town(url: str) -> Town:
    """The usual town: acme.test and globex.test, each with support and sales."""
    return asyncio.run(settle(url, {"acme.test": ("support", "sales"), "globex.test": ("support", "sales")}))


def arrival(reply: str) -> UUID:
    """The arrival id in a reply to the final dot."""
    return UUID(reply.strip().rpartition(" ")[2])
