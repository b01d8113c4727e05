"""What load balancers and Kubernetes ask: alive, and ready. The public door has fewer words than the operators'."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import pytest
import requests

from ingester.store.embedded import LocalPostgres
from tests.daemon import Daemon, Town, command, serving
from tests.e2e.caller import calling
from tests.inbound import NOWHERE, TOKEN
from tests.mta import letter
from tests.ports import free_port
from tests.postgres import Cluster

pytestmark = pytest.mark.thorough

SECONDS = 20.0
"""A safety net for what is asked again until it has come true."""
READY = (200, {"ok": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """The ports that may be asked."""

    operators: int
    public: int

    def ask(self, path: str, *, public: bool = False) -> tuple[int, dict[str, object]]:
        """Status and body."""
        answer = requests.get(f"http://127.0.0.1:{self.public if public else self.operators}{path}", timeout=SECONDS)
        assert (answer.status_code == 503) is ("Retry-After" in answer.headers)
        return answer.status_code, answer.json()

    def said(self, *, public: bool = False) -> str:
        """What /readyz says of a worker that is not ready."""
        status, body = self.ask("/readyz", public=public)
        assert (status, body["reason"], body["status"]) == (503, "not_ready", "deferred")
        return str(body["message"])

    def wait_for(self, ready: bool) -> None:
        """Ask until it is so."""
        end = time.monotonic() + SECONDS
        while (self.ask("/readyz") == READY) is not ready:
            assert time.monotonic() < end


@contextmanager
def asked(url: str, **settings: str) -> Iterator[tuple[Daemon, Listeners]]:
    """A daemon with both listeners."""
    listeners = Listeners(operators=free_port(), public=free_port())
    given = {
        "INGESTER_METRICS__LISTEN": f"127.0.0.1:{listeners.operators}",
        "INGESTER_HTTP__LISTEN": f"127.0.0.1:{listeners.public}",
        "INGESTER_INBOUND_TOKEN": TOKEN,
        **settings,
    }
    with serving(url, settings=given) as daemon:
        yield daemon, listeners


@contextmanager
def frozen(server: LocalPostgres) -> Iterator[None]:
    """A database that neither answers nor goes away."""
    assert server._process is not None
    leader = psutil.Process(server._process.pid)
    processes = [leader, *leader.children(recursive=True)]
    for one in processes:
        one.suspend()
    try:
        yield
    finally:
        for one in processes:
            one.resume()


def test_a_daemon_that_serves_is_alive_and_ready(acme: Town) -> None:
    with asked(acme.url) as (daemon, listeners):
        for public in (False, True):
            assert listeners.ask("/healthz", public=public) == READY
            assert listeners.ask("/readyz", public=public) == READY
        assert listeners.ask("/metrics", public=True)[0] == 404
        where = f"127.0.0.1:{listeners.operators}"
        for words in (("health",), ("health", "--ready")):
            assert command(None, *words, INGESTER_METRICS__LISTEN=where) == '{"ok":true}\n'
        assert daemon.terminate() == 0


def test_a_daemon_whose_database_is_away_is_alive_and_not_ready() -> None:
    with asked(NOWHERE) as (_, listeners):
        assert listeners.ask("/healthz") == READY
        assert listeners.said() == "This worker does not take mail now: database."
        assert listeners.said(public=True) == "This worker does not take mail now."


def test_a_database_that_hangs_is_told_at_once_and_asked_once(own_server: Cluster, own_town: Town) -> None:
    """A hundred ask meanwhile: one at a time waits for a second, and the database has one question open."""
    with asked(own_town.url) as (_, listeners):
        listeners.wait_for(ready=True)
        with ThreadPoolExecutor(20) as pool:
            with frozen(own_server.server):
                listeners.wait_for(ready=False)
                begun = time.monotonic()
                assert {status for status, _ in pool.map(lambda _: listeners.ask("/readyz"), range(100))} == {503}
                assert time.monotonic() - begun < 5  # a second for each of 20 at once would be more
                assert listeners.ask("/healthz") == READY
            (row,) = own_town.ask("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
            assert row["count"] <= 5
            listeners.wait_for(ready=True)


def test_a_daemon_that_drains_says_so_until_its_end(acme: Town) -> None:
    """A mail in transfer holds it; the operators' listener answers meanwhile, the doors are closed."""
    slow = letter("slow@customer.test", "support@acme.test", size=100_000)
    with asked(acme.url) as (daemon, listeners), calling(daemon.port) as sender:
        listeners.wait_for(ready=True)
        sender.announce(*slow.recipients)
        sender.send(slow.stuffed[:50_000])
        daemon.process.terminate()
        daemon.wait_event("draining")
        listeners.wait_for(ready=False)
        assert listeners.said() == "This worker does not take mail now: draining."
        assert listeners.ask("/healthz") == READY
        metrics = requests.get(f"http://127.0.0.1:{listeners.operators}/metrics", timeout=SECONDS)
        assert b"ingester_workers 1.0" in metrics.content
        sender.send(slow.stuffed[50_000:])
        assert sender.answer().startswith("250 2.0.0 stored as ")
        assert daemon.wait_end() == 0


def test_while_a_worker_is_replaced_the_one_that_takes_mail_is_asked(acme: Town) -> None:
    """The old one drains for as long as a mail is in transfer; nobody hears of that, nor sees a connection refused."""
    slow = letter("slow@customer.test", "support@acme.test", size=100_000)
    with asked(acme.url) as (daemon, listeners), calling(daemon.port) as sender:
        listeners.wait_for(ready=True)
        sender.announce(*slow.recipients)
        sender.send(slow.stuffed[:50_000])
        daemon.signal(signal.SIGHUP)
        daemon.wait_event("draining")
        listeners.wait_for(ready=True)
        assert [listeners.ask("/readyz") for _ in range(50)] == [READY] * 50
        sender.send(slow.stuffed[50_000:])
        assert sender.answer().startswith("250 2.0.0 stored as ")
        daemon.wait_event("stopped")
        assert daemon.terminate() == 0
