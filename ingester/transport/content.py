"""The content of a mail that came in one piece: line ends made CRLF, oddities flagged, as DataReader does it. Pure.

Work is done piece by piece, so that in a thread of its own it does not hold the others (law 9).
"""

import re
from typing import Final

from ingester.transport.line_ends import only_crlf

_PIECE: Final = 1 << 20
_BARE_LF: Final = re.compile(rb"\n(?<!\r\n)")
_BARE_CR: Final = re.compile(rb"\r(?!\n)")


def as_content(raw: bytes, *, max_line: int) -> tuple[bytes, tuple[str, ...]]:
    """The mail as a door keeps it, and its flags: `nul`, `bare_cr`, `bare_lf` (which is made CRLF), `long_line` for a
    line of more than `max_line` octets.
    """
    flags = {"nul"} if b"\0" in raw else set()
    if not only_crlf(raw, whole=True):
        if _BARE_CR.search(raw):
            flags.add("bare_cr")
        if _BARE_LF.search(raw):
            flags.add("bare_lf")
            raw = _with_crlf(raw)
    if _has_long_line(raw, max_line + 2):
        flags.add("long_line")
    return raw, tuple(sorted(flags))


def _with_crlf(raw: bytes) -> bytes:
    out = bytearray()
    start = 0
    while start < len(raw):
        end = raw.find(b"\n", start + _PIECE) + 1 or len(raw)
        out += raw[start:end].replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        start = end
    return bytes(out)


def _has_long_line(raw: bytes, limit: int) -> bool:
    """Jump from line end to line end, a limit's width at a time: a few searches, whatever the lines are."""
    at = 0
    while len(raw) - at > limit:
        last = raw.rfind(b"\n", at, at + limit)
        if last < 0:
            return True
        at = last + 1
    return False
