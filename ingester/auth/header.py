"""The header block of a mail as signatures see it: whole fields, byte for byte, and where the body begins.

It shows the very fields that the core reads: what a signature covers and what the reader sees must be the same. The
core decides where the header ends and which lines are fields; nothing here decides it anew. Never raises.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

from ingester.core.fields import FIELD, header_start, read_header
from ingester.core.mime import Bounds

MAX_TEXT = 256
"""Characters that a report keeps of anything a stranger wrote."""

_BOUNDS = Bounds()
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

    def all(self, name: str) -> list[HeaderField]:
        """The fields of this name (lower case), in order."""
        return [field for field in self.fields if field.name == name]


def split(
    raw: bytes, *, max_bytes: int = _BOUNDS.max_header_bytes, max_fields: int = _BOUNDS.max_header_fields
) -> Header:
    """The header of a mail, within the bounds of the design page, 9. Linear in `max_bytes`, whatever the size."""
    start = header_start(raw)
    block = read_header(raw, start, len(raw), max_bytes=max_bytes, max_fields=max_fields, top=True)
    limit = min(block.end, start + max_bytes)
    fields: list[HeaderField] = []
    position = start
    while len(fields) < len(block.fields):
        match = FIELD.match(raw, position, limit)
        if match is None:  # a line that the core passed over: no field begins in it
            position = raw.index(b"\n", position) + 1
            continue
        fields.append(HeaderField(block.fields[len(fields)][0], match[0]))
        position = match.end()
    cut = "header_limit" in block.flags or "header_fields_limit" in block.flags
    return Header(fields=tuple(fields), body=block.end, cut=cut)


def readable(text: bytes | str, limit: int = MAX_TEXT) -> str:
    """A stranger's text for a report: one line without control characters or lone surrogates, cut."""
    if isinstance(text, bytes):
        text = text[: 4 * limit].decode("utf-8", "replace")
    else:
        if text.isascii() and text.isprintable():
            return text[:limit].strip()
        text = text[:limit].encode("utf-8", "replace").decode("utf-8")
    return _CONTROL.sub(" ", text).strip()[:limit]
