"""The header block of a mail as signatures see it: whole fields, byte for byte, and where the body begins.

It shows the very fields that the core reads: what a signature covers and what the reader sees must be the same. The
core decides where the header ends and which lines are fields; nothing here decides it anew. Never raises.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ingester.core.fields import FIELD, HeaderBlock, header_start, read_header
from ingester.core.mime import Bounds

MAX_TEXT = 256
"""Characters that a report keeps of anything a stranger wrote."""

_BOUNDS = Bounds()
_COLON = ord(":")
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The fields of a mail, in order, and the offset of its body.

    `cut` says that the header is larger than we read: what stands beyond is unknown, so no signature can be judged.
    """

    fields: tuple[HeaderField, ...]
    body: int
    cut: bool = False
    named: Mapping[str, Sequence[HeaderField]] = field(init=False, repr=False, compare=False)
    """The fields of each name that there is, in order: every check looks for its own."""

    def __post_init__(self) -> None:
        named: dict[str, list[HeaderField]] = {}
        for one in self.fields:
            if one.name in named:
                named[one.name].append(one)
            else:
                named[one.name] = [one]
        object.__setattr__(self, "named", named)

    def all(self, name: str) -> Sequence[HeaderField]:
        """The fields of this name (lower case), in order."""
        return self.named.get(name, ())


def split(
    raw: bytes, *, max_bytes: int = _BOUNDS.max_header_bytes, max_fields: int = _BOUNDS.max_header_fields
) -> Header:
    """The header of a mail, within the bounds of the design page, 9. Linear in `max_bytes`, whatever the size."""
    start = header_start(raw)
    block = read_header(raw, start, len(raw), max_bytes=max_bytes, max_fields=max_fields, top=True)
    limit = min(block.end, start + max_bytes)
    fields = _back_to_back(raw, block) or _found_again(raw, block, limit)
    cut = "header_limit" in block.flags or "header_fields_limit" in block.flags
    return Header(fields=tuple(fields), body=block.end, cut=cut)


def _back_to_back(raw: bytes, block: HeaderBlock) -> list[HeaderField]:
    """The fields of a header in which nothing stands between them; none where one is written in an unusual way.

    Such a field is its name, a colon, its value and a line feed, so its length is known without a search.
    """
    if block.flags:  # a line may have been passed over
        return []
    fields: list[HeaderField] = []
    position = block.offset
    for name, value in block.fields:
        colon = position + len(name)
        end = colon + len(value) + 2
        if raw[colon] != _COLON:  # blanks stand before it
            return []
        fields.append(HeaderField(name, raw[position:end]))
        position = end
    return fields


def _found_again(raw: bytes, block: HeaderBlock, limit: int) -> list[HeaderField]:
    fields: list[HeaderField] = []
    position = block.offset
    while len(fields) < len(block.fields):
        match = FIELD.match(raw, position, limit)
        if match is None:  # a line that the core passed over: no field begins in it
            position = raw.index(b"\n", position) + 1
            continue
        fields.append(HeaderField(block.fields[len(fields)][0], match[0]))
        position = match.end()
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
