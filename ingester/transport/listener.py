"""The mail door of one worker: listening sockets, the dialogs behind them, their deadlines, and the drain."""

import asyncio
import contextlib
import logging
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import ClassVar, Final

from ingester.core.envelope import Door
from ingester.settings import Listen, Settings, UnixListen
from ingester.telemetry import Telemetry
from ingester.telemetry.metrics import Metrics
from ingester.transport import command
from ingester.transport.desk import Acceptance, Desk
from ingester.transport.limits import Flight
from ingester.transport.smtp_link import Farewell, Link
from ingester.transport.sockets import BACKLOG, address

_TICK: Final = 1.0
"""Seconds between two looks at the deadlines, at most."""
_FRESH_SECONDS: Final = 2.0
"""A client that has been here for no longer is left as long again, for its mail: another daemon may have its place."""


class MailDoor:
    """Everything of one mail protocol in one process. Three verbs: start, then it runs by itself, drain."""

    DOOR: ClassVar[Door]
    DIALOG: ClassVar[type[Link]]

    def __init__(
        self,
        *,
        settings: Settings,
        pipeline: Acceptance,
        flight: Flight | None = None,
        telemetry: Telemetry | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`flight` counts the bytes of all doors of a worker; None where there is no other. `telemetry`: by default one
        that nobody reads.

        Raises CertificateError on a certificate that cannot be used.
        """
        flight = flight or Flight(limit=settings.max_bytes_in_flight)
        telemetry = telemetry or Telemetry(Metrics())
        self.desk = Desk(
            door=self.DOOR, settings=settings, pipeline=pipeline, flight=flight, telemetry=telemetry, clock=clock
        )
        self._clock = clock
        self._dialogs: set[Link] = set()
        self._servers: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []
        self._addresses: tuple[Listen | UnixListen, ...] = ()
        self._timer: asyncio.TimerHandle | None = None
        # aiosmtpd logs addresses at INFO and above (design page, law 11).
        for name in ("mail.log", "mail.debug"):
            logging.getLogger(name).disabled = True

    @property
    def addresses(self) -> tuple[Listen | UnixListen, ...]:
        """Where it listens, with the ports that the kernel chose."""
        return self._addresses

    @property
    def open_connections(self) -> int:
        """Connections that are open now."""
        return len(self.desk.connections)

    @property
    def certificate_ends(self) -> float | None:
        """When the certificate for STARTTLS ends, in seconds since 1970; None without one."""
        return None if self.desk.certificate is None else self.desk.certificate.ends

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Listen on bound sockets. They belong to the door from here on."""
        self._sockets = list(sockets)
        self._addresses = tuple(address(sock) for sock in self._sockets)
        for sock in self._sockets:
            self._servers.append(await self._serve(sock))
        self._schedule()

    async def _serve(self, sock: socket.socket) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        if sock.family != socket.AF_UNIX:
            return await loop.create_server(self._new_dialog, sock=sock, backlog=BACKLOG)
        if sys.version_info >= (3, 13):
            # Else closing would remove the file, which other workers still serve.
            return await loop.create_unix_server(self._new_dialog, sock=sock, backlog=BACKLOG, cleanup_socket=False)
        return await loop.create_unix_server(self._new_dialog, sock=sock, backlog=BACKLOG)

    def deafen(self) -> None:
        """Take no new connection any more. Those that are open do not notice."""
        for server in self._servers:
            server.close()

    async def drain(self, seconds: float) -> None:
        """Stop accepting, send idle clients away, let DATA and commits end within the bound, then abort the rest."""
        self.deafen()
        await asyncio.sleep(0)  # the loop has accepted some already that are not made yet
        self.desk.draining = True
        for dialog in list(self._dialogs):
            self._see_off(dialog, min(seconds, _FRESH_SECONDS))
        handlers = {dialog.task for dialog in self._dialogs if dialog.task is not None}
        running = handlers | self.desk.accepting
        if running:
            await asyncio.wait(running, timeout=seconds)
        for dialog in list(self._dialogs):
            dialog.abort()
        left = {task for task in handlers if not task.done()}
        if left:
            await asyncio.wait(left, timeout=1.0)
        if self._timer is not None:
            self._timer.cancel()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.close()
        if self.desk.accepting:
            self.desk.log.warning("drain.cut", door=self.DOOR.value, accepting=len(self.desk.accepting))

    def _see_off(self, dialog: Link, seconds: float) -> None:
        """Send one away: at once, or after so long where it has come a moment ago and could not know."""
        farewell = Farewell(line=command.CLOSING)
        if self._clock() - dialog.began < _FRESH_SECONDS:
            asyncio.get_running_loop().call_later(seconds, dialog.leave, farewell)
        else:
            dialog.leave(farewell)

    def sweep(self) -> None:
        """Look at every dialog's deadline."""
        now, overloaded = self._clock(), self.desk.connections.overloaded
        for dialog in list(self._dialogs):
            dialog.sweep(now, overloaded=overloaded)

    def _new_dialog(self) -> Link:
        dialog = self.DIALOG(self.desk, self._dialogs.discard)
        self._dialogs.add(dialog)
        return dialog

    def _schedule(self) -> None:
        smtp = self.desk.settings.smtp
        tick = min(_TICK, smtp.idle_seconds / 4, smtp.idle_seconds_overloaded / 4, smtp.session_seconds / 4)
        self._timer = asyncio.get_running_loop().call_later(tick, self._tick)

    def _tick(self) -> None:
        self.sweep()
        self._schedule()
