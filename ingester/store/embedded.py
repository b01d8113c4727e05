"""A local Postgres of our own, for `ingester dev` and the tests: made on first use, started, stopped, never forgotten.

It listens on 127.0.0.1 with a password of its own (scram), so that its URL serves every client and every user who is
given it. fsync stays on unless a caller's `options` say otherwise. Run by root it drops to an unprivileged account,
because Postgres refuses root. It never changes mode or owner of a directory that it has not made.

    directory/postgres/          "home": url (0600), lock, postgres.log, data/
    directory/postgres-is-at     names a home elsewhere, where that account may not enter `directory` (below /root)
"""

import fcntl
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from ingester.store import account, binaries, postmaster
from ingester.store.account import Account
from ingester.store.binaries import Binaries

USER = "ingester"
READY_SECONDS = 60.0
"""How long a start may take; replaying the log after a crash is part of it."""
STOP_SECONDS = 10.0
"""How long each step of stopping may take: a fast shutdown, then an immediate one."""

_BASES = (Path("/var/lib"), Path("/var/tmp"))  # noqa: S108  (mkdtemp makes the directory there)
_POINTER = "postgres-is-at"
_PORTS = range(20_000, 30_000)
"""Below every system's ephemeral range: a client that retries on a closed ephemeral port can connect to itself."""
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",
}


class LocalPostgresError(Exception):
    """The local Postgres cannot be had; the text is one sentence, followed by Postgres's own last words if any."""


def url_of(directory: Path) -> str:
    """The URL of the server that runs in `directory`. Raises LocalPostgresError when none does."""
    home = _home(directory)
    try:
        if _is_locked(home / "lock"):
            return _read(home / "url")
    except FileNotFoundError:
        pass
    except PermissionError:
        raise LocalPostgresError(f"The Postgres in {directory} belongs to another user") from None
    raise LocalPostgresError(f"No Postgres runs in {directory}: start it with `ingester dev`")


class LocalPostgres:
    """One server in one directory. `start` again after `stop` keeps the data, the port and the password."""

    def __init__(
        self,
        directory: Path,
        *,
        port: int = 0,
        options: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`port` 0 means the one of the last run, or a free one. `say` is told what an operator should know."""
        self._directory = directory.absolute()
        self._port = port
        self._options = {**_SETTINGS, **(options or {})}
        self._say = say
        self._account = account.unprivileged() if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[bytes] | None = None
        self._home = _home(self._directory)

    @property
    def log(self) -> Path:
        """What the server of this run has written."""
        return self._home / "postgres.log"

    def start(self) -> str:
        """Make the server if need be, start it, wait until it answers and give its URL. Blocks for seconds.

        Raises LocalPostgresError, and RuntimeError off the main thread: the kernel ends Postgres when the thread that
        started it ends (PR_SET_PDEATHSIG counts threads), which must not be a passing one.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("LocalPostgres.start must be called in the main thread")
        if self._lock is not None:
            raise RuntimeError("this LocalPostgres is running already")
        try:
            self._settle()
            self._take_lock()
            self._end_remains()
            programs = self._programs()
            password = self._initialise(programs)
            return self._launch(programs, password)
        except (OSError, LookupError, subprocess.SubprocessError) as error:
            self.stop()
            raise LocalPostgresError(f"The local Postgres in {self._directory} cannot start: {error}") from error
        except BaseException:
            self.stop()
            raise

    def stop(self, *, immediate: bool = False) -> None:
        """Stop the server, at the latest within two times STOP_SECONDS; `immediate` is a crash, for tests."""
        process, self._process = self._process, None
        if process is not None:
            for sign in [signal.SIGQUIT] if immediate else [signal.SIGINT, signal.SIGQUIT]:
                process.send_signal(sign)
                try:
                    process.wait(STOP_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    self._say(f"Postgres did not stop within {STOP_SECONDS:.0f} s of {sign.name}")
            else:
                process.kill()
                process.wait()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _settle(self) -> None:
        """Find or make the home: below the directory, or elsewhere if the account may not enter that."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._home = _home(self._directory)
        if self._home.is_dir():
            self._keep_owner()
            return
        if self._account is None or account.can_enter(self._account, self._directory):
            self._home = self._directory / "postgres"
            self._home.mkdir(mode=0o711)
        else:
            self._home = _elsewhere(self._account)
            (self._directory / _POINTER).write_text(f"{self._home}\n", encoding="utf-8")
        if self._account is not None:
            self._home.chmod(0o711)  # made just now; the umask may have closed it to the account
        if self._home.parent != self._directory:
            self._say(f"{self._directory} is closed to the account that runs Postgres: the data is in {self._home}")

    def _keep_owner(self) -> None:
        """Data made under one account can only be served by it, whoever we are now."""
        data = self._home / "data"
        if self._account is not None and data.is_dir() and (uid := data.stat().st_uid) not in (0, self._account.uid):
            self._account = account.account_of(uid)
            if self._account is None:
                raise LocalPostgresError(f"{data} belongs to user id {uid}, whom this machine does not know")

    def _take_lock(self) -> None:
        try:
            path = self._home / "lock"
            self._lock = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalPostgresError(
                f"Another ingester runs its Postgres in {self._directory}: stop it or take another INGESTER_DEV_DIR"
            ) from None
        except PermissionError:
            raise LocalPostgresError(
                f"{self._home} belongs to another user: run as that user or take another INGESTER_DEV_DIR"
            ) from None

    def _end_remains(self) -> None:
        """Wait for what a killed run left behind, ending it where it has not noticed. The lock says it is an orphan."""
        data = self._home / "data"
        for sign in (signal.SIGINT, signal.SIGQUIT):
            if not postmaster.owners(data):
                break
            self._say("Postgres of an earlier run is still there: ending it")
            postmaster.send(data, sign)
            postmaster.wait(lambda: not postmaster.owners(data), STOP_SECONDS)
        if left := postmaster.owners(data):
            raise LocalPostgresError(f"A Postgres of an earlier run does not end: process {left[0]} in {data}")
        pid = postmaster.pid_of(data)
        if pid is not None and "postgres" not in postmaster.command_of(pid):
            # Another process has its number by now (containers count from 1 again), which Postgres, seeing that it
            # lives, would take for its predecessor.
            (data / "postmaster.pid").unlink()

    def _programs(self) -> Binaries:
        found = binaries.find()
        if not found:
            raise LocalPostgresError(
                "No Postgres is on this machine: install the extra `ingester[embedded]`, "
                f"or Postgres {binaries.OLDEST} to {binaries.NEWEST}"
            )
        version = self._home / "data" / "PG_VERSION"
        if version.exists():
            major = _read(version)
            found = [one for one in found if str(one.major) == major]
            if not found:
                raise LocalPostgresError(
                    f"The data in {self._home} is of Postgres {major}, which is not on this machine any more: "
                    f"install it, or remove {self._directory} to begin anew"
                )
        chosen = found[0]
        if chosen.from_wheel and not self._can_run(chosen.directory):
            self._say(f"{chosen.directory} is closed to the account that runs Postgres: copying it to {self._home}")
            copy = binaries.copy_wheel(self._home, self._can_run)
            chosen = Binaries(directory=copy, major=chosen.major, from_wheel=True)
        return chosen

    def _can_run(self, directory: Path) -> bool:
        try:
            return account.run([directory / "postgres", "--version"], self._account, READY_SECONDS).returncode == 0
        except OSError:
            return False

    def _initialise(self, programs: Binaries) -> str:
        """Make the data directory on first use, under another name until it is whole. Gives the password."""
        data = self._home / "data"
        if data.exists():
            known = re.search("://[^:]+:([^@]+)@", _read(self._home / "url"))
            if known is None:
                raise LocalPostgresError(f"{self._home / 'url'} is damaged: remove {self._directory} to begin anew")
            return known[1]
        for leftover in self._home.glob("new-*"):
            shutil.rmtree(leftover, ignore_errors=True)  # an initdb that is still dying may write there
        password = secrets.token_hex(16)
        new = Path(tempfile.mkdtemp(prefix="new-", dir=self._home))
        (new / "password").write_text(password, encoding="ascii")
        (new / "data").mkdir(mode=0o700)
        if self._account is not None:
            for path in (new, new / "password", new / "data"):
                os.chown(path, self._account.uid, self._account.gid)
        self._initdb(programs, new)
        self._write_url(password, 0)
        (new / "data").rename(data)
        shutil.rmtree(new)
        return password

    def _initdb(self, programs: Binaries, new: Path) -> None:
        command: list[str | Path] = [
            programs.directory / "initdb",
            "-D",
            new / "data",
            "-U",
            USER,
            f"--pwfile={new / 'password'}",
        ]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--no-instructions"]
        if self._options.get("fsync") == "off":
            command.append("--no-sync")
        builtin = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        command += builtin if programs.major >= 17 else ["--locale=C"]
        done = account.run(command, self._account, READY_SECONDS)
        if done.returncode != 0:
            raise LocalPostgresError(_with_tail("initdb failed", done.stdout.decode(errors="replace")))

    def _launch(self, programs: Binaries, password: str) -> str:
        remembered = int(_read(self._home / "url").rpartition(":")[2].partition("/")[0])
        candidates = [self._port] if self._port else [remembered, *(_free_port() for _ in range(5))]
        for port in filter(None, candidates):
            url = self._write_url(password, port)
            command: list[str | Path] = [programs.directory / "postgres", "-D", self._home / "data"]
            for name, value in {**self._options, "port": str(port)}.items():
                command += ["-c", f"{name}={value}"]
            with self.log.open("wb") as log:
                self.log.chmod(0o600)
                self._process = account.spawn(command, self._account, log)
            if self._wait_ready(self._process):
                return url
            words = self.log.read_text(encoding="utf-8", errors="replace")
            self._process = None
            if "Address already in use" not in words:
                raise LocalPostgresError(_with_tail(f"Postgres ended while starting, see {self.log}", words))
        raise LocalPostgresError(f"Port {port} on 127.0.0.1 is in use: free it or choose another")

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait until the server says that it is ready; False when it has ended instead."""
        status = self._home / "data" / "postmaster.pid"

        def settled() -> bool:
            return process.poll() is not None or postmaster.read_status(status) == (process.pid, "ready")

        if not postmaster.wait(settled, READY_SECONDS):
            words = self.log.read_text(encoding="utf-8", errors="replace")
            raise LocalPostgresError(_with_tail(f"Postgres was not ready within {READY_SECONDS:.0f} s", words))
        return process.poll() is None

    def _write_url(self, password: str, port: int) -> str:
        url = f"postgresql://{USER}:{password}@127.0.0.1:{port}/postgres"
        new = self._home / "url.new"
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(f"{url}\n")
        new.rename(self._home / "url")
        return url


def _home(directory: Path) -> Path:
    pointer = directory / _POINTER
    if pointer.exists():
        home = Path(_read(pointer))
        if home.is_dir():
            return home
    return directory / "postgres"


def _is_locked(path: Path) -> bool:
    with path.open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()


def _elsewhere(user: Account) -> Path:
    for base in _BASES:
        if base.is_dir() and os.access(base, os.W_OK) and account.can_enter(user, base):
            return Path(tempfile.mkdtemp(prefix="ingester-", dir=base))
    raise LocalPostgresError(f"No directory was found that the account {user.name} may enter")


def _free_port() -> int:
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


def _with_tail(sentence: str, log: str) -> str:
    return "\n    ".join([f"{sentence}:", *log.strip().splitlines()[-6:]])
