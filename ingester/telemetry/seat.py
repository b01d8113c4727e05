"""The files in which one worker counts: prometheus_client's own, mapped into memory, one a kind of metric.

Made for a worker that nobody shares them with: what it has counted it knows, and only writes. What somebody left who
counted in them before is gone on with.
"""

import os
import sys
from pathlib import Path
from threading import Lock
from typing import Any, Final

from prometheus_client.mmap_dict import MmapedDict, mmap_key

MODES: Final = ("livesum", "livemax", "livemin")
"""How gauges of several workers become one; `live`: those of a dead worker are forgotten."""
_ROOM: Final = {"counter": 512 << 10, "histogram": 512 << 10} | {f"gauge_{mode}": 64 << 10 for mode in MODES}
"""Bytes of each file."""
SEAT_BYTES: Final = sum(_ROOM.values())
"""Bytes of all files of one seat."""
_NUMBER_BYTES: Final = 8
"""Of a value; behind it stands a time that nobody reads."""


class Seat:
    """The files of one name."""

    def __init__(self, directory: Path, name: str) -> None:
        """Raises OSError where there is no room for them."""
        for kind, room in _ROOM.items():
            reserve(directory / f"{kind}_{name}.db", room)
        self._files = {kind: _File(directory / f"{kind}_{name}.db") for kind in _ROOM}

    def value(self, kind: str, *key: Any, multiprocess_mode: str = "", **_: Any) -> "Value":
        """A number, for prometheus_client, which calls this as it does its own classes of values."""
        return Value(self._files[f"gauge_{multiprocess_mode}" if kind == "gauge" else kind], mmap_key(*key))


class _File(MmapedDict):
    """The library's, seen as a row of numbers: they are written forty times a mail, by place instead of by name."""

    def __init__(self, file: Path) -> None:
        MmapedDict.__init__(self, str(file))

    def find(self, key: str) -> "tuple[memoryview[float], int, float]":
        """The numbers of the file, which of them it is, for as long as the file is there, and what it is; made with 0
        if it is new. The library puts every number on a multiple of 8 bytes.
        """
        value: float = MmapedDict.read_value(self, key)[0]
        # A file that has no room left grows, and is then mapped anew: the older map goes on showing the same pages.
        return memoryview(self._m).cast("d"), self._positions[key] // _NUMBER_BYTES, value


class Value:
    """One number in a file, with the methods that prometheus_client asks of it. Any thread may use it."""

    __slots__ = ("_lock", "_numbers", "_place", "_value")

    def __init__(self, file: _File, key: str) -> None:
        self._numbers, self._place, self._value = file.find(key)
        self._lock = Lock()

    def inc(self, amount: float) -> None:
        """Add to it. One assignment of eight bytes: who reads meanwhile does not see half a number."""
        with self._lock:
            self._value = self._numbers[self._place] = self._value + amount

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Put another in its place."""
        del timestamp
        with self._lock:
            self._value = self._numbers[self._place] = value

    def get(self) -> float:
        """What it is now."""
        return self._value

    def get_exemplar(self) -> None:
        """There are none."""


def reserve(file: Path, size: int) -> None:
    """Take the space now: in a full file system a write to a mapped page would kill the process (SIGBUS)."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if sys.platform == "linux":
            os.posix_fallocate(descriptor, 0, size)
        else:
            os.ftruncate(descriptor, size)
    finally:
        os.close(descriptor)
