"""The parts of a mail as they are stored: the leaves, and after each what lies inside it, numbered from 1."""

from dataclasses import dataclass, replace
from hashlib import sha256

from ingester.core.body import Body
from ingester.core.charset import clean
from ingester.core.content import Measure, measure
from ingester.core.filename import sanitise
from ingester.core.part import Part
from ingester.core.unpack import NAMES_FILES, look_inside, named_inside


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRow(Part):
    """A part as it is stored: its role (body, attachment, inline), and what its decoded bytes measure.

    `ordinal` counts all parts; one that lies inside a leaf follows it and has its ordinal as `parent_ordinal`.
    """

    role: str
    decoded_size: int
    sha256: bytes


def part_rows(
    raw: bytes, parts: tuple[Part, ...], body: Body, seals: dict[int, str], flags: set[str], *, max_parts: int
) -> tuple[PartRow, ...]:
    """Measure every part. `body.leaves` and `seals` go by the ordinals of the leaves among themselves."""
    rows: list[PartRow] = []
    room = max_parts - len(parts)
    for part in parts:
        faults: set[str] = set()
        inner = look_inside(raw, part, room, faults)
        found = body.measures[part.ordinal] if part.ordinal in body.measures else _measure(raw, part)
        notes = found.faults
        if faults or seals:
            notes = (*notes, *sorted(faults), *((seals[part.ordinal],) if part.ordinal in seals else ()))
        ordinal = len(rows) + 1
        named = named_inside(raw, part) if part.encoding in NAMES_FILES else part
        rows.append(_row(named, ordinal, None, body, found, notes, flags))
        room -= len(inner)
        for one in inner:
            found = _measure(raw, one)
            rows.append(_row(one, len(rows) + 1, ordinal, body, found, found.faults, flags))
    return tuple(rows)


def _measure(raw: bytes, part: Part) -> Measure:
    if part.data is None:
        return measure(raw, part.offset, part.length, part.encoding)
    return Measure(size=len(part.data), sha256=sha256(part.data).digest(), faults=())


def _row(
    part: Part,
    ordinal: int,
    parent: int | None,
    body: Body,
    found: Measure,
    notes: tuple[str, ...],
    flags: set[str],
) -> PartRow:
    part = _cleaned(part, flags)
    role, filename = "attachment", part.filename
    if parent is None and part.ordinal in body.leaves:
        role = "body"
    elif part.content_id and part.content_id.lower() in body.cited:
        role = "inline"
        filename = sanitise(part.content_id) or filename
    return PartRow(
        ordinal=ordinal,
        parent_ordinal=parent,
        path=part.path,
        content_type=part.content_type,
        charset=part.charset,
        disposition=part.disposition,
        original_filename=part.original_filename,
        filename=filename,
        content_id=part.content_id,
        encoding=part.encoding,
        offset=part.offset,
        length=part.length,
        header_offset=part.header_offset,
        header_length=part.header_length,
        flags=(*part.flags, *notes),
        role=role,
        decoded_size=found.size,
        sha256=found.sha256,
        data=part.data,
    )


def _cleaned(part: Part, flags: set[str]) -> Part:
    """The part with texts that Postgres takes; a filename for display is one by its making."""
    texts = (part.content_type, part.charset, part.disposition, part.original_filename, part.content_id)
    said = f"{texts}"
    if said.isascii() and "\\x00" not in said:
        return part
    media, *rest = texts
    charset, disposition, name, content_id = (clean(text, flags) if text else None for text in rest)
    return replace(
        part,
        content_type=clean(media, flags),
        charset=charset,
        disposition=disposition,
        original_filename=name,
        content_id=content_id,
    )
