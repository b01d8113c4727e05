"""A worker: one process that serves all doors, and tells its supervisor over a pipe how it is."""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from enum import StrEnum
from functools import partial
from typing import Final

import structlog
import uvloop

from ingester.app import App
from ingester.settings import Settings
from ingester.supervisor import memory
from ingester.supervisor.doors import Sockets
from ingester.telemetry import Telemetry
from ingester.telemetry.metrics import Metrics

BEAT_SECONDS: Final = 1.0
"""Seconds between two signs of life."""
REPLACED: Final = signal.SIGUSR1
"""Says like SIGTERM that it is to drain, and that another worker has taken its place."""
DRAIN_SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT, REPLACED})
_PR_SET_PDEATHSIG: Final = 1
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
    memory.keep_some()
    sys.setswitchinterval(_SWITCH_SECONDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


async def serve_one(settings: Settings, sockets: Sockets, line: Line, *, telemetry: Telemetry | None = None) -> int:
    """One worker: start, wait for a signal, drain. Exit status 0."""
    stop: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    _await_signals(stop)
    line.lost = lambda: _end(stop, replaced=False)
    beside = [asyncio.create_task(_beat(line)), asyncio.create_task(memory.give_back())]
    app = App(settings, telemetry=telemetry or Telemetry(Metrics()))
    await app.start(sockets.smtp, sockets.http, lmtp=sockets.lmtp, metrics=sockets.metrics)
    memory.spare_the_collector()
    line.say(Word.READY)
    _log.info("serving", **sockets.addresses, pid=os.getpid())
    replaced = await stop
    app.deafen(replaced=replaced)
    _log.info("draining", pid=os.getpid())
    line.say(Word.LEAVING)
    await app.drain()
    for task in beside:
        task.cancel()
    _log.info("stopped", pid=os.getpid())
    return 0


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
