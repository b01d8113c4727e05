"""The LMTP door of the real process: real clients, Debian's Postfix in front, unix sockets and their files."""

import signal
import smtplib
import socket
import stat
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from tests.clients import swaks
from tests.daemon import Daemon, Town, command, serving
from tests.mta import letter, letters, send
from tests.ports import free_port
from tests.postfix import OWNER, postfix

pytestmark = pytest.mark.thorough

TRUSTING = {"INGESTER_LMTP__TRUSTED_NETWORKS": "127.0.0.0/8,::1"}
MIXED = ("support@acme.test", "nobody@acme.test", "thread@acme.test")
"""One that takes the mail, one that is unknown, one that refuses it after it has read it."""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every account may enter, for a socket whose path is short."""
    with TemporaryDirectory(prefix="lmtp-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory) / "door"


def on_unix(path: Path, **settings: str) -> dict[str, str]:
    return {"INGESTER_LMTP__LISTEN": f"unix:{path}", **settings}


def add_thread_only(town: Town) -> None:
    command(town.url, "mailbox", "add", "thread@acme.test", "--thread-only")


@contextmanager
def session(path: Path) -> Iterator[smtplib.LMTP]:
    """The standard library's LMTP client, introduced."""
    client = smtplib.LMTP(str(path))
    try:
        client.ehlo("mta.test")
        yield client
    finally:
        client.close()


def deliver(client: smtplib.LMTP, *recipients: str, number: int = 1) -> dict[str, tuple[int, bytes]]:
    """One mail; who refused it, and how."""
    one = letter(f"lmtp-{number}@customer.test", *recipients)
    try:
        return client.sendmail(one.mail_from, recipients, one.content)
    except smtplib.SMTPRecipientsRefused as error:
        return error.recipients


# -- clients ----------------------------------------------------------------------------------------------------------


def test_swaks_over_tcp_and_a_mail_with_three_fates(acme: Town) -> None:
    """The client is told each fate; who it says that the real client is stands on the receipt."""
    add_thread_only(acme)
    port = free_port()
    settings = {"INGESTER_LMTP__LISTEN": f"127.0.0.1:{port}", **TRUSTING}
    with serving(acme.url, settings=settings) as daemon:
        assert daemon.wait_event("serving")["lmtp"] == [f"127.0.0.1:{port}"]
        run = [*swaks(), "--protocol", "LMTP", "--server", "127.0.0.1", "--port", str(port), "--to", ",".join(MIXED)]
        run += ["--from", "ada@customer.test", "--xclient", "ADDR=203.0.113.7 HELO=mx.customer.test"]
        done = subprocess.run(run, timeout=60, capture_output=True, text=True)
        assert daemon.terminate() == 0
        answers = [line.removeprefix("<-  ")[:9] for line in done.stdout.splitlines() if line.startswith(("<-", "<**"))]
    behind = answers[answers.index("354 End d") + 1 :]
    assert [answer[:3] for answer in behind] == ["250", "<**", "221"], done.stdout
    assert done.stdout.count("550 5.1.1") == 1
    assert done.stdout.count("550 5.7.1") == 1
    (row,) = acme.ask("SELECT door, client_ip, helo, envelope_to FROM receipts")
    assert tuple(row) == ("lmtp", "203.0.113.7", "mx.customer.test", ["support@acme.test"])
    refusals = acme.ask("SELECT door, reason FROM refusals ORDER BY reason")
    assert [tuple(one) for one in refusals] == [("lmtp", "cold_inbound_refused"), ("lmtp", "unknown_mailbox")]


# -- unix sockets and their files -----------------------------------------------------------------------------------


def test_a_unix_socket_from_bind_to_clean_stop(acme: Town, place: Path) -> None:
    """Its mode and group are those of the settings; trusted, without an address; gone when the daemon has stopped."""
    with serving(acme.url, settings=on_unix(place, INGESTER_LMTP__SOCKET_MODE="0620")) as daemon:
        assert daemon.wait_event("serving")["lmtp"] == [f"unix:{place}"]
        assert stat.S_IMODE(place.stat().st_mode) == 0o620
        with session(place) as client:
            assert client.has_extn("xforward")
            assert deliver(client, "support@acme.test", "nobody@acme.test").keys() == {"nobody@acme.test"}
        assert daemon.terminate() == 0
    assert not place.exists()
    (row,) = acme.ask("SELECT door, client_ip, helo FROM receipts")
    assert tuple(row) == ("lmtp", None, "mta.test")


def test_a_file_left_by_a_dead_daemon_is_replaced_and_a_served_one_is_not(acme: Town, place: Path) -> None:
    settings = on_unix(place)
    with serving(acme.url, settings=settings) as dead:
        dead.kill()
    assert place.is_socket()
    with serving(acme.url, settings=settings):
        with serving(acme.url, settings=settings, wait=False) as second:
            assert second.wait_end() == 1
            second.wait_text(f"cannot listen on unix:{place}: Address already in use. Change ")
            second.wait_text("INGESTER_LMTP__LISTEN")
        with session(place) as client:
            assert deliver(client, "support@acme.test") == {}


def test_a_file_that_is_no_socket_is_left_alone(acme: Town, place: Path) -> None:
    place.write_text("precious")
    with serving(acme.url, settings=on_unix(place), wait=False) as daemon:
        assert daemon.wait_end() == 1
        daemon.wait_text("no socket")
    assert place.read_text() == "precious"


def test_workers_share_one_unix_socket_and_outlive_each_other(acme: Town, place: Path) -> None:
    """One is killed: the file stays, the others and its successor serve it; at the stop it goes."""
    with serving(acme.url, settings=on_unix(place, INGESTER_WORKERS="2"), wait=False) as daemon:
        daemon.wait_event("serving", times=2)
        workers = psutil.Process(daemon.process.pid).children()
        workers[0].kill()
        daemon.wait_event("serving", times=3)
        for number in range(20):
            with session(place) as client:
                assert deliver(client, "support@acme.test", number=number) == {}
        assert place.is_socket()
        assert daemon.terminate() == 0
    assert not place.exists()
    assert acme.count("messages") == 20


def test_who_connects_while_the_daemon_drains_is_refused_at_once(acme: Town, place: Path) -> None:
    """The mail under way is finished; nobody waits in the kernel's queue for a daemon that accepts no more."""
    with serving(acme.url, settings=on_unix(place, INGESTER_WORKERS="2"), wait=False) as daemon:
        daemon.wait_event("serving", times=2)
        with session(place) as client:
            one = letter("slow@customer.test", "support@acme.test")
            client.mail(one.mail_from)
            client.rcpt("support@acme.test")
            assert client.docmd("DATA")[0] == 354
            daemon.signal(signal.SIGTERM)
            daemon.wait_event("draining", times=2)
            with pytest.raises((FileNotFoundError, ConnectionRefusedError)), socket.socket(socket.AF_UNIX) as late:
                late.connect(str(place))
            client.send(one.stuffed)
            assert client.getreply()[0] == 250
        assert daemon.wait_end() == 0
    assert acme.count("messages") == 1


# -- Postfix in front -------------------------------------------------------------------------------------------------


def by_status(front: Daemon) -> Counter[str]:
    """What Postfix has logged of its deliveries to us."""
    lines = [line for line in front.raw if "/lmtp[" in line and "status=" in line]
    return Counter(line.partition("status=")[2].split()[0] for line in lines)


def test_postfix_in_front_with_a_thousand_mails(acme: Town, place: Path) -> None:
    """All are stored; who refuses is bounced, and the bounces come back to the sender's mailbox by the same way."""
    add_thread_only(acme)
    plain = letters(970, "support@acme.test", "sales@globex.test")
    mixed = [letter(f"mixed-{number}@customer.test", *MIXED) for number in range(30)]
    mixed = [replace(one, mail_from="sales@acme.test") for one in mixed]
    settings = on_unix(place, INGESTER_LMTP__SOCKET_GROUP=OWNER, INGESTER_WORKERS="2")
    with serving(acme.url, settings=settings, wait=False) as daemon:
        daemon.wait_event("serving", times=2)
        with postfix(f"unix:{place}", "acme.test", "globex.test") as front:
            send(front.port, [*plain, *mixed], connections=20)
            front.wait_text(": removed", times=len(plain) + 2 * len(mixed))
            assert by_status(front) == {"sent": 2 * len(plain) + len(mixed) + len(mixed), "bounced": 2 * len(mixed)}
        assert daemon.terminate() == 0
    stored = acme.ask("SELECT rfc_message_id, count(*) FROM messages WHERE kind <> 'bounce' GROUP BY 1")
    sent = {one.message_id: 2 for one in plain} | {one.message_id: 1 for one in mixed}
    assert {row[0]: row[1] for row in stored} == sent
    bounces = acme.ask(
        "SELECT b.local_part FROM messages m JOIN mailboxes b ON b.id = m.mailbox_id WHERE m.kind = 'bounce'"
    )
    assert Counter(row[0] for row in bounces) == {"sales": 30}
    (row,) = acme.ask(
        """
        SELECT array_agg(DISTINCT door) AS doors, array_agg(DISTINCT client_ip) AS clients, bool_or(duplicate) AS again
        FROM receipts WHERE envelope_from <> ''
        """
    )
    assert (row["doors"], row["clients"], row["again"]) == (["lmtp"], ["127.0.0.1"], False)


def test_postfix_tells_the_real_client_and_spf_is_judged_on_it(acme: Town, place: Path) -> None:
    settings = on_unix(place, INGESTER_LMTP__SOCKET_GROUP=OWNER, INGESTER_SMTP__LISTEN="[]")
    with serving(acme.url, settings=settings) as daemon, postfix(f"unix:{place}", "acme.test") as front:
        assert "smtp" not in daemon.wait_event("serving")
        with smtplib.SMTP("127.0.0.1", front.port) as client:
            client.ehlo()
            assert client.docmd("XCLIENT", "ADDR=IPV6:2001:db8::7 NAME=[UNAVAILABLE]")[0] == 220
            client.ehlo("mx.customer.test")
            one = letter("real@customer.test", "support@acme.test")
            client.sendmail(one.mail_from, one.recipients, one.content)
        front.wait_text(": removed")
    (row,) = acme.ask("SELECT client_ip, helo, auth_report->'spf'->>'client_ip' AS spf FROM receipts")
    assert tuple(row) == ("2001:db8::7", "mx.customer.test", "2001:db8::7")


@pytest.mark.parametrize("point", [pytest.param("before_commit", marks=pytest.mark.long), "after_commit"])
def test_postfix_comes_again_after_kill_and_it_is_stored_once(acme: Town, place: Path, point: str) -> None:
    """The daemon dies with the answers unsaid; its successor replaces the file it has left."""
    settings = on_unix(place, INGESTER_LMTP__SOCKET_GROUP=OWNER)
    with postfix(f"unix:{place}", "acme.test") as front:
        with serving(acme.url, settings=settings | {"INGESTER_TEST_FAULTS": f"{point}:kill@3"}) as daemon:
            send(front.port, letters(20, "support@acme.test"), connections=2)
            daemon.wait_killed()
        with serving(acme.url, settings=settings):
            front.wait_text(": removed", times=20)
    assert by_status(front)["bounced"] == 0
    assert acme.count("messages") == 20
