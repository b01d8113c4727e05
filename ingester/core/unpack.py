"""What lies inside a leaf and is offered as parts of its own beside it: uuencoded blocks in text, files in TNEF.

The leaf stays whole; what was taken out of it names it as its parent. A block is a view on the raw mail, as leaves are;
a file of a TNEF has no place there and brings its bytes. Bounded by the parts that a mail may have, and by `tnef`.
"""

from dataclasses import replace

from ingester.core.binhex import file_name
from ingester.core.charset import decode_label
from ingester.core.content import decode_view
from ingester.core.filename import sanitise
from ingester.core.part import IDENTITY, MAX_TEXT, Part
from ingester.core.tnef import MAX_BYTES, File, unpack
from ingester.core.uuencode import Block, begin_name, find_blocks

_TNEF = ("application/ms-tnef", "application/vnd.ms-tnef")
NAMES_FILES = ("binhex", "uuencode")
"""Encodings that may tell the name of the file."""


def look_inside(raw: bytes, part: Part, room: int, flags: set[str]) -> list[Part]:
    """At most `room` parts that a leaf holds. Their paths are the leaf's with `.u1`, `.u2`, ... or `.t1`, `.t2`, ...

    Their ordinals are the leaf's: whoever counts all parts gives them their own.
    """
    found: list[Part] = []
    more = False
    if part.content_type[:5] == "text/" and part.encoding in IDENTITY:
        blocks, more = find_blocks(raw, part.offset, part.length)
        found = [_block(part, block, number) for number, block in enumerate(blocks, 1)]
    elif part.content_type in _TNEF or (part.filename and part.filename.lower() == "winmail.dat"):
        if part.length > 2 * MAX_BYTES:
            flags.add("tnef_limit")
            return []
        unpacked = unpack(decode_view(raw, part.offset, part.length, part.encoding))
        flags.update(unpacked.faults)
        found = [_file(part, file, number) for number, file in enumerate(unpacked.files, 1)]
    if more or len(found) > room:
        flags.add("parts_limit")
    return found[:room]


def named_inside(raw: bytes, part: Part) -> Part:
    """The part; one without a name has that of the BinHex file or of the uuencoded one in it."""
    name: str | None = None
    if part.encoding == "binhex" and not part.filename:
        name = file_name(raw, part.offset, part.offset + part.length)
    elif part.encoding == "uuencode" and not part.filename:
        found = begin_name(raw, part.offset, part.length)
        name = decode_label(found, part.charset) if found else None
    return replace(part, original_filename=name[:MAX_TEXT], filename=sanitise(name)) if name else part


def _block(parent: Part, block: Block, number: int) -> Part:
    name = decode_label(block.name, parent.charset)
    return _inner(parent, f"u{number}", name, "application/octet-stream", "uuencode", (block.offset, block.length))


def _file(parent: Part, file: File, number: int) -> Part:
    part = _inner(parent, f"t{number}", file.name, file.content_type[:MAX_TEXT], "binary", (0, 0))
    content_id = (file.content_id or "").strip("<> \t")[:MAX_TEXT] or None
    return replace(part, charset=file.charset, content_id=content_id, data=file.data)


def _inner(parent: Part, step: str, name: str | None, media: str, encoding: str, view: tuple[int, int]) -> Part:
    return Part(
        ordinal=parent.ordinal,
        parent_ordinal=parent.ordinal,
        path=f"{parent.path}.{step}",
        content_type=media,
        charset=None,
        disposition=None,
        original_filename=name[:MAX_TEXT] if name else None,
        filename=sanitise(name),
        content_id=None,
        encoding=encoding,
        offset=view[0],
        length=view[1],
        header_offset=view[0],
        header_length=0,
        flags=(),
    )
