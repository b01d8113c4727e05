"""Where log lines go when nobody reads: a real pipe, filled to the brim."""

import fcntl
import io
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TextIO

import pytest

from ingester.telemetry import outlet
from ingester.telemetry.outlet import Outlet

SECONDS = 30.0


@dataclass(slots=True)
class Pipe:
    """A pipe with an outlet on it. `losses` is what was told of."""

    reader: int
    writer: TextIO
    losses: list[int] = field(default_factory=list)
    told: threading.Event = field(default_factory=threading.Event)
    out: Outlet = field(init=False)

    def __post_init__(self) -> None:
        self.out = Outlet(self.writer, self.lose)

    def lose(self, lines: int) -> None:
        self.losses.append(lines)
        self.told.set()

    def fill(self) -> int:
        """Write until the kernel takes no more. Gives the number of bytes."""
        flags = fcntl.fcntl(self.writer.fileno(), fcntl.F_GETFL)
        fcntl.fcntl(self.writer.fileno(), fcntl.F_SETFL, flags | os.O_NONBLOCK)
        filled = 0
        with suppress(BlockingIOError):
            while True:
                filled += os.write(self.writer.fileno(), b"x" * 4096)
        fcntl.fcntl(self.writer.fileno(), fcntl.F_SETFL, flags)
        return filled

    def read(self, size: int) -> bytes:
        got = b""
        while len(got) < size:
            got += os.read(self.reader, size - len(got))
        return got


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        yield Pipe(reader, stream)
        os.close(reader)


def test_with_room_a_line_is_written_at_once_and_without_a_thread(pipe: Pipe) -> None:
    before = threading.active_count()
    pipe.out.write("one\n")
    assert pipe.read(4) == b"one\n"
    assert threading.active_count() == before


def test_without_room_nobody_waits_and_the_lines_come_later_in_their_order(pipe: Pipe) -> None:
    filled = pipe.fill()
    begun = time.perf_counter()
    lines = [f"line {number}\n" for number in range(1000)]
    for line in lines:
        pipe.out.write(line)
    assert time.perf_counter() - begun < 1
    pipe.read(filled)
    assert pipe.read(sum(map(len, lines))).decode() == "".join(lines)
    pipe.out.finish(SECONDS)
    pipe.out.write("and then\n")
    assert pipe.read(9) == b"and then\n"
    assert not pipe.losses


def test_what_finds_no_place_is_lost_and_told_of(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet, "WAITING", 10)
    filled = pipe.fill()
    for _ in range(50):
        pipe.out.write("x\n")
    pipe.read(filled)
    assert pipe.told.wait(SECONDS)
    (lost,) = pipe.losses
    assert 39 <= lost <= 40, "one may be in the hands of the thread"
    assert pipe.read((50 - lost) * 2) == b"x\n" * (50 - lost)


def test_a_line_longer_than_a_pipe_takes_in_one_piece(pipe: Pipe) -> None:
    long = "x" * 300_000 + "\n"
    pipe.out.write(long)
    assert pipe.read(len(long)).decode() == long


def test_a_reader_that_is_gone_harms_nobody(pipe: Pipe) -> None:
    os.dup2(os.open(os.devnull, os.O_RDONLY), pipe.reader)
    pipe.out.write("into the void\n")
    pipe.out.write("x" * 10_000)
    pipe.out.finish(SECONDS)


def test_the_end_waits_no_longer_than_it_may(pipe: Pipe) -> None:
    pipe.fill()
    pipe.out.write("nobody reads this\n")
    begun = time.perf_counter()
    pipe.out.finish(0.05)
    assert time.perf_counter() - begun < 1


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_does_not_repeat_what_waits_in_its_parent(pipe: Pipe) -> None:
    filled = pipe.fill()
    pipe.out.write("parent\n")
    child = os.fork()
    if child == 0:
        pipe.out.write("child\n")
        pipe.out.finish(SECONDS)
        os._exit(0)
    pipe.read(filled)
    assert sorted(pipe.read(13).decode().splitlines()) == ["child", "parent"]
    assert os.waitpid(child, 0)[1] == 0
    pipe.out.finish(SECONDS)


def test_a_stream_in_memory_gets_the_line() -> None:
    stream = io.StringIO()
    Outlet(stream, lambda _: None).write("one\n")
    assert stream.getvalue() == "one\n"
