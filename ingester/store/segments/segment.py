"""What is done to one segment, by its descriptor: making, walking, erasing, checking. Blocks: never on the loop.

What raises OSError is the disk's doing; what stands in the file raises nothing, however it was damaged.
"""

import ctypes
import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeAlias
from uuid import UUID

from ingester.store.segments import record as form
from ingester.store.segments.record import DEAD, HEAD_BYTES, HEADER_BYTES, MARK, Record

_STEP: Final = 1 << 20
"""Bytes that are looked at together."""
_AHEAD: Final = 16 << 10
"""Bytes that are read with a header: the next ones stand in them, where mails are small."""
_VECTOR: Final = 1024
"""Buffers of one call (IOV_MAX)."""
_KEEP_SIZE, _PUNCH_HOLE = 0x01, 0x02
"""Of fallocate(2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Bytes that are no record: what a crash or a damaged disk has left between two, or behind the last."""

    offset: int
    end: int


Found: TypeAlias = Record | Gap


def make(path: Path, segment: UUID, *, compacted: bool) -> int:
    """Make the file, locked and with its head on the disk. Raises OSError, FileExistsError too."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        if not lock(descriptor):  # whoever tends the directory came between, and removes what has no head
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        give_to_owner(descriptor, path.parent)
        write_all(descriptor, [form.head(segment, compacted=compacted)], 0)
        os.fsync(descriptor)
        sync_directory(path.parent)
    except BaseException:
        path.unlink(missing_ok=True)
        os.close(descriptor)
        raise
    return descriptor


def give_to_owner(descriptor: int, directory: Path) -> None:
    """A file that root makes, in a command, belongs to whom the directory belongs to: the daemon must read it."""
    if os.geteuid() == 0:
        owner, made = directory.stat(), os.fstat(descriptor)
        if (owner.st_uid, owner.st_gid) != (made.st_uid, made.st_gid):  # a confined daemon may not even ask
            os.fchown(descriptor, owner.st_uid, owner.st_gid)


def lock(descriptor: int) -> bool:
    """Whether the segment is now ours to append to or to tend, until it is closed; and is there still."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(descriptor).st_nlink > 0


def probe(directory: Path, size: int = 4096) -> None:
    """Write, sync, lock and read a small file, and remove it again. Raises OSError where that cannot be done.

    `size`: so many bytes are asked for, and given back.
    """
    descriptor, name = tempfile.mkstemp(prefix="probe-", dir=directory)
    try:
        text = bytes(range(256)) * 16
        os.posix_fallocate(descriptor, 0, max(size, len(text)))
        write_all(descriptor, [text], 0)
        os.fdatasync(descriptor)
        if not lock(descriptor) or read_exactly(descriptor, len(text), 0) != text:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
    finally:
        Path(name).unlink(missing_ok=True)
        os.close(descriptor)


def can_punch(directory: Path) -> bool:
    """Whether the file system gives the room of erased bytes back. Raises OSError."""
    descriptor, name = tempfile.mkstemp(prefix="probe-", dir=directory)
    try:
        write_all(descriptor, [bytes(8192)], 0)
        return _punch(descriptor, 0, 8192) == 0
    finally:
        Path(name).unlink(missing_ok=True)
        os.close(descriptor)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory last."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, buffers: Sequence[bytes], offset: int) -> int:
    """Write buffers one behind the other, uncopied. Gives where they end."""
    waiting = [memoryview(one) for one in buffers if one]
    first = 0
    while first < len(waiting):
        written = os.pwritev(descriptor, waiting[first : first + _VECTOR], offset)
        offset += written
        while first < len(waiting) and written >= len(waiting[first]):
            written -= len(waiting[first])
            first += 1
        if written:
            waiting[first] = waiting[first][written:]
    return offset


def read_exactly(descriptor: int, size: int, offset: int) -> bytes | None:
    """So many bytes, or None where the file has not so many."""
    data = os.pread(descriptor, size, offset)
    if len(data) == size:
        return data
    pieces = [data]
    missing = size - len(data)
    while missing and pieces[-1]:  # Linux gives 2 GB at most at once
        pieces.append(os.pread(descriptor, missing, offset + size - missing))
        missing -= len(pieces[-1])
    return None if missing else b"".join(pieces)


def walk(descriptor: int, segment: UUID) -> Iterator[Found]:
    """All records in order, and what stands between them. What follows a damaged header is found again by its mark."""
    end = os.fstat(descriptor).st_size
    offset = HEAD_BYTES
    window = b""
    begins = 0
    while offset < end:
        if offset + HEADER_BYTES > begins + len(window) or offset < begins:
            window, begins = os.pread(descriptor, _AHEAD, offset), offset
        found = form.parse(window[offset - begins : offset - begins + HEADER_BYTES], segment, offset)
        if found is None or found.end > end:
            following = _next(descriptor, segment, offset + 1, end)
            yield Gap(offset=offset, end=following)
            offset = following
        else:
            yield found
            offset = found.end


def _next(descriptor: int, segment: UUID, offset: int, end: int) -> int:
    """Where the next whole record begins, or the end. Linear: each byte is read once, each mark looked at once."""
    while offset < end:
        data = os.pread(descriptor, _STEP + HEADER_BYTES, offset)
        if not data:
            break
        at = data.find(MARK)
        while 0 <= at < _STEP:
            found = form.parse(data[at : at + HEADER_BYTES], segment, offset + at)
            if found is not None and found.end <= end:
                return offset + at
            at = data.find(MARK, at + 1)
        offset += _STEP
    return end


def is_sound(descriptor: int, one: Record) -> bool:
    """Whether the bytes are those that were written; of an erased record, whether nothing is left of them."""
    digest, blank = sha256(), True
    for start in range(one.start, one.end, _STEP):
        data = os.pread(descriptor, min(_STEP, one.end - start), start)
        if not one.live:
            blank = blank and not data.strip(b"\0")
        digest.update(data)
    return digest.digest() == one.sha256 if one.live else blank


def erase(descriptor: int, one: Record) -> None:
    """Remove the bytes of a record; its header stays, marked. What was begun may be done again. The caller syncs."""
    os.pwrite(descriptor, DEAD, one.offset)
    _hollow(descriptor, one.start, one.size)


def _hollow(descriptor: int, offset: int, size: int) -> None:
    """Zeros in the place of bytes; the disk has their room back, where the file system can do that."""
    if not size:
        return
    number = _punch(descriptor, offset, size)
    if number == 0:
        return
    if number not in (errno.EOPNOTSUPP, errno.ENOSYS):
        raise OSError(number, os.strerror(number))
    for start in range(offset, offset + size, _STEP):
        write_all(descriptor, [bytes(min(_STEP, offset + size - start))], start)


def _punch(descriptor: int, offset: int, size: int) -> int:
    """fallocate(2), which Python does not know with a mode. Gives the number of its error, or 0."""
    try:
        fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    except AttributeError:  # no Linux
        return errno.ENOSYS
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    done = fallocate(descriptor, _KEEP_SIZE | _PUNCH_HOLE, offset, size)
    return ctypes.get_errno() if done else 0
