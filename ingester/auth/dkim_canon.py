"""Canonicalisation of headers and bodies (RFC 6376, 3.4), and the hashes of bodies. Linear; never raises; pure.

A bare LF or CR is a character like any other, as the RFC has it: lines end with CRLF, and what the doors store has
been made so. The body is read in windows: no step is long, and no second copy of a large mail is made.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import NamedTuple

from ingester.auth.header import HeaderField
from ingester.core.fields import Field

WINDOW = 32 << 10
"""Bytes canonicalised at a time: they stay in the cache, and what has no blanks for longer is not copied at all."""
_STRETCH = 512 << 10
"""Bytes without a blank that are given out at once, uncopied: a file in base64 is hashed in few long steps. The GIL is
let go for each, and after it must be had again."""
_TAIL = 1024
"""Bytes at the end of a stretch in which its last line is looked for."""
_STEP = 4 << 10
"""Bytes of text that are looked at together, to the end of a line: between two texts there may be a file in base64."""
_RUNS = tuple(b" " * size for size in (1024, 128, 16, 4))
_MARKS = bytes(octet in b" \r" for octet in range(256))
_EMPTY_LINES = b"\r\n" * (32 << 10)
_FIRST_TAG_B = re.compile(rb"[ \t\r\n]*b[ \t\r\n]*=([^;]*)")
_LATER_TAG_B = re.compile(rb";[ \t\r\n]*b[ \t\r\n]*=([^;]*)")
"""Apart from the first: a search for what begins with one certain octet is ten times as fast."""


class BodyForm(NamedTuple):
    """How a signature wants the body hashed: relaxed or simple, the whole of it or its first `limit` bytes (`l=`)."""

    relaxed: bool
    limit: int | None


class BodyHash(NamedTuple):
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
    sinks = {form: _Sink(form.limit) for form in forms}
    out: dict[BodyForm, BodyHash] = {}
    for relaxed in {form.relaxed for form in sinks}:
        fed = {form: sink for form, sink in sinks.items() if form.relaxed is relaxed}
        length = 0
        for piece in relaxed_body(raw, start) if relaxed else simple_body(raw, start):
            length += len(piece)
            for sink in fed.values():
                sink.feed(piece)
        out.update((form, BodyHash(sink.digest(), length)) for form, sink in fed.items())
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
    for at in range(start, end, _STRETCH):
        yield view[at : min(at + _STRETCH, end)]
    yield b"\r\n"


def relaxed_body(raw: bytes, start: int) -> Iterator[bytes | memoryview]:
    """The body with one blank for each run of them, none at line ends, no empty lines at its end (RFC 6376, 3.4.4)."""
    held = b""
    """The end of a window that means something only with what follows: a blank, a CR."""
    empty = 0
    """Empty lines not yet given out: they may be the last."""
    anything = False
    at = start
    while at < len(raw):
        piece: bytes | memoryview = b""
        empties = 0
        stop = at if held else _end_of_stretch(raw, at)
        if stop > at:
            piece = memoryview(raw)[at:stop]
        else:
            stop = min(at + WINDOW, len(raw))
            text = _relax(held + raw[at:stop])
            kept = len(text) - text.endswith(b"\r")
            kept -= text.endswith(b" ", 0, kept)
            text, held = text[:kept], text[kept:]
            kept = _before_empty_lines(text)
            piece, empties = text[:kept], (len(text) - kept) // 2
        if piece:
            yield from _empty_lines(empty)
            empty = 0
            anything = True
            yield piece
        empty += empties
        at = stop
    if held:
        yield from _empty_lines(empty)
        yield held
    if anything or held:
        yield b"\r\n"


def is_relaxed(raw: bytes, start: int, end: int) -> bool:
    """Whether relaxing changes nothing of these bytes, as far as their last line (RFC 6376, 3.4.4)."""
    at = start
    while (blank := _next_blank(raw, at, end)) >= 0:
        at = raw.find(b"\n", blank + _STEP, end) + 1 or end
        lines = raw[blank:at]
        if b"\t" in lines or _untidy(lines):
            return False
    return not raw.endswith((b" ", b"\t"), start, end)


def _end_of_stretch(raw: bytes, at: int) -> int:
    """Where a long stretch without blanks ends that begins here, CR and LF at its end apart; `at` where none does."""
    limit = min(at + _STRETCH, len(raw))
    end = _next_blank(raw, at, limit)
    end = limit if end < 0 else end
    if end - at < WINDOW:
        return at
    begin = max(at, end - _TAIL)
    kept = len(raw[begin:end].rstrip(b"\r\n"))
    return begin + kept if kept else at


def _next_blank(text: bytes, at: int, end: int) -> int:
    """Where the first blank or tab is, or -1."""
    blank = text.find(b" ", at, end)
    tab = text.find(b"\t", at, end if blank < 0 else blank)
    return blank if tab < 0 else tab


def _relax(text: bytes) -> bytes:
    """One blank for each run, none before a CRLF. What has no blanks is not looked at."""
    pieces: list[bytes] = []
    done = at = 0
    while (blank := _next_blank(text, at, len(text))) >= 0:
        at = text.find(b"\n", blank + _STEP) + 1 or len(text)
        lines = text[blank:at]
        relaxed = _relax_lines(lines)
        if relaxed is not lines:
            pieces += (text[done:blank], relaxed)
            done = at
    return b"".join((*pieces, text[done:])) if pieces else text


def _relax_lines(lines: bytes) -> bytes:
    """The same for whole lines, or for a few without a line end; the very same where there is nothing to change."""
    text = lines.replace(b"\t", b" ") if b"\t" in lines else lines
    return _single_blanks(text).replace(b" \r\n", b"\r\n") if _untidy(text) else text


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


def canonical_field(raw: bytes, *, relaxed: bool) -> bytes:
    """A header field with its CRLF (RFC 6376, 3.4.1 and 3.4.2)."""
    return b"".join(_canonical((raw,), relaxed=relaxed))


def signed_text(fields: Iterable[HeaderField], own: HeaderField, *, relaxed: bool) -> bytes:
    """What the signature signs: the fields in the order of `h=`, then its own without its value (RFC 6376, 3.7)."""
    signed = [field.raw for field in fields]
    signed.append(_without_value(own.raw))
    return b"".join(_canonical(signed, relaxed=relaxed)).removesuffix(b"\n").removesuffix(b"\r")


def relaxed_text(fields: Sequence[Field], own: HeaderField) -> bytes:
    """The same, relaxed, of fields that are at hand as names in lower case and values."""
    own_value = _without_value(own.raw).partition(b":")[2]
    values = [value for _, value in fields]
    usual = _has_usual_blanks(b"\n".join((*values, own_value)))
    pieces: list[bytes] = []
    for name, value in (*fields, (own.name, own_value)):
        words = b" ".join(value.split()) if usual else _words_one_by_one(value + b"\n")
        pieces += (name.encode("ascii"), b":", words, b"\r\n")
    pieces.pop()
    return b"".join(pieces)


def _canonical(fields: Sequence[bytes], *, relaxed: bool) -> list[bytes]:
    """What the fields are made of, their line ends included: pieces, so that all are put together once."""
    if not relaxed:
        return [raw if raw.endswith(b"\n") else raw + b"\r\n" for raw in fields]
    usual = _has_usual_blanks(b"".join(fields))
    pieces: list[bytes] = []
    for raw in fields:
        name, _, value = raw.partition(b":")
        # Unfolded, with one blank for each run and none at its ends: all line feeds in it are folding.
        words = b" ".join(value.split()) if usual else _words_one_by_one(value)
        pieces += (name.rstrip(b" \t").lower(), b":", words, b"\r\n")
    return pieces


def _has_usual_blanks(text: bytes) -> bool:
    """Whether what Python takes for a blank in it is one for the RFC, too: no CR alone, no VT or FF."""
    return text.count(b"\r") == text.count(b"\r\n") and b"\x0b" not in text and b"\x0c" not in text


def _words_one_by_one(value: bytes) -> bytes:
    """A value unfolded, with one blank for each run and none at its ends, whatever is in it."""
    value = value.replace(b"\r\n", b"").replace(b"\n", b"")
    return _single_blanks(value.replace(b"\t", b" ")).strip(b" ")


def _without_value(raw: bytes) -> bytes:
    """A DKIM-Signature without the value of `b=`, the blanks around it included (RFC 6376, 3.5)."""
    colon = raw.index(b":") + 1
    found = _FIRST_TAG_B.match(raw, colon) or _LATER_TAG_B.search(raw, colon)
    return raw[: found.start(1)] + raw[found.end(1) :] if found else raw
