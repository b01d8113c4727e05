"""Transfer decoding of a view on the raw mail (RFC 2045, 6): in windows, so that no step is long and no copy is large.

Any bytes decode to something: what is not valid is skipped or kept as it stands, and named in `faults`.
"""

import re
from binascii import Error, a2b_base64, a2b_qp
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO

from pybase64 import b64decode

from ingester.core.binhex import decode_binhex
from ingester.core.uuencode import decode_uu

WINDOW = 256 << 10
"""Bytes decoded at a time. The decoders hold the GIL: this is about half a millisecond."""

STRIDE = 1 << 20
"""Bytes that are searched at a time."""
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_BLANKS = b" \t\r\n"
_NOT_ALPHABET = bytes(set(range(256)) - set(_ALPHABET))
_PADDING = re.compile(rb"[=\s]*+")
_MAX_PADDINGS = 1000
"""Paddings inside one base64 part that are taken for the joint of two encodings; beyond, they are noise."""

_BAD_QP = re.compile(rb"=(?![0-9A-Fa-f]{2}|\r?\n|\Z)")
_BLANK_SOFT_BREAK = re.compile(rb"=[ \t]++\r?\n")

_NAMES = {
    "": "7bit",
    "7bit": "7bit",
    "7bits": "7bit",
    "usascii": "7bit",
    "8bit": "8bit",
    "8bits": "8bit",
    "binary": "binary",
    "base64": "base64",
    "quoted-printable": "quoted-printable",
    "quotedprintable": "quoted-printable",
    "uuencode": "uuencode",
    "xuuencode": "uuencode",
    "uue": "uuencode",
    "xuue": "uuencode",
    "binhex": "binhex",
    "xbinhex": "binhex",
    "binhex40": "binhex",
    "xbinhex40": "binhex",
    "macbinhex40": "binhex",
    "xmacbinhex40": "binhex",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What is stored about decoded bytes that are not kept: their number, their sha256, what was wrong in them."""

    size: int
    sha256: bytes
    faults: tuple[str, ...]


def find(raw: bytes, needle: bytes, at: int, stop: int) -> int:
    """`bytes.find` in steps: one search of a large mail holds the GIL for up to 60 ms."""
    while at + STRIDE < stop:
        found = raw.find(needle, at, at + STRIDE)
        if found >= 0:
            return found
        at += STRIDE - len(needle) + 1
    return raw.find(needle, at, stop)


def normalise_encoding(value: str) -> str:
    """The one spelling of a Content-Transfer-Encoding: that of RFC 2045, 6, or `uuencode`, `binhex`, `unknown`.

    Comments, quotes, blanks and dashes do not count: `Base-64 (RFC 2045)` is meant well.
    """
    usual = _NAMES.get(value.lower())
    if usual is not None:
        return usual
    word = value.partition("(")[0].partition(";")[0]
    return _NAMES.get("".join(char for char in word.lower() if char.isalnum()), "unknown")


def decode_view(raw: bytes, offset: int, length: int, encoding: str) -> bytes:
    """The decoded bytes of a view. Memory: the result and one window."""
    return _join(pieces(raw, offset, length, encoding, set()))


def decode_and_measure(raw: bytes, offset: int, length: int, encoding: str) -> tuple[bytes, Measure]:
    """The decoded bytes of a view and what they measure, for who needs both: it is decoded once."""
    if encoding in ("7bit", "8bit"):
        data = raw[offset : offset + length]
        return data, Measure(size=length, sha256=sha256(data).digest(), faults=())
    faults: set[str] = set()
    if encoding == "quoted-printable" and length <= WINDOW:
        data = _unquoted(raw[offset : offset + length], faults)
    else:
        data = _join(pieces(raw, offset, length, encoding, faults))
    return data, Measure(size=len(data), sha256=sha256(data).digest(), faults=tuple(sorted(faults)) if faults else ())


def _join(pieces: Iterator[bytes | memoryview]) -> bytes:
    out = BytesIO()  # gives its buffer away without a copy, where a join needs twice the result
    for piece in pieces:
        out.write(piece)
    return out.getvalue()


def decode_start(raw: bytes, offset: int, length: int, encoding: str, limit: int) -> bytes:
    """At most the first `limit` decoded bytes of a view, decoding one window more than these at most."""
    out = bytearray()
    for piece in pieces(raw, offset, length, encoding, set()):
        out += piece[: limit - len(out)]
        if len(out) >= limit:
            break
    return bytes(out)


def measure(raw: bytes, offset: int, length: int, encoding: str) -> Measure:
    """Size and sha256 of the decoded bytes in one pass, keeping none of them."""
    faults: set[str] = set()
    digest = sha256()
    size = 0
    for piece in pieces(raw, offset, length, encoding, faults):
        digest.update(piece)
        size += len(piece)
    return Measure(size=size, sha256=digest.digest(), faults=tuple(sorted(faults)))


def pieces(raw: bytes, offset: int, length: int, encoding: str, faults: set[str]) -> Iterator[bytes | memoryview]:
    """Decode a view piece by piece; `faults` is filled on the way. An unknown encoding is the identity."""
    if encoding == "base64":
        return _base64(raw, offset, offset + length, faults)
    if encoding == "quoted-printable":
        return _quoted_printable(raw, offset, offset + length, faults)
    if encoding == "uuencode":
        return decode_uu(raw, offset, offset + length, faults)
    if encoding == "binhex":
        return decode_binhex(raw, offset, offset + length, faults)
    return iter((memoryview(raw)[offset : offset + length],))


def _base64(raw: bytes, pos: int, end: int, faults: set[str]) -> Iterator[bytes | memoryview]:
    carry = b""
    while pos < end:
        stop = min(pos + WINDOW, end)
        window = raw[pos:stop]
        found = _decode_lines(carry, window, last=stop == end)
        if found is None:
            found = _decode_letters(carry + window.translate(None, _BLANKS), last=stop == end)
        if found is None:
            faults.add("bad_base64")
            if not carry and _is_text(raw, pos, stop):
                faults.add("not_base64")
                yield memoryview(raw)[pos:end]
            elif carry.translate(None, _ALPHABET):  # nobody has looked at what was left for this window
                rest = carry + raw[pos:end]
                yield from _dirty_base64(rest, 0, len(rest), b"")
            else:
                yield from _dirty_base64(raw, pos, end, carry)
            return
        piece, carry = found
        yield piece
        pos = stop


def _decode_lines(carry: bytes, window: bytes, *, last: bool) -> tuple[bytes, bytes] | None:
    """Decode a window whose lines are all of one length, as nearly all base64 is; else None.

    Their ends are cut out in two strokes of C: to look at every byte for blanks takes six times as long, more than all
    the rest of the decoding.
    """
    letters = bytearray(carry)
    letters += window.strip(_BLANKS)
    feed = letters.find(b"\n")
    width = letters.find(b"\n", feed + 1) - feed
    if feed < 1 or width < 2:
        return None
    feeds = letters[feed::width]
    if feeds.count(b"\n") != len(feeds):
        return None
    del letters[feed::width]
    if letters[feed - 1] == 13:
        ends = slice(feed - 1, feed + (len(feeds) - 1) * (width - 1), width - 1)
        if letters[ends].count(b"\r") != len(feeds):
            return None
        del letters[ends]
    found = _decode_letters(letters, last=last)
    # What is left for the next window has been decoded by nobody yet: a blank there is to be taken out as well.
    return found if found is None or found[1] == found[1].translate(None, _BLANKS) else None


def _decode_letters(letters: bytes | bytearray, *, last: bool) -> tuple[bytes, bytes] | None:
    """The bytes of pure base64, and the letters that wait for the next window; None where it is not pure."""
    rest = 0 if last else len(letters) & 3
    try:
        return _strict_base64(letters[:-rest] if rest else letters), bytes(letters[-rest:]) if rest else b""
    except Error:
        return None


def _strict_base64(data: bytes | bytearray) -> bytes:
    """Pure base64, or binascii.Error. binascii is the judge where pybase64, fifty times as fast, refuses: it lets
    superfluous padding at the end pass."""
    try:
        return b64decode(data, validate=True)
    except Error:
        return a2b_base64(data, strict_mode=True)


def _dirty_base64(raw: bytes, pos: int, end: int, carry: bytes) -> Iterator[bytes]:
    """Base64 with foreign characters (ignored, RFC 2045, 6.8), wrong padding, or several encodings joined.

    After a padding the rest counts only when it is nothing but base64: else it is a footer that somebody appended.
    """
    checked = False
    for _ in range(_MAX_PADDINGS):
        pad = find(raw, b"=", pos, end)
        yield from _plain_base64(raw, pos, end if pad < 0 else pad, carry)
        if pad < 0:
            return
        carry = b""
        match = _PADDING.match(raw, pad, min(end, pad + WINDOW))
        pos = match.end() if match else end
        if not checked and not _is_pure(raw, pos, end):
            return
        checked = True
    yield from _plain_base64(raw, pos, end, b"")


def _plain_base64(raw: bytes, pos: int, end: int, carry: bytes) -> Iterator[bytes]:
    """Decode all base64 characters of a stretch; six bits that are left over at its end make no byte."""
    while pos < end or carry:
        stop = min(pos + WINDOW, end)
        clean = carry + raw[pos:stop].translate(None, _NOT_ALPHABET)
        pos = stop
        whole = len(clean) & ~3
        carry = clean[whole:]
        if pos == end:
            last = carry + b"=" * (4 - len(carry)) if len(carry) > 1 else b""
            yield b64decode(clean[:whole] + last, validate=True)
            return
        yield b64decode(clean[:whole], validate=True)


def _is_text(raw: bytes, pos: int, stop: int) -> bool:
    """Whether what is called base64 is some other text: one character in twenty, blanks apart, is foreign to it."""
    letters = raw[pos:stop].partition(b"=")[0].translate(None, _BLANKS)
    foreign = len(letters.translate(None, _ALPHABET))
    return foreign > 3 and 20 * foreign > len(letters)


def _is_pure(raw: bytes, pos: int, end: int) -> bool:
    good = _ALPHABET + _BLANKS + b"="
    return not any(raw[at : min(at + WINDOW, end)].translate(None, good) for at in range(pos, end, WINDOW))


def _quoted_printable(raw: bytes, pos: int, end: int, faults: set[str]) -> Iterator[bytes]:
    while pos < end:
        stop = _cut_lines(raw, pos, end)
        yield _unquoted(raw[pos:stop], faults)
        pos = stop


def _unquoted(piece: bytes, faults: set[str]) -> bytes:
    if _BAD_QP.search(piece):
        faults.add("bad_quoted_printable")
        # RFC 2045, 6.7 (3): "= CRLF" is a soft break, a2b_qp keeps it; after "=CR" it skips to the next LF.
        piece = _BLANK_SOFT_BREAK.sub(b"=\n", piece).replace(b"=\r\n", b"=\n").replace(b"=\r", b"=3D\r")
    return a2b_qp(piece)


def _cut_lines(raw: bytes, pos: int, end: int) -> int:
    """Where a window ends: after a line where it can, and never inside `=XX` or a soft line break."""
    stop = pos + WINDOW
    if stop >= end:
        return end
    line = raw.rfind(b"\n", pos, stop) + 1
    if line:
        return line
    tail = raw.find(b"=", stop - 2, stop)
    return stop if tail < 0 else tail
