"""A worker: one process that serves all doors, and tells its supervisor over a pipe how it is."""

import asyncio
import ctypes
import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from enum import StrEnum
from functools import partial
from typing import Final

import structlog
import uvloop

from ingester.app import App
from ingester.settings import Settings
from ingester.supervisor.doors import Sockets
from ingester.telemetry import Telemetry
from ingester.telemetry.metrics import Metrics

BEAT_SECONDS: Final = 1.0
"""Seconds between two signs of life."""
REPLACED: Final = signal.SIGUSR1
"""Says like SIGTERM that it is to drain, and that another worker has taken its place."""
DRAIN_SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT, REPLACED})
_PR_SET_PDEATHSIG: Final = 1
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_LARGE_BUFFER: Final = 1 << 20
"""Bytes from which a buffer has a mapping of its own, which grows without a copy and is gone as soon as it is freed."""
_SPARE_BYTES: Final = 16 << 20
"""How much free memory of smaller ones a worker keeps for the next mails."""
_YOUNG_OBJECTS: Final = 10_000
"""How many more objects there may be before the garbage collector looks at the new ones, instead of Python's 700."""
_SWITCH_SECONDS: Final = 0.001
"""For how long a thread that scans a large mail lets the loop wait for the interpreter, instead of Python's 5 ms."""

_log = structlog.get_logger(__name__)


class Word(StrEnum):
    """What a worker says, one a line."""

    READY = "ready"
    """Every door listens."""
    ALIVE = "alive"
    """The loop turns."""
    LEAVING = "leaving"
    """It drains, and takes no new connection any more."""
    UNUSABLE = "unusable"
    """It cannot serve with its settings; a fault follows, one such line each."""


class Line:
    """The worker's end of the pipe. When the supervisor is gone, `lost` is called."""

    def __init__(self, descriptor: int, lost: Callable[[], object] = lambda: None) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self.lost = lost

    def say(self, word: Word, text: str = "") -> None:
        """Say it, if the supervisor listens: one that has stopped reading must not stop the worker."""
        try:
            os.write(self._descriptor, f"{word} {' '.join(text.split())}\n".encode())
        except BlockingIOError:
            pass
        except OSError:
            self.lost()


def run(main: Callable[[], Coroutine[None, None, int]]) -> int:
    """Run one coroutine function on uvloop and give its exit status."""
    _keep_some_memory()
    sys.setswitchinterval(_SWITCH_SECONDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


async def serve_one(settings: Settings, sockets: Sockets, line: Line, *, telemetry: Telemetry | None = None) -> int:
    """One worker: start, wait for a signal, drain. Exit status 0."""
    stop: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    _await_signals(stop)
    line.lost = lambda: _end(stop, replaced=False)
    beats = asyncio.create_task(_beat(line))
    app = App(settings, telemetry=telemetry or Telemetry(Metrics()))
    await app.start(sockets.smtp, sockets.http, lmtp=sockets.lmtp, metrics=sockets.metrics)
    _spare_the_collector()
    line.say(Word.READY)
    _log.info("serving", **sockets.addresses, pid=os.getpid())
    replaced = await stop
    app.deafen(replaced=replaced)
    _log.info("draining", pid=os.getpid())
    line.say(Word.LEAVING)
    await app.drain()
    beats.cancel()
    _log.info("stopped", pid=os.getpid())
    return 0


def _spare_the_collector() -> None:
    """Let the garbage collector pass over all that is there for good: walking it holds the loop for 40 ms (law 9), and
    takes the memory that the workers share apart. And let it come less often: a mail leaves nothing that only the
    collector could find.
    """
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)


def _await_signals(stop: "asyncio.Future[bool]") -> None:
    loop = asyncio.get_running_loop()
    for number in DRAIN_SIGNALS:
        loop.add_signal_handler(number, partial(_end, stop, replaced=number is REPLACED))


def _end(stop: "asyncio.Future[bool]", *, replaced: bool) -> None:
    """The result says whether another worker has the place already."""
    if not stop.done():
        stop.set_result(replaced)


async def _beat(line: Line) -> None:
    while True:
        line.say(Word.ALIVE)
        await asyncio.sleep(BEAT_SECONDS)


def die_with(parent: int) -> None:
    """Drain when the supervisor is killed -9: nobody would start or stop this worker any more. Linux only; elsewhere
    the broken pipe says it.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)


def _keep_some_memory() -> None:
    """Fix what glibc gives back to the kernel. Left alone the first bound grows to 32 MiB with the first large mail, so
    that what a few mails have used is never given back; with it fixed, the second is so small that each mail's memory
    is given back and faulted in again, page by page. Another C library has no such call and needs none.
    """
    if sys.platform == "linux":
        with suppress(AttributeError):
            library = ctypes.CDLL(None)
            library.mallopt(_M_MMAP_THRESHOLD, _LARGE_BUFFER)
            library.mallopt(_M_TRIM_THRESHOLD, _SPARE_BYTES)
