"""The format of a segment: a head that says what the file is, then records. Pure: bytes in, values out.

A segment explains itself without the database: each record names its tenant and its raw mail. Nothing in a mail can
pass for a record: the check of a header is keyed with the id of its segment and its own place in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final
from uuid import UUID
from zlib import crc32

_HEAD: Final = Struct(">16sBB14x16s12xI")
"""What it is, version, kind, segment, check."""
_RECORD: Final = Struct(">4s16s16sQ32sI")
"""Mark, tenant, raw mail, size, SHA-256 of the bytes, check of all but the mark."""
_NAME: Final = b"ingester segment"
_VERSION: Final = 1
HEAD_BYTES: Final = _HEAD.size
HEADER_BYTES: Final = _RECORD.size
MARK: Final = b"\xffRA"
"""How every record begins."""
LIVE: Final = MARK + b"W"
DEAD: Final = MARK + b"X"
"""Of a record whose bytes were erased: the one byte of a header that ever changes."""
_CHECKED: Final = slice(len(LIVE), HEADER_BYTES - 4)
MAX_SIZE: Final = 1 << 40
"""No mail is larger; a header that says so is damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """The bytes of one mail for one tenant, to be appended."""

    tenant_id: UUID
    raw_id: UUID
    sha256: bytes
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A header that was read. `offset` is where it begins in its segment."""

    offset: int
    live: bool
    tenant_id: UUID
    raw_id: UUID
    size: int
    sha256: bytes

    @property
    def start(self) -> int:
        """Where the bytes begin."""
        return self.offset + HEADER_BYTES

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.offset + HEADER_BYTES + self.size


def head(segment: UUID, *, compacted: bool) -> bytes:
    """The first bytes of a segment; `compacted` where its records are copies of others."""
    without = _HEAD.pack(_NAME, _VERSION, compacted, segment.bytes, 0)[:-4]
    return without + crc32(without).to_bytes(4, "big")


def is_head(data: bytes, segment: UUID) -> bool:
    """Whether a file that begins so is this segment."""
    return data in (head(segment, compacted=False), head(segment, compacted=True))


def is_compacted(data: bytes, segment: UUID) -> bool:
    """Whether a file that begins so is this segment, and holds copies of records."""
    return data == head(segment, compacted=True)


def header(segment: UUID, offset: int, piece: Piece) -> bytes:
    """The header of a record that begins at `offset`."""
    fields = piece.tenant_id.bytes + piece.raw_id.bytes + len(piece.data).to_bytes(8, "big") + piece.sha256
    return LIVE + fields + crc32(fields, _key(segment, offset)).to_bytes(4, "big")


def lasting(headers: Sequence[bytes]) -> bytes:
    """What never changes of headers: all but their marks. A seal is the checksum of this."""
    return b"".join(one[len(LIVE) :] for one in headers)


def parse(data: bytes, segment: UUID, offset: int) -> Record | None:
    """The header that stands at `offset`; None where there is none. Never raises."""
    if len(data) != HEADER_BYTES or data[: len(LIVE)] not in (LIVE, DEAD):
        return None
    mark, tenant, raw, size, sha256, check = _RECORD.unpack(data)
    if check != crc32(data[_CHECKED], _key(segment, offset)) or size > MAX_SIZE:
        return None
    return Record(
        offset=offset,
        live=mark == LIVE,
        tenant_id=UUID(bytes=tenant),
        raw_id=UUID(bytes=raw),
        size=size,
        sha256=sha256,
    )


def _key(segment: UUID, offset: int) -> int:
    """Where the check begins: nobody who sends mail knows a segment's id, or the place that the mail will have."""
    return crc32(segment.bytes + offset.to_bytes(8, "big"))
