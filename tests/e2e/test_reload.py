"""SIGHUP, deaths and hangs of workers, and what the service manager hears of it all."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest

from ingester.store.migrate import _LOCK as MIGRATING
from ingester.supervisor.supervising import PAUSE_SECONDS
from tests.daemon import DIED, Daemon, Town, serving
from tests.e2e.caller import calling
from tests.e2e.provider import hand_in
from tests.inbound import TOKEN
from tests.mta import letter
from tests.ports import free_port
from tests.service_manager import Manager, listening, managing

pytestmark = pytest.mark.thorough

REFUSED = "the new settings cannot be used, the old ones stay"
OTHER_TOKEN = "another inbound token of 32 characters"
MIB = 1 << 20
WAITERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%pg_try_advisory_lock%'
"""


@contextmanager
def daemon_of(town: Town, **settings: str) -> Iterator[tuple[Daemon, Manager]]:
    """Two workers that are ready, and their manager."""
    with managing() as manager:
        given = {"INGESTER_WORKERS": "2", "NOTIFY_SOCKET": manager.name} | settings
        with serving(town.url, settings=given) as daemon:
            manager.wait_for("READY=1")
            yield daemon, manager


def pids(daemon: Daemon) -> set[int]:
    return {worker.pid for worker in psutil.Process(daemon.process.pid).children()}


def reload(daemon: Daemon, event: str, *, times: int = 1) -> dict[str, object]:
    """SIGHUP, and what came of it."""
    daemon.signal(signal.SIGHUP)
    return daemon.wait_event(event, times=times)


def size_of(port: int) -> int:
    """The largest mail that is taken, as EHLO says."""
    with calling(port) as caller:
        answer = caller.ask("EHLO client.test")
    return next(int(line.split()[1]) for line in answer.split("\n") if line[4:].startswith("SIZE "))


# -- reload -----------------------------------------------------------------------------------------------------------


def test_settings_are_read_again_and_bad_ones_change_nothing(acme: Town, tmp_path: Path) -> None:
    """Every fault is told in one line; the workers stay. What is mended is taken; the manager hears the end of both."""
    config = tmp_path / "ingester.toml"
    config.write_text(f"max_message_bytes = {2 * MIB}\n")
    with daemon_of(acme, INGESTER_CONFIG=str(config)) as (daemon, manager):
        before = pids(daemon)
        assert size_of(daemon.port) == 2 * MIB
        config.write_text(f'max_message_bytes = 5\ncolour = "red"\n[smtp]\ntls_cert = "{tmp_path}/none.pem"\n')
        refused = reload(daemon, REFUSED)
        faults = " ".join(refused["faults"])  # type: ignore[arg-type]
        for name in ("INGESTER_MAX_MESSAGE_BYTES", "INGESTER_COLOUR", "INGESTER_SMTP__TLS_CERT"):
            assert name in faults
        manager.wait_for("READY=1", times=2)
        assert manager.wait_for("STATUS=reload refused")
        assert (pids(daemon), size_of(daemon.port)) == (before, 2 * MIB)
        config.write_text(f"max_message_bytes = {3 * MIB}\n")
        reload(daemon, "reloaded")
        manager.wait_for("READY=1", times=3)
        assert {size_of(daemon.port) for _ in range(20)} == {3 * MIB}
        daemon.wait_event("stopped", times=2)
        assert manager.count("RELOADING=1") == manager.count("MONOTONIC_USEC=") == 2
        assert daemon.terminate() == 0
        manager.wait_for("STOPPING=1")


def test_a_mail_in_transfer_is_finished(acme: Town) -> None:
    """The old worker takes it to its end while new ones serve already."""
    one = letter("slow@customer.test", size=100_000)
    with daemon_of(acme) as (daemon, _), calling(daemon.port) as caller:
        caller.announce()
        caller.send(one.stuffed[:50_000])
        reload(daemon, "reloaded")
        with calling(daemon.port) as other:
            assert other.deliver(letter("quick@customer.test").stuffed).startswith("250")
        caller.send(one.stuffed[50_000:])
        assert caller.answer().startswith("250")
        assert caller.answer().startswith("421")
    assert acme.count("messages") == 2


def test_secrets_in_files_are_read_again(acme: Town, tmp_path: Path) -> None:
    """Credentials go before the TOML file and after the environment."""
    (tmp_path / "inbound_token").write_text(f"{TOKEN}\n")
    (tmp_path / "workers").write_text("7")
    port = free_port()
    settings = {"INGESTER_CREDENTIALS": str(tmp_path), "INGESTER_HTTP__LISTEN": f"127.0.0.1:{port}"}
    one = letter("one@customer.test")
    with daemon_of(acme, **settings) as (daemon, _):
        assert len(pids(daemon)) == 2
        assert hand_in(port, one.content, "support@acme.test").status == 202
        (tmp_path / "inbound_token").write_text(OTHER_TOKEN)
        reload(daemon, "reloaded")
        assert hand_in(port, one.content, "support@acme.test").status == 401


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("postgresql://nobody:wrong@{host}/none", "INGESTER_DATABASE_URL refused the user or the password"),
        ("{empty}", "INGESTER_DATABASE_URL names a database that lacks migrations (0001_main"),
    ],
    ids=["refused", "empty"],
)
def test_a_database_that_says_no_changes_nothing(
    acme: Town, empty_database_url: str, tmp_path: Path, wrong: str, said: str
) -> None:
    """It is the first new worker that finds it out; the old ones go on."""
    secret = tmp_path / "database_url"
    secret.write_text(acme.url)
    with managing() as manager:
        settings = {"INGESTER_CREDENTIALS": str(tmp_path), "NOTIFY_SOCKET": manager.name, "INGESTER_WORKERS": "2"}
        with serving("", settings=settings) as daemon:
            manager.wait_for("READY=1")
            before = pids(daemon)
            host = acme.url.rpartition("@")[2].partition("/")[0]
            secret.write_text(wrong.format(host=host, empty=empty_database_url))
            for times in (1, 2):
                assert said in str(reload(daemon, REFUSED, times=times)["faults"])
            assert pids(daemon) == before
            assert sum(line.get("event") == "serving" for line in daemon.lines) == 2
            secret.write_text(acme.url)
            reload(daemon, "reloaded")
            with calling(daemon.port) as caller:
                assert caller.deliver(letter("a@customer.test").stuffed).startswith("250")


def test_the_supervisor_too_has_the_new_level_of_the_log(acme: Town, tmp_path: Path) -> None:
    """It has spoken before: what it speaks with is made anew."""
    config = tmp_path / "ingester.toml"
    config.write_text("")
    with daemon_of(acme, INGESTER_CONFIG=str(config)) as (daemon, manager):
        for number, level in enumerate(("warning", "info"), 2):
            config.write_text(f'[log]\nlevel = "{level}"\n')
            daemon.signal(signal.SIGHUP)
            manager.wait_for("READY=1", times=number)
        daemon.wait_event("reloaded")
        assert daemon.terminate() == 0
        daemon.wait_silence()
        assert [one["event"] for one in daemon.lines if one.get("event") in ("reloading", "reloaded")] == [
            *("reloading", "reloaded")
        ]


def test_what_takes_a_restart_is_said(acme: Town, tmp_path: Path) -> None:
    config = tmp_path / "ingester.toml"
    config.write_text("")
    with daemon_of(acme, INGESTER_CONFIG=str(config)) as (daemon, _):
        config.write_text('[metrics]\nlisten = "127.0.0.1:1"\n[lmtp]\nsocket_mode = "0600"\n')
        reload(daemon, "reloaded")
        named = [line["setting"] for line in daemon.lines if line["event"] == "this takes a restart, not a reload"]
        assert named == ["INGESTER_LMTP__SOCKET_MODE", "INGESTER_METRICS__LISTEN"]


# -- workers ----------------------------------------------------------------------------------------------------------


def test_a_worker_that_hangs_is_replaced(acme: Town) -> None:
    """Stopped, it says nothing any more; whoever waits for it in the kernel is served by the next."""
    with daemon_of(acme, INGESTER_WATCHDOG_SECONDS="2", INGESTER_WORKERS="1") as (daemon, _):
        psutil.Process(daemon.worker).suspend()
        with calling(daemon.port) as caller:
            assert caller.deliver(letter("patient@customer.test").stuffed).startswith("250")
        killed = daemon.wait_event("killing a worker")
        assert killed["why"] == "it hangs"
        daemon.wait_event(DIED)


def test_a_supervisor_that_slept_kills_nobody(acme: Town) -> None:
    """It could hear nothing for so long; neither could it if the machine had slept."""
    with daemon_of(acme, INGESTER_WATCHDOG_SECONDS="1") as (daemon, _):
        everybody = [psutil.Process(pid) for pid in (*pids(daemon), daemon.process.pid)]
        for one in everybody:
            one.suspend()
        time.sleep(3)  # it is the subject of the test
        for one in reversed(everybody):
            one.resume()
        reload(daemon, "reloaded")
        assert not [line for line in daemon.lines if line.get("event") in ("killing a worker", DIED)]


def test_a_worker_that_is_told_to_drain_is_replaced_at_once(acme: Town) -> None:
    """A signal from somebody else: its place is filled while it finishes its mail."""
    with daemon_of(acme, INGESTER_WORKERS="1") as (daemon, _), calling(daemon.port) as caller:
        caller.announce()
        psutil.Process(daemon.worker).terminate()
        daemon.wait_event("serving", times=2)
        with calling(daemon.port) as other:
            assert other.deliver(letter("new@customer.test").stuffed).startswith("250")
        caller.send(letter("old@customer.test").stuffed)
        assert caller.answer().startswith("250")
        daemon.wait_event("stopped")


def test_it_is_done_when_nobody_takes_connections_with_the_old_settings(acme: Town) -> None:
    """An old worker that stands still has not heard yet that it is to drain."""
    with daemon_of(acme, WATCHDOG_USEC="200000") as (daemon, manager):
        frozen = psutil.Process(daemon.worker)
        frozen.suspend()
        daemon.signal(signal.SIGHUP)
        daemon.wait_event("serving", times=4)
        manager.wait_for("WATCHDOG=1", times=manager.count("WATCHDOG=1") + 2)
        assert manager.count("READY=1") == 1
        frozen.resume()
        daemon.wait_event("reloaded")
        manager.wait_for("READY=1", times=2)


def test_many_hangups_are_few_reloads(acme: Town, tmp_path: Path) -> None:
    """Those that come during one are answered by one more. The file of LMTP's socket is there until the end."""
    file = tmp_path / "lmtp"
    with daemon_of(acme, INGESTER_LMTP__LISTEN=f"unix:{file}") as (daemon, manager):
        for _ in range(10):
            daemon.signal(signal.SIGHUP)
        daemon.wait_event("reloaded")
        manager.wait_for("READY=1", times=1 + manager.count("RELOADING=1"))
        assert manager.count("RELOADING=1") <= 2
        assert not [line for line in daemon.lines if line.get("level") == "error"]
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(file))
            assert client.recv(4) == b"220 "
        assert daemon.terminate() == 0
    assert not file.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_order_while_workers_are_born(acme: Town, number: signal.Signals) -> None:
    """During the start and during a reload; told twice, and the workers too, as Ctrl-C does."""
    with serving(acme.url, settings={"INGESTER_WORKERS": "2"}, wait=False) as daemon:
        daemon.wait_event("supervising")
        daemon.signal(number)
        assert daemon.wait_end() == 0
        daemon.wait_silence()
    with daemon_of(acme) as (daemon, _):
        daemon.signal(signal.SIGHUP)
        daemon.wait_event("reloading")
        os.killpg(daemon.process.pid, number)
        daemon.signal(number)
        assert daemon.wait_end() == 0
        daemon.wait_silence()


def test_a_worker_that_dies_at_once_is_followed_after_a_pause(acme: Town) -> None:
    with daemon_of(acme, INGESTER_WORKERS="1") as (daemon, _):
        begun = time.monotonic()
        for number in range(1, 4):
            while not (born := pids(daemon)):
                pass
            os.kill(born.pop(), signal.SIGKILL)
            daemon.wait_event(DIED, times=number)
        assert time.monotonic() - begun > 2 * PAUSE_SECONDS
        daemon.wait_event("serving", after=len(daemon.lines))


def test_a_hangup_during_the_start_is_heard_after_it(acme: Town) -> None:
    """While it waits for another that migrates: SIGHUP would end a process that does not hear it yet."""
    with asyncio.Runner() as runner:
        other = runner.run(asyncpg.connect(acme.url))
        runner.run(other.execute("SELECT pg_advisory_lock($1)", MIGRATING))
        with serving(acme.url, arguments=["--migrate"], wait=False) as daemon:
            while not runner.run(other.fetchval(WAITERS)):
                pass
            daemon.signal(signal.SIGHUP)
            runner.run(other.close())
            daemon.wait_event("reloaded")
            assert daemon.terminate() == 0


# -- the service manager ----------------------------------------------------------------------------------------------


def test_the_watchdog_is_fed_while_every_place_is_served(acme: Town) -> None:
    with daemon_of(acme, WATCHDOG_USEC="200000") as (daemon, manager):
        manager.wait_for("WATCHDOG=1", times=3)
        assert manager.told[0:2] == ["READY=1", "STATUS=2 of 2 workers serve"]
        psutil.Process(daemon.worker).kill()
        manager.wait_for("STATUS=1 of 2 workers serve")
        fed = manager.count("WATCHDOG=1")
        manager.wait_for("STATUS=2 of 2 workers serve", times=2)
        assert manager.count("WATCHDOG=1") <= fed + 1
        manager.wait_for("WATCHDOG=1", times=fed + 3)


def test_a_watchdog_of_another_process_is_not_fed(acme: Town) -> None:
    with daemon_of(acme, WATCHDOG_USEC="200000", WATCHDOG_PID="1") as (daemon, manager):
        reload(daemon, "reloaded")
        assert manager.count("WATCHDOG=1") == 0


def test_sockets_that_cannot_be_taken_are_all_told(acme: Town) -> None:
    """A door that there is not, and a unix socket for SMTP."""
    with listening("imap", "http") as sockets:
        settings = {"INGESTER_HTTP__LISTEN": "127.0.0.1:1", "INGESTER_INBOUND_TOKEN": TOKEN}
        with serving(acme.url, handed=sockets, settings=settings, wait=False) as daemon:
            assert daemon.wait_end() == 1
            daemon.wait_text("descriptor 3 is named imap: FileDescriptorName= must be one of smtp, lmtp, http, metrics")
        sockets.pop("imap").close()
        with serving(acme.url, handed=sockets, settings=settings) as daemon:
            http = daemon.wait_event("serving")["http"]
            assert http == [f"127.0.0.1:{sockets['http'].getsockname()[1]}"], "what was handed over, not what was set"
