"""The door of one worker: listening sockets, the dialogs behind them, their deadlines, and the drain."""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final

from ingester.settings import Listen, Settings
from ingester.transport import command
from ingester.transport.desk import Acceptance, Desk
from ingester.transport.smtp import SmtpDialog
from ingester.transport.smtp_link import Farewell, Link

_BACKLOG: Final = 1024
_TICK: Final = 1.0
"""Seconds between two looks at the deadlines, at most."""


def bind(listen: Sequence[Listen], *, reuse_port: bool) -> list[socket.socket]:
    """Listening sockets for these addresses; a host name may give several. `[::]` takes IPv4 as well.

    Raises OSError when an address cannot be had; what was bound before is closed again.
    """
    sockets: list[socket.socket] = []
    try:
        for where in listen:
            also_v4 = any(other.host == "0.0.0.0" and other.port == where.port for other in listen)  # noqa: S104
            sockets += _bind_one(where, reuse_port=reuse_port, dual=where.host == "::" and not also_v4)
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _bind_one(where: Listen, *, reuse_port: bool, dual: bool) -> list[socket.socket]:
    host = where.host
    if host == "::" and dual and not _has_ipv6():
        host = "0.0.0.0"  # noqa: S104  (the default must work on a machine without IPv6)
    found = socket.getaddrinfo(host, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets = []
    for family, kind, protocol, _, address in dict.fromkeys(found):
        sock = socket.socket(family, kind, protocol)
        sockets.append(sock)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
            sock.bind(address)
        except OSError as error:
            for each in sockets:
                each.close()
            raise OSError(error.errno, f"cannot listen on {where}: {error.strerror}") from None
    return sockets


def _has_ipv6() -> bool:
    if not socket.has_ipv6:
        return False
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind(("::", 0))
    except OSError:
        return False
    return True


class SmtpDoor:
    """Everything of SMTP in one process. Three verbs: start, then it runs by itself, drain."""

    def __init__(
        self, *, settings: Settings, pipeline: Acceptance, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Raises ValueError or CertificateError on settings that cannot work."""
        hostname = settings.smtp.hostname or socket.gethostname() or "localhost"
        self.desk = Desk(settings=settings, pipeline=pipeline, hostname=hostname, clock=clock)
        self._clock = clock
        self._dialogs: set[Link] = set()
        self._servers: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []
        self._addresses: tuple[Listen, ...] = ()
        self._timer: asyncio.TimerHandle | None = None
        # aiosmtpd logs addresses at INFO and above (design page, law 11).
        for name in ("mail.log", "mail.debug"):
            logging.getLogger(name).disabled = True

    @property
    def addresses(self) -> tuple[Listen, ...]:
        """Where it listens, with the ports that the kernel chose."""
        return self._addresses

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Listen on bound sockets. They belong to the door from here on."""
        loop = asyncio.get_running_loop()
        self._sockets = list(sockets)
        names = [sock.getsockname() for sock in self._sockets]
        self._addresses = tuple(Listen(host=name[0], port=name[1]) for name in names)
        for sock in self._sockets:
            self._servers.append(await loop.create_server(self._new_dialog, sock=sock, backlog=_BACKLOG))
        self._schedule()

    async def drain(self, seconds: float) -> None:
        """Stop accepting, send idle clients away, let DATA and commits end within the bound, then abort the rest."""
        self.desk.draining = True
        for server in self._servers:
            server.close()
        for dialog in list(self._dialogs):
            dialog.leave(Farewell(line=command.CLOSING))
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
            self.desk.log.warning("smtp.drain_cut", accepting=len(self.desk.accepting))

    def sweep(self) -> None:
        """Look at every dialog's deadline."""
        now, overloaded = self._clock(), self.desk.connections.overloaded
        for dialog in list(self._dialogs):
            dialog.sweep(now, overloaded=overloaded)

    def _new_dialog(self) -> SmtpDialog:
        dialog = SmtpDialog(self.desk, self._dialogs.discard)
        self._dialogs.add(dialog)
        return dialog

    def _schedule(self) -> None:
        smtp = self.desk.settings.smtp
        tick = min(_TICK, smtp.idle_seconds / 4, smtp.idle_seconds_overloaded / 4, smtp.session_seconds / 4)
        self._timer = asyncio.get_running_loop().call_later(tick, self._tick)

    def _tick(self) -> None:
        self.sweep()
        self._schedule()
