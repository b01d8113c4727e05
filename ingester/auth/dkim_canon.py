"""Canonicalisation of headers and bodies (RFC 6376, 3.4), and the hashes of bodies. Linear; never raises; pure.

A bare LF or CR is a character like any other, as the RFC has it: lines end with CRLF, and what the doors store has
been made so. The body is read in windows: no step is long, and no second copy of a large mail is made.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256

from ingester.auth.header import HeaderField

WINDOW = 128 << 10
"""Bytes canonicalised at a time: they stay in the cache. Even: no CRLF of those at the end is cut."""

_RUNS = tuple(b" " * size for size in (1024, 128, 16, 4))
_SAMPLE = 1024
_MARKS = bytes(octet in b" \r" for octet in range(256))
_EMPTY_LINES = b"\r\n" * (32 << 10)
_TAG_B = re.compile(rb"(?:\A|;)[ \t\r\n]*b[ \t\r\n]*=([^;]*)")


@dataclass(frozen=True, slots=True)
class BodyForm:
    """How a signature wants the body hashed: relaxed or simple, the whole of it or its first `limit` bytes (`l=`)."""

    relaxed: bool
    limit: int | None


@dataclass(frozen=True, slots=True)
class BodyHash:
    """The SHA-256 of a body in one form, and the length of the whole canonical body."""

    digest: bytes
    length: int


class _Sink:
    """Hashes the first `limit` bytes of what it is given."""

    __slots__ = ("_hash", "_left")

    def __init__(self, limit: int | None) -> None:
        self._hash = sha256()
        self._left = limit

    def feed(self, piece: bytes | memoryview) -> None:
        if self._left is not None:
            piece = piece[: self._left]
            self._left -= len(piece)
        self._hash.update(piece)

    def digest(self) -> bytes:
        return self._hash.digest()


def hash_bodies(raw: bytes, start: int, forms: Iterable[BodyForm]) -> dict[BodyForm, BodyHash]:
    """The hashes of the body from `start` on: one walk for each canonicalisation, however many limits are asked for."""
    wanted = set(forms)
    out: dict[BodyForm, BodyHash] = {}
    for relaxed, walk in ((False, simple_body), (True, relaxed_body)):
        sinks = {form: _Sink(form.limit) for form in wanted if form.relaxed is relaxed}
        if not sinks:
            continue
        length = 0
        for piece in walk(raw, start):
            length += len(piece)
            for sink in sinks.values():
                sink.feed(piece)
        out.update((form, BodyHash(sink.digest(), length)) for form, sink in sinks.items())
    return out


def simple_body(raw: bytes, start: int) -> Iterator[bytes | memoryview]:
    """The body as it stands, with exactly one CRLF at its end (RFC 6376, 3.4.3)."""
    end = len(raw)
    while True:
        begin = max(start, end - WINDOW)
        kept = _before_empty_lines(raw[begin:end])
        end = begin + kept
        if kept or begin == start:
            break
    view = memoryview(raw)
    for at in range(start, end, WINDOW):
        yield view[at : min(at + WINDOW, end)]
    yield b"\r\n"


def relaxed_body(raw: bytes, start: int) -> Iterator[bytes]:
    """The body with one blank for each run of them, none at line ends, no empty lines at its end (RFC 6376, 3.4.4)."""
    held = b""
    """The end of a window that means something only with what follows: a blank, a CR."""
    empty = 0
    """Empty lines not yet given out: they may be the last."""
    anything = False
    for at in range(start, len(raw), WINDOW):
        text = _relax(held + raw[at : at + WINDOW])
        kept = len(text) - text.endswith(b"\r")
        kept -= text.endswith(b" ", 0, kept)
        text, held = text[:kept], text[kept:]
        kept = _before_empty_lines(text)
        if kept:
            yield from _empty_lines(empty)
            empty = 0
            anything = True
            yield text[:kept]
        empty += (len(text) - kept) // 2
    if held:
        yield from _empty_lines(empty)
        yield held
    if anything or held:
        yield b"\r\n"


def _relax(text: bytes) -> bytes:
    """One blank for each run, none before a CRLF."""
    if b"\t" in text:
        text = text.replace(b"\t", b" ")
    elif b" " not in text:
        return text
    if not (_untidy(text[:_SAMPLE]) or _untidy(text)):  # one habit goes through a mail: mostly its beginning tells
        return text
    return _single_blanks(text).replace(b" \r\n", b"\r\n")


def _untidy(text: bytes) -> bool:
    """Whether there may be anything to rewrite: a blank before a blank or a CR. There is no tab.

    Plain text is full of blanks, and at each a search stumbles. Here the text is one large number, 1 for a blank or CR
    and 0 for all else; moved by an octet it meets itself where two stand side by side.
    """
    marks = int.from_bytes(text.translate(_MARKS), "little")
    return marks & (marks >> 8) != 0


def _single_blanks(text: bytes) -> bytes:
    """Each run of blanks as one blank. Long runs shrink in a few steps, so that the whole is linear."""
    if not _has_run(text):
        return text
    text = text.replace(b"  ", b" ")  # mostly this is all
    if _has_run(text):
        for run in _RUNS:
            text = text.replace(run, b" ")
        while b"  " in text:
            text = text.replace(b"  ", b" ")
    return text


def _has_run(text: bytes) -> bool:
    return text.rfind(b"  ") >= 0  # from the end: CPython's search in this direction is twice as fast


def _before_empty_lines(text: bytes) -> int:
    """How much of a text is left without the CRLFs at its end: all of them, and no CR or LF that stands alone."""
    if not text.endswith(b"\r\n"):
        return len(text)
    kept = len(text.rstrip(b"\r\n"))
    alone = max(text.rfind(b"\r\r", kept), text.rfind(b"\n\n", kept))
    kept = max(kept, alone + 1)
    return kept + text.startswith(b"\n", kept)


def _empty_lines(count: int) -> Iterator[bytes]:
    left = 2 * count
    while left:
        yield _EMPTY_LINES[:left]
        left -= min(left, len(_EMPTY_LINES))


def canonical_field(name: str, raw: bytes, *, relaxed: bool) -> bytes:
    """A header field with its CRLF (RFC 6376, 3.4.1 and 3.4.2)."""
    if not relaxed:
        return raw if raw.endswith(b"\n") else raw + b"\r\n"
    value = raw[raw.index(b":") + 1 :].replace(b"\r\n", b"").replace(b"\n", b"")
    return b"%b:%b\r\n" % (name.encode("ascii"), _single_blanks(value.replace(b"\t", b" ")).strip(b" "))


def signed_text(fields: Iterable[HeaderField], own: HeaderField, *, relaxed: bool) -> bytes:
    """What the signature signs: the fields in the order of `h=`, then its own without its value (RFC 6376, 3.7)."""
    pieces = [canonical_field(field.name, field.raw, relaxed=relaxed) for field in fields]
    last = canonical_field(own.name, _without_value(own.raw), relaxed=relaxed)
    return b"".join(pieces) + last.removesuffix(b"\n").removesuffix(b"\r")


def _without_value(raw: bytes) -> bytes:
    """A DKIM-Signature without the value of `b=`, the blanks around it included (RFC 6376, 3.5)."""
    colon = raw.index(b":") + 1
    value = raw[colon:]
    found = _TAG_B.search(value)
    return raw[:colon] + value[: found.start(1)] + value[found.end(1) :] if found else raw
