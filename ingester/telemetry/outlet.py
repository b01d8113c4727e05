"""Where log lines go: to a stream that may be a slow pipe, without making the event loop wait for it (law 9).

A line is written at once where the kernel has room for it, which is nearly always. Where it has none (the reader of the
pipe is slow, a terminal is held) lines wait, and a thread writes them; when WAITING of them wait, further ones are
lost, counted, and told of when there is room again. Two processes that share a pipe may both see the last room in it:
then one waits for as long as the reader needs for one line.
"""

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TextIO

WAITING: Final = 10_000
"""Lines of some 500 bytes each."""
_ROOM: Final = select.PIPE_BUF
"""Bytes that a pipe that is ready takes without making the writer wait (pipe(7))."""


class Outlet:
    """One per process, and for the processes that it forks. Looks enough like a stream for those who write lines."""

    def __init__(self, stream: TextIO, tell_loss: Callable[[int], None]) -> None:
        """`tell_loss` is told how many lines were lost, in the thread that writes."""
        self._stream = stream
        self._tell_loss = tell_loss
        self._number = _number_of(stream)
        self._ready = select.poll()
        if self._number is not None:
            stream.flush()
            self._ready.register(self._number, select.POLLOUT)
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        """What waits in a parent is written by the parent: a child begins with nothing, and has no thread."""
        self._lock = threading.Lock()
        self._waiting: deque[bytes] = deque()
        self._writer: threading.Thread | None = None
        self._lost = 0

    def write(self, line: str) -> int:
        """Write one line. Never raises: there is nobody to tell."""
        self.put(line.encode("utf-8", "replace"))
        return len(line)

    def put(self, data: bytes) -> None:
        """The same in bytes."""
        if self._number is None:
            self._stream.write(data.decode())
        elif self._writer is None and len(data) <= _ROOM and self._ready.poll(0):
            with suppress(OSError):
                os.write(self._number, data)
        else:
            self._wait(data)

    def flush(self) -> None:
        """Nothing is held back that could be written."""
        if self._number is None:
            self._stream.flush()

    def finish(self, seconds: float) -> None:
        """Give what waits so much time."""
        writer = self._writer
        if writer is not None:
            writer.join(seconds)

    def _wait(self, data: bytes) -> None:
        with self._lock:
            if len(self._waiting) >= WAITING:
                self._lost += 1
                return
            self._waiting.append(data)
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_on, name="log", daemon=True)
                self._writer.start()

    def _write_on(self) -> None:
        """Write what waits, waiting for room, until nothing does."""
        assert self._number is not None
        while True:
            with self._lock:
                if not self._waiting:
                    self._writer = None
                    lost, self._lost = self._lost, 0
                    break
                data = self._waiting.popleft()
            while data:
                try:
                    data = data[os.write(self._number, data) :]
                except BlockingIOError:  # somebody who shares the stream wants it so
                    self._ready.poll()
                except OSError:
                    break
        if lost:
            self._tell_loss(lost)


def _number_of(stream: TextIO) -> int | None:
    """The file descriptor, or None for a stream in memory."""
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return None
