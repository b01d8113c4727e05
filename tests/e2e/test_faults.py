"""kill -9 at every point of a commit, Postgres gone, frozen or out of reach, senders that hang up.

Every yes has exactly one message per mailbox, only 4xx is said while we are at fault, and nothing is invented.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from tests.daemon import Town, serving
from tests.e2e.caller import calling
from tests.e2e.ledger import audit
from tests.e2e.wiretap import Act, tapped
from tests.mta import THOUSANDS_SECONDS, Attempt, Mta, letter, letters, send, sending
from tests.ports import free_port
from tests.postgres import Cluster

pytestmark = pytest.mark.usefixtures("blobs")

BOTH = ("support@acme.test", "sales@globex.test")
POINTS = ("before_commit", "during_commit", "after_commit")
HASTY = {"INGESTER_STORE__COMMIT_SECONDS": "2"}


def with_faults(faults: str) -> dict[str, str]:
    return {"INGESTER_TEST_FAULTS": faults}


# -- the daemon is killed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("point", "stored"), [("before_commit", 0), ("during_commit", 1), ("after_commit", 1)])
def test_kill_at_the_only_commit(acme: Town, point: str, stored: int) -> None:
    """What each point means: before it nothing is there; from the COMMIT's bytes on all is, and the retry finds it."""
    port, mails = free_port(), letters(1, *BOTH)
    with serving(acme.url, port=port, settings=with_faults(f"{point}:kill")) as daemon, sending(port, mails) as mta:
        daemon.wait_killed()
        mta.wait_for(lambda: mta.count("") > 1)  # refused connections: Postgres has read what the dead one had sent
        with serving(acme.url, port=port):
            mta.finish()
    assert mta.attempts[0].said("") == BOTH
    audit(acme.url, mails, mta.attempts)
    (row,) = acme.ask("SELECT count(*) FILTER (WHERE duplicate) AS retries FROM receipts")
    assert row["retries"] == stored * len(BOTH)


@pytest.mark.thorough
@pytest.mark.parametrize("times", [3, pytest.param(60, marks=pytest.mark.long)])
def test_kill_under_load(acme: Town, times: int) -> None:
    """50 senders are in the midst of it. Each start dies at another point, and at another commit."""
    port, mails = free_port(), letters(300 * times, *BOTH, size=4000)
    with sending(port, mails) as mta:
        for number in range(times):
            faults = f"{POINTS[number % 3]}:kill@{10 + number % 10}"
            with serving(acme.url, port=port, settings=with_faults(faults)) as daemon:
                daemon.wait_killed()
        assert not mta.ended
        with serving(acme.url, port=port):
            mta.finish(THOUSANDS_SECONDS)
    assert mta.count("5") == 0
    audit(acme.url, mails, mta.attempts)


# -- Postgres stops -------------------------------------------------------------------------------------------------


def assert_only_deferred(attempts: list[Attempt], *, until: float) -> None:
    """What was begun and ended while Postgres was away was answered, and with 4xx."""
    meanwhile = [one for one in attempts if one.ended < until]
    assert meanwhile
    assert not [one.answers for one in meanwhile if one.said("4") != tuple(one.answers)]


def stop_and_start(cluster: Cluster, mta: Mta, *, immediate: bool, deferrals: int) -> None:
    """Postgres goes, so many attempts are put off, Postgres comes back."""
    cluster.server.stop(immediate=immediate)
    stopped = time.monotonic()
    mta.wait_for(lambda: sum(bool(one.said("4")) for one in mta.since(stopped)) >= deferrals)
    returning = time.monotonic()
    cluster.server.start()
    assert_only_deferred(mta.since(stopped), until=returning)
    yes = mta.count("2")
    mta.wait_for(lambda: mta.count("2") > yes)


@pytest.mark.thorough
@pytest.mark.parametrize("immediate", [False, True], ids=["fast", "immediate"])
def test_postgres_stops_and_starts(own_town: Town, own_server: Cluster, immediate: bool) -> None:
    """Under 50 senders, fsync on: 4xx until it is back, then all goes on without a restart."""
    mails = letters(600, *BOTH)
    with serving(own_town.url, settings=HASTY) as daemon:
        with sending(daemon.port, mails) as mta:
            mta.wait_for(lambda: mta.count("2") >= 100)
            stop_and_start(own_server, mta, immediate=immediate, deferrals=100)
            mta.finish()
        assert daemon.terminate() == 0
    assert mta.count("5") == 0
    assert mta.count("") == 0
    audit(own_town.url, mails, mta.attempts)


@pytest.mark.long
def test_postgres_stops_again_and_again(own_town: Town, own_server: Cluster) -> None:
    """Ten times, either way, one daemon throughout."""
    mails = letters(20_000, *BOTH)
    with serving(own_town.url, settings=HASTY) as daemon:
        with sending(daemon.port, mails) as mta:
            for number in range(10):
                yes = mta.count("2")
                mta.wait_for(lambda before=yes: mta.count("2") >= before + 500)  # type: ignore[misc]
                stop_and_start(own_server, mta, immediate=number % 2 == 1, deferrals=200)
            mta.finish(THOUSANDS_SECONDS)
        assert daemon.terminate() == 0
    assert mta.count("5") == 0
    assert mta.count("") == 0
    audit(own_town.url, mails, mta.attempts)


@pytest.mark.thorough
def test_started_while_postgres_is_away(own_town: Town, own_server: Cluster) -> None:
    """The daemon starts, says 451, and takes mail once Postgres is there."""
    own_server.server.stop()
    mails = letters(20, *BOTH)
    with serving(own_town.url) as daemon, sending(daemon.port, mails, connections=5) as mta:
        mta.wait_for(lambda: mta.count("4") >= 20)
        assert mta.count("2") == mta.count("5") == mta.count("") == 0
        own_server.server.start()
        mta.finish()
    audit(own_town.url, mails, mta.attempts)


@contextmanager
def frozen(cluster: Cluster) -> Iterator[None]:
    """Every process of Postgres hangs: connections stand, and nobody answers."""
    process = cluster.server._process
    assert process is not None
    server = psutil.Process(process.pid)
    family = [server, *server.children(recursive=True)]
    for one in family:
        one.suspend()
    try:
        yield
    finally:
        for one in family:
            one.resume()


@pytest.mark.thorough
def test_postgres_hangs(own_town: Town, own_server: Cluster) -> None:
    """A server that does not answer costs the commit's deadline, then 451; the retry leaves one message."""
    first, second = letters(2)
    with serving(own_town.url, settings=HASTY) as daemon, calling(daemon.port) as caller:
        assert caller.deliver(first.stuffed).startswith("250")
        caller.announce()
        with frozen(own_server):
            began = time.monotonic()
            caller.send(second.stuffed)
            assert caller.answer().startswith("451 4.3.0")
            assert 1.5 < time.monotonic() - began < 10
        mta = send(daemon.port, [second], connections=1)
    audit(own_town.url, [first, second], mta.attempts)


@pytest.mark.long
def test_recipient_while_postgres_hangs(own_town: Town, own_server: Cluster) -> None:
    """A recipient that is not in the cache is put off, soon enough for the sender to be there still."""
    with serving(own_town.url) as daemon, calling(daemon.port) as caller:
        assert caller.deliver(letters(1)[0].stuffed).startswith("250")
        assert caller.ask("MAIL FROM:<ada@customer.test>").startswith("250")
        with frozen(own_server):
            began = time.monotonic()
            assert caller.ask("RCPT TO:<sales@globex.test>").startswith("451 4.3.0")
            assert time.monotonic() - began < 30
        assert caller.ask("RCPT TO:<sales@globex.test>").startswith("250")


@pytest.mark.thorough
def test_drain_while_postgres_hangs(own_town: Town, own_server: Cluster) -> None:
    """SIGTERM ends the daemon in order, though a mail waits for a commit that will not come."""
    settings = {"INGESTER_DRAIN_SECONDS": "3", **HASTY}
    with serving(own_town.url, settings=settings) as daemon, calling(daemon.port) as caller:
        assert caller.deliver(letters(1)[0].stuffed).startswith("250")
        caller.announce()
        with frozen(own_server):
            caller.send(letter("late@customer.test", "support@acme.test").stuffed)
            daemon.signal(signal.SIGTERM)
            assert caller.answer().startswith("451 4.3.0")
            assert caller.answer().startswith("421")
            assert daemon.wait_end(20) == 0


# -- the connection to Postgres is cut --------------------------------------------------------------------------------


def test_cut_after_the_bytes_of_commit(acme: Town) -> None:
    """Unknown is not failed: the claim is looked up on a new connection, and the first answer is yes."""
    mails = letters(12, *BOTH)
    with tapped(acme.url, lambda number: Act.CUT_AFTER if number % 2 else Act.PASS) as tap:
        with serving(tap.url) as daemon:
            mta = send(daemon.port, mails, connections=1)
        assert tap.cuts >= 6
    assert len(mta.attempts) == mta.count("2") == 12
    audit(acme.url, mails, mta.attempts)
    (row,) = acme.ask("SELECT count(*) FILTER (WHERE duplicate) AS duplicates, count(*) AS receipts FROM receipts")
    assert (row["duplicates"], row["receipts"]) == (0, 24)


@pytest.mark.thorough
@pytest.mark.parametrize("act", [Act.CUT_AFTER, Act.CUT_BEFORE])
def test_cut_at_commits_under_load(acme: Town, act: Act) -> None:
    """50 senders share the commits that are cut."""
    mails = letters(600, *BOTH, size=4000)
    with tapped(acme.url, lambda number: act if number % 4 == 0 else Act.PASS) as tap:
        with serving(tap.url) as daemon:
            mta = send(daemon.port, mails)
        assert tap.cuts >= 5
    assert mta.count("5") == 0
    assert mta.count("") == 0
    audit(acme.url, mails, mta.attempts)


@pytest.mark.thorough
def test_cut_off_after_the_bytes_of_commit(acme: Town) -> None:
    """Where nobody can be asked within the deadline the answer is 451, and the retry is a duplicate."""
    before, mails = letters(1, *BOTH, name="before"), letters(1, *BOTH)
    armed = threading.Event()
    with (
        tapped(acme.url, lambda _: Act.CUT_OFF if armed.is_set() else Act.PASS) as tap,
        serving(tap.url, settings=HASTY) as daemon,
    ):
        said = send(daemon.port, before).attempts  # with it goes what is committed once, as the claim on a directory
        armed.set()
        with sending(daemon.port, mails) as mta:
            mta.wait_for(lambda: mta.count("4") > 0)
            assert mta.attempts[0].said("4") == BOTH
            armed.clear()
            tap.restore()
            mta.finish()
    audit(acme.url, [*before, *mails], [*said, *mta.attempts])
    (row,) = acme.ask("SELECT count(*) FILTER (WHERE duplicate) AS duplicates, count(*) AS receipts FROM receipts")
    assert (row["duplicates"], row["receipts"]) == (2, 6)


# -- the sender goes ------------------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize("rudely", [False, True], ids=["fin", "reset"])
def test_sender_hangs_up_during_the_commit(acme: Town, rudely: bool) -> None:
    """The connection does not own the acceptance: the commit that waits when the sender goes is carried out."""
    (mail,) = letters(1)
    with tapped(acme.url, lambda _: Act.HOLD) as tap, serving(tap.url) as daemon:
        with calling(daemon.port) as caller:
            caller.announce()
            caller.send(mail.stuffed)
            assert tap.held.wait(30)
            caller.hang_up(rudely=rudely)
        # Another connection is served meanwhile: the daemon has seen the end of the first.
        with calling(daemon.port) as other:
            assert other.ask("NOOP").startswith("250")
        tap.release()
        assert daemon.wait_event("mail")["reason"] == "accepted"
        mta = send(daemon.port, [mail])
    audit(acme.url, [mail], mta.attempts)
    (row,) = acme.ask("SELECT count(*) FILTER (WHERE duplicate) AS duplicates, count(*) AS receipts FROM receipts")
    assert (row["duplicates"], row["receipts"]) == (1, 2)


@pytest.mark.thorough
def test_senders_hang_up_after_the_dot(acme: Town) -> None:
    """The dot and the end of the connection come together: each mail is stored, and once only when it is retried."""
    mails = letters(100)
    with serving(acme.url, settings={"INGESTER_SMTP__MAX_CONNECTIONS_PER_PREFIX": "200"}) as daemon:
        for mail in mails:
            with calling(daemon.port) as caller:
                caller.announce()
                caller.send(mail.stuffed)
                caller.hang_up()
        daemon.wait_event("mail", times=100)
        assert acme.count("messages") == 100
        mta = send(daemon.port, mails)
    audit(acme.url, mails, mta.attempts)
    assert acme.count("receipts") == 200
