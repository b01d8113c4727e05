"""The bytes that have come in and are not yet used: command lines, or everything straight into a sink.

Bounded whatever the peer sends: reading pauses above a high mark, a line without an end is thrown away as it comes.
Knows no SMTP beyond its line end.
"""

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Final

LINE_LIMIT: Final = 4096
"""Octets of a command line with its CRLF: room for the long paths of SMTPUTF8 (RFC 5321, 4.5.3.1.4; RFC 6531, 3.6)."""
ENDLESS_LIMIT: Final = 64 << 10
"""Octets after which a line without an end is taken for an attack."""
HIGH_MARK: Final = 32 << 10
"""Octets waiting, above which reading pauses."""
_BIG_CHUNK: Final = 128 << 10


class LineFault(Enum):
    """Why a command line cannot be used."""

    TOO_LONG = "too_long"
    ENDLESS = "endless"
    BARE_LF = "bare_lf"
    STRAY = "stray"


class Inbox:
    """What one connection has received. All methods run on the loop's thread."""

    __slots__ = ("_at", "_buffer", "_loop", "_paused", "_sink", "_skipped", "_transport", "_waiter", "ended")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.ReadTransport | None = None
        self._buffer = b""
        self._at = 0
        self._skipped = 0
        self._paused = False
        self._sink: Callable[[bytes], None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.ended = False

    def attach(self, transport: asyncio.ReadTransport | None) -> None:
        """Use this transport to pause reading; None while a handshake owns the connection."""
        self._transport = transport
        self._paused = False

    def feed(self, data: bytes) -> None:
        """Take what arrived."""
        if self._sink is not None:
            self._sink(data)
            if len(data) >= _BIG_CHUNK and self._sink is not None:
                self._give_way()
            return
        self._buffer = self._buffer[self._at :] + data
        self._at = 0
        if len(self._buffer) > HIGH_MARK and not self._paused and self._transport is not None:
            self._transport.pause_reading()
            self._paused = True
        self.wake()

    def end(self) -> None:
        """Nothing more will arrive."""
        self.ended = True
        self.wake()

    def wake(self) -> None:
        """Let `more` return, whether or not something arrived."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def more(self) -> bool:
        """Wait for bytes, the end or a `wake`. False when nothing more will arrive."""
        if self.ended:
            return False
        self._resume()
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        return len(self._buffer) > self._at or not self.ended

    def peek(self) -> bytes:
        """What waits, left in place."""
        return self._buffer[self._at :]

    def skip(self, count: int) -> None:
        """Use up the first octets."""
        self._at += count
        self._settle()

    def clear(self) -> None:
        """Throw away what waits, unread."""
        self._buffer, self._at, self._skipped = b"", 0, 0
        self._resume()

    def divert(self, sink: Callable[[bytes], None]) -> None:
        """Give what waits, and all that arrives from now on, to the sink."""
        waiting = self.peek()
        self._buffer, self._at = b"", 0
        self._sink = sink
        if waiting:
            sink(waiting)
        self._resume()

    def restore(self, rest: bytes) -> None:
        """End the diversion; `rest` is what the sink did not want. Bytes that came in between stay behind it."""
        self._sink = None
        self._buffer = rest + self.peek()
        self._at = 0

    def line(self) -> bytes | LineFault | None:
        """The next command line without its CRLF, what is wrong with it, or None when it has not come whole."""
        buffer, at = self._buffer, self._at
        found = buffer.find(b"\n", at)
        if found < 0:
            return self._overflow()
        line = buffer[at:found]
        self._at = found + 1
        if self._paused or self._at == len(buffer):
            self._settle()
        skipped, self._skipped = self._skipped, 0
        if skipped or len(line) >= LINE_LIMIT:
            return LineFault.TOO_LONG if skipped + len(line) <= ENDLESS_LIMIT else LineFault.ENDLESS
        if not line.endswith(b"\r"):
            return LineFault.STRAY if b"\0" in line or b"\r" in line else LineFault.BARE_LF
        line = line[:-1]
        return LineFault.STRAY if b"\0" in line or b"\r" in line else line

    def _overflow(self) -> LineFault | None:
        waiting = len(self._buffer) - self._at
        if not self._skipped and waiting <= LINE_LIMIT:
            return None
        self._skipped += waiting
        self._buffer, self._at = b"", 0
        self._settle()
        return LineFault.ENDLESS if self._skipped > ENDLESS_LIMIT else None

    def _give_way(self) -> None:
        """Let other connections run: libuv reads up to 32 such chunks from a fast peer before it looks at another."""
        if self._transport is not None and not self._paused:
            self._transport.pause_reading()
            self._paused = True
            self._loop.call_soon(self._resume)

    def _settle(self) -> None:
        if self._at >= len(self._buffer):
            self._buffer, self._at = b"", 0
        if len(self._buffer) - self._at <= HIGH_MARK:
            self._resume()

    def _resume(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            if not self.ended:
                self._transport.resume_reading()
