"""The segments of one directory: which there are, what they hold, whether they are whole. Blocks: never on the loop.

It knows no database: what may go, others decide. What the disk does not do is told as `ObjectsUnavailable`, without a
path; what is not there, or is another mail's, is `ObjectMissing`.
"""

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from ingester.store.objects import ObjectMissing, ObjectsUnavailable, ObjectTooLarge
from ingester.store.segments import record as form
from ingester.store.segments import segment as files
from ingester.store.segments.record import HEAD_BYTES, HEADER_BYTES, Record
from ingester.store.segments.segment import Gap

SEGMENT, SEAL, NEW, FROM = ".seg", ".seal", ".new", ".from"
DEED: Final = "STORE"
"""The file that says whose directory it is."""
MODE: Final = 0o700
"""Of the directory: raw mails are nobody else's business."""
_MAX_OFFSET_DIGITS: Final = 18
_CLOCK_STEP: Final = 0.01
"""Seconds by which the times of files are behind the clock at most (a tick of the kernel)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """Where a record lies, and whose it is said to be."""

    segment: UUID
    offset: int
    tenant_id: UUID
    raw_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """What a sealed segment consists of: so many bytes and records, and the checksum of all headers.

    A header holds the checksum of its bytes, so that this is the checksum of all; and it stays when bytes are erased.
    """

    segment: UUID
    bytes: int
    records: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What a segment holds. `damaged` are records whose bytes are not what was written; `gaps` bytes of no record."""

    segment: UUID
    records: int
    dead: int
    damaged: int
    gaps: int
    sealed: bool
    seal_fits: bool

    @property
    def well(self) -> bool:
        return not self.damaged and not self.gaps and (self.seal_fits or not self.sealed)


class Shelf:
    """One directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    # -- names ------------------------------------------------------------------------------------------------------

    def path(self, segment: UUID, kind: str = SEGMENT) -> Path:
        """Where a segment is, or what belongs to it."""
        return self.directory / f"{segment}{kind}"

    def segments(self, kind: str = SEGMENT) -> list[UUID]:
        """Those that are there, the oldest first. What else lies there is nobody's business."""
        try:
            with told():
                names = [path.name for path in self.directory.iterdir()]
        except ObjectMissing:  # no such directory
            return []
        found = (_uuid(name.removesuffix(kind)) for name in names if name.endswith(kind))
        return sorted(one for one in found if one is not None)

    def is_sealed(self, segment: UUID) -> bool:
        """Whether nothing is appended any more."""
        return self.path(segment, SEAL).exists()

    def was_sealed(self, segment: UUID, before: datetime) -> bool:
        """Whether it has been sealed for as long as that."""
        try:
            return self.path(segment, SEAL).stat().st_mtime < before.timestamp()
        except OSError:
            return False

    # -- reading ----------------------------------------------------------------------------------------------------

    def read(self, spot: Spot, *, max_bytes: int) -> bytes:
        """The bytes of a record, held against their checksum. Raises ObjectTooLarge too, before they are read."""
        with self._opened(spot.segment) as descriptor:
            one = self._record(descriptor, spot)
            if one.size > max_bytes:
                raise ObjectTooLarge(f"{one.size} bytes")
            data = files.read_exactly(descriptor, one.size, one.start)
        if data is None or sha256(data).digest() != one.sha256:
            raise ObjectMissing("the record was erased meanwhile, or is damaged")
        return data

    def read_range(self, spot: Spot, offset: int, length: int) -> bytes:
        """`length` bytes from `offset` on. Raises ObjectMissing where the record has fewer."""
        with self._opened(spot.segment) as descriptor:
            one = self._record(descriptor, spot)
            if offset < 0 or length < 0 or offset + length > one.size:
                raise ObjectMissing("the record is shorter")
            data = files.read_exactly(descriptor, length, one.start + offset)
            self._record(descriptor, spot)  # who erases marks the header first
        if data is None:
            raise ObjectMissing("the segment is shorter")
        return data

    def walk(self, segment: UUID) -> Iterator[Record | Gap]:
        """What a segment holds, in order; nothing where it is gone meanwhile."""
        with suppress(ObjectMissing), self._opened(segment) as descriptor:
            yield from files.walk(descriptor, segment)

    def _record(self, descriptor: int, spot: Spot) -> Record:
        """The record of a spot, if it is there, alive, and the mail's that is asked for."""
        data = files.read_exactly(descriptor, HEADER_BYTES, spot.offset)
        one = form.parse(data or b"", spot.segment, spot.offset)
        if one is None or not one.live or (one.tenant_id, one.raw_id) != (spot.tenant_id, spot.raw_id):
            raise ObjectMissing("no such record")
        return one

    @contextmanager
    def _opened(self, segment: UUID, flags: int = os.O_RDONLY) -> Iterator[int]:
        with told():
            try:
                descriptor = os.open(self.path(segment), flags | os.O_CLOEXEC)
            except FileNotFoundError:
                self._require()
                raise
            try:
                yield descriptor
            finally:
                os.close(descriptor)

    def _require(self) -> None:
        """What is on a disk that is away, or on another host, is not gone."""
        if not (self.directory / DEED).exists():
            raise ObjectsUnavailable("the directory of a segment is not on this host")

    # -- erasing ----------------------------------------------------------------------------------------------------

    def erase(self, spots: Iterable[Spot]) -> None:
        """Remove the bytes of records, for good when this returns; those that are gone, or another mail's, are fine.

        Of a segment that somebody appends to as well: what is written there never changes otherwise.
        """
        self._require()
        by_segment: defaultdict[UUID, list[Spot]] = defaultdict(list)
        for spot in spots:
            by_segment[spot.segment].append(spot)
        for segment, some in by_segment.items():
            with suppress(ObjectMissing), self._opened(segment, os.O_RDWR) as descriptor:
                for spot in some:
                    data = files.read_exactly(descriptor, HEADER_BYTES, spot.offset)
                    one = form.parse(data or b"", segment, spot.offset)
                    if one is not None and (one.tenant_id, one.raw_id) == (spot.tenant_id, spot.raw_id):
                        files.erase(descriptor, one)  # one that is marked may have kept its bytes in a crash
                os.fsync(descriptor)

    # -- seals ------------------------------------------------------------------------------------------------------

    def seal(self, seal: Seal) -> None:
        """Say that nothing is appended any more. The segment's bytes are on the disk already.

        A segment that is younger than its seal has lost nothing since: only others are looked at by compactions.
        """
        began = time.time() - _CLOCK_STEP
        path = self.path(seal.segment, SEAL)
        worn = any(isinstance(one, Record) and not one.live for one in self.walk(seal.segment))
        self._put(path, msgspec.json.encode(seal), at=began)
        with told():
            if worn:
                os.utime(self.path(seal.segment))

    def wear(self, segment: UUID) -> tuple[datetime, int, bool]:
        """When a sealed segment was sealed, its size, and whether anything was erased. Raises ObjectMissing."""
        with told():
            sealed, file = self.path(segment, SEAL).stat(), self.path(segment).stat()
        at = datetime.fromtimestamp(sealed.st_mtime, UTC)
        return at, file.st_size, file.st_mtime > sealed.st_mtime

    def seal_of(self, segment: UUID) -> Seal | None:
        """What was sealed; None where it was not, or the seal cannot be read."""
        try:
            return msgspec.json.decode(self.path(segment, SEAL).read_bytes(), type=Seal)
        except (OSError, msgspec.DecodeError):
            return None

    def remove(self, segment: UUID) -> None:
        """Remove a segment of which nothing is needed any more, its seal last: without one it would be tended."""
        with told():
            self.path(segment).unlink(missing_ok=True)
            files.sync_directory(self.directory)
            self.path(segment, SEAL).unlink(missing_ok=True)

    def note_sources(self, copy: UUID, sources: Sequence[UUID]) -> None:
        """Write down which segments a copy is made of, for whoever has to finish it."""
        self._put(self.path(copy, FROM), msgspec.json.encode(sources), at=time.time())

    def sources_of(self, copy: UUID) -> list[UUID]:
        """The segments that a copy is made of, as far as they are there still."""
        try:
            sources = msgspec.json.decode(self.path(copy, FROM).read_bytes(), type=list[UUID])
        except (OSError, msgspec.DecodeError):
            return []
        return [one for one in sources if self.path(one).exists()]

    def forget_sources(self, copy: UUID) -> None:
        """They are gone, or nothing of them is needed."""
        with told():
            self.path(copy, FROM).unlink(missing_ok=True)

    def _put(self, path: Path, data: bytes, *, at: float) -> None:
        """Write a small file, all or nothing, with this time."""
        new = path.with_name(f"{path.name}{NEW}")
        with told():
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                files.give_to_owner(descriptor, self.directory)
                files.write_all(descriptor, [data], 0)
                os.utime(descriptor, (at, at))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            new.rename(path)
            files.sync_directory(self.directory)

    def examine(self, segment: UUID) -> Health:
        """Hold a whole segment against its checksums. Reads every byte of it."""
        counts = {"records": 0, "dead": 0, "damaged": 0, "gaps": 0}
        with self._opened(segment) as descriptor:
            found = list(files.walk(descriptor, segment))
            seal = self.seal_of(segment)
            for one in found:
                if isinstance(one, Gap):
                    counts["gaps"] += one.end - one.offset
                    continue
                counts["records"] += 1
                counts["dead"] += not one.live
                counts["damaged"] += not files.is_sound(descriptor, one)
            fits = seal is not None and seal == seal_for(descriptor, segment, found)
        return Health(segment=segment, sealed=self.is_sealed(segment), seal_fits=fits, **counts)


def seal_for(descriptor: int, segment: UUID, found: Sequence[Record | Gap]) -> Seal:
    """The seal of a segment that holds this."""
    digest = sha256()
    records = [one for one in found if isinstance(one, Record)]
    for one in records:
        digest.update(form.lasting([files.read_exactly(descriptor, HEADER_BYTES, one.offset) or b""]))
    size = os.fstat(descriptor).st_size
    return Seal(segment=segment, bytes=size, records=len(records), sha256=digest.hexdigest())


def spot_of(url: str, tenant_id: UUID, raw_id: UUID) -> tuple[Path, Spot]:
    """Where the record is that a URL names. Raises ObjectMissing for what is no such URL."""
    place, _, offset = url.removeprefix("file://").rpartition("/")
    directory, _, name = place.rpartition("/")
    segment = _uuid(name)
    if segment is None or not directory or not offset.isdecimal() or len(offset) > _MAX_OFFSET_DIGITS:
        raise ObjectMissing("no name of a record")
    if not offset.isascii() or int(offset) < HEAD_BYTES:
        raise ObjectMissing("no name of a record")
    return Path(directory), Spot(segment=segment, offset=int(offset), tenant_id=tenant_id, raw_id=raw_id)


def url_of(directory: Path, segment: UUID, offset: int | str) -> str:
    """The name of a record in `raws.blob_key`."""
    return f"file://{directory}/{segment}/{offset}"


def name_of(url: str) -> str:
    """How the URL of a record ends, wherever its directory is: the id of a segment is like no other."""
    place, _, offset = url.rpartition("/")
    return f"/{place.rpartition('/')[2]}/{offset}"


@contextmanager
def told() -> Iterator[None]:
    """Say in our words what the disk says. Names of directories stay out of it."""
    try:
        yield
    except FileNotFoundError:
        raise ObjectMissing("no such segment") from None
    except OSError as error:
        raise ObjectsUnavailable(f"the directory of INGESTER_BLOBS: {error.strerror or type(error).__name__}") from None


def _uuid(text: str) -> UUID | None:
    """An id in its one spelling."""
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text else None
