"""BinHex 4.0 (RFC 1741, appendix A): the data fork of the Macintosh file that a text holds.

Decodes in windows and keeps no more than one; linear; never raises. Resource forks are not read: the raw mail has them.
"""

import re
from binascii import crc_hqx
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

from pybase64 import b64decode

MAX_BYTES = 25 << 20
"""The largest data fork that is decoded: runs let one byte of text stand for a hundred (design page, 9)."""
_WINDOW = 64 << 10
_START_WINDOW = 64 << 10
_START = re.compile(rb"\(This file must be converted with BinHex[^\r\n]{0,100}\s{1,100}:", re.IGNORECASE)
_BARE_START = re.compile(rb"\s{0,100}:")
_DIGITS = b"!\"#$%&'()" + b"*+,-012345689@ABCDEFGHIJKLMNPQRSTUVXYZ[`abcdefhijklmpqr"
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_TO_BASE64 = bytes.maketrans(_DIGITS, _BASE64)
_BLANKS = b" \t\r\n"
_NOT_DIGITS = bytes(set(range(256)) - set(_DIGITS))
_RUN = re.compile(rb"\x90(.)", re.DOTALL)
_MARK = b"\x90"
_HEAD = Struct(">B4s4sHII")
"""After the name: version, type, creator, flags, the lengths of the data fork and of the resource fork."""
_MAX_NAME = 63


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """The header of a file: its name in Mac Roman, the length of its data fork, whether it has a resource fork."""

    name: bytes
    size: int
    resource: bool
    length: int


def file_name(raw: bytes, pos: int, stop: int) -> str | None:
    """The name that the BinHex file in a stretch gives itself, or None."""
    start = _start(raw, pos, stop)
    file = _read_head(next(_expanded(raw, start, stop, set()), b""))
    return file.name.decode("mac_roman") if file else None


def decode_binhex(raw: bytes, pos: int, stop: int, faults: set[str]) -> Iterator[bytes | memoryview]:
    """The data fork of the file in a stretch, piece by piece; `faults` is filled on the way.

    The stretch is given as it stands where nothing of it can be trusted to be a file, where the data fork is larger
    than MAX_BYTES, and where all that the file has is its resource fork.
    """
    start = _start(raw, pos, stop)
    file = _read_head(next(_expanded(raw, start, stop, set()), b""))
    if file is None:
        faults.add("bad_binhex")
    elif file.size > MAX_BYTES:
        faults.add("binhex_limit")
    else:
        if file.resource:
            faults.add("binhex_resource")
        if file.size or not file.resource:
            return _data_fork(_expanded(raw, start, stop, faults), file, faults)
    return iter((memoryview(raw)[pos:stop],))


def _start(raw: bytes, pos: int, stop: int) -> int:
    """Where the characters of the file begin: after a colon, itself after the line that RFC 1741 asks for."""
    found = _START.search(raw, pos, min(pos + _START_WINDOW, stop)) or _BARE_START.match(raw, pos, stop)
    return found.end() if found else stop


def _read_head(data: bytes) -> _File | None:
    """The header at the beginning of the file; None when its checksum (CRC-CCITT) says that it is none."""
    size = data[0] if data else 0
    end = 1 + size + _HEAD.size
    if not 0 < size <= _MAX_NAME or len(data) < end + 2 or crc_hqx(data[:end], 0) != _number(data[end : end + 2]):
        return None
    _, _, _, _, fork, resource = _HEAD.unpack_from(data, 1 + size)
    return _File(name=data[1 : 1 + size], size=fork, resource=resource > 0, length=end + 2)


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _data_fork(pieces: Iterator[bytes], file: _File, faults: set[str]) -> Iterator[bytes]:
    """As many bytes as the header says, or as there are; then the checksum."""
    skip, left, check = file.length, file.size, 0
    rest = b""
    for window in pieces:
        piece = window[skip : skip + left]
        rest += window[skip + left : skip + left + 2]
        skip = max(skip - len(window), 0)
        left -= len(piece)
        if piece:
            check = crc_hqx(piece, check)
            yield piece
        if not left and len(rest) >= 2:
            break
    if left or _number(rest[:2]) != check or len(rest) < 2:
        faults.add("bad_binhex")


def _expanded(raw: bytes, pos: int, stop: int, faults: set[str]) -> Iterator[bytes]:
    """The bytes after run-length decoding: `x 90 n` is n times x, `90 00` is 90 itself."""
    carry = last = b""
    for data in _eight_bits(raw, pos, stop, faults):
        window = carry + data
        out = bytearray(last)
        done = 0
        for run in _RUN.finditer(window):
            out += window[done : run.start()]
            done = run.end()
            count = window[done - 1]
            out += out[-1:] * (count - 1) if count else _MARK
        # No run is whole in what is left: a mark at its end waits for its count.
        carry = _MARK if window.endswith(_MARK, done) else b""
        out += window[done : len(window) - len(carry)]
        yield bytes(memoryview(out)[len(last) :])
        last = bytes(out[-1:])


def _eight_bits(raw: bytes, pos: int, stop: int, faults: set[str]) -> Iterator[bytes]:
    """Six bits a character up to the colon. What is no character of BinHex is passed over, and flagged."""
    carry = b""
    while pos < stop:
        window = raw[pos : min(pos + _WINDOW, stop)]
        text, colon, _ = window.partition(b":")
        pos = stop if colon else pos + _WINDOW
        digits = text.translate(None, _BLANKS)
        clean = digits.translate(None, _NOT_DIGITS)
        if len(clean) < len(digits):
            faults.add("bad_binhex")
        clean = carry + clean.translate(_TO_BASE64)
        whole = len(clean) & ~3
        carry = clean[whole:]
        yield b64decode(clean[:whole], validate=True)
    if len(carry) > 1:
        yield b64decode(carry + b"AAA"[: 4 - len(carry)], validate=True)[: len(carry) - 1]
