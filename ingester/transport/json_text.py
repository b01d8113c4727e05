"""A large string in JSON as bytes, without a Python string of its size in between. Pure; nothing raises."""

import re
from io import BytesIO
from typing import Final

import msgspec

_QUOTE: Final = ord('"')
_PIECE: Final = 64 << 10
_TEXT: Final = msgspec.json.Decoder(str)
_FAULTS: Final = (msgspec.MsgspecError, UnicodeDecodeError, UnicodeEncodeError)
_WHOLE_CHARACTERS: Final = re.compile(
    rb"(?:[^\\]+|\\[^u]|\\u(?![dD][89abAB])[0-9a-fA-F]{4}|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[0-9a-fA-F]{4})*"
)
"""Characters and escapes, a pair of surrogates being one (RFC 8259, 7): where a string may be cut."""


def unescaped(text: msgspec.Raw) -> bytes | None:
    """A JSON string as UTF-8, None where it is none. Piece by piece: as one Python string it may take four bytes a
    character.
    """
    string = memoryview(text)
    if len(string) < 2 or string[0] != _QUOTE:
        return None
    out = BytesIO()
    pos, end = 1, len(string) - 1
    while pos < end:
        stop = _piece_end(string, pos, min(pos + _PIECE, end))
        try:
            out.write(_TEXT.decode(b'"' + bytes(string[pos:stop]) + b'"').encode())
        except _FAULTS:
            return None
        if stop == pos:
            return None
        pos = stop
    return out.getvalue()


def _piece_end(string: memoryview, pos: int, end: int) -> int:
    """The last place up to `end` at which no escape and no character is cut."""
    found = _WHOLE_CHARACTERS.match(string, pos, end)
    stop = found.end() if found else pos
    if stop < len(string) - 1:
        while stop > pos and string[stop] & 0xC0 == 0x80:  # within a character of UTF-8
            stop -= 1
    return stop
