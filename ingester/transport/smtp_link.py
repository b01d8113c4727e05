"""The connection below the dialog: bytes in and out, phases and their deadlines, farewell. Knows no command.

A subclass of aiosmtpd's SMTP (1.4.6) of which every method that runs is replaced, for the traps that the design page
lists. The stock constructor is not called either: it inspects all members of itself for each connection.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, cast

from aiosmtpd.smtp import SMTP

from ingester.core.envelope import Client
from ingester.core.outcome import Reason
from ingester.telemetry.metrics import CONNECTIONS, TLS
from ingester.transport import command
from ingester.transport.desk import Desk
from ingester.transport.proxy import Unusable, normalise_ip, parse_proxy
from ingester.transport.transfer import Ending, Transfer
from ingester.transport.wire import Inbox

_HANDSHAKE_SECONDS: Final = 30.0
_LINGER_QUIET: Final = 2.0
"""Seconds without a byte after which a peer that was told to go has read the reply."""
_LINGER_SECONDS: Final = 30.0
_CLOSE_SECONDS: Final = 10.0
"""Seconds that an orderly close may take before the connection is aborted."""
_OUT_LIMIT: Final = 16 << 10
"""Octets of replies gathered before they are sent, however many commands were pipelined."""


class Phase(Enum):
    """What a connection is doing, as far as its deadlines care."""

    WAITING = auto()
    BUSY = auto()
    DATA = auto()
    HANDSHAKE = auto()
    FLUSHING = auto()
    LEAVING = auto()
    CLOSED = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Farewell:
    """The last reply, or None to leave without a word. `linger`: the peer may still be sending, so that closing at
    once would reset the connection and lose the reply; what it sends is thrown away unread for a while."""

    line: str | None
    linger: bool = False


class Link(SMTP):
    """One connection. `converse` is the dialog's."""

    def __init__(self, desk: Desk, gone: Callable[["Link"], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.desk = desk
        self.inbox = Inbox(self.loop)
        self.client = Client(ip="unknown")
        self.task: asyncio.Task[None] | None = None
        self.farewell: Farewell | None = None
        self.phase = Phase.BUSY
        self.since = self.began = desk.clock()
        self.transfer: Transfer | None = None
        self._gone = gone
        self._wire: asyncio.Transport | None = None
        self._raw: asyncio.Transport | None = None
        self._out: list[str] = []
        self._out_size = 0
        self._writable: asyncio.Future[None] | None = None
        self.prefix = "unknown"
        self.proxied = False
        """Whether the connection is a proxy's, whose header tells the client."""
        self.trusted = False
        """Whether the peer is a relay of ours: its address is nobody's, and it may tell the real one."""
        self._claimed = False
        self._lingered = 0
        self._moved = 0.0

    # What the transport calls. Nothing of the stock class: it cancels the handler at end-of-file and loss.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A peer connected: take it in or turn it away."""
        self._raw = self._wire = cast("asyncio.Transport", transport)
        self.inbox.attach(self._wire)
        peer = transport.get_extra_info("peername")
        ip = normalise_ip(str(peer[0])) if isinstance(peer, tuple) and peer else "unknown"
        self._name(ip, local=transport.get_extra_info("socket").family == socket.AF_UNIX)
        self.proxied = self.desk.proxies.trust(ip)
        entered = self.desk.connections.enter()
        if self.desk.draining or not entered or not (self.proxied or self._claim()):
            if entered:
                self.desk.connections.leave()
            self._turn_away()
            return
        self.desk.telemetry.metrics.count(CONNECTIONS, self.desk.door, "taken")
        self.task = self.loop.create_task(self._handle())
        self.task.add_done_callback(self._release)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self.inbox.feed(data)

    def eof_received(self) -> bool:
        """The peer sends no more. It may still read: what it has sent is answered, then the connection closes."""
        self._end_input()
        return self._wire is self._raw and self.task is not None

    def connection_lost(self, _error: Exception | None) -> None:
        """The connection is gone. A mail being accepted is not (design page, law 6)."""
        self._wire = None
        self._end_input()
        self.resume_writing()
        self._gone(self)

    def pause_writing(self) -> None:
        """The peer does not read our replies."""
        if self._writable is None:
            self._writable = self.loop.create_future()

    def resume_writing(self) -> None:
        """It does again, or never will."""
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # Deadlines, called by the door every tick; and the way out.

    def sweep(self, now: float, *, overloaded: bool) -> None:
        """Act on the deadline of the phase, if it has passed."""
        smtp = self.desk.settings.smtp
        idle = smtp.idle_seconds_overloaded if overloaded else smtp.idle_seconds
        age = now - self.since
        if self.phase is Phase.WAITING:
            if age >= idle or now - self.began >= smtp.session_seconds:
                self.leave(Farewell(line=command.TIMED_OUT))
        elif self.phase is Phase.DATA and self.transfer is not None:
            self.transfer.check(now, idle=idle)
        elif self.phase is Phase.HANDSHAKE:
            if age >= min(idle, _HANDSHAKE_SECONDS):
                self.abort()
        elif self.phase is Phase.FLUSHING:
            if age >= idle:
                self.abort()
        elif self.phase is Phase.LEAVING:
            self._check_lingering(now, age)
        elif self.phase is Phase.CLOSED and age >= _CLOSE_SECONDS:
            self.abort()

    def leave(self, farewell: Farewell) -> None:
        """End the dialog with this reply; at once when it waits for the peer."""
        if self.farewell is None:
            self.farewell = farewell
        if self.phase is Phase.LEAVING:
            self._end_input()
        self.inbox.wake()

    def abort(self) -> None:
        """Drop the connection without more ado."""
        if self._raw is not None:
            self._raw.abort()
        self._end_input()
        self.resume_writing()
        if self.task is None or self.task.done():
            self._gone(self)

    # What the dialog uses.

    def say(self, line: str) -> None:
        """Queue one reply. It goes out before anything is waited for, together with its neighbours (RFC 2920, 3.2)."""
        self._out.append(line)
        self._out_size += len(line) + 2

    async def flush(self) -> None:
        """Send the queued replies, wait while the peer does not read. Raises ConnectionError when it is gone."""
        if self._wire is None or self._wire.is_closing():
            raise ConnectionResetError
        if self._out:
            self._out.append("")
            self._wire.write("\r\n".join(self._out).encode("ascii", "replace"))
            self._out.clear()
            self._out_size = 0
        if self._writable is not None:
            before = self.phase
            self.enter(Phase.FLUSHING)
            await self._writable
            self.enter(before)

    @property
    def replies_waiting(self) -> bool:
        """Whether so many replies are queued that they should be sent before more commands are read."""
        return self._out_size > _OUT_LIMIT

    def enter(self, phase: Phase) -> None:
        """Begin a phase and its deadline."""
        self.phase = phase
        self.since = self.desk.clock()

    async def secure(self, context: ssl.SSLContext) -> None:
        """Put TLS on the connection. What came in clear and is unread is dropped (RFC 3207, 4.2: no injection).

        `loop.start_tls` works with uvloop, where the stock class's own asyncio.sslproto leaks a stalled handshake.
        Raises ConnectionError when the handshake fails.
        """
        assert self._raw is not None
        self.enter(Phase.HANDSHAKE)
        self.inbox.clear()
        self.inbox.attach(None)
        try:
            wire = await self.loop.start_tls(
                self._raw, self, context, server_side=True, ssl_handshake_timeout=_HANDSHAKE_SECONDS
            )
        except (OSError, ssl.SSLError):
            wire = None
        if wire is None or self._raw.is_closing():
            # During a handshake the raw connection is the SSL protocol's: its loss is not told to us.
            self._wire = None
            raise ConnectionResetError
        self._wire = wire
        self.inbox.attach(wire)
        session = wire.get_extra_info("ssl_object")
        self.client = Client(ip=self.client.ip, tls=session.version() if session is not None else "TLS")
        self.enter(Phase.BUSY)

    async def read_proxy(self, *, optional: bool = False) -> bool:
        """Read the header that a proxy sends first. False: leave, without a word where it is none.

        With `optional`, other bytes than the beginning of one are left for the dialog.
        """
        self.enter(Phase.WAITING)
        while (header := parse_proxy(self.inbox.peek())) is Unusable.INCOMPLETE:
            if not await self.inbox.more() or self.farewell is not None:
                return False
        self.enter(Phase.BUSY)
        if header is Unusable.ABSENT and optional:
            return True
        if isinstance(header, Unusable):
            self.desk.log.warning("proxy_header.bad", door=self.desk.door.value, peer=self.client.ip)
            return False
        self.inbox.skip(header.length)
        if header.source is None:
            return True
        self._name(header.source)
        if self._claim():
            return True
        self.desk.refuse(Reason.OVERLOADED, self.client)
        self.farewell = Farewell(line=command.TOO_MANY_CONNECTIONS)
        return False

    async def converse(self) -> None:
        """The dialog, until the peer is gone or `farewell` is set."""
        raise NotImplementedError

    # Inside.

    def _name(self, ip: str, *, local: bool = False) -> None:
        """Say who the peer is. What a relay of ours brings comes from an address that is not known yet."""
        self.trusted = self.desk.relays.trust(ip) or (local and self.desk.trusts_local)
        self.client = Client(ip="" if self.trusted else ip)
        self.prefix = self.client.prefix

    def _claim(self) -> bool:
        """Count this connection under its client's prefix; all of one relay's mail comes from one."""
        if self.trusted:
            return True
        self._claimed = self.desk.connections.claim(self.prefix)
        return self._claimed

    def _turn_away(self) -> None:
        assert self._wire is not None
        self.desk.telemetry.metrics.count(CONNECTIONS, self.desk.door, "turned_away")
        self.desk.refuse(Reason.OVERLOADED, self.client)
        self._wire.write(f"{command.TOO_MANY_CONNECTIONS}\r\n".encode())
        self._close()

    def _release(self, task: "asyncio.Task[None]") -> None:
        """In the task's done-callback: whatever way the handler ended, the connection is counted out."""
        self.desk.connections.leave()
        self.desk.telemetry.metrics.count(TLS, self.desk.door, self.client.tls or "none")
        if self._claimed:
            self.desk.connections.release(self.prefix)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.desk.log.error("dialog.failed", exc_info=error)
        self._close()

    def _close(self) -> None:
        self.enter(Phase.CLOSED)
        if self._wire is not None:
            self._wire.close()
        elif self._raw is not None:
            self._raw.abort()
            self._gone(self)

    def _end_input(self) -> None:
        self.inbox.end()
        if self.transfer is not None:
            self.transfer.finish(Ending.LOST)

    async def _handle(self) -> None:
        try:
            await self.converse()
            if self.farewell is not None:
                await self._part(self.farewell)
        except ConnectionError:
            return

    async def _part(self, farewell: Farewell) -> None:
        if farewell.line is not None:
            self.say(farewell.line)
        await self.flush()
        if not farewell.linger or self._wire is None:
            return
        self._moved = self.desk.clock()
        self.enter(Phase.LEAVING)
        self.inbox.divert(self._throw_away)
        if self._wire.can_write_eof():
            self._wire.write_eof()
        while await self.inbox.more():
            pass

    def _throw_away(self, data: bytes) -> None:
        self._lingered += len(data)
        self._moved = self.desk.clock()

    def _check_lingering(self, now: float, age: float) -> None:
        if now - self._moved >= _LINGER_QUIET or age >= _LINGER_SECONDS or self.desk.draining:
            self._end_input()
