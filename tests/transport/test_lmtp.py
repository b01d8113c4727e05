"""The LMTP dialog: an answer for each recipient, and who is believed about the client."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP
from hypothesis import given, settings
from hypothesis import strategies as st

from ingester.core.envelope import Client, Door
from ingester.core.outcome import CODES, Reason, Refusal
from ingester.settings import UnixListen
from ingester.transport import command
from ingester.transport.lmtp import LmtpDialog, LmtpDoor
from tests.transport.certificates import write_certificate
from tests.transport.stubs import House, Peer, running
from tests.transport.test_proxy import SIGNATURE, TCP4, v2
from tests.transport.test_smtp import STORED
from tests.transport.variants import VARIANTS

TRUSTED = "127.0.0.0/8"


@asynccontextmanager
async def lmtp(*, trusted: str = TRUSTED, **override: Any) -> AsyncIterator[House]:
    """An LMTP door on 127.0.0.1 which trusts its peers, or not."""
    async with running(kind=LmtpDoor, lmtp__trusted_networks=trusted, **override) as house:
        yield house


async def greeted(house: House) -> Peer:
    peer = await house.connect()
    assert await peer.reply() == "220 mx.demo.test LMTP ingester"
    assert (await peer.ask("LHLO mta.test")).startswith("250")
    return peer


async def deliver(peer: Peer, *recipients: str, content: bytes = b"x\r\n") -> list[str]:
    """One mail to recipients that are all taken; the answers behind it."""
    await peer.announce(*recipients)
    await peer.send(content + b".\r\n")
    return [await peer.reply() for _ in recipients]


# -- the protocol


async def test_offers_to_a_relay_and_to_anybody_else() -> None:
    plain = ["SIZE 100000", "8BITMIME", "SMTPUTF8", "PIPELINING", "ENHANCEDSTATUSCODES"]
    more = [
        "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT",
        "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE",
    ]
    for trusted, offers in ((TRUSTED, [*plain, *more]), ("192.0.2.0/24", plain)):
        async with lmtp(trusted=trusted, max_message_bytes=100_000) as house:
            peer = await house.connect()
            await peer.reply()
            reply = await peer.ask("LHLO mta.test")
            assert reply.split("\n") == ["250-mx.demo.test", *(f"250-{offer}" for offer in offers), "250 HELP"]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("EHLO a", "500 5.5.1"),
        ("HELO a", "500 5.5.1"),
        ("LHLO", "501 5.5.4"),
        ("MAIL FROM:<>", "503 5.5.1"),
        ("RCPT TO:<support@demo.test>", "503 5.5.1"),
        ("DATA", "503 5.5.1"),
        ("NOOP", "250 2.0.0"),
        ("VRFY someone", "252 2.5.0"),
        ("AUTH PLAIN", "502 5.5.1"),
        ("BDAT 10", "500 5.5.1"),
        ("XCLIENT", "501 5.5.4"),
        ("XFORWARD FOO=1", "501 5.5.4"),
    ],
)
async def test_commands_before_lhlo(line: str, code: str) -> None:
    async with lmtp() as house:
        peer = await house.connect()
        await peer.reply()
        assert (await peer.ask(line)).startswith(code + " ")
        assert (await peer.ask("LHLO a")).startswith("250")


async def test_each_recipient_has_its_answer_in_order_also_who_is_named_twice() -> None:
    async with lmtp() as house:
        house.pipeline.refused_later = {
            "cold@demo.test": Refusal(reason=Reason.COLD_INBOUND_REFUSED),
            "full@demo.test": Refusal(reason=Reason.QUOTA_EXCEEDED),
        }
        house.pipeline.reason = Reason.QUOTA_EXCEEDED
        peer = await greeted(house)
        named = ["cold", "support", "full", "support", "cold"]
        assert await deliver(peer, *(f"{name}@demo.test" for name in named)) == [
            CODES[Reason.COLD_INBOUND_REFUSED].line,
            STORED,
            CODES[Reason.QUOTA_EXCEEDED].line,
            STORED,
            CODES[Reason.COLD_INBOUND_REFUSED].line,
        ]
        (mail,) = house.pipeline.mails
        assert (mail.door, len(mail.recipients)) == (Door.LMTP, 5)
        assert await peer.ask("QUIT") == command.BYE


async def test_recipients_of_any_policy_come_together_and_refused_ones_have_no_answer_later() -> None:
    async with lmtp() as house:
        peer = await greeted(house)
        replies = [
            await peer.ask(line)
            for line in (
                "MAIL FROM:<s@elsewhere.test>",
                "RCPT TO:<support@demo.test>",
                "RCPT TO:<unknown@demo.test>",
                "RCPT TO:<strict@demo.test>",
                "DATA",
            )
        ]
        assert [reply[:3] for reply in replies] == ["250", "250", "550", "250", "354"]
        await peer.send(b"x\r\n.\r\nNOOP\r\n")
        assert [await peer.reply() for _ in range(3)] == [STORED, STORED, command.OK]
        assert house.pipeline.asked_by == (Door.LMTP, "s@elsewhere.test")


async def test_data_without_a_recipient_is_503_and_no_mistake() -> None:
    async with lmtp(smtp__max_command_errors=2) as house:
        peer = await greeted(house)
        for recipient in ("unknown@demo.test", "later@demo.test", "unknown@demo.test"):
            await peer.send(b"MAIL FROM:<>\r\nRCPT TO:<" + recipient.encode() + b">\r\nDATA\r\nRSET\r\n")
            replies = [await peer.reply() for _ in range(4)]
            assert replies[2] == "503 5.5.1 No valid recipients"
            assert replies[3] == command.OK


TAKEN, REFUSED, LATER = "support@demo.test", "unknown@demo.test", "cold@demo.test"


@given(st.lists(st.lists(st.sampled_from([TAKEN, REFUSED, LATER, "not an address"]), max_size=5), max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_mails_in_one_packet_have_as_many_answers_as_they_should(mails: list[list[str]]) -> None:
    asyncio.run(answers_to(mails))


async def answers_to(mails: list[list[str]]) -> None:
    async with lmtp(smtp__max_command_errors=1000) as house:
        house.pipeline.refused_later = {LATER: Refusal(reason=Reason.COLD_INBOUND_REFUSED)}
        peer = await greeted(house)
        sent, expected = b"", []
        for recipients in mails:
            taken = [recipient for recipient in recipients if recipient in (TAKEN, LATER)]
            sent += b"MAIL FROM:<>\r\n" + b"".join(b"RCPT TO:<%s>\r\n" % to.encode() for to in recipients)
            sent += b"DATA\r\n" + (b"x\r\n.\r\n" if taken else b"RSET\r\n")
            expected += ["250", *("250" if to in taken else "550" if to == REFUSED else "501" for to in recipients)]
            expected += ["354"] if taken else ["503", "250"]
            expected += ["250" if to == TAKEN else "550" for to in taken]
        await peer.send(sent + b"QUIT\r\n")
        assert [(await peer.reply())[:3] for _ in [*expected, "QUIT"]] == [*expected, "221"]


@pytest.mark.parametrize("reason", list(Reason))
async def test_one_fate_is_told_to_each(reason: Reason) -> None:
    async with lmtp() as house:
        house.pipeline.reason = reason
        peer = await greeted(house)
        expected = STORED if reason in (Reason.ACCEPTED, Reason.DUPLICATE) else CODES[reason].line
        assert await deliver(peer, "support@demo.test", "sales@demo.test") == [expected] * 2


async def test_a_surprise_in_the_acceptance_is_told_to_each() -> None:
    async with lmtp() as house:
        house.pipeline.fault = RuntimeError("secret words of the mail")
        peer = await greeted(house)
        answers = await deliver(peer, "support@demo.test", "sales@demo.test")
        assert answers == [CODES[Reason.STORE_UNAVAILABLE].line] * 2
        assert house.door.desk.flight.used == 0


async def test_what_is_wrong_with_the_data_is_told_to_each() -> None:
    async with lmtp(max_message_bytes=2000, smtp__bare_lf="refuse") as house:
        peer = await greeted(house)
        two = ("support@demo.test", "sales@demo.test")
        assert await deliver(peer, *two, content=b"x" * 3000 + b"\r\n") == [CODES[Reason.OVERSIZED].line] * 2
        assert await deliver(peer, *two, content=b"a\nb\r\n") == [command.BARE_LF] * 2
        assert await deliver(peer, *two) == [STORED] * 2
        assert house.pipeline.reasons == [Reason.OVERSIZED, Reason.MALFORMED_TRANSFER]
        assert {noted.door for noted in house.pipeline.noted} == {Door.LMTP}


async def test_overload_is_told_to_each() -> None:
    async with lmtp(max_message_bytes=1 << 20, max_bytes_in_flight=1 << 20) as house:
        old, new = await greeted(house), await greeted(house)
        await old.announce()
        await old.send(b"x" * 600_000)
        await house.until(lambda: house.door.desk.flight.used > 590_000)
        answers = await deliver(new, "support@demo.test", "sales@demo.test", content=b"y" * 600_000 + b"\r\n")
        assert answers == [CODES[Reason.OVERLOADED].line] * 2
        await old.send(b"\r\n.\r\n")
        assert await old.reply() == STORED


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "CRLF.CRLF NUL"])
async def test_an_ambiguous_end_is_told_to_each_and_nothing_behind_it_is_read(name: str) -> None:
    async with lmtp() as house:
        peer = await greeted(house)
        await peer.announce("support@demo.test", "sales@demo.test")
        inner = b"LHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<support@demo.test>\r\nDATA\r\nsecond\r\n.\r\n"
        await peer.send(b"first" + VARIANTS[name] + inner)
        refusal = CODES[Reason.MALFORMED_TRANSFER].line
        assert await peer.rest() == f"{refusal}\r\n{refusal}\r\n".encode()
        assert house.pipeline.mails == []


async def test_hanging_up_behind_the_dot_does_not_stop_the_acceptance() -> None:
    async with lmtp() as house:
        house.pipeline.gate = gate = asyncio.Event()
        peer = await greeted(house)
        await peer.announce("support@demo.test", "sales@demo.test")
        await peer.send(b"x\r\n.\r\n")
        await house.pipeline.arrived.wait()
        peer.reset()
        await house.until(lambda: not house.dialogs)
        gate.set()
        await house.pipeline.done.wait()
        assert len(house.pipeline.mails) == 1


async def test_the_drain_lets_the_answers_out() -> None:
    async with lmtp() as house:
        peer = await greeted(house)
        await peer.announce("support@demo.test", "sales@demo.test")
        await peer.send(b"first line\r\n")
        await house.until(lambda: any(dialog.transfer is not None for dialog in house.dialogs))
        draining = asyncio.create_task(house.door.drain(30))
        await peer.send(b"last line\r\n.\r\n")
        assert await peer.rest() == f"{STORED}\r\n{STORED}\r\n{command.CLOSING}\r\n".encode()
        await draining


def test_nothing_of_the_stock_class_answers() -> None:
    """Every command has its method in a class of ours."""
    ours = [vars(one) for one in LmtpDialog.__mro__[: LmtpDialog.__mro__.index(SMTP)]]
    for verb, method in LmtpDialog.COMMANDS.items():
        assert any(method in names.values() for names in ours), verb
    assert {"LHLO", "MAIL", "RCPT", "DATA", "QUIT", "RSET", "STARTTLS"} <= LmtpDialog.COMMANDS.keys()


# -- who the client is


def told(house: House, at: int = -1) -> tuple[str, str | None]:
    client = house.pipeline.mails[at].client
    return client.ip, client.helo


async def test_who_says_nothing_leaves_the_client_unknown() -> None:
    async with lmtp() as house:
        await deliver(await greeted(house), "support@demo.test")
        assert told(house) == ("", "mta.test")


async def test_a_stranger_is_named_by_its_own_address_and_not_believed() -> None:
    async with lmtp(trusted="192.0.2.0/24") as house:
        peer = await greeted(house)
        for line in ("XFORWARD ADDR=192.0.2.7", "XCLIENT ADDR=192.0.2.7", "xclient"):
            assert (await peer.ask(line)).startswith("550 5.7.0")
        assert (await peer.ask("PROXY TCP4 192.0.2.7 198.51.100.1 40000 25")).startswith("500")
        assert await deliver(peer, "support@demo.test") == [STORED]
        assert told(house) == ("127.0.0.1", "mta.test")


async def test_a_stranger_that_insists_is_sent_away() -> None:
    async with lmtp(trusted="192.0.2.0/24", smtp__max_command_errors=3) as house:
        peer = await greeted(house)
        await peer.send(b"XFORWARD ADDR=192.0.2.7\r\n" * 3)
        assert (await peer.rest()).endswith(command.TOO_MANY_ERRORS.encode() + b"\r\n")


async def test_xforward_is_of_one_mail() -> None:
    async with lmtp() as house:
        peer = await greeted(house)
        assert await peer.ask("XFORWARD NAME=c.test ADDR=192.0.2.7 PORT=4711") == command.OK
        assert await peer.ask("XFORWARD PROTO=ESMTP HELO=c+2B.test IDENT=4X SOURCE=REMOTE") == command.OK
        await deliver(peer, "support@demo.test")
        assert house.pipeline.asked_for == Client(ip="192.0.2.7", helo="c+.test")
        await deliver(peer, "support@demo.test")
        assert [told(house, at) for at in (0, 1)] == [("192.0.2.7", "c+.test"), ("", "mta.test")]


@pytest.mark.parametrize("ending", ["RSET", "LHLO mta.test"])
async def test_a_mail_given_up_takes_its_client_along(ending: str) -> None:
    async with lmtp() as house:
        peer = await greeted(house)
        await peer.ask("XFORWARD ADDR=192.0.2.7 HELO=c.test")
        await peer.ask("MAIL FROM:<>")
        assert (await peer.ask("XFORWARD ADDR=192.0.2.8")).startswith("503 5.5.1")
        assert (await peer.ask("XCLIENT ADDR=192.0.2.8")).startswith("503 5.5.1")
        assert (await peer.ask(ending)).startswith("250")
        await deliver(peer, "support@demo.test")
        assert told(house) == ("", "mta.test")


async def test_a_mail_refused_for_its_size_takes_its_client_along() -> None:
    async with lmtp() as house:
        peer = await greeted(house)
        await peer.ask("XFORWARD ADDR=192.0.2.7 HELO=c.test")
        assert (await peer.ask("MAIL FROM:<> SIZE=99999999999")).startswith("552 5.3.4")
        await deliver(peer, "support@demo.test")
        assert told(house) == ("", "mta.test")


async def test_half_of_what_is_told_is_never_made_up_by_the_relay() -> None:
    async with lmtp() as house:
        peer = await greeted(house)
        await peer.ask("XFORWARD ADDR=192.0.2.7 HELO=[UNAVAILABLE]")
        await deliver(peer, "support@demo.test")
        await peer.ask("XFORWARD ADDR=[UNAVAILABLE] HELO=c.test")
        await deliver(peer, "support@demo.test")
        assert [told(house, at) for at in (0, 1)] == [("192.0.2.7", None), ("", None)]


async def test_xclient_is_of_the_session_which_begins_anew() -> None:
    async with lmtp() as house:
        peer = await greeted(house)
        assert await peer.ask("XCLIENT ADDR=IPV6:2001:db8::7 HELO=c.test LOGIN=ada") == "220 mx.demo.test LMTP ingester"
        assert (await peer.ask("MAIL FROM:<>")).startswith("503 5.5.1 Send LHLO")
        assert "XFORWARD" in await peer.ask("LHLO mta.test")
        await deliver(peer, "support@demo.test")
        await peer.ask("XFORWARD ADDR=192.0.2.9 HELO=other.test")
        await deliver(peer, "support@demo.test")
        await deliver(peer, "support@demo.test")
        assert [told(house, at) for at in (0, 1, 2)] == [
            ("2001:db8::7", "c.test"),
            ("192.0.2.9", "other.test"),
            ("2001:db8::7", "c.test"),
        ]


async def test_what_was_told_in_clear_is_forgotten_behind_starttls(tmp_path: Path) -> None:
    cert, key = write_certificate(tmp_path, "mx.demo.test")
    async with lmtp(smtp__tls_cert=cert, smtp__tls_key=key) as house:
        peer = await greeted(house)
        assert (await peer.ask("XCLIENT ADDR=192.0.2.7 HELO=c.test")).startswith("220")
        assert (await peer.ask("XFORWARD ADDR=192.0.2.8")) == command.OK
        assert (await peer.ask("STARTTLS")).startswith("220")
        await peer.start_tls()
        assert "XFORWARD" in await peer.ask("LHLO mta.test")
        await deliver(peer, "support@demo.test")
        assert told(house) == ("", "mta.test")


HEADERS = [
    b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 24\r\n",
    v2(1, 0x11, TCP4),
]


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("split", [False, True])
async def test_a_proxy_header_tells_who_the_peer_is(header: bytes, split: bool) -> None:
    async with lmtp() as house:
        peer = await house.connect()
        await (peer.send_split if split else peer.send)(header)
        assert (await peer.reply()).startswith("220")
        assert "XCLIENT" not in await peer.ask("LHLO mta.test")
        assert (await peer.ask("XFORWARD ADDR=192.0.2.8")).startswith("550")
        await deliver(peer, "support@demo.test")
        assert told(house) == ("192.0.2.7", "mta.test")


async def test_a_relay_behind_the_proxy_is_trusted_itself() -> None:
    async with lmtp(trusted="127.0.0.0/8,192.0.2.7/32") as house:
        peer = await house.connect()
        await peer.send(HEADERS[0] + b"LHLO mta.test\r\nXFORWARD ADDR=203.0.113.5 HELO=c.test\r\n")
        assert [(await peer.reply())[:3] for _ in range(3)] == ["220", "250", "250"]
        await deliver(peer, "support@demo.test")
        assert told(house) == ("203.0.113.5", "c.test")


@pytest.mark.parametrize("header", [b"PROXY TCP4 nonsense\r\nLHLO a\r\n", SIGNATURE + b"\xff" * 40])
async def test_a_broken_proxy_header_ends_the_connection(header: bytes) -> None:
    async with lmtp() as house:
        peer = await house.connect()
        await peer.send(header)
        assert await peer.rest() == b"220 mx.demo.test LMTP ingester\r\n"


async def test_a_proxy_header_counts_only_as_the_very_first() -> None:
    async with lmtp() as house:
        peer = await greeted(house)
        assert (await peer.ask("PROXY TCP4 192.0.2.7 198.51.100.1 40000 24")).startswith("500 5.5.1")
        await deliver(peer, "support@demo.test")
        assert told(house) == ("", "mta.test")


async def test_who_is_silent_behind_the_greeting_is_cut() -> None:
    async with lmtp(smtp__idle_seconds=60) as house:
        peer = await house.connect()
        await peer.reply()
        await house.pass_time(61)
        assert await peer.rest() == command.TIMED_OUT.encode() + b"\r\n"


# -- limits


async def test_a_relay_is_not_limited_as_strangers_are() -> None:
    async with lmtp(smtp__max_connections_per_prefix=2, smtp__unknown_recipients_per_hour=3) as house:
        peers = [await greeted(house) for _ in range(5)]
        await peers[0].ask("MAIL FROM:<>")
        for number in range(8):
            assert (await peers[0].ask(f"RCPT TO:<unknown{number}@demo.test>")).startswith("550 5.1.1")
        assert house.pipeline.reasons == []


async def test_strangers_are_limited_here_too() -> None:
    async with lmtp(trusted="", smtp__max_connections_per_prefix=2, smtp__unknown_recipients_per_hour=3) as house:
        first, _ = await greeted(house), await greeted(house)
        third = await house.connect()
        assert await third.rest() == command.TOO_MANY_CONNECTIONS.encode() + b"\r\n"
        await first.ask("MAIL FROM:<>")
        replies = [await first.ask(f"RCPT TO:<unknown{number}@demo.test>") for number in range(5)]
        assert [reply[:3] for reply in replies] == ["550", "550", "550", "550", "451"]


async def test_who_comes_through_a_proxy_is_limited_by_its_own_prefix() -> None:
    async with lmtp(smtp__max_connections_per_prefix=1) as house:
        first, second = await house.connect(), await house.connect()
        for peer in (first, second):
            await peer.send(HEADERS[0])
            await peer.reply()
            if peer is first:
                assert (await peer.ask("LHLO a")).startswith("250")
        assert await second.rest() == command.TOO_MANY_CONNECTIONS.encode() + b"\r\n"


async def test_the_total_holds_for_relays() -> None:
    async with lmtp(smtp__max_connections=2) as house:
        await greeted(house)
        await greeted(house)
        third = await house.connect()
        assert await third.rest() == command.TOO_MANY_CONNECTIONS.encode() + b"\r\n"


# -- unix sockets


async def test_a_unix_socket_is_trusted_and_has_no_address(tmp_path: Path) -> None:
    where = UnixListen(path=str(tmp_path / "lmtp"))
    async with running((where,), kind=LmtpDoor, smtp__max_connections_per_prefix=1) as house:
        assert house.door.addresses == (where,)
        peers = [await greeted(house) for _ in range(3)]
        await deliver(peers[0], "support@demo.test")
        await peers[0].ask("XFORWARD ADDR=192.0.2.7 HELO=c.test")
        await deliver(peers[0], "support@demo.test")
        assert [told(house, at) for at in (0, 1)] == [("", "mta.test"), ("192.0.2.7", "c.test")]
        peers[1].reset()
