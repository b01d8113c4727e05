"""Uuencoded blocks (IEEE 1003.1, uuencode: the historical algorithm): where they are in a text, and what is in one.

Decodes in windows and copies no text; linear; never raises. yEnc is not read: it stays in its text as it is.
"""

import re
from binascii import Error, a2b_uu
from collections.abc import Iterator
from dataclasses import dataclass

from pybase64 import b64decode

MAX_BLOCKS = 100
"""Blocks that are found in one text; the text itself holds them all."""
MAX_ODD_LINES = 50_000
"""Lines of another length than the usual 45 bytes that one block may have: they are decoded one by one."""
MAX_TRIES = 10_000
"""Lines that look like a `begin` line, but have no data under them, after which there is none."""
_BEGIN = re.compile(rb"begin [0-7]{3,4} +([^\r\n]{1,1000}+)\r?\n(?=[ -`]{5}|[ `]?[ \t]*+(?:\r?\n)?end)")
_LONGEST_BEGIN = 1100
_END = re.compile(rb"(?:\A|(?<=\n))end[ \t]*+(?=[\r\n]|\Z)")
_LINE = re.compile(rb"([ -`])([ -`]*+)[^\n]{0,3}?(?:\n|\Z)")
_FULL_LINES = re.compile(rb"(?:M[ -`]{60}\r?\n){1,2000}")
_FULL = ord("M")
_DIGITS = bytes(range(32, 97))
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/A"
_TO_BASE64 = bytes.maketrans(_DIGITS, _BASE64)
_STRIDE = 1 << 20
_LONGEST = 100
"""Bytes beyond the longest line of data, its digits being at most 84."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block as a view on the raw mail, from its `begin` to its `end`, and the file name as it stands."""

    name: bytes
    offset: int
    length: int


def find_blocks(raw: bytes, offset: int, length: int) -> tuple[list[Block], bool]:
    """The blocks in a stretch of text, in order, and whether there may be more than MAX_BLOCKS.

    A block is a `begin` line under which the next line is as long as it says. It ends at the first `end` line; one
    that has none before the next block or the end of the text goes as far as its lines are whole.
    """
    stop = offset + length
    blocks: list[Block] = []
    ends = _Ends(raw, stop)
    begin = _next_begin(raw, offset, offset, stop)
    while begin is not None:
        if len(blocks) == MAX_BLOCKS:
            return blocks, True
        after = _next_begin(raw, begin.end(), offset, stop)
        limit = stop if after is None else after.start()
        end = ends.after(begin.end())
        if end > limit:
            end = _last_whole_line(raw, begin.end(), limit)
        blocks.append(Block(name=begin.group(1).strip(), offset=begin.start(), length=end - begin.start()))
        begin = after
    return blocks, False


def begin_name(raw: bytes, offset: int, length: int) -> bytes | None:
    """The file name of the first block in a stretch, as it stands, or None when there is no block."""
    begin = _next_begin(raw, offset, offset, offset + length)
    return begin.group(1).strip() if begin is not None else None


@dataclass(slots=True)
class _Ends:
    """The `end` lines of a text; a search is made only when the last one found is passed."""

    raw: bytes
    stop: int
    found: int = -1

    def after(self, pos: int) -> int:
        """Where the next `end` line from `pos` on is over; beyond the text when there is none."""
        if self.found < pos:
            self.found = self.stop + 1
            for at in range(pos, self.stop, _STRIDE):
                match = _END.search(self.raw, at, min(at + _STRIDE + _LONGEST, self.stop))
                if match is not None:
                    self.found = match.end()
                    break
        return self.found


def _next_begin(raw: bytes, pos: int, start: int, stop: int) -> re.Match[bytes] | None:
    """The next `begin` line that data follows. Lower case is foreign to the data: no search begins inside a block."""
    tries = 0
    while pos < stop and tries < MAX_TRIES:
        near = min(pos + _STRIDE, stop)
        at = raw.find(b"begin ", pos, near)
        match = _BEGIN.search(raw, at, min(near + _LONGEST_BEGIN, stop)) if at >= 0 else None
        if match is None:
            pos = max(near - 5, pos + 1) if near < stop else stop
            continue
        at = match.start()
        if (at == start or raw[at - 1] == 10) and _is_data(raw, match.end(), stop):
            return match
        tries += 1
        pos = at + 6
    return None


def _is_data(raw: bytes, pos: int, stop: int) -> bool:
    """Whether the line at `pos` has the length that it says, or is the empty one before `end`."""
    match = _LINE.match(raw, pos, min(pos + _LONGEST, stop))
    if match is None:
        return _END.match(raw, pos, stop) is not None
    size = _size(match.group(1)[0])
    if not size:  # an empty file
        return _END.match(raw, match.end(), stop) is not None
    return _digits(size) <= len(match.group(2)) <= _digits(size) + 2


def _last_whole_line(raw: bytes, pos: int, limit: int) -> int:
    """The end of the run of whole lines that begins at `pos`."""
    odd = 0
    while pos < limit and odd < MAX_ODD_LINES:
        full = _FULL_LINES.match(raw, pos, limit)
        if full is not None:
            pos = full.end()
            continue
        odd += 1
        match = _LINE.match(raw, pos, min(pos + _LONGEST, limit))
        size = _size(match.group(1)[0]) if match else 0
        if match is None or not size or len(match.group(2)) < _digits(size):
            break
        pos = match.end()
    return pos


def _size(first: int) -> int:
    """The bytes that a line holds, by its first character."""
    return (first - 32) & 63


def _digits(size: int) -> int:
    return (size + 2) // 3 * 4


def decode_uu(raw: bytes, pos: int, stop: int, faults: set[str]) -> Iterator[bytes | memoryview]:
    """The bytes of the first block in a stretch, piece by piece; `faults` is filled on the way.

    Without a `begin` line the stretch is given as it stands. Missing digits at the end of a line are blanks that were
    cut off; a line with other characters than digits is passed over. What stands around the block is not decoded.
    """
    begin = _next_begin(raw, pos, pos, stop)
    if begin is None:
        faults.add("bad_uuencode")
        return iter((memoryview(raw)[pos:stop],))
    return _decode_lines(raw, begin.end(), stop, faults)


def _decode_lines(raw: bytes, pos: int, stop: int, faults: set[str]) -> Iterator[bytes]:
    odd = 0
    short = bytearray()  # what odd lines gave: a piece of its own for each would cost more than to decode it
    while pos < stop:
        full = _FULL_LINES.match(raw, pos, stop) if raw[pos] == _FULL else None
        if full is not None:
            yield bytes(short) + _full_lines(full.group())
            short.clear()
            pos = full.end()
            continue
        if raw.startswith(b"end", pos, stop) and _END.match(raw, pos, stop):
            yield bytes(short)
            return
        odd += 1
        if odd > MAX_ODD_LINES:
            break
        feed = raw.find(b"\n", pos, min(pos + 1000, stop)) + 1 or min(pos + 1000, stop)
        piece = _odd_line(raw[pos:feed].rstrip(b"\r\n"))
        if piece is None:
            faults.add("bad_uuencode")
        else:
            short += piece
        pos = feed
    faults.add("bad_uuencode")
    yield bytes(short)


def _full_lines(lines: bytes) -> bytes:
    """Lines of 45 bytes, all at once: the digits are those of base64 by other names."""
    digits = lines[1:].replace(b"\r\n", b"\n").replace(b"\nM", b"").rstrip(b"\n")
    return b64decode(digits.translate(_TO_BASE64), validate=True)


def _odd_line(line: bytes) -> bytes | None:
    """One line: at most a checksum and blanks may follow its digits. None for what is no line of data."""
    if not line:
        return b""
    try:
        return a2b_uu(line[: 1 + _digits(_size(line[0]))])
    except Error:
        return None
