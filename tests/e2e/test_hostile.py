"""What a stranger can send to hurt: memory and CPU stay within bounds, the reply is clear, and the daemon serves on."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.blobs import NewPlace
from tests.daemon import Daemon, Town, serving, town
from tests.e2e.caller import Caller, calling
from tests.e2e.meter import MIB, Meter, Usage
from tests.mta import Letter, letter, send
from tests.pace import slowness
from tests.postgres import Cluster

pytestmark = pytest.mark.thorough

MEMORY = 64 * MIB
"""What may be used above idle and above the bytes of the mail that was admitted."""
CPU_SECONDS = 2.0
HEAD = b"From: eve@evil.test\r\nTo: support@acme.test\r\nSubject: hostile\r\nMIME-Version: 1.0\r\n"


@dataclass(slots=True)
class Victim:
    """A daemon, how much it holds when idle, and what its users still expect of it."""

    daemon: Daemon
    meter: Meter
    idle: int
    town: Town
    mails: int = 0

    def serve_on(self) -> None:
        """A normal mail is accepted, and its row is there."""
        self.mails += 1
        mail = letter(f"normal-{self.mails}@customer.test", "sales@acme.test")
        with calling(self.daemon.port) as caller:
            assert caller.deliver(mail.stuffed, *mail.recipients).startswith("250")
        found = self.town.ask("SELECT FROM messages WHERE rfc_message_id = $1", mail.message_id)
        assert len(found) == 1

    def assert_unhurt(self, usage: Usage, *, admitted: int = 0, mails: int = 1) -> None:
        above = usage.peak - self.idle - admitted
        assert above < MEMORY, f"{above / MIB:.0f} MiB above idle and {admitted / MIB:.0f} MiB admitted"
        bound = CPU_SECONDS * mails
        assert usage.cpu < bound or usage.cpu / slowness() < bound, f"{usage.cpu:.2f} s of CPU"
        self.serve_on()


@pytest.fixture(scope="module")
def veteran(postgres: Cluster, lasting_blobs: NewPlace) -> Iterator[Victim]:
    """One daemon for all: whatever the earlier attacks have left behind counts against the bound of the later ones."""
    with postgres.clone() as url, serving(url, settings=lasting_blobs()) as daemon:
        victim = Victim(daemon, Meter(daemon.worker), 0, town(url))
        victim.serve_on()
        victim.idle = victim.meter.resident()
        yield victim


@pytest.fixture
def victim(veteran: Victim) -> Iterator[Victim]:
    """The same, which must have outlived the test."""
    yield veteran
    assert veteran.daemon.process.poll() is None


def deliver(victim: Victim, wire: bytes) -> tuple[str, Usage]:
    """Send one mail with the final dot and give the answer and what it took."""
    with calling(victim.daemon.port) as caller:
        caller.announce()
        with victim.meter.measured() as usage:
            caller.send(wire)
            answer = caller.answer()
    return answer, usage


def pour(caller: Caller, octets: int, what: bytes = b"x") -> None:
    """Send so many octets, or as many as are taken."""
    block = what * (MIB // len(what))
    try:
        for _ in range(octets // len(block)):
            caller.send(block)
    except ConnectionError:
        pass


def test_endless_command_line(victim: Victim) -> None:
    """200 MB in the command phase without a line end: 500, and gone."""
    with victim.meter.measured() as usage, calling(victim.daemon.port) as caller:
        pour(caller, 200 * MIB)
        assert caller.answer() == "500 5.5.6 Line too long"
        assert caller.answer() == ""
    victim.assert_unhurt(usage)


def test_endless_content_line(victim: Victim) -> None:
    """200 MB of DATA without a line end: 552, the connection stays in step."""
    with calling(victim.daemon.port) as caller:
        caller.announce()
        with victim.meter.measured() as usage:
            pour(caller, 200 * MIB)
            caller.send(b"\r\n.\r\n")
            assert caller.answer().startswith("552 5.3.4 ")
        assert caller.ask("NOOP").startswith("250")
    victim.assert_unhurt(usage, admitted=25 * MIB)
    assert not victim.town.ask("SELECT FROM messages WHERE size > $1", 25 * MIB)


@pytest.mark.parametrize("line", [b"x", b"\0", b"\r", b"\n", b"."], ids=["x", "nul", "cr", "lf", "dot"])
def test_a_mail_of_one_octet_repeated(victim: Victim, line: bytes) -> None:
    """24 MB without a CRLF, within the limit on size: stored or refused, and cheap either way."""
    answer, usage = deliver(victim, HEAD + b"\r\n" + line * (24 * MIB) + b"\r\n.\r\n")
    assert answer[:3] in ("250", "550", "552")
    # A bare LF becomes CRLF, which may double it up to the limit.
    victim.assert_unhurt(usage, admitted=25 * MIB)


def ask_recipients(caller: Caller, addresses: list[str]) -> Counter[str]:
    """Pipelined RCPT, and how often each code was the answer."""
    codes: Counter[str] = Counter()
    for begin in range(0, len(addresses), 1000):
        some = addresses[begin : begin + 1000]
        caller.send("".join(f"RCPT TO:<{address}>\r\n" for address in some).encode())
        codes.update(caller.answer()[:9] for _ in some)
    return codes


def test_a_hundred_thousand_recipients(victim: Victim) -> None:
    """The same mailbox under 100,000 tags: 1,000 are taken, the others are told to come in another transaction."""
    with calling(victim.daemon.port) as caller:
        assert caller.ask("MAIL FROM:<eve@evil.test>").startswith("250")
        with victim.meter.measured() as usage:
            codes = ask_recipients(caller, [f"support+{number}@acme.test" for number in range(100_000)])
            assert caller.ask("DATA").startswith("354")
            caller.send(letter("many@evil.test").stuffed)
            assert caller.answer().startswith("250")
    assert codes == {"250 2.1.5": 1000, "452 4.5.3": 99_000}
    victim.assert_unhurt(usage)
    (row,) = victim.town.ask("SELECT max(cardinality(envelope_to)) AS recipients FROM receipts")
    assert row["recipients"] == 1000


def test_a_hundred_thousand_guesses(victim: Victim) -> None:
    """Unknown recipients: the first are refused, the rest put off without a question; the good one is taken."""
    with calling(victim.daemon.port) as caller:
        assert caller.ask("MAIL FROM:<eve@evil.test>").startswith("250")
        with victim.meter.measured() as usage:
            codes = ask_recipients(caller, [f"guess{number}@acme.test" for number in range(100_000)])
        assert codes.keys() == {"550 5.1.1", "451 4.7.1"}
        assert codes["550 5.1.1"] == 201
        assert caller.ask("RCPT TO:<sales@acme.test>").startswith("250")  # known to the cache
    victim.assert_unhurt(usage)


def nested(depth: int) -> bytes:
    """Multiparts in one another, each with a leaf before the next."""
    head = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n\r\nleaf\r\n--b%d\r\n" % (n, n, n)
        for n in range(depth)
    )
    return head + b"\r\nthe innermost\r\n" + b"".join(b"--b%d--\r\n" % n for n in reversed(range(depth)))


def flat(parts: int) -> bytes:
    """So many small parts side by side."""
    leaves = b"".join(b"--b\r\nContent-Type: text/plain; name=%d.txt\r\n\r\n%d\r\n" % (n, n) for n in range(parts))
    return b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + leaves + b"--b--\r\n"


HOSTILE: dict[str, Callable[[], bytes]] = {
    "nested_1000": lambda: nested(1000),
    "nested_100000": lambda: nested(100_000),
    "parts_100000": lambda: flat(100_000),
    "header_1mb": lambda: b"X-Big: " + b"y" * MIB + b"\r\n\r\nbody\r\n",
    "header_1mb_folded": lambda: b"Subject: s\r\n" + b" fold\r\n" * (MIB // 7) + b"\r\nbody\r\n",
    "header_100000_fields": lambda: b"Received: x\r\n" * 90 + b"X-A: b\r\n" * 100_000 + b"\r\nbody\r\n",
    "header_24mb": lambda: b"X-Big: z\r\n" * (24 * MIB // 10) + b"\r\nbody\r\n",
    "addresses_1mb": lambda: b"Cc: " + b"a@b.test, " * (MIB // 10) + b"c@d.test\r\n\r\nbody\r\n",
    "references_1mb": lambda: b"References: " + b"<a@b.test> " * (MIB // 11) + b"\r\n\r\nbody\r\n",
    "encoded_words": lambda: b"Subject: " + b"=?utf-8?q?x?= " * (200_000 // 14) + b"\r\n\r\nbody\r\n",
    "parameters": lambda: (
        b"Content-Type: text/plain" + b"".join(b"; a*%d*=x" % n for n in range(20_000)) + b"\r\n\r\nx\r\n"
    ),
    "deep_html": lambda: b"Content-Type: text/html\r\n\r\n" + b"<div>" * (4 * MIB // 5) + b"\r\n",
    "html_24mb": lambda: b"Content-Type: text/html\r\n\r\n" + b"<p>line &amp; line</p>\r\n" * (24 * MIB // 25),
    "emoji_24mb": lambda: (
        b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + (b"x" * 70 + b"\xf0\x9f\x98\x80\r\n") * (24 * MIB // 76)
    ),
    "text_24mb": lambda: b"\r\n" + b"line upon line, nothing but text, and more of it\r\n" * (24 * MIB // 50),
    "base64_24mb": lambda: (
        b"Content-Type: a/b\r\nContent-Transfer-Encoding: base64\r\n\r\n" + (b"A" * 76 + b"\r\n") * 300_000
    ),
    "broken_base64": lambda: (
        b"Content-Type: a/b\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b"A=\r\n" * (24 * MIB // 4)
    ),
    "quoted_printable": lambda: b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + b"=41=\r\n" * (24 * MIB // 6),
    "boundaries_only": lambda: b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n" * (24 * MIB // 5),
    "dots_only": lambda: b"\r\n" + b"..\r\n" * (24 * MIB // 4),
}
"""Whole mails behind HEAD. The sizes are those of the issue, or just below the limit of 25 MiB."""


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_content(victim: Victim, name: str) -> None:
    """Accepted and stored, or refused in clear words; cheap in either case."""
    content = HEAD + HOSTILE[name]()
    answer, usage = deliver(victim, content + b".\r\n")
    assert answer.startswith("250 2.0.0 stored as "), answer
    victim.assert_unhurt(usage, admitted=len(content))
    assert victim.town.count("dead_letters") == 0


@pytest.mark.long
def test_many_large_mails_at_once(victim: Victim) -> None:
    """Ten of nearly the largest size: what each costs beside its bytes is not added up."""
    content = HEAD + HOSTILE["base64_24mb"]()
    mails = [
        Letter(message_id="", recipients=("support@acme.test",), content=content + b"%d\r\n" % n) for n in range(10)
    ]
    with victim.meter.measured() as usage:
        mta = send(victim.daemon.port, mails, connections=10)
    assert mta.count("2") == 10
    # asyncpg holds two more copies of what a commit sends, and four commits at most are under way.
    victim.assert_unhurt(usage, admitted=(10 + 4 * 2) * len(content), mails=10)
