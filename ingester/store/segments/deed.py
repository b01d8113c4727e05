"""Whose a directory of segments is: the file STORE, which whoever appends holds locked. Blocks: never on the loop.

It keeps two databases from one directory, and a daemon from writing into an empty mount point.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from ingester.store.objects import ObjectsUnavailable
from ingester.store.segments import segment as files
from ingester.store.segments.shelf import DEED, MODE, SEGMENT

_MAX_BYTES: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """What the file says: the directory's own id, and which Postgres and database it belongs to."""

    store: UUID
    database: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A directory that is ours for as long as the descriptor is open. `taken_over`: the database was another before."""

    store: UUID
    descriptor: int
    taken_over: bool

    def let_go(self) -> None:
        """For others to have."""
        os.close(self.descriptor)


def make_directory(directory: Path) -> None:
    """Make it if it is missing: itself only, for a missing parent is a disk that is not there. Raises OSError."""
    try:
        directory.mkdir(mode=MODE)
    except FileExistsError:
        return
    files.sync_directory(directory.parent)


def hold(directory: Path, *, known: UUID | None, database: str, new_id: Callable[[], UUID]) -> Held:
    """Hold the directory for a database that knows it by `known`, or has never heard of it (None).

    Raises ObjectsUnavailable where it belongs to another, or is not the one that it was.
    """
    with _told():
        make_directory(directory)
        descriptor = os.open(directory / DEED, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            files.give_to_owner(descriptor, directory)
            alone = _lock_alone(descriptor)
            deed = _read(descriptor)
            _refuse_strange(directory, deed, known, database)
            taken_over = deed is not None and deed.database != database
            if taken_over and not alone:
                raise ObjectsUnavailable("the directory of INGESTER_BLOBS is in use by a daemon of another database")
            if deed is None or taken_over:
                deed = Deed(store=deed.store if deed else known or new_id(), database=database)
                _write(descriptor, deed)
                files.sync_directory(directory)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        except BaseException:
            os.close(descriptor)
            raise
    return Held(store=deed.store, descriptor=descriptor, taken_over=taken_over)


def _refuse_strange(directory: Path, deed: Deed | None, known: UUID | None, database: str) -> None:
    if deed is None and known is not None:
        raise ObjectsUnavailable(
            f"the directory of INGESTER_BLOBS has no file {DEED}, though it was in use: is its disk mounted?"
        )
    if deed is None and any(directory.glob(f"*{SEGMENT}")):
        raise ObjectsUnavailable(f"the directory of INGESTER_BLOBS holds segments and no file {DEED}")
    begun = known is None and deed is not None and deed.database == database  # and killed before the database knew
    if deed is not None and deed.store != known and not begun:
        raise ObjectsUnavailable("the directory of INGESTER_BLOBS belongs to another database")


def _lock_alone(descriptor: int) -> bool:
    """Whether nobody else is there; else it is shared with them."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        return False
    return True


def _read(descriptor: int) -> Deed | None:
    data = os.pread(descriptor, _MAX_BYTES, 0)
    if not data:
        return None
    try:
        return msgspec.json.decode(data, type=Deed)
    except msgspec.DecodeError:
        raise ObjectsUnavailable(f"the file {DEED} in the directory of INGESTER_BLOBS is damaged") from None


def _write(descriptor: int, deed: Deed) -> None:
    """In one block of the disk, which is written whole or not."""
    data = msgspec.json.encode(deed)
    os.pwrite(descriptor, data, 0)
    os.ftruncate(descriptor, len(data))
    os.fsync(descriptor)


@contextmanager
def _told() -> Iterator[None]:
    """Say in our words what the disk says."""
    try:
        yield
    except OSError as error:
        raise ObjectsUnavailable(f"the directory of INGESTER_BLOBS: {error.strerror or type(error).__name__}") from None
