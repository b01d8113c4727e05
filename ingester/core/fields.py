"""Header blocks: where one ends, and the fields in it (RFC 5322, 2.2). Linear; never raises; decodes nothing."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import islice

from ingester.core.content import STRIDE, find

Field = tuple[str, bytes]
"""Name in lower case, value as it stands between the colon and the line end, folding included."""
Values = dict[str, list[bytes]]
"""The values of each name, in order. Blocks may share one: nobody changes it."""

FIELD = re.compile(rb"([!-9;-~]++)[ \t]*+:([^\n]*+(?:\n[ \t][^\n]*+)*)\n?")
"""A field at the beginning of a line, its line end included; blanks before the colon are obsolete (RFC 5322, 4.5)."""
_USUAL_FIELD = re.compile(rb"^([!-9;-~]++):([^\n]*+(?:\n[ \t][^\n]*+)*)\n", re.MULTILINE)
_USUAL_OVERHEAD = 2
"""Bytes of a usual field that are neither name nor value: colon and line feed."""
_SHORT = 128
"""Bytes of a header that may be kept, read: what is longer names a file or a person, and will not come again."""
FIELD_NAME = re.compile(rb"[!-9;-~]++[ \t]*+:")
_CONTENT_TYPE = re.compile(rb"^content-type[ \t]*+:", re.IGNORECASE | re.MULTILINE)
_UNFOLDED = re.compile(rb"\n(?![ \t])")
_DAMAGED = re.compile(rb"[^\s]{1,60}?content-(?:type|disposition|transfer-encoding|id|location)[ \t]*+:", re.IGNORECASE)
"""A field of MIME with something before its name: a byte order mark, the rest of another line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderBlock:
    """The fields of one entity, in order. `end` is where the body begins, the empty line passed."""

    offset: int
    end: int
    fields: tuple[Field, ...]
    flags: tuple[str, ...] = ()
    by_name: Values = field(default_factory=dict, repr=False, compare=False)
    """Of the same fields: a header is asked for two dozen names, each time a walk otherwise."""

    def first(self, name: str) -> bytes | None:
        """The raw value of the first field of this name (lower case), or None."""
        values = self.by_name.get(name)
        return values[0] if values else None

    def all(self, name: str) -> list[bytes]:
        """The raw values of all fields of this name (lower case), in order."""
        values = self.by_name.get(name)
        return list(values) if values else []


def header_start(raw: bytes) -> int:
    """Where the header of a mail begins: after the line of an mbox file, if one is there; `From : a@b` is a field."""
    if raw.startswith((b"From ", b">From ")) and not FIELD_NAME.match(raw):
        return raw.find(b"\n") + 1 or len(raw)
    return 0


def read_header(raw: bytes, start: int, stop: int, *, max_bytes: int, max_fields: int, top: bool) -> HeaderBlock:
    """Read the header block of the entity in [start, stop).

    Fields are read from the first `max_bytes` and up to `max_fields`; the body begins after the empty line even so.
    A line that is no field ends the block where the empty line was forgotten; before another field it is passed over.
    """
    if raw.startswith((b"\r\n", b"\n"), start, stop):
        return HeaderBlock(offset=start, end=start + 1 + (raw[start] == 13), fields=())
    most = start + max_bytes
    empty, body = _find_empty_line(raw, start, min(stop, most))
    if empty >= 0:
        fields, by_name = _usual_fields(raw, start, empty, max_fields)
        if fields:
            return HeaderBlock(offset=start, end=body, fields=fields, by_name=by_name)
    return _read_lines(raw, start, stop, (empty, body), max_bytes=max_bytes, max_fields=max_fields, top=top)


def _read_lines(
    raw: bytes, start: int, stop: int, found: tuple[int, int], *, max_bytes: int, max_fields: int, top: bool
) -> HeaderBlock:
    """The same field by field, for what is not usual; `found` is the first empty line, if one was found."""
    empty, body = found
    flags: set[str] = set()
    limit = empty if empty >= 0 else min(stop, start + max_bytes)
    if empty < 0 and limit < stop:
        flags.add("header_limit")
        empty, body = _find_empty_line(raw, max(start, limit - 3), stop)
    fields = list(_usual_fields(raw, start, limit, max_fields)[0])
    pos = limit if fields else start
    while pos < limit:
        match = FIELD.match(raw, pos, limit)
        if match is None:
            if "header_limit" in flags and raw.find(b"\n", pos, limit - 1) < 0:
                break
            after = _pass_over(raw, pos, limit, first=pos == start, top=top)
            if after is None:
                return _block(start, pos, fields, {*flags, "no_header_end"})
            flags.add("bad_header_line")
            pos = after
            continue
        if len(fields) >= max_fields:
            flags.add("header_fields_limit")
            break
        fields.append((match.group(1).decode("ascii").lower(), match.group(2)))
        pos = match.end()
    if empty < 0:
        # The line end of the boundary that follows may be the empty line: then this is a header, whatever is in it.
        alone = stop > start and raw[stop - 1] != 10
        if alone and not top and not any(name.startswith("content-") for name, _ in fields):
            return HeaderBlock(offset=start, end=start, fields=(), flags=("no_header_end",))
        body = stop
    return _block(start, body, fields, flags)


def _block(start: int, end: int, fields: list[Field], flags: set[str]) -> HeaderBlock:
    return HeaderBlock(
        offset=start, end=end, fields=tuple(fields), flags=tuple(sorted(flags)), by_name=_by_name(fields)
    )


def _by_name(fields: Iterable[Field]) -> Values:
    values: Values = {}
    for name, value in fields:
        if name in values:
            values[name].append(value)
        else:
            values[name] = [value]
    return values


def _usual_fields(raw: bytes, start: int, limit: int, max_fields: int) -> tuple[tuple[Field, ...], Values]:
    """All fields in one step, or none where any line of the stretch is no part of a field, or a field is odd."""
    size = limit - start
    fields, by_name = _read_short(raw[start:limit]) if size <= _SHORT else _read_at_once(raw, start, limit)
    return (fields, by_name) if len(fields) <= max_fields else ((), {})


@lru_cache(maxsize=512)  # nearly every mail has a part of text whose header says no more than type and encoding
def _read_short(block: bytes) -> tuple[tuple[Field, ...], Values]:
    return _read_at_once(block, 0, len(block))


def _read_at_once(raw: bytes, start: int, limit: int) -> tuple[tuple[Field, ...], Values]:
    """What is found does not overlap: where it adds up to the stretch there is nothing between."""
    found = _USUAL_FIELD.findall(raw, start, limit)
    if not found:
        return (), {}
    names, values = zip(*found, strict=True)
    line = b"\n".join(names)
    # `line` has a line feed less than there are names.
    if len(line) + 1 + sum(map(len, values)) + (_USUAL_OVERHEAD - 1) * len(found) != limit - start:
        return (), {}
    fields = tuple(zip(line.decode("ascii").lower().split("\n"), values, strict=True))
    return fields, _by_name(fields)


def second_type(raw: bytes, header: HeaderBlock) -> int:
    """Where the second Content-Type of a header begins, or -1."""
    found = list(islice(_CONTENT_TYPE.finditer(raw, header.offset, header.end), 2))
    return found[1].start() if len(found) > 1 else -1


def _find_empty_line(raw: bytes, start: int, stop: int) -> tuple[int, int]:
    """Where the first empty line after another line begins and ends, or (-1, -1). CRLF and LF alike."""
    seek = raw.find if stop - start <= STRIDE else partial(find, raw)
    crlf = seek(b"\n\r\n", start, stop)
    lf = seek(b"\n\n", start, stop if crlf < 0 else crlf + 2)
    if lf >= 0:
        return lf + 1, lf + 2
    return (crlf + 1, crlf + 3) if crlf >= 0 else (-1, -1)


def _pass_over(raw: bytes, pos: int, limit: int, *, first: bool, top: bool) -> int | None:
    """What follows a line that is no field: the next field's offset, or None when the body has begun here.

    A blank-led line continues a field that is not there. A line that looks like a boundary is one. The first line of
    a part that is no field means that the part has no header at all.
    """
    if raw[pos : pos + 1] in (b" ", b"\t"):
        return _after_folding(raw, pos, limit)
    if raw.startswith(b"--", pos):
        return None
    end = raw.find(b"\n", pos, limit) + 1 or limit
    if _DAMAGED.match(raw, pos, limit):
        return end
    if first and not top:
        return None
    return end if FIELD_NAME.match(raw, _after_folding(raw, end - 1, limit), limit) else None


def _after_folding(raw: bytes, pos: int, limit: int) -> int:
    """Where the first line after `pos` begins that is not led by a blank: one step for a megabyte of those that are."""
    found = _UNFOLDED.search(raw, pos, limit)
    return found.end() if found else limit
