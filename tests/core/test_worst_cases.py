"""What an attacker can make a mail cost: ceilings on CPU and memory for crafted shapes."""

from base64 import encodebytes
from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest

from ingester.core.message import digest
from ingester.core.mime import Bounds
from tests.cost import assert_cheap

MB = 1 << 20
HEAD = b"From: a@b.test\r\nTo: c@d.test\r\nMessage-ID: <x@y>\r\n"


def fill(unit: bytes, size: int = MB) -> bytes:
    return (unit * (size // len(unit) + 1))[:size]


def assert_digest_is_cheap(raw: bytes, *, seconds: float = 1) -> None:
    assert_cheap(lambda: digest(raw, Bounds(max_header_bytes=4 * MB)), seconds=seconds)


def field(name: bytes) -> Callable[[bytes], bytes]:
    return lambda value: name + b": " + value + b"\r\n" + HEAD + b"\r\nbody\r\n"


def html(value: bytes) -> bytes:
    return HEAD + b"Content-Type: text/html; charset=utf-8\r\n\r\n" + value


@pytest.mark.parametrize(
    "value",
    [
        b"a@b,",
        b'"\\"',
        b'<"\\"',
        b"<",
        b"(",
        b"(a)b(",
        b"@ ",
        b"a:;",
        b"a b ",
        b"=?utf-8?q?a?= <a@b>,",
        b"<" + b" " * 900 + b">",
    ],
)
def test_an_address_list_of_a_megabyte(value: bytes) -> None:
    assert_digest_is_cheap(field(b"To")(fill(value)))


@pytest.mark.parametrize("name", [b"Subject", b"From", b"Date", b"Message-ID", b"References", b"In-Reply-To", b"X-Any"])
@pytest.mark.parametrize(
    "value", [b"x", b"=?utf-8?q?a?= ", b"=?a?q?", b"=?", b"<a@b> ", b"<", b" ", b"\r\n x", b"\xff"]
)
def test_a_header_of_a_megabyte(name: bytes, value: bytes) -> None:
    assert_digest_is_cheap(field(name)(fill(value)))


@pytest.mark.parametrize("name", [b"Content-Type", b"Content-Disposition"])
@pytest.mark.parametrize(
    "value", [b";a=b", b'"\\"', b";a=", b" ", b"a", b";filename*0*=''%", b";name=a b", b'="', b"=\\"]
)
def test_parameters_of_a_megabyte(name: bytes, value: bytes) -> None:
    assert_digest_is_cheap(field(name)(b"multipart/mixed" + fill(value)))


@pytest.mark.parametrize("line", [b"X: y\r\n", b"junk\r\n", b"junk\r\nX: y\r\n", b" \r\n", b":\r\n", b"\r"])
def test_header_lines_of_a_megabyte(line: bytes) -> None:
    assert_digest_is_cheap(fill(line) + b"\r\nbody")


@pytest.mark.parametrize("size", [100 << 10, MB])
@pytest.mark.parametrize(
    "unit",
    [
        b"<", b"</", b"<!", b"<?", b">", b"<b>x", b"<div>", b"<br>", b"<td>x</td>", b"<tr><td>x</td></tr>", b"<li>x",
        b"<table><tr><td>x", b"<ul><li>x", b"<a ", b'<a "', b"<!--", b"<!---->", b"<script>", b"<script></script>",
        b"&amp;", b"&#1;", b"&a", b"<title>", b"<p style='margin:99999em'>x", b"cid:a", b" \n", b"x ",
        b"<img src='cid:a%41&amp;'>",
    ],
)  # fmt: skip
def test_html(unit: bytes, size: int) -> None:
    assert_digest_is_cheap(html(fill(unit, size)))


def multipart(body: bytes, boundary: bytes = b"b") -> bytes:
    return HEAD + b'Content-Type: multipart/mixed; boundary="' + boundary + b'"\r\n\r\n' + body


def nested(depth: int, *, same: bool) -> bytes:
    names = [b"b" if same else b"b%d" % level for level in range(depth)]
    lines = [b"\n--%s\r\nContent-Type: multipart/mixed; boundary=%s\r\n\r\n" % two for two in pairwise(names)]
    return multipart(b"".join(lines), names[0])


SHAPES = {
    "100,000 parts": lambda: multipart(b"--b\r\n\r\nx\r\n" * 100_000),
    "100,000 empty parts": lambda: multipart(b"--b\r\n" * 100_000),
    "1,000 nested multiparts": lambda: nested(1000, same=False),
    "1,000 nested multiparts of one boundary": lambda: nested(1000, same=True),
    "false boundaries": lambda: multipart(b"--b\r\n\r\n" + fill(b"\n--bX", 10 * MB)),
    "false boundaries at depth 50": lambda: nested(50, same=False) + fill(b"\n--b", 10 * MB),
    "one boundary at depth 50": lambda: nested(50, same=True) + (b"\n--b\n\n" + b"\n--c" * 2000) * 1000,
    "boundaries to guess": lambda: multipart(
        (b"\r\n--b\r\nContent-Type: multipart/mixed\r\n\r\n" + (b"\n--" + b" " * 199) * 50) * 900
    ),
    "multiparts that never begin": lambda: multipart(
        b"".join(
            b"--b\r\nContent-Type: multipart/mixed; boundary=x%d\r\n\r\n" % n + b"abc\r\n" * 2000 for n in range(1000)
        )
    ),
    "long part headers": lambda: multipart(
        b"".join(b"--b\r\n" + b"Content-X: y\r\n" * 700 + b"\r\nx\r\n" for _ in range(999))
    ),
    "1,000 HTML leaves": lambda: multipart(b"--b\r\nContent-Type: text/html\r\n\r\n<li>a<table><td>b\r\n" * 999),
    "1,000 leaves of unknown charset": lambda: multipart(
        b"".join(b"--b\r\n\r\n" + Random(n).randbytes(2000) + b"\r\n" for n in range(999))
    ),
    "base64 with a padding everywhere": lambda: (
        HEAD + b"Content-Transfer-Encoding: base64\r\n\r\n" + fill(b"QQ==", 10 * MB)
    ),
    "base64 with junk": lambda: HEAD + b"Content-Transfer-Encoding: base64\r\n\r\n" + encodebytes(b"x" * 8 * MB) + b"!",
    "quoted-printable of nothing but escapes": lambda: (
        HEAD + b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + fill(b"=\r= \t", 10 * MB)
    ),
    "legacy text": lambda: HEAD + b"Content-Type: text/plain\r\n\r\n" + fill(bytes(range(128, 256)) + b"\r\n", 10 * MB),
    "line feeds": lambda: HEAD + b"\r\n" + b"\n" * 25 * MB,
    "no line feed": lambda: b"x" * 25 * MB,
    "a header field of the whole mail": lambda: b"X: " + b"x" * 25 * MB,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_no_mail_takes_two_seconds(shape: str) -> None:
    assert_digest_is_cheap(SHAPES[shape](), seconds=2)
