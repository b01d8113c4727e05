"""A daemon whose sockets somebody else holds, as systemd does: restarts, reloads and deaths refuse nobody.

Senders come all the while, by SMTP and by HTTP, and bring again what was deferred: nothing is lost, nothing is stored
twice, and no connection is refused or reset before it was greeted.
"""

import http.client
import itertools
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import psutil
import pytest

from tests.daemon import DIED, Daemon, Town, serving
from tests.e2e.caller import Caller, calling
from tests.e2e.ledger import audit
from tests.inbound import PATH, TOKEN
from tests.mta import Letter, Mta, letter, sending
from tests.ports import free_port
from tests.service_manager import listening, managing, port_of

pytestmark = pytest.mark.thorough

BOTH = ("support@acme.test", "sales@globex.test")
PAUSE = 0.05
"""Seconds between two attempts at one mail. The sender's own manner: no test waits by it."""
TIMES = 2
"""How often a worker is killed, and all are replaced."""
SETTINGS = {
    "INGESTER_WORKERS": "2",
    "INGESTER_INBOUND_TOKEN": TOKEN,
    "INGESTER_SMTP__MAX_CONNECTIONS_PER_PREFIX": "500",
    "INGESTER_DRAIN_SECONDS": "5",
}


@dataclass(slots=True)
class Provider:
    """Brings mail over HTTP, each on a connection of its own, again and again until it is taken; until told to end."""

    port: int
    name: str
    end: threading.Event
    taken: list[Letter] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """Connections that ended before an answer, by the kind of error."""
    attempts: int = 0

    def run(self) -> None:
        """The thread's whole life: the mail under way is brought to its end."""
        for number in itertools.count():
            if self.end.is_set():
                return
            one = letter(f"{self.name}-{number}@customer.test", *BOTH, size=3000)
            while not self._bring(one):
                time.sleep(PAUSE)
            self.taken.append(one)

    def _bring(self, one: Letter) -> bool:
        self.attempts += 1
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        query = "&".join(f"recipient={to}" for to in one.recipients)
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "message/rfc822"}
        try:
            connection.request("POST", f"{PATH}?{query}", one.content, headers)
            answer = connection.getresponse()
            answer.read()
        except (ConnectionError, http.client.HTTPException) as error:
            self.refused.append(type(error).__name__)
            return False
        finally:
            connection.close()
        assert answer.status in (200, 202, 503), answer.status
        return answer.status < 300


@dataclass(slots=True)
class Load:
    """Everybody who brings mail."""

    mta: Mta
    providers: list[Provider]

    @property
    def refused(self) -> list[str]:
        """Connections that nobody took."""
        return self.mta.refused + [error for one in self.providers for error in one.refused]

    @property
    def mails(self) -> list[Letter]:
        """All that were taken."""
        taken = [attempt.letter for attempt in self.mta.attempts if attempt.said("2")]
        return list({one.message_id: one for one in taken}.values()) + [m for one in self.providers for m in one.taken]


@contextmanager
def bringing(smtp: int, http_port: int, *, connections: int = 10, providers: int = 4) -> Iterator[Load]:
    """Load on both doors for as long as the block lasts; then each finishes what it has begun."""
    end = threading.Event()

    def endless() -> Iterator[Letter]:
        for number in itertools.count():
            if end.is_set():
                return
            yield letter(f"smtp-{number}@customer.test", *BOTH, size=3000)

    others = [Provider(http_port, f"http-{number}", end) for number in range(providers)]
    threads = [threading.Thread(target=one.run) for one in others]
    with sending(smtp, endless(), connections=connections) as mta:
        for thread in threads:
            thread.start()
        try:
            yield Load(mta, others)
        finally:
            end.set()
            for thread in threads:
                thread.join()
        mta.finish()


def pause(seconds: float) -> None:
    """Let them bring mail for so long: it is what the test is about, and nothing is waited for by it."""
    threading.Event().wait(seconds)


def check(town: Town, load: Load) -> None:
    """Nobody was refused, and what was taken is there, once."""
    assert load.refused == []
    assert load.mta.count("5") == 0
    assert load.mta.count("2") > 50
    assert all(len(one.taken) > 5 for one in load.providers)
    audit(town.url, load.mails, load.mta.attempts)


def workers(daemon: Daemon) -> list[psutil.Process]:
    return psutil.Process(daemon.process.pid).children()


@pytest.mark.parametrize(
    ("restarts", "every"), [(2, 0.5), pytest.param(12, 4.0, marks=pytest.mark.long)], ids=["short", "a minute"]
)
def test_restarts_with_sockets_of_the_service_manager(acme: Town, restarts: int, every: float) -> None:
    """Whoever comes while no daemon runs waits in the kernel for the next."""
    with listening("smtp", "http") as sockets, ExitStack() as stack:
        load = stack.enter_context(bringing(port_of(sockets["smtp"]), port_of(sockets["http"])))
        for _ in range(restarts):
            with serving(acme.url, handed=sockets, settings=SETTINGS) as daemon:
                daemon.wait_event("serving", times=2)
                pause(every)
                assert daemon.terminate() == 0
        with serving(acme.url, handed=sockets, settings=SETTINGS):
            stack.close()
    check(acme, load)


@contextmanager
def standing(town: Town, *, handed: bool, **more: str) -> Iterator[tuple[Daemon, Load]]:
    """A daemon, with own sockets or with ones that were handed over, and load on it."""
    with listening(*(("smtp", "http") if handed else ())) as sockets, ExitStack() as stack:
        http_port = port_of(sockets["http"]) if handed else free_port()
        settings = SETTINGS | more | ({} if handed else {"INGESTER_HTTP__LISTEN": f"127.0.0.1:{http_port}"})
        daemon = stack.enter_context(serving(town.url, handed=sockets, settings=settings))
        daemon.wait_event("serving", times=2)
        with bringing(daemon.port, http_port) as load:
            pause(0.5)
            yield daemon, load
        assert daemon.terminate() == 0


KINDS = pytest.mark.parametrize("handed", [False, True], ids=["own sockets", "handed over"])


@KINDS
def test_reloads(acme: Town, handed: bool) -> None:
    """Each worker is replaced by one that is ready, and finishes what it has."""
    with managing() as manager, standing(acme, handed=handed, NOTIFY_SOCKET=manager.name) as (daemon, load):
        for number in range(1, TIMES + 1):
            before = workers(daemon)
            daemon.signal(signal.SIGHUP)
            daemon.wait_event("reloaded", times=number)
            manager.wait_for("READY=1", times=1 + number)
            psutil.wait_procs(before)
            assert len(workers(daemon)) == 2
            pause(0.3)
        assert manager.count("RELOADING=1") == TIMES
    check(acme, load)


@KINDS
def test_workers_are_killed(acme: Town, handed: bool) -> None:
    """Whoever comes while a place is empty waits in the kernel; only what the dead one had taken is cut."""
    with standing(acme, handed=handed) as (daemon, load):
        for number in range(1, TIMES + 1):
            workers(daemon)[0].kill()
            daemon.wait_event(DIED, times=number)
            daemon.wait_event("serving", times=2 + number)
            pause(0.3)
    assert "ConnectionRefusedError" not in load.refused
    assert len(load.refused) <= TIMES * 14, "more than were connected"
    audit(acme.url, load.mails, load.mta.attempts)


def test_nobody_waits_for_a_daemon_that_ends(acme: Town) -> None:
    """With own sockets, who comes during the drain is refused at once, whichever worker would have been theirs."""
    with serving(acme.url, settings=SETTINGS) as daemon, ExitStack() as stack:
        daemon.wait_event("serving", times=2)
        slow = [stack.enter_context(calling(daemon.port)).announce() for _ in range(8)]
        daemon.signal(signal.SIGTERM)
        daemon.wait_event("draining", times=2)
        for _ in range(50):
            with pytest.raises(ConnectionRefusedError):
                Caller(daemon.port)
        for number, caller in enumerate(slow):
            caller.send(letter(f"slow-{number}@customer.test").stuffed)
            assert caller.answer().startswith("250")
        assert daemon.wait_end() == 0
    assert acme.count("messages") == 8
