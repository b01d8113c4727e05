"""The parts of a mail as they are stored: the leaves, and after each what lies inside it, numbered from 1."""

from dataclasses import dataclass
from hashlib import sha256

from ingester.core.body import Body
from ingester.core.charset import clean
from ingester.core.content import Measure, measure
from ingester.core.filename import sanitise
from ingester.core.part import Part
from ingester.core.unpack import look_inside, named_inside


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
        room -= len(inner)
        found = body.measures.get(part.ordinal) or _measure(raw, part)
        notes = (*found.faults, *sorted(faults), *((seals[part.ordinal],) if part.ordinal in seals else ()))
        ordinal = len(rows) + 1
        rows.append(_row(named_inside(raw, part), ordinal, None, body, found, notes, flags))
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
    content_id = clean(part.content_id, flags) if part.content_id else None
    role, filename = "attachment", part.filename
    if parent is None and part.ordinal in body.leaves:
        role = "body"
    elif content_id and content_id.lower() in body.cited:
        role = "inline"
        filename = sanitise(content_id) or filename
    return PartRow(
        ordinal=ordinal,
        parent_ordinal=parent,
        path=part.path,
        content_type=clean(part.content_type, flags),
        charset=clean(part.charset, flags) if part.charset else None,
        disposition=clean(part.disposition, flags) if part.disposition else None,
        original_filename=clean(part.original_filename, flags) if part.original_filename else None,
        filename=clean(filename, flags) if filename else None,
        content_id=content_id,
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
