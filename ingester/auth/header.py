"""The header block of a mail as signatures see it: whole fields, byte for byte, and where the body begins.

It shows the very fields that the core reads: what a signature covers and what the reader sees must be the same. The
core decides where the header ends and which lines are fields; nothing here decides it anew. Never raises.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ingester.core.fields import FIELD_NAME, HeaderBlock, header_start, read_header
from ingester.core.mime import Bounds

MAX_TEXT = 256
"""Characters that a report keeps of anything a stranger wrote."""

_BOUNDS = Bounds()
_EMPTY_LINE = (b"\r\n", b"\n")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class HeaderField(NamedTuple):
    """One field: its name in lower case, and all of it as it stands, folding and line end included."""

    name: str
    raw: bytes

    @property
    def value(self) -> bytes:
        """What follows the colon, folding included, without the last line end."""
        value = self.raw[self.raw.index(b":") + 1 :]
        return value.removesuffix(b"\n").removesuffix(b"\r")


class Header:
    """The fields of a mail, and the offset of its body. Whole fields are only cut out of it for who asks for them.

    `cut` says that the header is larger than we read: what stands beyond is unknown, so no signature can be judged.
    `values` are those of each name, in order, from the colon to the line end.
    """

    __slots__ = ("_block", "_fields", "_named", "_raw", "body", "cut", "values")

    def __init__(self, raw: bytes, block: HeaderBlock) -> None:
        self._raw = raw
        self._block = block
        self._fields: tuple[HeaderField, ...] | None = None
        self._named: dict[str, Sequence[HeaderField]] = {}
        self.body = block.end
        self.cut = "header_limit" in block.flags or "header_fields_limit" in block.flags
        self.values: Mapping[str, Sequence[bytes]] = block.by_name

    @property
    def fields(self) -> tuple[HeaderField, ...]:
        """All of them, in order."""
        if self._fields is None:
            found = _back_to_back(self._raw, self._block)
            self._fields = tuple(_found_again(self._raw, self._block) if found is None else found)
        return self._fields

    def all(self, name: str) -> Sequence[HeaderField]:
        """The fields of this name (lower case), in order; the very same each time."""
        if name not in self.values:
            return ()
        found = self._named.get(name)
        if found is None:
            found = _back_to_back(self._raw, self._block, name)
            if found is None:
                found = [one for one in self.fields if one.name == name]
            self._named[name] = found
        return found


def split(
    raw: bytes, *, max_bytes: int = _BOUNDS.max_header_bytes, max_fields: int = _BOUNDS.max_header_fields
) -> Header:
    """The header of a mail, within the bounds of the design page, 9. Linear in `max_bytes`, whatever the size."""
    start = header_start(raw)
    return Header(raw, read_header(raw, start, len(raw), max_bytes=max_bytes, max_fields=max_fields, top=True))


def _back_to_back(raw: bytes, block: HeaderBlock, wanted: str | None = None) -> list[HeaderField] | None:
    """The fields of a header in which nothing stands between them, all or of one name; None for any other header.

    Such a field is its name, a colon, its value and a line feed, so its length is known without a search. Where
    anything else is in it, such as a blank before a colon, the fields do not reach to the empty line.
    """
    if block.flags:  # a line may have been passed over
        return None
    fields: list[HeaderField] = []
    position = block.offset
    for name, value in block.fields:
        end = position + len(name) + len(value) + 2
        if wanted is None or name == wanted:
            fields.append(HeaderField(name, raw[position:end]))
        position = end
    return fields if raw[position : block.end] in _EMPTY_LINE else None


def _found_again(raw: bytes, block: HeaderBlock) -> list[HeaderField]:
    """The fields of any header: what stands between two of them was passed over, and no field begins in it."""
    fields: list[HeaderField] = []
    position = block.offset
    for name, value in block.fields:
        while (match := FIELD_NAME.match(raw, position)) is None:
            position = raw.index(b"\n", position) + 1
        end = match.end() + len(value)
        end += raw.startswith(b"\n", end)
        fields.append(HeaderField(name, raw[position:end]))
        position = end
    return fields


def readable(text: bytes | str, limit: int = MAX_TEXT) -> str:
    """A stranger's text for a report: one line without control characters or lone surrogates, cut."""
    if isinstance(text, bytes):
        text = text[: 4 * limit].decode("utf-8", "replace")
    else:
        if text.isascii() and text.isprintable():
            return text[:limit].strip()
        text = text[:limit].encode("utf-8", "replace").decode("utf-8")
    return _CONTROL.sub(" ", text).strip()[:limit]
