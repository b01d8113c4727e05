"""What an operator does to a running daemon and expects of it: drain, certificates, PROXY, directory, workers."""

import signal
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.daemon import Daemon, Town, arrival, command, serving
from tests.e2e.caller import Caller, calling
from tests.e2e.certificates import serial_of, write_pair
from tests.e2e.ledger import audit
from tests.mta import THOUSANDS_SECONDS, letter, letters, sending
from tests.ports import free_port

pytestmark = pytest.mark.usefixtures("blobs")

ENOUGH = {"INGESTER_SMTP__MAX_CONNECTIONS_PER_PREFIX": "200"}
"""50 senders, and a few callers beside them."""
SECONDS = 20.0
"""A safety net for what is asked again until it has come true."""

# -- the drain --------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_sigterm_under_load(acme: Town) -> None:
    """50 senders: the DATA under way is finished, idle sessions hear 421, exit 0; the next daemon gets the rest."""
    port, mails = free_port(), letters(3000, "support@acme.test", "sales@globex.test", size=4000)
    slow = letter("slow@customer.test", "support@globex.test", size=100_000)
    with (
        serving(acme.url, port=port, settings=ENOUGH) as daemon,
        calling(port) as idle,
        calling(port) as midway,
        sending(port, mails) as mta,
    ):
        midway.announce(*slow.recipients)
        midway.send(slow.stuffed[:50_000])
        mta.wait_for(lambda: mta.count("2") >= 300)
        daemon.signal(signal.SIGTERM)
        assert idle.answer().startswith("421 4.3.2")
        assert idle.answer() == ""
        midway.send(slow.stuffed[50_000:])
        said = midway.answer()
        assert said.startswith("250 2.0.0 stored as ")
        assert midway.answer().startswith("421 4.3.2")
        assert daemon.wait_end() == 0
        assert not mta.ended
        with serving(acme.url, port=port):
            mta.finish()
    assert mta.count("5") == 0
    audit(acme.url, [*mails, slow], mta.attempts)
    (row,) = acme.ask("SELECT count(*) AS count FROM receipts WHERE arrival_id = $1", arrival(said))
    assert row["count"] == 1


@pytest.mark.thorough
def test_drain_is_bounded(acme: Town) -> None:
    """A sender that stops in the midst of its DATA does not hold the daemon."""
    with serving(acme.url, settings={"INGESTER_DRAIN_SECONDS": "1"}) as daemon, calling(daemon.port) as caller:
        caller.announce()
        caller.send(b"Subject: half\r\n")
        daemon.signal(signal.SIGTERM)
        assert daemon.wait_end(20) == 0
    assert acme.count("messages") == 0


# -- certificates and proxies ---------------------------------------------------------------------------------------


def asked_until(ask: Callable[[], str], wanted: str, *, before: str = "") -> None:
    """Ask again and again until the answer begins so; what is said up to then must begin with `before`."""
    end = time.monotonic() + SECONDS
    while not (answer := ask()).startswith(wanted):
        assert answer.startswith(before), answer
        assert time.monotonic() < end, answer


def presented(port: int) -> int:
    """The serial number of the certificate that a new connection is shown."""
    with calling(port) as caller:
        der = caller.start_tls().getpeercert(binary_form=True)
    assert der is not None
    return serial_of(der)


@pytest.mark.thorough
def test_certificate_swap(acme: Town, tmp_path: Path) -> None:
    """New files serve new connections without a restart; what runs goes on; a broken file changes nothing."""
    first = write_pair(tmp_path)
    with serving(acme.url, settings=first.settings) as daemon, calling(daemon.port) as old:
        old.start_tls()
        assert presented(daemon.port) == first.serial
        second = write_pair(tmp_path)
        asked_until(lambda: str(presented(daemon.port)), str(second.serial), before=str(first.serial))
        daemon.wait_event("certificate.loaded")
        assert old.ask("EHLO client.test").startswith("250")
        assert old.deliver(letter("old@customer.test").stuffed).startswith("250")
        second.cert.write_text("no certificate")
        unusable = {"event": "certificate.unusable"}.items()
        asked_until(
            lambda: (
                f"{any(line.items() >= unusable for line in daemon.lines)} {presented(daemon.port) == second.serial}"
            ),
            "True True",
            before="False True",
        )
    (row,) = acme.ask("SELECT tls FROM receipts")
    assert row["tls"].startswith("TLSv1.")


V1 = b"PROXY TCP4 203.0.113.7 127.0.0.1 40000 25\r\n"
V2 = (
    b"\r\n\r\n\0\r\nQUIT\n\x21\x21"
    + struct.pack("!H", 36)
    + socket.inet_pton(socket.AF_INET6, "2001:db8::7")
    + socket.inet_pton(socket.AF_INET6, "::1")
    + struct.pack("!HH", 40000, 25)
)


def test_proxy(acme: Town) -> None:
    """From the trusted network the receipt names the client behind the proxy; from another the header is no command."""
    with serving(acme.url, settings={"INGESTER_SMTP__PROXY_NETWORKS": "127.0.0.0/8"}) as daemon:
        for number, header in enumerate((V1, V2)):
            with Caller(daemon.port) as caller:
                caller.send(header)
                assert caller.greet().deliver(letter(f"proxied-{number}@customer.test").stuffed).startswith("250")
        with Caller(daemon.port, host="::1") as caller:
            caller.send(V1)
            assert caller.answer().startswith("220")
            assert caller.answer().startswith("500")
            assert caller.ask("EHLO client.test").startswith("250")
            assert caller.deliver(letter("direct@customer.test").stuffed).startswith("250")
        with Caller(daemon.port) as caller:
            caller.send(b"EHLO client.test\r\n")
            assert caller.answer() == ""
    rows = acme.ask("SELECT client_ip FROM receipts ORDER BY received_at")
    assert [row["client_ip"] for row in rows] == ["203.0.113.7", "2001:db8::7", "::1"]


# -- the directory ----------------------------------------------------------------------------------------------------


def rcpt(caller: Caller, address: str) -> str:
    """The answer to one recipient, in a transaction that is then forgotten."""
    assert caller.ask("MAIL FROM:<ada@customer.test>").startswith("250")
    answer = caller.ask(f"RCPT TO:<{address}>")
    assert caller.ask("RSET").startswith("250")
    return answer


@pytest.mark.thorough
def test_directory_changes_while_it_runs(acme: Town) -> None:
    """A mailbox added a moment ago receives; one suspended a moment ago does not, though its route was cached."""
    with serving(acme.url) as daemon, calling(daemon.port) as caller:
        assert rcpt(caller, "new@acme.test").startswith("550 5.1.1")
        command(acme.url, "mailbox", "add", "new@acme.test")
        assert caller.deliver(letter("a@customer.test").stuffed, "new@acme.test").startswith("250")
        caller.announce("new@acme.test")
        command(acme.url, "mailbox", "suspend", "new@acme.test")
        caller.send(letter("b@customer.test").stuffed)  # its RCPT was taken before
        assert caller.answer().startswith("450 4.2.1")
        asked_until(lambda: rcpt(caller, "new@acme.test"), "450 4.2.1", before="250")  # the notification is on its way
        command(acme.url, "mailbox", "resume", "new@acme.test")
        assert caller.deliver(letter("c@customer.test").stuffed, "new@acme.test").startswith("250")

        command(acme.url, "route", "add", "alias", "other@acme.test", "--to", "new@acme.test")
        assert caller.deliver(letter("d@customer.test").stuffed, "other@acme.test").startswith("250")
        command(acme.url, "route", "remove", "alias", "other@acme.test")
        asked_until(lambda: rcpt(caller, "other@acme.test"), "550 5.1.1", before="250")
        command(acme.url, "tenant", "suspend", "acme")
        asked_until(lambda: rcpt(caller, "new@acme.test"), "450 4.2.1", before="250")
        assert rcpt(caller, "support@globex.test").startswith("250")
        assert daemon.terminate() == 0
    stored = {row[0] for row in acme.ask("SELECT rfc_message_id FROM messages")}
    assert stored == {"a@customer.test", "c@customer.test", "d@customer.test"}
    (row,) = acme.ask(
        "SELECT count(*) AS count FROM refusals WHERE reason = 'mailbox_suspended' AND arrival_id IS NOT NULL"
    )
    assert row["count"] == 1


def test_two_tenants_in_one_mail(acme: Town) -> None:
    """Each has rows of its own, under one arrival, and nothing of the other's."""
    mail = letter("both@customer.test", "support@acme.test", "sales@globex.test", size=5000)
    with serving(acme.url) as daemon, calling(daemon.port) as caller:
        said = caller.deliver(mail.stuffed, *mail.recipients)
    tables = ("messages", "parts", "threads", "thread_ids", "raws", "receipts", "claims")
    for table in tables:
        rows = acme.ask(f"SELECT tenant_id, count(*) AS count FROM {table} GROUP BY tenant_id")
        assert len(rows) == 2, table
        assert len({row["count"] for row in rows}) == 1, table
    rows = acme.ask("SELECT arrival_id, envelope_to FROM receipts")
    assert {row["arrival_id"] for row in rows} == {arrival(said)}
    assert sorted(row["envelope_to"] for row in rows) == [["sales@globex.test"], ["support@acme.test"]]


def test_refusals_are_rows(acme: Town) -> None:
    """Before DATA one row a minute and reason, with samples; after DATA one each, with its envelope."""
    loop = b"Received: from x\r\n" * 101 + letter("loop@customer.test").stuffed
    with serving(acme.url, settings={"INGESTER_MAX_MESSAGE_BYTES": "100000"}) as daemon, calling(daemon.port) as caller:
        for number in range(10):
            assert rcpt(caller, f"nobody{number}@acme.test").startswith("550 5.1.1")
            assert rcpt(caller, f"nobody{number}@elsewhere.test").startswith("550 5.7.1")
        assert caller.ask("MAIL FROM:<ada@customer.test> SIZE=100001").startswith("552 5.3.4")
        for _ in range(2):
            assert caller.deliver(loop).startswith("554 5.4.6")
        assert daemon.terminate() == 0
    rows = acme.ask(
        """
        SELECT r.reason, t.slug, count(*) AS rows, sum(r.count) AS count, max(jsonb_array_length(r.samples)) AS samples,
               count(r.arrival_id) AS arrivals, count(r.envelope) AS envelopes, min(r.client_prefix) AS prefix
        FROM refusals r JOIN tenants t ON t.id = r.tenant_id GROUP BY 1, 2
        """
    )
    found = {row["reason"]: row for row in rows}
    assert found.keys() == {"unknown_mailbox", "unknown_domain", "oversized", "mail_loop"}
    # A minute may end while the test runs.
    assert (found["unknown_mailbox"]["slug"], found["unknown_mailbox"]["count"]) == ("acme", 10)
    assert (found["unknown_domain"]["slug"], found["unknown_domain"]["count"]) == ("system", 10)
    assert found["unknown_mailbox"]["rows"] <= 2
    assert found["unknown_mailbox"]["samples"] == 3
    assert found["oversized"]["count"] == 1
    assert found["mail_loop"]["rows"] == found["mail_loop"]["arrivals"] == found["mail_loop"]["envelopes"] == 2
    assert {row["prefix"] for row in rows} == {"127.0.0.1/32"}
    assert acme.count("messages") == 0


# -- workers ----------------------------------------------------------------------------------------------------------

TWO = {"INGESTER_WORKERS": "2", **ENOUGH}


def workers(daemon: Daemon) -> list[psutil.Process]:
    return psutil.Process(daemon.process.pid).children()


def holders(daemon: Daemon) -> set[int]:
    """The workers that hold a connection of an SMTP client."""
    return {
        worker.pid
        for worker in workers(daemon)
        for one in worker.net_connections("tcp")
        if one.laddr.port == daemon.port and one.status == psutil.CONN_ESTABLISHED
    }


def test_two_workers(acme: Town) -> None:
    """Both serve; one that is killed is started again and loses nothing; all drain together with exit 0."""
    mails = letters(1500, "support@acme.test", "sales@globex.test")
    with serving(acme.url, settings=TWO, wait=False) as daemon:
        daemon.wait_event("serving", times=2)
        first, second = sorted(worker.pid for worker in workers(daemon))
        callers = [Caller(daemon.port).greet() for _ in range(20)]
        assert holders(daemon) == {first, second}
        with sending(daemon.port, mails) as mta:
            mta.wait_for(lambda: mta.count("2") >= 100)
            seen = len(daemon.lines)
            psutil.Process(first).kill()
            died = daemon.wait_event("worker died, starting another", after=seen)
            assert (died["pid"], died["status"]) == (first, -signal.SIGKILL)
            third = daemon.wait_event("serving", after=seen)["pid"]
            assert {worker.pid for worker in workers(daemon)} == {second, third}
            mta.finish()
        callers += [Caller(daemon.port).greet() for _ in range(20)]
        assert holders(daemon) == {second, third}
        daemon.signal(signal.SIGTERM)
        assert "421" in {caller.answer()[:3] for caller in callers}
        assert daemon.wait_end() == 0
        daemon.wait_silence()
        for caller in callers:
            caller.hang_up()
    audit(acme.url, mails, mta.attempts)


@pytest.mark.thorough
def test_supervisor_killed(acme: Town) -> None:
    """kill -9 of the supervisor ends the workers in order: nobody would start them again."""
    with serving(acme.url, settings=TWO, wait=False) as daemon:
        daemon.wait_event("serving", times=2)
        with calling(daemon.port) as caller:
            daemon.process.kill()
            assert caller.answer().startswith("421 4.3.2")
        daemon.wait_silence()
        assert sum(line.get("event") == "stopped" for line in daemon.lines) == 2
        with pytest.raises(ConnectionRefusedError):
            Caller(daemon.port)


@pytest.mark.long
def test_workers_killed_again_and_again(acme: Town) -> None:
    """A fault point kills each worker in turn at its commit: every yes is a row."""
    mails = letters(2000, "support@acme.test", "sales@globex.test")
    with serving(acme.url, settings={**TWO, "INGESTER_TEST_FAULTS": "after_commit:kill@8"}, wait=False) as daemon:
        daemon.wait_event("serving", times=2)
        with sending(daemon.port, mails) as mta:
            daemon.wait_event("worker died, starting another", times=10)
            mta.finish(THOUSANDS_SECONDS)
    assert mta.count("") > 0
    audit(acme.url, mails, mta.attempts)
