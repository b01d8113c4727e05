"""A TCP proxy between the daemon and Postgres that cuts, or holds, a connection as it commits. It runs in a thread."""

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from urllib.parse import urlsplit

import uvloop

COMMIT = b"Q\x00\x00\x00\x0cCOMMIT;\x00"
"""How asyncpg ends a transaction: a simple Query message."""
BEGIN = b"Q\x00\x00\x00\x0bBEGIN;\x00"
_WRITE = re.compile(rb"P.{4}([^\x00]+)\x00[^\x00]*store_deliveries\(", re.DOTALL)
"""A Parse message with the name that the write has on this connection."""
_SECONDS = 30.0


class Act(Enum):
    """What befalls a connection that commits."""

    PASS = auto()
    CUT_BEFORE = auto()
    """Neither side hears of it: Postgres rolls back."""
    CUT_AFTER = auto()
    """Postgres gets the COMMIT, the daemon never its answer."""
    CUT_OFF = auto()
    """As CUT_AFTER, and the daemon has no connection at all until `restore`."""
    HOLD = auto()
    """The COMMIT waits for `release`."""


class _Session:
    """What is known of one connection. A write outside a transaction is its own COMMIT."""

    def __init__(self) -> None:
        self._writes: set[bytes] = set()
        self._begun = False

    def commits(self, data: bytes) -> bool:
        """Whether what goes to Postgres ends a transaction. A Bind names its statement after an empty portal."""
        if COMMIT in data:
            self._begun = False
            return True
        self._begun = self._begun or BEGIN in data
        self._writes.update(_WRITE.findall(data))
        return not self._begun and any(b"\x00" + name + b"\x00" in data for name in self._writes)


class Wiretap:
    """The proxy. `decide` is asked at each COMMIT, with its number from 1."""

    def __init__(self, url: str, decide: Callable[[int], Act]) -> None:
        self._upstream = urlsplit(url)
        self._decide = decide
        self._loop = uvloop.new_event_loop()
        self._stop = asyncio.Event()
        self._released = asyncio.Event()
        self._near: set[asyncio.StreamWriter] = set()
        self._open = True
        self.ready = threading.Event()
        self.held = threading.Event()
        self.commits = 0
        self.cuts = 0
        self.url = ""

    def release(self) -> None:
        """Let what is held go on."""
        self._loop.call_soon_threadsafe(self._released.set)

    def restore(self) -> None:
        """Let new connections through again."""
        self._open = True

    def stop(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._stop.set)

    def run(self) -> None:
        """The thread's whole life."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        user = self._upstream.netloc.rpartition("@")[0]
        self.url = self._upstream._replace(netloc=f"{user}@127.0.0.1:{port}").geturl()
        self.ready.set()
        await self._stop.wait()
        server.close()

    async def _accept(self, near_reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        if not self._open:
            near.transport.abort()
            return
        host, port = self._upstream.hostname, self._upstream.port
        assert host is not None
        far_reader, far = await asyncio.open_connection(host, port)
        self._near.add(near)
        try:
            await asyncio.gather(self._inwards(near_reader, near, far), self._outwards(far_reader, near, far))
        except ConnectionError:
            far.transport.abort()
        finally:
            self._near.discard(near)
            near.transport.abort()

    async def _inwards(
        self, reader: asyncio.StreamReader, near: asyncio.StreamWriter, far: asyncio.StreamWriter
    ) -> None:
        """From the daemon to Postgres."""
        session = _Session()
        while data := await reader.read(1 << 16):
            act = self._judge() if session.commits(data) else Act.PASS
            if act is Act.CUT_BEFORE:
                far.transport.abort()
                near.transport.abort()
                return
            if act is Act.HOLD:
                self.held.set()
                await self._released.wait()
            far.write(data)
            await far.drain()
            if act in (Act.CUT_AFTER, Act.CUT_OFF):
                # Postgres's side stays open until it has answered.
                for one in list(self._near) if act is Act.CUT_OFF else [near]:
                    one.transport.abort()
                return
        far.close()

    def _judge(self) -> Act:
        self.commits += 1
        act = self._decide(self.commits)
        self.cuts += act in (Act.CUT_BEFORE, Act.CUT_AFTER, Act.CUT_OFF)
        if act is Act.CUT_OFF:
            self._open = False
        return act

    async def _outwards(
        self, reader: asyncio.StreamReader, near: asyncio.StreamWriter, far: asyncio.StreamWriter
    ) -> None:
        """From Postgres to the daemon. What Postgres says to one that was cut is dropped, and ends the connection."""
        while (data := await reader.read(1 << 16)) and not near.transport.is_closing():
            near.write(data)
            await near.drain()
        far.close()
        near.transport.abort()


@contextmanager
def tapped(url: str, decide: Callable[[int], Act]) -> Iterator[Wiretap]:
    """A running proxy in front of this database."""
    tap = Wiretap(url, decide)
    thread = threading.Thread(target=tap.run, name="wiretap")
    thread.start()
    try:
        assert tap.ready.wait(_SECONDS)
        yield tap
    finally:
        tap.stop()
        thread.join()
