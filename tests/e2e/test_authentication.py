"""Senders are checked through the real door, with a name server that answers, is silent, breaks or lies."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from time import monotonic
from typing import Any

import pytest

from tests.daemon import Daemon, Town, serving
from tests.e2e.caller import Caller
from tests.nameserver import NameServer, in_thread
from tests.signing import key_record, signed
from tests.zones import Fault

pytestmark = [pytest.mark.usefixtures("blobs"), pytest.mark.thorough]

GOOD, FORGER = "192.0.2.1", "198.51.100.9"
ZONE: dict[str, list[Any]] = {
    "strict.test": [{"TXT": f"v=spf1 ip4:{GOOD} -all"}],
    "_dmarc.strict.test": [{"TXT": "v=DMARC1; p=reject"}],
    "s._domainkey.strict.test": [{"TXT": key_record()}],
    "_dmarc.dead.test": [Fault.TIMEOUT],
    "dead.test": [Fault.TIMEOUT],
}
LIES = [Fault.WRONG_ID, Fault.WRONG_QUESTION, Fault.WRONG_PORT, Fault.GARBAGE, Fault.SERVFAIL, Fault.REFUSED]


@contextmanager
def checking(acme: Town, zone: dict[str, list[Any]], **settings: str) -> Iterator[Daemon]:
    """A daemon that asks a name server with this zone, behind a proxy that names the clients."""
    with in_thread(NameServer(zone=zone)) as server:
        host, port = server.address
        own = {
            "INGESTER_DNS__NAMESERVERS": f"{host}:{port}",
            "INGESTER_SMTP__PROXY_NETWORKS": "127.0.0.0/8",
            "INGESTER_SMTP__HOSTNAME": "mx.acme.test",
        }
        with serving(acme.url, settings=own | settings) as daemon:
            yield daemon


def mail(name: str, sender: str = "ada@strict.test") -> bytes:
    return (
        f"From: {sender}\r\nTo: support@acme.test\r\nSubject: {name}\r\nMessage-ID: <{name}@strict.test>\r\n\r\nHi.\r\n"
    ).encode()


def deliver(daemon: Daemon, raw: bytes, ip: str, sender: str = "ada@strict.test") -> str:
    """The reply to the final dot, of a client with this address."""
    with Caller(daemon.port) as caller:
        caller.send(f"PROXY TCP4 {ip} 127.0.0.1 40000 25\r\n".encode())
        caller.greet()
        caller.ask(f"MAIL FROM:<{sender}>")
        caller.ask("RCPT TO:<support@acme.test>")
        caller.ask("DATA")
        caller.send(raw + b".\r\n")
        return caller.answer()


def verdicts(acme: Town) -> dict[str, tuple[str, str, str, bool]]:
    rows = acme.ask("SELECT subject, spf, dkim, dmarc, sender_verified FROM messages")
    return {row[0]: (row[1], row[2], row[3], row[4]) for row in rows}


def test_the_door_tells_the_true_sender_from_the_forger(acme: Town) -> None:
    with checking(acme, ZONE) as daemon:
        assert deliver(daemon, signed(mail("true"), "strict.test"), GOOD)[:3] == "250"
        assert deliver(daemon, signed(mail("forwarded"), "strict.test"), FORGER)[:3] == "250"
        assert deliver(daemon, mail("forged"), FORGER)[:3] == "250"
        acme.ask("UPDATE mailboxes SET auth_policy = 'enforce' WHERE local_part = 'support'")
        refused = deliver(daemon, mail("again"), FORGER)
    assert refused.startswith("550 5.7.26 ")
    assert verdicts(acme) == {
        "true": ("pass", "pass", "pass", True),
        "forwarded": ("fail", "pass", "pass", True),
        "forged": ("fail", "none", "fail", False),
    }
    (row,) = acme.ask("SELECT reason, envelope->'auth_report'->'dmarc'->>'result' FROM refusals")
    assert tuple(row) == ("authentication_failed", "fail")


@pytest.mark.parametrize("fault", LIES)
def test_no_verdict_is_made_of_lies_and_no_mail_is_lost(acme: Town, fault: Fault) -> None:
    zone = {name: [fault] for name in ZONE}
    with checking(acme, zone, INGESTER_DNS__TRY_SECONDS="0.1", INGESTER_DNS__MAIL_SECONDS="1") as daemon:
        assert deliver(daemon, signed(mail("one"), "strict.test"), GOOD)[:3] == "250"
        acme.ask("UPDATE mailboxes SET auth_policy = 'enforce' WHERE local_part = 'support'")
        assert deliver(daemon, signed(mail("two"), "strict.test"), GOOD).startswith("451 4.4.3 ")
    assert verdicts(acme) == {"one": ("temperror", "temperror", "temperror", False)}


def test_who_waits_for_a_dead_zone_waits_alone(acme: Town) -> None:
    """The mail of a domain whose servers are silent comes after its budget; meanwhile the others are not held up."""
    with checking(acme, ZONE, INGESTER_DNS__MAIL_SECONDS="6") as daemon, ThreadPoolExecutor(10) as pool:
        slow = [pool.submit(deliver, daemon, mail(f"dead{n}", "x@dead.test"), GOOD, "x@dead.test") for n in range(5)]
        begun = monotonic()
        quick = [deliver(daemon, signed(mail(f"q{n}"), "strict.test"), GOOD) for n in range(20)]
        assert not any(one.done() for one in slow), "the quick ones came within the budget of the first slow one"
        assert [one.result()[:3] for one in slow] == ["250"] * 5
        assert monotonic() - begun < 15
    assert {reply[:3] for reply in quick} == {"250"}
    seen = verdicts(acme)
    assert [seen[f"dead{n}"] for n in range(5)] == [("temperror", "none", "temperror", False)] * 5
    assert [seen[f"q{n}"] for n in range(20)] == [("pass", "pass", "pass", True)] * 20
