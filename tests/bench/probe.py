"""A look into the daemon that it does not offer itself: how late its loop comes to what is due, and its open tasks.

`python -m tests.bench.probe serve` is `ingester serve` with one more task in each worker, which writes what it sees to
a file of its own. It changes nothing else. The reading side is for the benchmark.
"""

import asyncio
import os
from array import array
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any, Final

DIRECTORY: Final = "BENCH_PROBE_DIRECTORY"
"""Of the environment: where the files go."""
BEAT_SECONDS: Final = 0.005
_COUNT_EVERY: Final = 200
"""Beats between two looks at the tasks, which are counted one by one."""
_COLUMNS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Beats:
    """What was seen in a stretch of time: each beat's lag in seconds, how much of that the loop's own thread computed
    (the rest it waited for a processor, or for another thread), and the tasks of all workers at the end.
    """

    lags: Sequence[float]
    held: Sequence[float]
    tasks: int


def read(directory: Path, begun: float, ended: float) -> Beats:
    """All workers' beats between two times of `perf_counter`, which on Linux is the same clock in every process."""
    lags: list[float] = []
    held: list[float] = []
    tasks = 0
    for file in sorted(directory.glob("*.beats")):
        rows = array("d")
        data = file.read_bytes()
        rows.frombytes(data[: len(data) // (_COLUMNS * rows.itemsize) * _COLUMNS * rows.itemsize])
        at = [number for number in range(0, len(rows), _COLUMNS) if begun <= rows[number] <= ended]
        lags += [rows[number + 1] for number in at]
        held += [rows[number + 2] for number in at]
        tasks += int(rows[at[-1] + 3]) if at else 0
    return Beats(lags=lags, held=held, tasks=tasks)


async def beat(file: Path) -> None:
    """Note each beat, for ever: when it was due, how late it came, what this thread computed of that, the tasks."""
    with file.open("wb", buffering=0) as out:
        rows = array("d")
        tasks = len(asyncio.all_tasks())
        for number in count(1):
            due, computed = perf_counter() + BEAT_SECONDS, thread_time()
            await asyncio.sleep(BEAT_SECONDS)
            lag = max(0.0, perf_counter() - due)
            rows.extend((due, lag, min(lag, thread_time() - computed), tasks))
            if number % _COUNT_EVERY == 0:
                tasks = len(asyncio.all_tasks())
            # A stretch is read while the daemon lives: half a second is the most that it misses.
            if number % (_COUNT_EVERY // 2) == 0:
                out.write(rows.tobytes())
                del rows[:]


Serve = Callable[..., Coroutine[Any, Any, int]]


def _with_beats(serve: Serve, directory: Path) -> Serve:
    """A worker's main coroutine, with the beats beside it."""

    async def serve_with_beats(*arguments: Any, **named: Any) -> int:
        beats = asyncio.create_task(beat(directory / f"{os.getpid()}.beats"), name="probe")
        try:
            return await serve(*arguments, **named)
        finally:
            beats.cancel()

    return serve_with_beats


def main() -> None:
    """`ingester`, its workers watched."""
    from ingester.cli import main as ingester

    birth: Any = import_module("ingester.supervisor.birth")
    birth.serve_one = _with_beats(birth.serve_one, Path(os.environ[DIRECTORY]))
    ingester()


if __name__ == "__main__":
    main()
