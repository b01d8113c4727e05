"""Outlook's winmail.dat (MS-OXTNEF, MS-OXCDATA): what an application/ms-tnef part holds, taken out.

Ours and not tnefparse: that copies the rest of the file at each attribute (900 KB of empty ones take a second, 25 MB a
quarter of an hour) and raises on broken input. This one is linear, bounded, and gives what it found before the break.
Embedded messages are parts, not entered, as message/rfc822 is. Compressed RTF stays in the original.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct

from ingester.core.charset import decode_label

MAX_BYTES = 25 << 20
MAX_FILES = 200
MAX_STEPS = 20_000
"""Attributes and properties that are read of one file."""
_MAX_TEXT = 998

_SIGNATURE = b"\x78\x9f\x3e\x22"
_HEAD = Struct("<BHHI")
_WORD = Struct("<I")
_PROPERTY = Struct("<HH")

# Attributes (MS-OXTNEF, 2.1.3.2) and properties (MS-OXPROPS).
_OEM_CODEPAGE, _BODY, _MESSAGE_PROPS = 0x9007, 0x800C, 0x9003
_RENDERING, _TITLE, _DATA, _TRANSPORT_NAME, _ATTACHMENT = 0x9002, 0x8010, 0x800F, 0x9001, 0x9005
_PR_BODY, _PR_HTML, _PR_CODEPAGE = 0x1000, 0x1013, 0x3FDE
_PR_DATA, _PR_NAME, _PR_LONG_NAME, _PR_MEDIA, _PR_CONTENT_ID = 0x3701, 0x3704, 0x3707, 0x370E, 0x3712

_WIDTHS = {
    0x0: 0, 0x1: 0, 0x2: 4, 0x3: 4, 0x4: 4, 0x5: 8, 0x6: 8, 0x7: 8, 0xA: 4, 0xB: 4, 0x14: 8, 0x40: 8, 0x48: 16,
}  # fmt: skip
_VARIABLE = (0x0D, 0x1E, 0x1F, 0x102)
_OBJECT, _UNICODE = 0x0D, 0x1F
_MANY = 0x1000
_IMESSAGE = bytes.fromhex("0703020000000000c000000000000046")


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """Something that was in the file: an attachment, or the body of the message as text or HTML."""

    name: str | None
    content_type: str
    charset: str | None
    content_id: str | None
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """The files in order, and what was wrong: bad_tnef, tnef_limit."""

    files: tuple[File, ...]
    faults: tuple[str, ...]


class _Broken(Exception):
    """The file ends within something, or is built in a way that nobody can follow."""


class _Spent(Exception):
    """A bound is reached."""


def unpack(data: bytes) -> Unpacked:
    """Take the files out. Never raises; memory: the files, whose bytes are not more than the data's."""
    if len(data) > MAX_BYTES:
        return Unpacked(files=(), faults=("tnef_limit",))
    reader = _Reader(data)
    faults: tuple[str, ...] = ()
    try:
        reader.read()
    except _Broken:
        faults = ("bad_tnef",)
    except _Spent:
        faults = ("tnef_limit",)
    return Unpacked(files=tuple(reader.files()), faults=faults)


@dataclass(slots=True)
class _Attachment:
    name: str | None = None
    long_name: str | None = None
    media: str | None = None
    content_id: str | None = None
    data: bytes | None = None
    embedded: bool = False


@dataclass(slots=True)
class _Reader:
    data: bytes
    codepage: int = 1252
    text_codepage: int = 0
    text: bytes | None = None
    text_charset: str | None = None
    html: bytes | None = None
    attachments: list[_Attachment] = field(default_factory=list)
    steps: int = 0

    def read(self) -> None:
        """MS-OXTNEF, 2.1.1: signature, key, then attributes: level, name, type, length, data, checksum."""
        if not self.data.startswith(_SIGNATURE):
            raise _Broken
        pos = 6
        while pos < len(self.data):
            self.step()
            if pos + _HEAD.size > len(self.data):
                raise _Broken
            level, name, _, length = _HEAD.unpack_from(self.data, pos)
            pos += _HEAD.size
            end = pos + length
            if level == 1:
                self.message_attribute(name, pos, min(end, len(self.data)))
            elif level == 2:
                self.attachment_attribute(name, pos, min(end, len(self.data)))
            if end > len(self.data) or level not in (1, 2):
                raise _Broken
            pos = end + 2

    def step(self) -> None:
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise _Spent

    def message_attribute(self, name: int, pos: int, end: int) -> None:
        if name == _OEM_CODEPAGE and end - pos >= 4:
            self.codepage = _WORD.unpack_from(self.data, pos)[0]
        elif name == _BODY:
            self.text = self.data[pos:end].rstrip(b"\0")
        elif name == _MESSAGE_PROPS:
            for kind, key, start, stop in self.properties(pos, end):
                if key == _PR_CODEPAGE and stop - start == 4:
                    self.text_codepage = _WORD.unpack_from(self.data, start)[0]
                elif key == _PR_BODY:
                    self.text = self.data[start:stop].rstrip(b"\0") if kind != _UNICODE else self.wide(start, stop)
                    self.text_charset = "utf-8" if kind == _UNICODE else None
                elif key == _PR_HTML:
                    self.html = self.data[start:stop].rstrip(b"\0") if kind != _UNICODE else self.wide(start, stop)

    def attachment_attribute(self, name: int, pos: int, end: int) -> None:
        """MS-OXTNEF, 2.1.3.3: each attachment begins with its rendering data."""
        if name == _RENDERING or not self.attachments:
            if len(self.attachments) >= MAX_FILES:
                raise _Spent
            self.attachments.append(_Attachment())
        one = self.attachments[-1]
        if name == _TITLE:
            one.name = self.string(0, pos, end) or one.name
        elif name == _TRANSPORT_NAME:
            one.name = one.name or self.string(0, pos, end)
        elif name == _DATA:
            one.data = self.data[pos:end]
        elif name == _ATTACHMENT:
            for kind, key, start, stop in self.properties(pos, end):
                self.attachment_property(one, kind, key, start, stop)

    def attachment_property(self, one: _Attachment, kind: int, key: int, start: int, stop: int) -> None:
        if key == _PR_LONG_NAME:
            one.long_name = self.string(kind, start, stop)
        elif key == _PR_NAME:
            one.name = one.name or self.string(kind, start, stop)
        elif key == _PR_MEDIA:
            one.media = self.string(kind, start, stop)
        elif key == _PR_CONTENT_ID:
            one.content_id = self.string(kind, start, stop)
        elif key == _PR_DATA and one.data is None:
            one.embedded = kind == _OBJECT and self.data.startswith(_IMESSAGE, start, stop)
            one.data = self.data[start + 16 if kind == _OBJECT else start : stop]

    def string(self, kind: int, start: int, stop: int) -> str | None:
        stop = min(stop, start + 4 * _MAX_TEXT)
        if kind == _UNICODE:
            text = self.data[start:stop].decode("utf-16-le", "replace")
        else:
            text = decode_label(self.data[start:stop].partition(b"\0")[0], _label(self.codepage))
        return text.partition("\0")[0][:_MAX_TEXT] or None

    def wide(self, start: int, stop: int) -> bytes:
        return self.data[start:stop].decode("utf-16-le", "replace").rstrip("\0").encode("utf-8", "replace")

    def properties(self, pos: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """The single values of a property list (MS-OXTNEF, 2.1.3.4): type, id, where the value begins and ends."""
        count = self.word(pos, end)
        pos += 4
        for _ in range(count):
            self.step()
            kind, key = _PROPERTY.unpack_from(self.data, pos) if pos + 4 <= end else (0, 0)
            pos = self.after_name(pos + 4, end) if key >= 0x8000 else pos + 4
            many, kind = bool(kind & _MANY), kind & ~_MANY
            if pos > end or (kind not in _WIDTHS and kind not in _VARIABLE):
                raise _Broken
            values = 1
            if many or kind in _VARIABLE:
                values = self.word(pos, end)
                pos += 4
            for _ in range(values):
                self.step()
                size = _WIDTHS[kind] if kind in _WIDTHS else self.word(pos, end)
                pos += 4 if kind in _VARIABLE else 0
                if not many:
                    yield kind, key, pos, min(pos + size, end)
                if pos + size > end:
                    raise _Broken
                pos += -(-size // 4) * 4

    def word(self, pos: int, end: int) -> int:
        if pos + 4 > end:
            raise _Broken
        value: int = _WORD.unpack_from(self.data, pos)[0]
        return value

    def after_name(self, pos: int, end: int) -> int:
        """A named property has a GUID, then a number or a string for a name."""
        if self.word(pos + 16, end) == 0:
            return pos + 24
        return pos + 24 + -(-self.word(pos + 20, end) // 4) * 4

    def files(self) -> Iterator[File]:
        charset = _label(self.text_codepage or self.codepage)
        if self.text:
            yield _body("txt", "text/plain", self.text_charset or charset, self.text)
        if self.html:
            yield _body("html", "text/html", charset if self.text_codepage else None, self.html)
        for one in self.attachments:
            if one.data is not None:
                media = "application/ms-tnef" if one.embedded else (one.media or "").strip().lower()
                yield File(
                    name=one.long_name or one.name,
                    content_type=media if media.count("/") == 1 else "application/octet-stream",
                    charset=None,
                    content_id=one.content_id,
                    data=one.data,
                )


def _body(extension: str, content_type: str, charset: str | None, data: bytes) -> File:
    return File(name=f"body.{extension}", content_type=content_type, charset=charset, content_id=None, data=data)


def _label(codepage: int) -> str:
    """The charset label of a Windows codepage."""
    return {65001: "utf-8", 1200: "utf-16le", 20127: "us-ascii", 28591: "iso-8859-1"}.get(codepage, f"cp{codepage}")
