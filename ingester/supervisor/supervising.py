"""The supervisor: keeps a worker in every place, replaces them at a reload, and drains them all at the end.

It is one loop without threads, and touches neither mail nor database. It holds the sockets, so that neither a worker's
death nor a reload refuses a connection: what comes meanwhile waits in the kernel for the next worker of the place. At
the end they are closed before any worker drains: nobody waits for a daemon that takes no more.
"""

import gc
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import structlog

from ingester.settings import Service, Settings
from ingester.supervisor.birth import start_worker
from ingester.supervisor.crew import Crew, Place, Worker
from ingester.supervisor.doors import Sockets
from ingester.supervisor.notify import Notifier
from ingester.supervisor.reload import Unusable, changed_in_vain, keep_fixed
from ingester.supervisor.worker import DRAIN_SIGNALS, REPLACED
from ingester.telemetry import configure
from ingester.telemetry.shared import Shared

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
TICK_SECONDS: Final = 0.5
"""How long it sleeps at most; signals and words of workers wake it."""
YOUNG_SECONDS: Final = 10.0
"""A worker that dies younger than this might do so again: its place is filled after a pause."""
PAUSE_SECONDS: Final = 1.0
START_SECONDS: Final = 60.0
"""How long a worker may take until its loop turns."""
GRACE_SECONDS: Final = 10.0
"""How much longer than the drain the workers may take before they are killed."""

_log = structlog.get_logger(__name__)


def hold_reloads() -> None:
    """SIGHUP would end a process that has not got as far as to hear it: from here on it waits until there is a loop."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


class Supervisor:
    """Keeps a worker in every place until told to stop."""

    def __init__(
        self,
        settings: Settings,
        sockets: Sequence[Sockets],
        *,
        reread: Callable[[], Settings],
        check: Callable[[Settings], Iterable[str]],
        service: Service | None = None,
    ) -> None:
        """`sockets`: those of each place. `reread` gives the settings anew or raises Unusable. `check` gives what is
        wrong with them; it runs in the workers that are the first to have them, before they serve.
        """
        service = service or Service()
        self._settings = settings
        self._crew = Crew(sockets)
        self._reread = reread
        self._check = check
        self._notifier = Notifier(service.notify_socket)
        self._watchdog_seconds = service.watchdog_seconds
        self._selector = selectors.PollSelector()
        self._shared = Shared.make(len(sockets))
        self._before: Settings | None = None
        """The settings before the reload that is under way."""
        self._asked_to_reload = False
        self._stopping = False
        self._failed = False
        self._announced = False
        self._said = ""
        self._fed = self._looked = time.monotonic()

    def run(self) -> int:
        """Start the workers and wait for their end. Returns 0 when all of them ended in order."""
        # What all have in common is shared while nobody writes to it: the collector would, by going through it.
        gc.collect()
        gc.freeze()
        first = self._crew.places[0].sockets
        try:
            with self._hearing_signals():
                _log.info("supervising", workers=len(self._crew.places), pid=os.getpid(), **first.addresses)
                while not self._stopping or any(self._crew):
                    self._step()
        finally:
            self._shared.remove()
        return 1 if self._failed else 0

    def _step(self) -> None:
        for key, _ in self._selector.select(TICK_SECONDS):
            key.data()
        now = time.monotonic()
        self._bury(now)
        self._watch(now)
        if not self._stopping:
            if self._asked_to_reload and self._before is None:
                self._reload()
            self._fill(now)
            self._replace(now)
        self._tell(now)

    # -- births and deaths -------------------------------------------------------------------------------------------

    def _fill(self, now: float) -> None:
        """Start a worker where there is none. While a reload is under way, with the settings that are known to do."""
        for place in self._crew.places:
            if place.worker is None and now >= place.not_before:
                place.worker = self._start(place, self._before or self._settings, now)

    def _start(self, place: Place, settings: Settings, now: float, *, check: bool = False) -> Worker | None:
        try:
            worker = start_worker(
                place, settings, crew=self._crew, shared=self._shared, check=self._check if check else None
            )
        except OSError as error:
            _log.error("no worker could be started", error=error.strerror)
            place.not_before = now + PAUSE_SECONDS
            return None
        self._selector.register(worker.pipe, selectors.EVENT_READ, lambda: self._listen(worker))
        return worker

    def _listen(self, worker: Worker) -> None:
        if not worker.listen(time.monotonic()):
            self._selector.unregister(worker.pipe)

    def _bury(self, now: float) -> None:
        """Wait for those that have ended."""
        for worker in list(self._crew):
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if not pid:
                continue
            if worker.pipe in self._selector.get_map():
                worker.listen(now)
                self._selector.unregister(worker.pipe)
            if now - worker.born < YOUNG_SECONDS:
                worker.place.not_before = now + PAUSE_SECONDS
            succeeding = worker.place.successor is worker
            self._crew.forget(worker)
            self._shared.forget(worker.place.number)
            self._judge_end(worker, os.waitstatus_to_exitcode(status), succeeding=succeeding)

    def _judge_end(self, worker: Worker, status: int, *, succeeding: bool) -> None:
        # Those signals end it only while it has nothing to drain: before it listens, and when it has drained.
        in_order = status == 0 or -status in DRAIN_SIGNALS
        if self._stopping:
            self._failed = self._failed or not in_order
        elif worker.leaving:
            if not in_order:
                _log.error("a worker did not leave in order", pid=worker.pid, status=status)
        elif succeeding:
            self._refuse_reload(worker.faults or [f"a worker with the new settings ended with status {status}"])
        else:
            _log.error("worker died, starting another", pid=worker.pid, status=status)
            self._shared.restarted()

    def _watch(self, now: float) -> None:
        """Kill those that hang and those whose drain has lasted too long; let go those that leave by themselves."""
        if now - self._looked > 4 * TICK_SECONDS:
            # It was this process that slept, and perhaps the whole machine: nobody could be heard.
            for worker in self._crew:
                worker.heard = now
        self._looked = now
        limit = self._settings.watchdog_seconds
        for worker in list(self._crew):
            if worker.leaving and worker.kill_at is None:
                self._crew.see_off(worker)
                worker.kill_at = now + self._settings.drain_seconds + GRACE_SECONDS
            silent = now - worker.heard
            hangs = silent > (limit if worker.ready else max(limit, START_SECONDS)) if limit else False
            overdue = worker.kill_at is not None and now > worker.kill_at
            if (hangs or overdue) and not worker.killed:
                _log.error("killing a worker", pid=worker.pid, why="it hangs" if hangs else "its drain takes too long")
                worker.killed = True
                os.kill(worker.pid, signal.SIGKILL)

    def _dismiss(self, worker: Worker, now: float, how: signal.Signals = signal.SIGTERM) -> None:
        """Tell one to drain."""
        if not worker.leaving:
            self._crew.see_off(worker)
            worker.kill_at = now + self._settings.drain_seconds + GRACE_SECONDS
        os.kill(worker.pid, how)

    # -- the reload --------------------------------------------------------------------------------------------------

    def _reload(self) -> None:
        """Read the settings again. What is wrong with them is said once, and nothing changes."""
        self._asked_to_reload = False
        self._notifier.reloading()
        _log.info("reloading")
        self._before = self._settings
        try:
            new = self._reread()
        except Unusable as error:
            self._refuse_reload(error.faults)
            return
        for name in changed_in_vain(self._before, new):
            _log.warning("this takes a restart, not a reload", setting=name)
        self._wish(keep_fixed(self._before, new))

    def _wish(self, settings: Settings) -> None:
        """From now on, workers are to have these."""
        if settings.log != self._settings.log:
            configure(settings)
        self._settings = settings

    def _refuse_reload(self, faults: Sequence[str]) -> None:
        """Everything stays with the settings before it; a place that has the new ones already goes back to them."""
        _log.error("the new settings cannot be used, the old ones stay", faults=list(faults))
        if self._before is not None:
            before, self._before = self._before, None
            self._wish(before)
        self._notifier.ready("reload refused, the old settings stay: see the log")

    def _replace(self, now: float) -> None:
        """One after another: a worker with the settings that are wanted takes over when it is ready."""
        for place in self._crew.places:
            if place.successor is not None and place.successor.ready:
                if place.worker is not None:
                    self._dismiss(place.worker, now, REPLACED)
                place.worker, place.successor = place.successor, None
        if any(place.successor is not None for place in self._crew.places):
            return
        for place in self._crew.places:
            old = place.worker is not None and place.worker.settings is not self._settings
            if old and now >= place.not_before:
                place.successor = self._start(place, self._settings, now, check=self._before is not None)
                return
        if self._before is not None and self._crew.complete and not self._outdated:
            self._before = None
            _log.info("reloaded")
            self._notifier.ready(self._status)

    @property
    def _outdated(self) -> bool:
        """Whether somebody takes connections with other settings."""
        taking = [place.worker for place in self._crew.places] + [one for one in self._crew.leaving if not one.deaf]
        return any(worker is None or worker.settings is not self._settings for worker in taking)

    # -- signals, and what the service manager hears ---------------------------------------------------------------

    @contextmanager
    def _hearing_signals(self) -> Iterator[None]:
        """Signals wake the loop and are dealt with there, not wherever they arrive."""
        reader, writer = socket.socketpair()
        for end in (reader, writer):
            end.setblocking(False)
        with reader, writer:
            for number in SIGNALS:
                signal.signal(number, lambda *_: None)
            before = signal.set_wakeup_fd(writer.fileno())
            self._selector.register(reader, selectors.EVENT_READ, lambda: self._obey(reader.recv(4096)))
            # What `hold_reloads` has kept comes now.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            try:
                yield
            finally:
                signal.set_wakeup_fd(before)

    def _obey(self, numbers: bytes) -> None:
        if {signal.SIGTERM, signal.SIGINT} & set(numbers):
            self._stop(time.monotonic())
        if signal.SIGHUP in numbers:
            self._asked_to_reload = True

    def _stop(self, now: float) -> None:
        """Drain all workers; those that outlive the drain are killed."""
        if not self._stopping:
            self._stopping = True
            self._notifier.stopping()
            for place in self._crew.places:
                place.sockets.remove_files()
                for sock in place.sockets.every:
                    sock.close()
        for worker in list(self._crew):
            self._dismiss(worker, now)

    @property
    def _status(self) -> str:
        return f"{self._crew.served} of {len(self._crew.places)} workers serve"

    def _tell(self, now: float) -> None:
        """Say what has changed, and feed the watchdog of the service manager while all is well."""
        if self._stopping:
            return
        if self._crew.complete and not self._announced:
            self._announced = True
            self._said = self._status
            self._notifier.ready(self._said)
        if self._announced and self._said != self._status:
            self._said = self._status
            self._notifier.status(self._said)
        if self._watchdog_seconds and self._crew.complete and now - self._fed >= self._watchdog_seconds / 2:
            self._fed = now
            self._notifier.alive()
