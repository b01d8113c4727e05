"""How a worker is born: a fork of the supervisor, which lets go of everything that is not its own."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable

import structlog

from ingester.settings import Settings
from ingester.supervisor.crew import Crew, Place, Worker
from ingester.supervisor.worker import Line, Word, die_with, run, serve_one
from ingester.telemetry import Telemetry, finish, keep_loggers, mail_lines
from ingester.telemetry.metrics import Metrics
from ingester.telemetry.shared import Shared

Check = Callable[[Settings], Iterable[str]]
"""Gives what is wrong with settings, one sentence each."""

_OURS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_UNUSABLE = 78
"""Exit status of a worker that cannot serve with its settings (sysexits(3): EX_CONFIG)."""

_log = structlog.get_logger(__name__)


def start_worker(place: Place, settings: Settings, *, crew: Crew, shared: Shared, check: Check | None) -> Worker:
    """Fork a worker. With `check` it looks at its settings first. Raises OSError where there is no room for it."""
    parent = os.getpid()
    reader, writer = os.pipe()
    # Between fork and its own handlers the child must not run ours.
    signal.pthread_sigmask(signal.SIG_BLOCK, _OURS)
    try:
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            _be_worker(place, settings, writer, parent, crew=crew, shared=shared, check=check)
    except OSError:
        os.close(reader)
        raise
    finally:
        os.close(writer)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _OURS)
    os.set_blocking(reader, False)
    now = time.monotonic()
    return Worker(pid=pid, place=place, settings=settings, pipe=reader, born=now, heard=now)


def _be_worker(
    place: Place, settings: Settings, writer: int, parent: int, *, crew: Crew, shared: Shared, check: Check | None
) -> None:
    """The child's whole life. It never returns: nothing may unwind into the supervisor's code."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in _OURS:
            signal.signal(number, signal.SIG_DFL)
        # To a whole group of processes it means the supervisor.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _OURS)
        die_with(parent)
        _let_go(place, crew)
        shared.enter(place.number)
        keep_loggers()
        line = Line(writer)
        faults = list(check(settings)) if check is not None else []
        for fault in faults:
            line.say(Word.UNUSABLE, fault)
        telemetry = Telemetry(Metrics(shared), worker=place.number, log_mail=mail_lines())
        status = _UNUSABLE if faults else run(lambda: serve_one(settings, place.sockets, line, telemetry=telemetry))
    except Exception:  # noqa: BLE001  (whatever it is, this process ends here)
        _log.exception("worker failed")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        finish()
        os._exit(status)


def _let_go(place: Place, crew: Crew) -> None:
    """Close what belongs to the supervisor and to other workers: a socket is closed when nobody has it any more."""
    for worker in crew:
        os.close(worker.pipe)
    own = {sock.fileno() for sock in place.sockets.every}
    others = {sock for each in crew.places for sock in each.sockets.every}
    for sock in others:
        if sock.fileno() not in own:
            sock.close()
