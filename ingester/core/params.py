"""Parameters of Content-Type and Content-Disposition (RFC 2045, 5.1; RFC 2183; RFC 2231), as mail really writes them.

Works on latin-1 text, one character a byte, so that a boundary is exact; `text_of` makes readable text of a value.
Linear; nothing raises.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from urllib.parse import unquote_to_bytes

from ingester.core.charset import decode_label
from ingester.core.words import decode_words

MAX_PARAMS = 200
MAX_SEGMENTS = 200
"""Pieces of one RFC 2231 value. Files of 255 bytes need fewer than ten."""

_MAX_USUAL = 100
"""Bytes of a value that may be kept, parsed: what is longer names a file or a boundary, and will not come again."""
_MAIN = re.compile(r"\s*+([^\s;\"(),=]*+)(?:\s*+/\s*+([^\s;\"(),=]++))?")
_PARAM = re.compile(
    r"(?<![^\s;,\"])([^\s=;\"(),<>]++)\s*+=\s*+"
    r"(?:\"([^\"\\]*+(?:\\.[^\"\\]*+)*)\"|([^;\s]*+(?:\s++(?![^\s=;\"]++\s*+=)[^;\s]++)*))",
    re.DOTALL,
)
_USUAL = re.compile(
    r"[ \t]*+([A-Za-z0-9.+_-]++(?:/[A-Za-z0-9.+_-]++)?);(?:\r?\n)?[ \t]*+([A-Za-z0-9_-]++)=\"([^\"\\\r\n]*+)\"[ \t\r]*+"
)
"""One parameter in quotes, and nothing to be told apart: a boundary, the name of a file."""
_ESCAPED = re.compile(r"\\([\"\\])")


@dataclass(frozen=True, slots=True)
class Params:
    """A parsed value: `main` in lower case (`text/plain`, `attachment`; "" when absent) and its raw parameters."""

    main: str
    raw: dict[str, str]

    def token(self, name: str) -> str | None:
        """A parameter that holds one word: the first word, without quotes. Boundaries and charsets are read so."""
        if name in self.raw:
            return self.raw[name]
        return text_of(self.raw, name) if f"{name}*" in self.raw or f"{name}*0" in self.raw else None

    def text(self, name: str) -> str | None:
        """A parameter that holds text, decoded by RFC 2231, else by RFC 2047 (which RFC 2047, 5 forbids: all do it)."""
        return text_of(self.raw, name)


EMPTY = Params("", {})


def parse_params(value: bytes) -> Params:
    """Parse `main; name=value; ...`. Missing semicolons and quotes are tolerated; the first of a name counts."""
    return _parse(value) if len(value) > _MAX_USUAL else _parse_usual(value)


@lru_cache(maxsize=512)  # `text/plain; charset="utf-8"` and its like stand in nearly every mail
def _parse_usual(value: bytes) -> Params:
    return _parse(value)


def _parse(value: bytes) -> Params:
    text = value.decode("latin-1")
    usual = _USUAL.fullmatch(text)
    if usual is not None:
        main, name, quoted = usual.groups()
        return Params(main.lower(), {name.lower(): quoted})
    if "\n" in text:
        text = text.replace("\r\n", "").replace("\n", "")
    if text.lstrip().startswith("("):
        text = text.partition(")")[2]
    head = _MAIN.match(text)
    if head is None:
        return EMPTY
    first, second = head.group(1).lower(), head.group(2)
    begin = head.end()
    if text.startswith("=", begin):  # no main value at all
        first, second, begin = "", None, 0
    found: dict[str, str] = {}
    for match in islice(_PARAM.finditer(text, begin), MAX_PARAMS):
        name, quoted, bare = match.groups()
        found.setdefault(name.lower(), _bare(bare) if quoted is None else _unescape(quoted))
    return Params(f"{first}/{second.lower()}" if second else first, found)


def _bare(value: str) -> str:
    value = value.rstrip()
    return value.strip('"') if '"' in value else value


def _unescape(value: str) -> str:
    """Only `\\"` and `\\\\` are escapes here: `C:\\temp` in a filename is meant as it stands."""
    return _ESCAPED.sub(r"\1", value) if "\\" in value else value


def text_of(raw: dict[str, str], name: str) -> str | None:
    """The readable text of a parameter, or None. The extended form wins over the plain one (RFC 6266, 4.3)."""
    if f"{name}*" in raw:
        return _extended(raw[f"{name}*"])
    if f"{name}*0" in raw or f"{name}*0*" in raw:
        return _joined(raw, name)
    if name not in raw:
        return None
    value = raw[name]
    if value.isascii():
        return decode_words(value) if "=?" in value else value
    data = value.encode("latin-1")
    text = decode_label(data, None)
    return decode_words(text) if "=?" in text else text


def _extended(value: str) -> str:
    charset, quote, rest = value.partition("'")
    _, second, encoded = rest.partition("'")
    if not quote or not second:
        charset, encoded = "", value
    return decode_label(unquote_to_bytes(encoded.encode("latin-1")), charset or None)


def _joined(raw: dict[str, str], name: str) -> str:
    """RFC 2231, 3 and 4.1: numbered pieces in any order; the charset stands in the first. A gap ends the value."""
    data = bytearray()
    charset = ""
    for number in range(MAX_SEGMENTS):
        piece = raw.get(f"{name}*{number}*")
        if piece is None:
            piece = raw.get(f"{name}*{number}")
            if piece is None:
                break
            data += piece.encode("latin-1")
            continue
        if number == 0 and piece.count("'") >= 2:
            charset, _, rest = piece.partition("'")
            piece = rest.partition("'")[2]
        data += unquote_to_bytes(piece.encode("latin-1"))
    text = decode_label(bytes(data), charset or None)
    return decode_words(text) if "=?" in text and not charset else text
