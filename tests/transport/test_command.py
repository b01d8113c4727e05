"""The grammar of commands, and the form of every fixed reply."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingester.core.address import Address
from ingester.transport import command
from ingester.transport.command import Fault, MailCommand, parse_mail, parse_rcpt, split_command

REPLIES = {
    name: value
    for name, value in vars(command).items()
    if isinstance(value, str) and re.match(r"\d{3} ", value) and not name.startswith("__")
}


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES.keys())
def test_every_reply_carries_an_enhanced_code_that_agrees(reply: str) -> None:
    if reply.startswith("354 "):
        assert not re.match(r"354 \d\.", reply)
    else:
        found = re.fullmatch(r"(\d)\d\d (\d)\.\d\.\d{1,3} [ -~]+", reply)
        assert found is not None
        assert found[1] == found[2]


def sender(argument: str, *, extended: bool = True) -> str:
    mail = parse_mail(argument, extended=extended)
    assert isinstance(mail, MailCommand), mail
    return str(mail.sender or "")


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("FROM:<a@b.test>", "a@b.test"),
        ("from: <A@B.Test>", "A@b.test"),
        ("FROM:<>", ""),
        ("FROM: <> SIZE=100", ""),
        ("FROM:<a@b.test> SIZE=100 BODY=8BITMIME SMTPUTF8", "a@b.test"),
        ("FROM:<a@b.test> body=7bit size=0", "a@b.test"),
        ('FROM:<"a>b"@b.test>', '"a>b"@b.test'),
        ('FROM:<"a\\"> b"@b.test> SIZE=1', '"a\\"> b"@b.test'),
        ("FROM:<@relay.test,@other.test:a@b.test>", "a@b.test"),
        ("FROM:a@b.test", "a@b.test"),
        ("FROM: a@b.test SIZE=1", "a@b.test"),
        ("FROM:<j\u00f6rg@b\u00fccher.test> SMTPUTF8", "j\u00f6rg@xn--bcher-kva.test"),
    ],
)
def test_mail_takes(argument: str, expected: str) -> None:
    assert sender(argument) == expected


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        ("", "501 5.5.4"),
        ("LALA: <>", "501 5.5.4"),
        ("FROM:", "501 5.5.4"),
        ("FROM:pepe", "501 5.5.4"),
        ("FROM:<a@b.test", "501 5.5.4"),
        ("FROM:<a@b.test>SIZE=1", "501 5.5.4"),
        ("FROM:<pepe>", "501 5.1.7"),
        ("FROM:<a@xn--->", "501 5.1.7"),
        ("FROM:<a b@c.test>", "501 5.1.7"),
        ("FROM:<" + "a" * 129 + "@b.test>", "501 5.1.7"),
        ("FROM:<a@" + "b." * 128 + "test>", "501 5.1.7"),
        ("FROM:<a@b.test> SIZE=x", "501 5.5.4"),
        ("FROM:<a@b.test> SIZE=-1", "501 5.5.4"),
        ("FROM:<a@b.test> SIZE=" + "9" * 21, "501 5.5.4"),
        ("FROM:<a@b.test> SIZE", "501 5.5.4"),
        ("FROM:<a@b.test> SIZE=", "501 5.5.4"),
        ("FROM:<a@b.test> SIZE=1 SIZE=1", "501 5.5.4"),
        ("FROM:<a@b.test> BODY=BINARYMIME", "501 5.5.4"),
        ("FROM:<a@b.test> SMTPUTF8=1", "501 5.5.4"),
        ("FROM:<a@b.test> AUTH=<>", "555 5.5.4"),
        ("FROM:<a@b.test> =x", "501 5.5.4"),
        ("FROM:<j\u00f6rg@b.test>", "553 5.6.7"),
        ("FROM:<j\udcf6rg@b.test>", "553 5.6.7"),
        ("FROM:<j\udcf6rg@b.test> SMTPUTF8", "501 5.1.7"),
    ],
)
def test_mail_refuses(argument: str, code: str) -> None:
    mail = parse_mail(argument, extended=True)
    assert isinstance(mail, Fault)
    assert mail.line.startswith(code)


def test_mail_parameters_are_for_who_said_ehlo() -> None:
    assert sender("FROM:<a@b.test>", extended=False) == "a@b.test"
    refused = parse_mail("FROM:<a@b.test> SIZE=1", extended=False)
    assert isinstance(refused, Fault)
    assert refused.line.startswith("555 5.5.4")


def test_mail_gives_size_and_utf8() -> None:
    mail = parse_mail("FROM:<a@b.test> SIZE=4711 SMTPUTF8", extended=True)
    assert mail == MailCommand(sender=Address(local="a", domain="b.test"), size=4711, utf8=True)
    plain = parse_mail("FROM:<a@b.test>", extended=True)
    assert plain == MailCommand(sender=Address(local="a", domain="b.test"), size=None, utf8=False)


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        ("", "501 5.5.4"),
        ("TO:", "501 5.5.4"),
        ("LALA: <>", "501 5.5.4"),
        ("TO:<>", "501 5.1.3"),
        ("TO:<pepe>", "501 5.1.3"),
        ("TO:<a@xn--->", "501 5.1.3"),
        ("TO:<a@b.test> NOTIFY=NEVER", "555 5.5.4"),
        ("TO:<j\u00f6rg@b.test>", "553 5.6.7"),
        ("TO:<" + "a" * 129 + "@b.test>", "501 5.1.3"),
    ],
)
def test_rcpt_refuses(argument: str, code: str) -> None:
    address = parse_rcpt(argument, utf8=False)
    assert isinstance(address, Fault)
    assert address.line.startswith(code)


@pytest.mark.parametrize("argument", ["TO:<Postmaster>", "to: <postmaster>"])
def test_rcpt_takes_the_bare_postmaster(argument: str) -> None:
    assert parse_rcpt(argument, utf8=False) == Address(local="postmaster", domain="")


def test_rcpt_takes_the_longest_addresses() -> None:
    local = "a" * 128
    domain = ".".join(["b" * 63] * 3 + ["c" * 57, "test"])[:255]
    address = parse_rcpt(f"TO:<{local}@{domain}>", utf8=False)
    assert address == Address(local=local, domain=domain)


def test_a_command_is_split_at_its_first_blank() -> None:
    assert split_command(b"mail  FROM:<a b>  ") == ("MAIL", "FROM:<a b>")
    assert split_command(b"NOOP") == ("NOOP", "")
    assert split_command(b"") == ("", "")
    assert split_command(b"\xff \xfe") == ("\udcff", "\udcfe")


@given(line=st.binary(max_size=300), extended=st.booleans())
def test_no_line_raises(line: bytes, extended: bool) -> None:
    for text in (line, b"MAIL FROM:<" + line, b"RCPT TO:" + line):
        _, argument = split_command(text)
        parse_mail(argument, extended=extended)
        parse_rcpt(argument, utf8=extended)
