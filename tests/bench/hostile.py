"""Crafted shapes: what a stranger would send to make a mail cost. Each is a whole mail of about the wanted size."""

from base64 import encodebytes
from binascii import b2a_uu
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from random import Random
from struct import pack

MB = 1 << 20
HEAD = b"From: a@b.test\r\nTo: c@d.test\r\nMessage-ID: <x@y>\r\n"


def fill(unit: bytes, size: int) -> bytes:
    return (unit * (size // len(unit) + 1))[:size]


def _field(name: bytes, value: bytes, size: int, *, before: bytes = b"") -> bytes:
    return name + b": " + before + fill(value, size) + b"\r\n" + HEAD + b"\r\nbody\r\n"


def _body(kind: bytes, content: bytes) -> bytes:
    return HEAD + b"Content-Type: " + kind + b"\r\n\r\n" + content


def _text(kind: bytes, unit: bytes, size: int) -> bytes:
    return _body(kind, fill(unit, size))


def _encoded(encoding: bytes, content: bytes) -> bytes:
    return HEAD + b"Content-Transfer-Encoding: " + encoding + b"\r\n\r\n" + content


def _multipart(body: bytes, boundary: bytes = b"b") -> bytes:
    return _body(b'multipart/mixed; boundary="' + boundary + b'"', body)


def _nested(depth: int, *, same: bool) -> bytes:
    names = [b"b" if same else b"b%d" % level for level in range(depth)]
    lines = [b"\n--%s\r\nContent-Type: multipart/mixed; boundary=%s\r\n\r\n" % two for two in pairwise(names)]
    return _multipart(b"".join(lines), names[0])


def _pieces(size: int) -> bytes:
    """One RFC 2231 value in many pieces, out of order."""
    numbers = list(range(size // 20))
    Random(1).shuffle(numbers)
    return b"attachment" + b"".join(b";\r\n filename*%d*=%%41%%42" % n for n in numbers)[:size]


def _uuencoded(size: int) -> bytes:
    data = Random(1).randbytes(size * 76 // 105)
    return b"begin 644 x\n" + b"".join(b2a_uu(data[at : at + 45]) for at in range(0, len(data), 45)) + b"`\nend\n"


def _tnef(size: int, level: int, name: int, data: bytes) -> bytes:
    unit = pack("<BII", level, name, len(data)) + data + b"\0\0"
    return _body(b"application/ms-tnef", b"\x78\x9f\x3e\x22\0\0" + fill(unit, size))


_ADDRESSES = (b"a@b,", b'"\\"', b"<", b"(", b"(a)b(", b"@ ", b"a:;", b"a b ", b"=?utf-8?q?a?= <a@b>,", b"\xff")
_NAMES = (b"Subject", b"Date", b"Message-ID", b"References", b"In-Reply-To", b"X-Any")
_VALUES = (
    b"x",
    b"=?utf-8?q?a?= ",
    b"=?utf-8?b?4pyT?=\r\n ",
    b"=?a?q?",
    b"=?",
    b"<a@b> ",
    b"<",
    b" ",
    b"\r\n x",
    b"\xff",
)
_PARAMS = (b";a=b", b'"\\"', b";a=", b" ", b"a", b";filename*0*=''%", b";name=a b", b'="', b"=\\", b";name*=%")
_TAGS = (
    b"<", b"</", b"<!", b"<?", b">", b"<b>x", b"<div>", b"<br>", b"<td>x</td>", b"<tr><td>x</td></tr>", b"<li>x",
    b"<table><tr><td>x", b"<ul><li>x", b"<a ", b'<a "', b"<!--", b"<!---->", b"<script>", b"<script></script>",
    b"&amp;", b"&#1;", b"&a", b"<title>", b"<p style='margin:99999em'>x", b"cid:a", b" \n", b"x ", b"<blockquote>",
    b"<img src='cid:a%41&amp;'>", b'<div class="gmail_quote">x', b"<blockquote type=cite>x</blockquote>",
)  # fmt: skip
_QUOTED = (
    b"> x\n", b">" , b"> ", b">\n", b"\n", b"-- \n", b"On x wrote:\n", b"On Mon, 1 Jan 2024, A <a@b> wrote:\n> x\n",
    b"From: a\nSent: b\nTo: c\nSubject: d\n", b"-----Original Message-----\n", b"x\n", b"Am ", b":", b"______\n",
    b"On Mon, 1 Jan 2024 at 10:00, ", b"\xe5\x86\x99\xe9\x81\x93:\n",
)  # fmt: skip


def shapes(whole: int = MB) -> dict[str, Callable[[], bytes]]:
    """The shapes by name, each of `whole` bytes, made when it is asked for."""
    out: dict[str, Callable[[], bytes]] = {}
    for names, values in (((b"To", b"From", b"Reply-To"), _ADDRESSES), (_NAMES, _VALUES)):
        for name in names:
            out |= {f"{name.decode()} of {value!r}": partial(_field, name, value, whole) for value in values}
    for name, main in ((b"Content-Type", b"multipart/mixed"), (b"Content-Disposition", b"attachment")):
        out |= {f"{name.decode()} of {value!r}": partial(_field, name, value, whole, before=main) for value in _PARAMS}
    out |= {
        f"header lines {value!r}": partial(fill, value, whole)
        for value in (b"X: y\r\n", b"junk\r\n", b" \r\n", b":\r\n")
    }
    for size in (whole * 15 // 128, whole):
        for value in _TAGS:
            out[f"{size * 1024 // whole} KB of HTML {value!r}"] = partial(
                _text, b"text/html; charset=utf-8", value, size
            )
    out |= {f"text of {value!r}": partial(_text, b"text/plain; charset=utf-8", value, whole) for value in _QUOTED}
    return out | _structures(whole)


def _structures(size: int) -> dict[str, Callable[[], bytes]]:
    return {
        "RFC 2231 pieces": lambda: b"Content-Disposition: " + _pieces(size) + b"\r\n" + HEAD + b"\r\nbody",
        "parts": lambda: _multipart(fill(b"--b\r\n\r\nx\r\n", size)),
        "empty parts": lambda: _multipart(fill(b"--b\r\n", size)),
        "nested multiparts": lambda: _nested(size // 52, same=False),
        "nested multiparts of one boundary": lambda: _nested(size // 52, same=True),
        "false boundaries": lambda: _multipart(b"--b\r\n\r\n" + fill(b"\n--bX", size)),
        "false boundaries at depth 50": lambda: _nested(50, same=False) + fill(b"\n--b", size),
        "boundaries to guess": lambda: _multipart(
            fill(b"\r\n--b\r\nContent-Type: multipart/mixed\r\n\r\n" + (b"\n--" + b" " * 199) * 20, size)
        ),
        "multiparts that never begin": lambda: _multipart(
            fill(b"--b\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n" + b"abc\r\n" * 200, size)
        ),
        "part headers": lambda: _multipart(fill(b"--b\r\n" + b"Content-X: y\r\n" * 70 + b"\r\nx\r\n", size)),
        "HTML leaves": lambda: _multipart(fill(b"--b\r\nContent-Type: text/html\r\n\r\n<li>a<table><td>b\r\n", size)),
        "leaves of unknown charset": lambda: _multipart(
            b"".join(b"--b\r\n\r\n" + Random(n).randbytes(1000) + b"\r\n" for n in range(size // 1050))
        ),
        "base64 with a padding everywhere": lambda: _encoded(b"base64", fill(b"QQ==", size)),
        "base64 with junk": lambda: _encoded(b"base64", encodebytes(bytes(size * 2 // 3)) + b"!"),
        "base64 of nothing but junk": lambda: _encoded(b"base64", fill(b"QUJD!\r\n", size)),
        "quoted-printable escapes": lambda: _encoded(b"quoted-printable", fill(b"=41", size)),
        "quoted-printable junk": lambda: _encoded(b"quoted-printable", fill(b"=\r= \t", size)),
        "uuencoded": lambda: _body(b"text/plain", _uuencoded(size)),
        "uuencoded, short lines": lambda: _body(b"text/plain", b"begin 644 x\n#0V%T\n" + fill(b"!\n", size)),
        "uuencoded, begin lines": lambda: _body(b"text/plain", fill(b"begin 644 x\n#0V%T\n", size)),
        "x-uuencode, short lines": lambda: _encoded(b"x-uuencode", b"begin 644 x\n#0V%T\n" + fill(b"!\n", size)),
        "x-uuencode, lines that are too short": lambda: _encoded(b"x-uuencode", fill(b"begin 644 x\nXXXXX\n", size)),
        "x-uuencode, begin lines": lambda: _encoded(b"x-uuencode", fill(b"begin 644 x\n", size)),
        "TNEF attributes": lambda: _tnef(size, 1, 0x00069001, b""),
        "TNEF attachments": lambda: _tnef(size, 2, 0x00069002, b""),
        "TNEF properties": lambda: _tnef(size, 1, 0x00069003, b"\xff\xff\xff\xff" + b"\x01\0\x01\0" * 10_000),
        "TNEF names": lambda: _tnef(
            size, 2, 0x00069005, b"\xff\xff\xff\xff" + pack("<HHII", 0x1E, 0x3707, 1, 4) * 1000
        ),
        "legacy text": lambda: _body(b"text/plain", fill(bytes(range(128, 256)) + b"\r\n", size)),
        "delivery status": lambda: _body(
            b"message/delivery-status", fill(b"Final-Recipient: rfc822; a@b\r\n\r\n", size)
        ),
        "calendar": lambda: _body(
            b"text/calendar; method=REQUEST", b"BEGIN:VCALENDAR\r\n" + fill(b"ATTENDEE:mailto:a@b\r\n", size)
        ),
        "line feeds": lambda: HEAD + b"\r\n" + b"\n" * size,
        "no line feed": lambda: b"x" * size,
    }
