"""The dialogs of chasquid's tests (corpora: smtp-chasquid-dialogs), run as they are written.

Its words are its own; the class of each reply must agree, the whole code where ours is the same. What does not apply:

    auth_multi_dialog, auth_too_many_failures   AUTH over implicit TLS, which is not offered
    bad_data (the last of its replies)          chasquid refuses a mail whose header does not parse; we store it
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.transport.stubs import Peer, running

DIALOGS = [
    "t-05-null_address/sendmail",
    *(
        f"t-12-minor_dialogs/{name}"
        for name in (
            "auth_not_tls",
            "bad_data",
            "bad_data_dot",
            "bad_data_dot_2",
            "bad_data_dot_on_message_too_big",
            "bad_mail_from",
            "bad_rcpt_to",
            "data_dot_stuffing",
            "empty_helo",
            "helo",
            "line_too_long",
            "message_too_big",
            "sendmail",
            "unknown_command",
            "wrong_proto",
        )
    ),
]
STORED_HERE = {"554 5.6.0 Error parsing message": "250"}


def steps(path: Path) -> Iterator[tuple[str, str]]:
    """The verb and the text of each line: `c -> text` sends a line, `c ~> expr` octets, `c <- <~ <...` expect."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("c "):
            verb, _, text = line[2:].partition(" ")
            yield verb, text


def octets(expression: str) -> bytes:
    """The value of `('a' * 899 + '\\r\\n') * 1166` and the like."""

    def value(node: ast.expr) -> str | int:
        match node:
            case ast.Constant(value=str() | int() as constant):
                return constant
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return str(value(left)) + str(value(right))
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                return str(value(left)) * int(value(right))
        raise ValueError(expression)

    return str(value(ast.parse(expression, mode="eval").body)).encode()


async def expect(peer: Peer, text: str) -> None:
    text = STORED_HERE.get(text, text)
    reply = await peer.reply()
    assert reply[:1] == text[:1], (reply, text)
    if text[:1] in "23":
        assert reply.splitlines()[-1].startswith(text[:3]), (reply, text)


@pytest.mark.parametrize("name", DIALOGS)
async def test_dialog(name: str, corpora: Path) -> None:
    async with running(max_message_bytes=1 << 20) as house:
        peer = await house.connect()
        connected = False
        for verb, text in steps(corpora / "smtp-chasquid-dialogs" / f"{name}.cmy"):
            match verb:
                case "tcp_connect":
                    peer = await house.connect() if connected else peer
                    connected = True
                case "close":
                    peer.close()
                case "->":
                    await peer.send(text.encode() + b"\r\n")
                case "~>":
                    await peer.send(octets(text))
                case "<...":
                    assert (await peer.reply()).splitlines()[-1] == text
                case "<-" | "<~":
                    await expect(peer, text)
                case _:
                    pytest.fail(f"the runner does not know {verb!r}")
        if name.endswith("data_dot_stuffing"):
            (mail,) = house.pipeline.mails
            expected = (corpora / "smtp-chasquid-dialogs" / f"{name}.cmy.verify").read_bytes().replace(b"\n", b"\r\n")
            assert mail.raw == expected
        if "bad_data_dot" in name:
            assert house.pipeline.mails == []
