"""The numbers of several processes as those of one daemon: each worker counts in files that all of them can read.

The files are prometheus_client's own, mapped into memory, in a directory that the supervisor makes (on tmpfs where
there is one). They are named by a seat and not by a process, so that a worker's restart goes on counting where the dead
one ended, `kill -9` included, and files stay few. No metric is known here but the one only the supervisor can count.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Final

import structlog
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

from ingester.telemetry.seat import SEAT_BYTES, Seat, reserve

_log = structlog.get_logger(__name__)

_MEMORY: Final = Path("/dev/shm")  # noqa: S108  (tmpfs on Linux: a crash of the host forgets it, as it should)
_PREFIX: Final = "ingester-metrics-"
_YOUNG_SECONDS: Final = 60.0
"""A directory younger than this may still be without its owner's lock."""
_OWN_BYTES: Final = 4 << 10
RESTARTS: Final = ("ingester_worker_restarts", "Workers that died and were started again")


class Shared:
    """The directory of one daemon. The supervisor makes, forgets and removes; each worker enters, once."""

    def __init__(self, directory: Path, *, workers: int) -> None:
        self.directory = directory
        self.workers = workers
        self.seat: Seat | None = None
        """Where this process counts, once it has entered."""
        self._owned = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # Held until the last process of the daemon is gone: what nobody holds is left of one that was killed.
        fcntl.flock(self._owned, fcntl.LOCK_EX)
        own = directory / "counter_supervisor.db"
        reserve(own, _OWN_BYTES)
        self._restarts = MmapedDict(str(own))
        self._restarted = 0
        self._count_restarts()

    @classmethod
    def make(cls, workers: int) -> "Shared":
        """A fresh directory for this many workers. Raises OSError where none can be made."""
        parent = _MEMORY if _has_room(_MEMORY, workers) else Path(tempfile.gettempdir())
        _sweep(parent)
        return cls(Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent)), workers=workers)

    def enter(self, slot: int) -> None:
        """Count from now on as the worker of this slot: in the child, before any metric is made.

        While a worker is being replaced, two live in one slot for a while. Each has a seat of its own there: two that
        write one file would take back what the other has counted. Without room for the files the worker counts for
        itself alone: no mail is kept waiting for that.
        """
        try:
            self.seat = Seat(self.directory, self._take_seat(slot))
        except OSError as error:
            _log.error("metrics of this worker are missing: there is no room to share them", error=error.strerror)

    def forget(self, slot: int) -> None:
        """A worker of this slot has ended, in whatever way: its gauges say nothing any more. Its counts stay."""
        for lock in self.directory.glob(f"{slot}.*.lock"):
            with suppress(OSError), _locked(lock):
                for file in self.directory.glob(f"gauge_live*_{lock.stem}.db"):
                    file.unlink(missing_ok=True)

    def restarted(self) -> None:
        """A worker died and another takes its place."""
        self._restarted += 1
        self._count_restarts()

    def remove(self) -> None:
        """The daemon ends."""
        self._restarts.close()
        os.close(self._owned)
        shutil.rmtree(self.directory, ignore_errors=True)

    def collect(self) -> Sequence[Metric]:
        """All numbers of all workers, those that have died included. Reads files: not for the event loop."""
        families: list[Metric] = []
        for kind in ("counter", "gauge", "histogram"):  # apart, for there may be a counter x_total and a gauge x
            # A file is born empty, and a scrape may come in this moment.
            files = [str(file) for file in sorted(self.directory.glob(f"{kind}_*.db")) if _size(file)]
            families += MultiProcessCollector.merge(files)
        return families

    def _take_seat(self, slot: int) -> str:
        for number in count():
            seat = f"{slot}.{number}"
            lock = self.directory / f"{seat}.lock"
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                # Until the process ends, in whatever way; the descriptor is never closed on purpose.
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            return seat
        raise AssertionError("there is no end to the numbers")

    def _count_restarts(self) -> None:
        name, said = RESTARTS
        self._restarts.write_value(mmap_key(name, f"{name}_total", [], [], said), float(self._restarted), 0.0)


def _has_room(place: Path, workers: int) -> bool:
    """Whether files of so many workers can be made there, and of as many more while they are replaced."""
    try:
        return os.access(place, os.W_OK | os.X_OK) and shutil.disk_usage(place).free > 3 * workers * SEAT_BYTES
    except OSError:
        return False


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # a dead worker's, just forgotten
        return 0


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that nobody else has. Raises BlockingIOError where somebody has, OSError where there is no file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _sweep(parent: Path) -> None:
    """Remove what daemons have left that were killed."""
    for directory in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            status = directory.lstat()
            if status.st_uid != os.geteuid() or time.time() - status.st_mtime < _YOUNG_SECONDS:
                continue
            with _locked(directory):
                shutil.rmtree(directory, ignore_errors=True)
