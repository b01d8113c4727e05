"""Numbers of several processes: they add up, a restart goes on counting, what is dead is forgotten, files stay few."""

import asyncio
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from ingester.telemetry import metrics as names
from ingester.telemetry import shared as room
from ingester.telemetry.metrics import ALL, Metrics
from ingester.telemetry.seat import MODES
from ingester.telemetry.shared import Shared
from tests.cost import assert_loop_goes_on

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def shared() -> Iterator[Shared]:
    made = Shared.make(2)
    yield made
    made.remove()


class Worker:
    """A forked process that has entered, does one thing and waits for its end."""

    def __init__(self, shared: Shared, slot: int, work: Callable[[Metrics], object]) -> None:
        ours, theirs = FORK.Pipe()
        self._pipe = ours
        self.process = FORK.Process(target=_live, args=(shared, slot, work, theirs), daemon=True)
        self.process.start()
        assert ours.recv() == "done"

    def kill(self) -> None:
        """kill -9."""
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join()

    def again(self) -> None:
        """Do it once more."""
        self._pipe.send("again")
        assert self._pipe.recv() == "done"


def _live(shared: Shared, slot: int, work: Callable[[Metrics], object], pipe: Connection) -> None:
    shared.enter(slot)
    metrics = Metrics(shared)
    while True:
        work(metrics)
        pipe.send("done")
        pipe.recv()


def three(metrics: Metrics) -> None:
    """Three mails, and two open connections."""
    metrics.count(names.MAILS, "smtp", "accepted", "accepted", by=3)
    metrics.observe(names.MAIL_PARTS, 2)
    metrics.set(names.OPEN_CONNECTIONS, 2, "smtp")
    metrics.set(names.WORKERS, 1)
    metrics.set(names.READY, 1)


def value(shared: Shared, name: str) -> float:
    """The sum of a metric's samples, as somebody sees them who counts nothing."""
    found = [sample.value for family in Metrics(shared).collect() for sample in family.samples if sample.name == name]
    return float(sum(found))


def test_workers_add_up(shared: Shared) -> None:
    Worker(shared, 0, three), Worker(shared, 1, three)
    assert value(shared, "ingester_mails_total") == 6
    assert value(shared, "ingester_connections") == 4
    assert value(shared, "ingester_workers") == 2
    assert value(shared, "ingester_ready") == 1


def test_a_restart_goes_on_counting_and_the_dead_ones_gauges_are_forgotten(shared: Shared) -> None:
    other, victim = Worker(shared, 1, three), Worker(shared, 0, three)
    victim.kill()
    assert value(shared, "ingester_mails_total") == 6
    shared.forget(0)
    shared.restarted()
    assert value(shared, "ingester_mails_total") == 6
    assert value(shared, "ingester_connections") == 2
    files = set(shared.directory.glob("*.db"))
    Worker(shared, 0, three)
    assert value(shared, "ingester_mails_total") == 9
    assert value(shared, "ingester_mail_parts_count") == 3
    assert value(shared, "ingester_worker_restarts_total") == 1
    assert len(set(shared.directory.glob("*.db")) - files) == len(MODES)
    assert other.process.is_alive()


def test_two_in_one_slot_take_nothing_back_from_each_other(shared: Shared) -> None:
    """A reload: the new worker is there before the old one has drained."""
    old, new = Worker(shared, 0, three), Worker(shared, 0, three)
    old.again()
    new.again()
    old.again()
    assert value(shared, "ingester_mails_total") == 15
    old.kill()
    shared.forget(0)
    assert value(shared, "ingester_connections") == 2, "the living one's gauges stay"
    Worker(shared, 0, three)
    assert value(shared, "ingester_mails_total") == 18
    assert len(list(shared.directory.glob("counter_*.db"))) == 3, "two seats and the supervisor's"


def test_a_daemon_that_lacks_a_worker_is_not_ready(shared: Shared) -> None:
    Worker(shared, 0, three)
    assert value(shared, "ingester_ready") == 0
    Worker(shared, 1, three)
    assert value(shared, "ingester_ready") == 1


def test_what_nobody_reads_does_not_write_into_the_files(shared: Shared) -> None:
    def work(metrics: Metrics) -> None:
        three(metrics)
        three(Metrics())
        three(metrics)

    Worker(shared, 0, work)
    assert value(shared, "ingester_mails_total") == 6


def test_a_file_that_is_being_born_spoils_no_scrape(shared: Shared) -> None:
    Worker(shared, 0, three)
    (shared.directory / "counter_1.0.db").touch()
    assert value(shared, "ingester_mails_total") == 3


def test_the_reserved_space_holds_everything(shared: Shared) -> None:
    """In a full file system a page that is not there yet would kill the worker that writes to it."""

    def everything(metrics: Metrics) -> None:
        three(metrics)
        for one in ALL:
            for labels in one.begins or [("x" * 30,) * len(one.labels)]:
                metrics._find(one, labels)
        for number in range(200):
            metrics.count(names.HTTP_REQUESTS, f"/a/route/of/some/length/{number}", "200")

    Worker(shared, 0, everything)
    sizes = {file.name: file.stat().st_size for file in shared.directory.glob("*_0.0.db")}
    assert set(sizes.values()) == {512 << 10, 64 << 10}, sizes
    assert all(file.stat().st_blocks * 512 >= file.stat().st_size for file in shared.directory.glob("*_0.0.db"))


def test_what_a_killed_daemon_left_is_removed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_MEMORY", tmp_path)
    monkeypatch.setattr(room, "_YOUNG_SECONDS", -1.0)
    running = Shared.make(1)
    left = tmp_path / f"{room._PREFIX}left"
    left.mkdir()
    (left / "counter_0.0.db").touch()
    again = Shared.make(1)
    assert {path.name for path in tmp_path.iterdir()} == {running.directory.name, again.directory.name}
    for one in (running, again):
        one.remove()
    assert list(tmp_path.iterdir()) == []


def test_without_room_a_worker_counts_for_itself_alone(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    Worker(shared, 0, three).again()
    assert value(shared, "ingester_mails_total") == 0


def test_a_small_file_system_in_memory_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_MEMORY", tmp_path)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    made = Shared.make(10**9)
    assert made.directory.parent == tmp_path / "elsewhere"
    made.remove()


async def test_a_scrape_of_many_series_does_not_hold_the_loop(shared: Shared) -> None:
    """Eight workers that have counted everything there is: 8,000 samples in a thread beside the loop."""
    workers = [Worker(shared, slot, three) for slot in range(8)]
    reader = Metrics(shared)
    text = await assert_loop_goes_on(lambda: asyncio.to_thread(reader.exposition), seconds=0.025)
    assert b'ingester_mails_total{door="smtp",outcome="accepted",reason="accepted"} 24.0' in text
    assert all(worker.process.is_alive() for worker in workers)
