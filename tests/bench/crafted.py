"""How each room's cost grows with crafted input: a stranger who sends four times as much must not cost much more.

Shapes for the rooms that read a mail's content are those of `hostile`, whole mails; the others have their own here.
Nothing is bounded here but growth: what a megabyte may cost at most is what mode `mime` holds.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from ingester.auth import dkim, dmarc_record, spf_record
from ingester.auth.header import split
from ingester.auth.lookup import Answer, Exchange, Status
from ingester.core.addresses import parse_addresses
from ingester.core.headers import message_ids
from ingester.core.message import digest
from ingester.core.mime import Bounds
from ingester.core.reply import reply_text
from ingester.core.token import token_in_id, token_in_local_part
from ingester.transport.data import DataReader
from tests.bench.hostile import HEAD, fill, shapes
from tests.bench.sheet import Figure
from tests.bench.turns import growth

MOST_EXPONENT = 1.3
"""Linear is 1; what sorts is a little more, and so is what no longer fits the processor's cache."""
SIZE = 1 << 18
"""Bytes of the smaller of the two inputs; the other has four times as many."""
SMALL = 1 << 14
"""The same where a room reads no more than some kilobytes, or works byte by byte: above a cap nothing grows."""
TINY = 1 << 10
"""And where it is a DNS record."""
ONE_ID = 200
WIRE_CHUNK = 1 << 16
_NOW = datetime(2026, 7, 1, tzinfo=UTC)
_BOUNDS = Bounds(max_header_bytes=4 << 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One crafted input of a room, made in any size, and the work that the room has with it."""

    room: str
    name: str
    make: Callable[[int], Any]
    work: Callable[[Any], object]
    size: int = SIZE


def measure(most: float = MOST_EXPONENT) -> Iterator[tuple[Shape, Figure]]:
    """Every shape's growth, bounded, as it is found."""
    for shape in every():
        found = growth(shape.make, shape.work, shape.size, most=most)
        yield (
            shape,
            Figure(group=f"growth, {shape.room}", name=shape.name, value=found.exponent, unit="exponent", most=most),
        )


def worst(figures: list[Figure]) -> list[Figure]:
    """Of each room the steepest, and every one that breaks its bound: there are hundreds."""
    steepest: dict[str, Figure] = {}
    for figure in figures:
        known = steepest.get(figure.group)
        if known is None or figure.value > known.value:
            steepest[figure.group] = figure
    return [figure for figure in figures if figure.problem or steepest[figure.group] is figure]


def every() -> Iterator[Shape]:
    """All shapes, by room."""
    yield from _receiving()
    for name in shapes(SIZE):
        yield Shape(room="content", name=name, make=partial(_hostile, name), work=_digest)
    yield from _dkim()
    yield from _texts("SPF record", _SPF, _spf, size=TINY)
    yield from _texts("DMARC record", _DMARC, dmarc_record.parse, size=TINY)
    for value in _ADDRESSES:
        yield Shape(room="addresses", name=f"{value!r}", make=partial(_text, value), work=_addresses)
    for value in _LINES:
        yield Shape(room="reply text", name=f"{value!r}", make=partial(_text, value), work=_reply, size=SMALL)
    for value in _IDS:
        yield Shape(room="cited ids", name=f"{value!r}", make=partial(_text, value), work=message_ids)
        yield Shape(room="tokens", name=f"{value!r}", make=partial(_text, value), work=_tokens, size=ONE_ID)


def _text(unit: str, size: int) -> str:
    return (unit * (size // len(unit) + 1))[:size]


# Receiving


_WIRE = (
    *(b"x", b"\n", b"\r", b"\0", b".", b"\r\n", b"\r\n.", b"\r\n..", b"\r\n.\r", b"\n.", b"\r.\r", b"\0\r\n", b".\0"),
    *(b"x\r\n", b"\r\n.\0\r", b"x" * 70_000 + b"\r\n", b"x\n"),
)


def _receiving() -> Iterator[Shape]:
    for unit in _WIRE:
        name = f"{unit[:12]!r}"
        yield Shape(room="receiving", name=name, make=partial(fill, unit), work=partial(_receive, step=WIRE_CHUNK))
        yield Shape(
            room="receiving",
            name=f"{name}, in bytes",
            make=partial(fill, unit),
            work=partial(_receive, step=1),
            size=SMALL,
        )


def _receive(wire: bytes, step: int) -> None:
    reader = DataReader(max_bytes=1 << 30, max_line=64 << 10, normalise=True)
    for at in range(0, len(wire), step):
        if reader.feed(wire[at : at + step]):
            break


# Content


def _hostile(name: str, size: int) -> bytes:
    return shapes(size)[name]()


def _digest(raw: bytes) -> object:
    return digest(raw, _BOUNDS)


# Who sent it


class _Unknown:
    """A DNS that knows no name: what is measured is the reading of the mail, not of keys."""

    async def txt(self, _: str) -> Answer[bytes]:
        return Answer(Status.NO_NAME)

    async def a(self, _: str) -> Answer[IPv4Address]:
        return Answer(Status.NO_NAME)

    async def aaaa(self, _: str) -> Answer[IPv6Address]:
        return Answer(Status.NO_NAME)

    async def mx(self, _: str) -> Answer[Exchange]:
        return Answer(Status.NO_NAME)

    async def ptr(self, _: IPv4Address | IPv6Address) -> Answer[str]:
        return Answer(Status.NO_NAME)


_SIGNATURE = b"DKIM-Signature: v=1; a=rsa-sha256; d=a.test; s=s; h=%b; bh=AAAA; b=AAAA\r\n"


def _dkim() -> Iterator[Shape]:
    """Signatures that are many, long, or name much."""
    headers: dict[str, Callable[[int], bytes]] = {
        "signatures": lambda size: fill(_SIGNATURE % b"from", size) + b"\r\n" + HEAD,
        "signed names": lambda size: _SIGNATURE % fill(b"from:x:", size) + HEAD,
        "one name and many fields": lambda size: (
            _SIGNATURE % fill(b"x:", size // 2) + fill(b"X: y\r\n", size // 2) + HEAD
        ),
        "tags": lambda size: b"DKIM-Signature: " + fill(b"a=b;", size) + b"\r\n" + HEAD,
        "blanks in a tag": lambda size: _SIGNATURE % (b"from" + b" " * size) + HEAD,
        "folds": lambda size: _SIGNATURE % (b"from" + fill(b"\r\n ", size) + b"x") + HEAD,
        "base64 of blanks": lambda size: b"DKIM-Signature: v=1; d=a.test; s=s; b=" + fill(b"A ", size) + b"\r\n" + HEAD,
    }
    for name, make in headers.items():
        yield Shape(room="DKIM header", name=name, make=partial(_mail, make), work=_verify, size=SMALL)
    yield Shape(
        room="header split", name="fields", make=partial(_mail, lambda size: fill(b"X: y\r\n", size)), work=split
    )
    yield Shape(
        room="header split", name="folds", make=partial(_mail, lambda size: b"X: " + fill(b"\r\n x", size)), work=split
    )


def _mail(make: Callable[[int], bytes], size: int) -> bytes:
    return make(size) + b"\r\n\r\nbody\r\n"


def _verify(raw: bytes) -> object:
    coroutine = dkim.verify(_Unknown(), raw, now=_NOW)
    return asyncio.run(coroutine)


_SPF = (
    b"include:a.test ",
    b"ip4:192.0.2.1 ",
    b"ip4:1",
    b"a ",
    b"%{i}",
    b"exists:%{ir}.%{v} ",
    b"x=",
    b" ",
    b"%",
    b"redirect=a ",
)
_DMARC = (b"p=none;", b"rua=mailto:a@b,", b";", b"=", b" ", b"rua=mailto:", b"p", b"; ;")


def _texts(room: str, units: tuple[bytes, ...], work: Callable[[bytes], object], *, size: int) -> Iterator[Shape]:
    for unit in units:
        yield Shape(room=room, name=f"{unit!r}", make=partial(fill, unit), work=work, size=size)


def _spf(terms: bytes) -> object:
    """Not `parse`, which remembers."""
    return spf_record._parse(b"v=spf1 " + terms)


# Texts


_ADDRESSES = (
    "a@b,",
    '"\\"',
    "<",
    "(",
    "(a)b(",
    "@ ",
    "a:;",
    "a b ",
    "<a@b> ",
    "\\",
    '"a" <a@b>, ',
    "(((",
    ",",
    ";",
    "a@[",
    "=?",
)
_LINES = (
    *("> x\n", ">", "> ", ">\n", "\n", "-- \n", "On x wrote:\n", "On Mon, 1 Jan 2024, A <a@b> wrote:\n> x\n", "x\n"),
    *("From: a\nSent: b\nTo: c\nSubject: d\n", "-----Original Message-----\n", "Am ", ":", "______\n", "wrote:\n"),
    *("On Mon, 1 Jan 2024 at 10:00, ", "Le a écrit :\n", "写道:\n", "\r", "\u2028", "On\n", "<a@b>\n", "* ", "--\n> "),
)
_IDS = ("<a@b> ", "<", ">", "<a", "a@b ", "(", '"', "<<a@b>>", "reply+osr_", "osr_", "_", "<osr_a_b@c>", "-", "reply+")


def _addresses(text: str) -> object:
    return parse_addresses(text)


def _reply(text: str) -> object:
    return reply_text(text, None)


def _tokens(text: str) -> object:
    return token_in_id(text), token_in_local_part(text)
