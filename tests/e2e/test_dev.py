"""`ingester dev`: one command to see mails become rows, and nothing of it left behind when it ends."""

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from ingester.cli.samples import samples
from tests.daemon import Daemon, Town, command, developing
from tests.e2e.caller import calling
from tests.mta import Letter, letter

pytestmark = [pytest.mark.usefixtures("blobs"), pytest.mark.thorough]

SECONDS = 10.0
"""What "within seconds" may mean on a busy machine."""


@pytest.fixture
def directory() -> Iterator[Path]:
    """A place for the database that the account which runs Postgres may enter."""
    path = Path(tempfile.mkdtemp(prefix="ingester-dev-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


def postgres_of(daemon: Daemon) -> psutil.Process:
    """The Postgres that it has started."""
    (server,) = psutil.Process(daemon.process.pid).children()
    return server


def town_of(directory: Path) -> Town:
    return Town(url=command(None, "dsn", INGESTER_DEV_DIR=str(directory)).strip())


def end(daemon: Daemon, number: signal.Signals) -> None:
    """End it by a signal; Postgres must end with it, and the exit status be 0."""
    server = postgres_of(daemon)
    daemon.signal(number)
    assert daemon.wait_end(SECONDS) == 0
    assert not server.is_running()


def by_http(daemon: Daemon, mail: Letter) -> None:
    """Hand in a mail with the token that the banner shows."""
    shown = dict(line.split()[:2] for line in daemon.raw if line.startswith(("  HTTP ", "  Token ")))
    reply = requests.post(
        f"http://{shown['HTTP']}/events/inbound?recipient=sales@demo.test",
        data=mail.content,
        headers={"Authorization": f"Bearer {shown['Token']}", "Content-Type": "message/rfc822"},
        timeout=SECONDS,
    )
    assert reply.status_code == 202


def test_samples_kill_and_restart(directory: Path) -> None:
    """The samples' lines; kill -9, which takes Postgres along; the same data after a restart; Ctrl-C."""
    expected = tuple(samples("demo.test", "x"))
    with developing(directory, "--samples") as daemon:
        begin = daemon.wait_text("Ctrl-C stops everything")
        assert any(line.startswith("  HTTP      127.0.0.1:") for line in daemon.raw)
        daemon.wait_text(f"{len(expected)} samples sent", after=begin)
        lines = [line for line in daemon.raw[begin:] if line.endswith(" ms")]
        assert len(lines) == len(expected) >= 12
        assert not [line for line in lines if "matched" not in line and "duplicate" not in line]
        assert any(" matched" in line for line in lines)
        stored = town_of(directory).count("messages")
        assert stored >= len(expected) - 2
        server = postgres_of(daemon)
        daemon.process.kill()
        server.wait(SECONDS)

    with developing(directory) as daemon:
        begin = daemon.wait_text("Ctrl-C stops everything")
        town = town_of(directory)
        assert town.count("messages") == stored
        with calling(daemon.port) as caller:
            assert caller.deliver(letter("after@customer.test").stuffed, "sales@demo.test").startswith("250")
        daemon.wait_text("Hello after@customer.test", after=begin)
        by_http(daemon, letter("by-http@customer.test"))
        daemon.wait_text("Hello by-http@customer.test", after=begin)
        assert town.count("messages") == stored + 2
        end(daemon, signal.SIGINT)
        assert daemon.raw[-1] == "Stopped; the data stays."
    command(None, "dsn", status=1, INGESTER_DEV_DIR=str(directory))


def test_stopped_while_it_starts(directory: Path) -> None:
    """Ctrl-C in the midst of making the database leaves no process, and the next start succeeds."""
    with developing(directory) as daemon:
        daemon.wait_text("Starting Postgres")
        daemon.signal(signal.SIGINT)
        daemon.wait_end(SECONDS)
        daemon.wait_silence(SECONDS)
    with developing(directory) as daemon:
        daemon.wait_text("Ctrl-C stops everything")
        end(daemon, signal.SIGTERM)
