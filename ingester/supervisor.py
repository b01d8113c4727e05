"""Worker processes: run one, or supervise several behind SO_REUSEPORT. A dead one is started again; all drain together.

The supervisor does nothing else: no loop, no threads, no database. It holds the ports by bound sockets that never
listen, and the unix sockets for the workers, which share them.
"""

import asyncio
import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from types import FrameType

import structlog
import uvloop

from ingester.app import App
from ingester.settings import Listen, Settings, UnixListen
from ingester.transport.sockets import SocketFile, address, bind, bind_unix

RESTART_SECONDS = 1.0
"""A worker that dies younger than this is started again only after as long a pause."""
GRACE_SECONDS = 10.0
"""How much longer than the drain the workers may take before they are killed."""
_PR_SET_PDEATHSIG = 1
_M_MMAP_THRESHOLD = -3
_LARGE_BUFFER = 1 << 20
"""Bytes from which a buffer is given back to the kernel as soon as it is freed."""

_log = structlog.get_logger(__name__)


def run(main: Callable[[], Coroutine[None, None, int]]) -> int:
    """Run one coroutine function on uvloop and give its exit status."""
    _keep_memory_small()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


@dataclass(frozen=True, slots=True, kw_only=True)
class Sockets:
    """Bound sockets, by door, and the files of unix sockets that this process has made."""

    smtp: Sequence[socket.socket]
    http: Sequence[socket.socket]
    lmtp: Sequence[socket.socket]
    metrics: Sequence[socket.socket]
    files: Sequence[SocketFile]

    @property
    def unix(self) -> tuple[socket.socket, ...]:
        """Those that have a file: bound once, whatever the number of workers."""
        return tuple(one for one in self.lmtp if one.family == socket.AF_UNIX)

    def remove_files(self) -> None:
        """Let nobody find the unix sockets any more."""
        for file in self.files:
            file.remove()


def bind_all(settings: Settings, *, reuse_port: bool) -> Sockets:
    """Bind what the settings name. Raises OSError when an address cannot be had; then nothing stays bound."""
    lmtp, files = settings.lmtp, []
    with ExitStack() as undo:
        smtp = [undo.enter_context(one) for one in bind(settings.smtp.listen, reuse_port=reuse_port)]
        http = [undo.enter_context(one) for one in bind(settings.http.listen, reuse_port=reuse_port)]
        metrics = [undo.enter_context(one) for one in bind(settings.metrics.listen, reuse_port=reuse_port)]
        tcp = [where for where in lmtp.listen if isinstance(where, Listen)]
        ours = [undo.enter_context(one) for one in bind(tcp, reuse_port=reuse_port)]
        for where in lmtp.listen:
            if isinstance(where, UnixListen):
                sock = bind_unix(where, mode=int(lmtp.socket_mode, 8), group=lmtp.socket_group)
                ours.append(undo.enter_context(sock))
                files.append(SocketFile.of(sock))
                undo.callback(files[-1].remove)
        undo.pop_all()
    return Sockets(smtp=smtp, http=http, lmtp=ours, metrics=metrics, files=files)


async def serve_one(settings: Settings, sockets: Sockets) -> int:
    """One worker: start, wait for SIGTERM or SIGINT, drain. Exit status 0."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    app = App(settings)
    await app.start(sockets.smtp, sockets.http, lmtp=sockets.lmtp)
    _log.info("serving", **_addresses(sockets), pid=os.getpid())
    await stop.wait()
    sockets.remove_files()
    _log.info("draining", pid=os.getpid())
    await app.drain()
    _log.info("stopped", pid=os.getpid())
    return 0


def _addresses(sockets: Sockets) -> dict[str, list[str]]:
    """Where each door listens, for the log."""
    doors = {"smtp": sockets.smtp, "lmtp": sockets.lmtp, "http": sockets.http, "metrics": sockets.metrics}
    return {name: [str(address(one)) for one in listeners] for name, listeners in doors.items() if listeners}


class Supervisor:
    """Keeps `workers` processes alive until told to stop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._workers: dict[int, float] = {}
        self._reserved: Sockets | None = None
        self._stopping = False

    def run(self) -> int:
        """Fork the workers and wait for them. Returns 0 when all of them ended in order."""
        self._reserved = reserved = bind_all(self._settings, reuse_port=True)
        settings = _with_ports(self._settings, reserved)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        _log.info("supervising", workers=settings.workers, **_addresses(reserved))
        failed = False
        while not self._stopping or self._workers:
            while not self._stopping and len(self._workers) < settings.workers:
                self._start(settings, reserved.unix)
            pid, status = self._wait()
            if pid == 0:
                continue
            born = self._workers.pop(pid)
            if self._stopping:
                failed = failed or status != 0
                continue
            _log.error("worker died, starting another", pid=pid, status=os.waitstatus_to_exitcode(status))
            if time.monotonic() - born < RESTART_SECONDS:
                time.sleep(RESTART_SECONDS)
        return 1 if failed else 0

    def _start(self, settings: Settings, unix: Sequence[socket.socket]) -> None:
        parent = os.getpid()
        ours = {signal.SIGTERM, signal.SIGINT}
        # Between fork and its own handlers the child must not run ours: it would signal its siblings.
        signal.pthread_sigmask(signal.SIG_BLOCK, ours)
        # Told to stop a moment ago: a worker that is born now would not hear of it.
        pid = -1 if self._stopping else os.fork()
        if pid:
            if pid > 0:
                self._workers[pid] = time.monotonic()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ours)
            return
        status = 1
        try:
            for number in (*ours, signal.SIGALRM):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ours)
            _die_with(parent)
            bound = bind_all(settings, reuse_port=True)
            sockets = replace(bound, lmtp=(*bound.lmtp, *unix))
            status = run(lambda: serve_one(settings, sockets))
        except Exception:  # noqa: BLE001  (the child must not unwind into the supervisor's code)
            _log.exception("worker failed")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _wait(self) -> tuple[int, int]:
        try:
            return os.waitpid(-1, 0)
        except ChildProcessError:
            return 0, 0

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Drain all workers; those that outlive the drain are killed."""
        del number, frame
        if not self._stopping:
            self._stopping = True
            signal.signal(signal.SIGALRM, self._kill)
            signal.setitimer(signal.ITIMER_REAL, self._settings.drain_seconds + GRACE_SECONDS)
            self._close_unix()
        self._signal(signal.SIGTERM)

    def _close_unix(self) -> None:
        """While this process held them, the kernel would take connections that no worker accepts any more."""
        if self._reserved is not None:
            self._reserved.remove_files()
            for one in self._reserved.unix:
                one.close()

    def _kill(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        for pid in list(self._workers):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def _with_ports(settings: Settings, reserved: Sockets) -> Settings:
    """The settings with the ports that the kernel chose, so that all workers bind the same; unix sockets they share."""
    smtp = settings.smtp.model_copy(update={"listen": _tcp(reserved.smtp)})
    http = settings.http.model_copy(update={"listen": _tcp(reserved.http)})
    lmtp = settings.lmtp.model_copy(update={"listen": _tcp(reserved.lmtp)})
    metrics = settings.metrics.model_copy(update={"listen": _tcp(reserved.metrics)})
    return settings.model_copy(update={"smtp": smtp, "http": http, "lmtp": lmtp, "metrics": metrics})


def _tcp(sockets: Sequence[socket.socket]) -> tuple[Listen, ...]:
    return tuple(where for where in map(address, sockets) if isinstance(where, Listen))


def _die_with(parent: int) -> None:
    """Drain when the supervisor is killed -9: nobody would start or stop this worker any more. Linux only."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)


def _keep_memory_small() -> None:
    """Fix the size from which glibc maps a buffer by itself. Left alone it grows to 32 MiB with the first large mail,
    and what a few mails have used is then never given back. Another C library has no such call and needs none.
    """
    if sys.platform == "linux":
        with suppress(AttributeError):
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BUFFER)
