"""The dialog: commands, replies, transactions, and what became of a mail."""

import asyncio
import re

import pytest
from aiosmtpd.smtp import SMTP

from ingester.core.envelope import Door
from ingester.core.outcome import CODES, Reason
from ingester.transport.smtp import SmtpDialog
from tests.transport.stubs import Peer, running

STORED = "250 2.0.0 stored as 00000000-0000-0000-0000-000000000007"


async def test_a_mail_arrives() -> None:
    async with running() as house:
        peer = await house.connect()
        await peer.begin("Support+42@Demo.Test")
        await peer.send(b"Subject: x\r\n\r\n..one\r\ntwo\r\n.\r\n")
        assert await peer.reply() == STORED
        assert await peer.ask("QUIT") == "221 2.0.0 Bye"
        assert await peer.rest() == b""
        (mail,) = house.pipeline.mails
        assert mail.raw == b"Subject: x\r\n\r\n.one\r\ntwo\r\n"
        assert (mail.mail_from, mail.client.ip, mail.client.helo, mail.client.tls, mail.flags, mail.door) == (
            "s@elsewhere.test",
            "127.0.0.1",
            "client.test",
            None,
            (),
            Door.SMTP,
        )
        assert [str(recipient.address) for recipient in mail.recipients] == ["Support+42@demo.test"]
        assert house.door.desk.flight.used == 0


async def test_everything_in_one_packet_is_answered_in_order() -> None:
    async with running() as house:
        peer = await house.connect()
        one = b"MAIL FROM:<>\r\nRCPT TO:<support@demo.test>\r\nDATA\r\nbody %d\r\n.\r\n"
        await peer.send(b"EHLO a\r\n" + one % 1 + one % 2 + b"NOOP\r\nQUIT\r\n")
        replies = re.findall(rb"(?m)^(\d{3}) ", await peer.rest())
        assert replies == [b"220", b"250", *[b"250", b"250", b"354", b"250"] * 2, b"250", b"221"]
        assert [mail.raw for mail in house.pipeline.mails] == [b"body 1\r\n", b"body 2\r\n"]


async def test_offers() -> None:
    async with running(max_message_bytes=100_000) as house:
        peer = await house.connect()
        assert await peer.reply() == "220 mx.demo.test ESMTP ingester"
        assert await peer.ask("EHLO client.test") == "\n".join(
            [
                "250-mx.demo.test",
                "250-SIZE 100000",
                "250-8BITMIME",
                "250-SMTPUTF8",
                "250-PIPELINING",
                "250-ENHANCEDSTATUSCODES",
                "250 HELP",
            ]
        )
        assert await peer.ask("HELO client.test") == "250 mx.demo.test"


SMALL_TALK = [
    ("NOOP", "250 2.0.0"),
    ("noop with words", "250 2.0.0"),
    ("RSET", "250 2.0.0"),
    ("RSET x", "501 5.5.4"),
    ("HELP", "214 2.0.0"),
    ("VRFY someone", "252 2.5.0"),
    ("VRFY", "501 5.5.4"),
    ("EXPN list", "502 5.5.1"),
    ("AUTH PLAIN", "502 5.5.1"),
    ("STARTTLS", "502 5.5.1"),
    ("BDAT 10", "500 5.5.1"),
    ("", "500 5.5.1"),
    ("EHLO", "501 5.5.4"),
    ("HELO", "501 5.5.4"),
    ("EHLO " + "x" * 256, "501 5.5.4"),
    ("MAIL FROM:<>", "503 5.5.1"),
    ("RCPT TO:<support@demo.test>", "503 5.5.1"),
    ("DATA", "503 5.5.1"),
    ("QUIT now", "501 5.5.4"),
]


@pytest.mark.parametrize(("line", "code"), SMALL_TALK)
async def test_commands_before_ehlo(line: str, code: str) -> None:
    async with running() as house:
        peer = await house.connect()
        await peer.reply()
        assert (await peer.ask(line)).startswith(code + " ")
        assert (await peer.ask("NOOP")).startswith("250")


async def test_the_order_of_a_transaction() -> None:
    async with running() as house:
        peer = await house.connect()
        await peer.reply()
        for line, code in [
            ("EHLO a", "250"),
            ("RCPT TO:<support@demo.test>", "503 5.5.1"),
            ("DATA", "503 5.5.1"),
            ("MAIL FROM:<a@b.test>", "250 2.1.0"),
            ("MAIL FROM:<a@b.test>", "503 5.5.1"),
            ("DATA", "503 5.5.1"),
            ("RCPT TO:<unknown@demo.test>", "550 5.1.1"),
            ("DATA", "554 5.5.1"),
            ("RCPT TO:<later@demo.test>", "451 4.3.0"),
            ("DATA", "451 4.5.1"),
            ("RCPT TO:<support@demo.test>", "250 2.1.5"),
            ("DATA x", "501 5.5.4"),
            ("RSET", "250 2.0.0"),
            ("RCPT TO:<support@demo.test>", "503 5.5.1"),
            ("MAIL FROM:<a@b.test>", "250 2.1.0"),
            ("EHLO a", "250"),
            ("DATA", "503 5.5.1"),
        ]:
            assert (await peer.ask(line))[: len(code)] == code, line


async def test_utf8_addresses() -> None:
    async with running() as house:
        peer = await house.connect()
        await peer.reply()
        await peer.ask("EHLO a")
        assert (await peer.ask("MAIL FROM:<jörg@b.test>")).startswith("553 5.6.7")
        assert (await peer.ask("MAIL FROM:<a@b.test>")).startswith("250")
        assert (await peer.ask("RCPT TO:<jörg@demo.test>")).startswith("553 5.6.7")
        await peer.ask("RSET")
        assert (await peer.ask("MAIL FROM:<jörg@b.test> SMTPUTF8")).startswith("250")
        assert (await peer.ask("RCPT TO:<jörg@demo.test>")).startswith("250")
        assert (await peer.ask("DATA")).startswith("354")
        await peer.send("Subject: Grüße\r\n.\r\n".encode())
        assert await peer.reply() == STORED
        (mail,) = house.pipeline.mails
        assert (mail.mail_from, mail.recipients[0].address.local) == ("jörg@b.test", "jörg")


async def test_strays_are_flagged_and_bare_lf_is_made_crlf() -> None:
    async with running(mime__max_line_bytes=1000) as house:
        peer = await house.connect()
        await peer.begin()
        await peer.send(b"a\nb\rc\0d\r\n" + b"x" * 1001 + b"\r\n.\r\n")
        assert await peer.reply() == STORED
        (mail,) = house.pipeline.mails
        assert mail.raw == b"a\r\nb\rc\0d\r\n" + b"x" * 1001 + b"\r\n"
        assert mail.flags == ("bare_cr", "bare_lf", "long_line", "nul")


async def test_bare_lf_is_refused_where_the_setting_says_so() -> None:
    async with running(smtp__bare_lf="refuse") as house:
        peer = await house.connect()
        await peer.begin()
        await peer.send(b"a\nb\r\n.\r\n")
        assert (await peer.reply()).startswith("550 5.6.0")
        await peer.announce()
        await peer.send(b"a\r\nb\r\n.\r\n")
        assert await peer.reply() == STORED
        assert len(house.pipeline.mails) == 1
        assert house.pipeline.reasons == [Reason.MALFORMED_TRANSFER]


async def test_too_large_is_told_at_mail_or_at_the_end() -> None:
    async with running(max_message_bytes=2000) as house:
        peer = await house.connect()
        await peer.reply()
        await peer.ask("EHLO a")
        assert (await peer.ask("MAIL FROM:<a@b.test> SIZE=2001")).startswith("552 5.3.4")
        assert (await peer.ask("MAIL FROM:<a@b.test> SIZE=2000")).startswith("250")
        assert (await peer.ask("RCPT TO:<support@demo.test>")).startswith("250")
        assert (await peer.ask("DATA")).startswith("354")
        await peer.send(b"x" * 2000 + b"\r\n.\r\n")
        assert (await peer.reply()).startswith("552 5.3.4")
        await peer.announce()
        await peer.send(b"x" * 1998 + b"\r\n.\r\n")
        assert await peer.reply() == STORED
        assert house.pipeline.reasons == [Reason.OVERSIZED, Reason.OVERSIZED]
        assert house.pipeline.noted[1].recipients == ("support@demo.test",)


async def test_recipients_are_bounded() -> None:
    async with running(smtp__max_recipients=100) as house:
        peer = await house.connect()
        await peer.reply()
        await peer.ask("EHLO a")
        await peer.ask("MAIL FROM:<a@b.test>")
        for number in range(100):
            assert (await peer.ask(f"RCPT TO:<r{number}@demo.test>")).startswith("250")
        assert (await peer.ask("RCPT TO:<one-more@demo.test>")).startswith("452 4.5.3")
        assert (await peer.ask("DATA")).startswith("354")
        await peer.send(b"x\r\n.\r\n")
        assert await peer.reply() == STORED
        assert len(house.pipeline.mails[0].recipients) == 100
        assert house.pipeline.asked == 100
        assert house.pipeline.reasons == [Reason.TOO_MANY_RECIPIENTS]


async def test_a_recipient_of_another_policy_is_to_come_alone() -> None:
    async with running() as house:
        peer = await house.connect()
        await peer.reply()
        await peer.ask("EHLO a")
        await peer.ask("MAIL FROM:<a@b.test>")
        assert (await peer.ask("RCPT TO:<support@demo.test>")).startswith("250")
        assert (await peer.ask("RCPT TO:<strict@demo.test>")).startswith("452 4.5.3")
        assert (await peer.ask("RCPT TO:<support@demo.test>")).startswith("250")
        await peer.ask("RSET")
        await peer.ask("MAIL FROM:<a@b.test>")
        assert (await peer.ask("RCPT TO:<strict@demo.test>")).startswith("250")


async def test_who_guesses_recipients_is_told_nothing_and_known_ones_still_arrive() -> None:
    async with running(smtp__unknown_recipients_per_hour=200) as house:
        guesser, other = await house.connect(), await house.connect()
        for peer in (guesser, other):
            await peer.reply()
            await peer.ask("EHLO a")
            await peer.ask("MAIL FROM:<a@b.test>")
        for number in range(201):
            assert (await guesser.ask(f"RCPT TO:<unknown{number}@demo.test>")).startswith("550 5.1.1")
        asked = house.pipeline.asked
        assert asked == 201
        for peer in (guesser, other):
            assert (await peer.ask("RCPT TO:<unknown@demo.test>")).startswith("451 4.7.1")
            assert (await peer.ask("RCPT TO:<support@demo.test>")).startswith("250")
        assert house.pipeline.asked == asked
        assert house.pipeline.reasons == [Reason.HARVEST_SUSPECTED] * 2
        house.clock.now += 3600
        assert (await guesser.ask("RCPT TO:<unknown@demo.test>")).startswith("550 5.1.1")


async def test_two_hundred_guesses_are_no_harvest() -> None:
    async with running(smtp__unknown_recipients_per_hour=200) as house:
        peer = await house.connect()
        await peer.reply()
        await peer.ask("EHLO a")
        await peer.ask("MAIL FROM:<a@b.test>")
        for number in range(200):
            assert (await peer.ask(f"RCPT TO:<unknown{number}@demo.test>")).startswith("550 5.1.1")
        asked = house.pipeline.asked
        assert (await peer.ask("RCPT TO:<support@demo.test>")).startswith("250")
        assert house.pipeline.asked == asked + 1
        assert house.pipeline.reasons == []


@pytest.mark.parametrize("reason", list(Reason))
async def test_the_reply_to_the_dot_is_the_outcome(reason: Reason) -> None:
    async with running() as house:
        house.pipeline.reason = reason
        peer = await house.connect()
        await peer.begin()
        await peer.send(b"x\r\n.\r\n")
        expected = STORED if reason in (Reason.ACCEPTED, Reason.DUPLICATE) else CODES[reason].line
        assert await peer.reply() == expected
        assert (await peer.ask("NOOP")).startswith("250")


async def test_a_surprise_in_the_acceptance_is_451_in_fixed_words() -> None:
    async with running() as house:
        house.pipeline.fault = RuntimeError("secret words of the mail")
        peer = await house.connect()
        await peer.begin()
        await peer.send(b"x\r\n.\r\n")
        assert await peer.reply() == CODES[Reason.STORE_UNAVAILABLE].line
        assert house.door.desk.flight.used == 0
        assert (await peer.ask("NOOP")).startswith("250")


async def test_a_surprise_in_a_command_is_451_in_fixed_words_and_the_end() -> None:
    async with running() as house:
        house.pipeline.recipient_fault = RuntimeError("secret words")
        peer = await house.connect()
        await peer.reply()
        await peer.ask("EHLO a")
        await peer.ask("MAIL FROM:<a@b.test>")
        assert await peer.ask("RCPT TO:<support@demo.test>") == CODES[Reason.STORE_UNAVAILABLE].line
        assert await peer.rest() == b""
        house.pipeline.recipient_fault = None
        again = await house.connect()
        await again.begin()


async def test_too_many_errors_end_the_session() -> None:
    async with running(smtp__max_command_errors=3) as house:
        peer = await house.connect()
        await peer.reply()
        for _ in range(2):
            assert (await peer.ask("WHAT")).startswith("500 5.5.1")
        await peer.send(b"WHAT\r\n")
        assert await peer.rest() == b"500 5.5.1 Command not known\r\n421 4.7.0 Too many errors, bye\r\n"


@pytest.mark.parametrize("line", ["GET /evil HTTP/1.1", "POST /evil HTTP/1.1", "CONNECT evil.test:80 HTTP/1.1"])
async def test_http_is_shown_the_door(line: str) -> None:
    async with running() as house:
        peer = await house.connect()
        await peer.reply()
        await peer.send(line.encode() + b"\r\nHost: x\r\n\r\nMAIL FROM:<>\r\n")
        assert await peer.rest() == b"502 5.7.0 This is a mail server\r\n"


@pytest.mark.parametrize(
    ("line", "reply", "closed"),
    [
        (b"NOOP\n", b"500 5.5.2", False),
        (b"x" * 4095 + b"\r\n", b"500 5.5.6", False),
        (b"NO\0OP\r\n", b"500 5.5.2", True),
        (b"NO\rOP\r\n", b"500 5.5.2", True),
        (b"x" * 70_000, b"500 5.5.6", True),
    ],
)
async def test_lines_that_are_none(line: bytes, reply: bytes, closed: bool) -> None:
    async with running() as house:
        peer = await house.connect()
        await peer.reply()
        await peer.send(line)
        assert (await peer.reply()).startswith(reply.decode())
        if closed:
            await peer.send(b"NOOP\r\n")
            assert await peer.rest() == b""
        else:
            assert (await peer.ask("NOOP")).startswith("250")


async def hang_up_behind_the_dot(peer: Peer) -> None:
    await peer.begin()
    await peer.send(b"x\r\n.\r\n")


async def test_hanging_up_behind_the_dot_does_not_stop_the_acceptance() -> None:
    async with running() as house:
        house.pipeline.gate = gate = asyncio.Event()
        peer = await house.connect()
        await hang_up_behind_the_dot(peer)
        await house.pipeline.arrived.wait()
        peer.reset()
        await house.until(lambda: not house.dialogs)
        assert house.door.desk.flight.used == 3
        gate.set()
        await house.pipeline.done.wait()
        await house.until(lambda: house.door.desk.flight.used == 0)
        assert len(house.pipeline.mails) == 1


async def test_cancelling_the_dialog_does_not_stop_the_acceptance() -> None:
    async with running() as house:
        house.pipeline.gate = gate = asyncio.Event()
        peer = await house.connect()
        await hang_up_behind_the_dot(peer)
        await house.pipeline.arrived.wait()
        (dialog,) = house.dialogs
        assert dialog.task is not None
        dialog.task.cancel()
        assert await peer.rest() == b""
        gate.set()
        await house.pipeline.done.wait()
        assert len(house.pipeline.mails) == 1


async def test_half_closing_behind_the_dot_still_gets_the_reply() -> None:
    async with running() as house:
        house.pipeline.gate = gate = asyncio.Event()
        peer = await house.connect()
        await hang_up_behind_the_dot(peer)
        peer.writer.write_eof()
        await house.pipeline.arrived.wait()
        gate.set()
        assert await peer.reply() == STORED
        assert await peer.rest() == b""


@pytest.mark.parametrize("how", ["close", "half-close"])
async def test_hanging_up_within_data_gives_nothing(how: str) -> None:
    async with running() as house:
        peer = await house.connect()
        await peer.begin()
        await peer.send(b"x\r\n.\r")
        if how == "close":
            peer.close()
        else:
            peer.writer.write_eof()
            assert await peer.rest() == b""
        await house.until(lambda: not house.dialogs)
        assert (house.pipeline.mails, house.pipeline.noted, house.door.desk.flight.used) == ([], [], 0)


async def test_when_the_bytes_are_spent_the_newest_transfer_is_drained() -> None:
    async with running(max_message_bytes=1 << 20, max_bytes_in_flight=1 << 20) as house:
        old, new = await house.connect(), await house.connect()
        await old.begin()
        await old.send(b"x" * 600_000)
        await house.until(lambda: house.door.desk.flight.used > 590_000)
        await new.begin()
        await new.send(b"y" * 600_000)
        await house.until(lambda: house.door.desk.flight.used < 610_000)
        await new.send(b"y" * 300_000 + b"\r\n.\r\n")
        assert await new.reply() == CODES[Reason.OVERLOADED].line
        await old.send(b"\r\n.\r\n")
        assert await old.reply() == STORED
        assert [len(mail.raw) for mail in house.pipeline.mails] == [600_002]
        assert house.pipeline.reasons == [Reason.OVERLOADED]
        assert house.door.desk.flight.used == 0


def test_nothing_of_the_stock_class_answers() -> None:
    """Each command of aiosmtpd, and each method that the loop or the transport calls, is our own."""
    theirs = {name for name in vars(SMTP) if name.startswith("smtp_")}
    theirs |= {"connection_made", "connection_lost", "eof_received", "handle_exception"}
    ours = {name for one in SmtpDialog.__mro__[: SmtpDialog.__mro__.index(SMTP)] for name in vars(one)}
    assert theirs <= ours
    assert set(SmtpDialog.COMMANDS) == {name.removeprefix("smtp_") for name in theirs if name.startswith("smtp_")}
