"""What a piece of work costs in CPU, or holds the loop, asserted so that only the work itself can fail the test.

One measurement says little: the garbage collector walks the objects of all tests before (a full collection of a large
test process takes 300 ms), and a busy machine takes the processor and its caches away. So the collector is off
meanwhile, and one run within the bound is enough: noise only adds. Code that has become slow is slow in every run.
Bounds are those of a quiet machine. Where another is slower, or two threads share a core, each of its seconds counts
for less: `tests/pace.py`.

The work may run five times and must do the same each time: what it changes, it makes anew.
"""

import asyncio
import gc
import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from time import perf_counter, process_time
from typing import TypeVar

from tests.pace import slowness

RUNS = 5
Found = TypeVar("Found")


def assert_cheap(work: Callable[[], Found], *, seconds: float) -> Found:
    """What the work gives. A run must take less than so many seconds of CPU; all threads of the process count."""
    runs = _Runs(seconds)
    while True:
        with _collector_off():
            begun = process_time()
            found = work()
            spent = process_time() - begun
        if runs.suffice(spent):
            return found


async def assert_cheap_to_await(work: Callable[[], Awaitable[Found]], *, seconds: float) -> Found:
    """The same for work that is awaited: what other tasks of the loop do meanwhile counts too."""
    runs = _Runs(seconds)
    while True:
        with _collector_off():
            begun = process_time()
            found = await work()
            spent = process_time() - begun
        if runs.suffice(spent):
            return found


async def assert_loop_goes_on(work: Callable[[], Awaitable[Found]], *, seconds: float) -> Found:
    """What the work gives. In a run the loop must never be held for so many seconds.

    By the clock, as CPU time does not show who waits for the interpreter lock of another thread.
    """
    runs = _Runs(seconds)
    while True:
        with _collector_off():
            watch = asyncio.create_task(_longest_hold(over := asyncio.Event()))
            await asyncio.sleep(0)
            try:
                found = await work()
            finally:
                over.set()
                longest = await watch
        if runs.suffice(longest):
            return found


async def _longest_hold(over: asyncio.Event) -> float:
    """The longest time in seconds that the loop did not come back to this task."""
    longest, tick = 0.0, 0.001
    while not over.is_set():
        begun = perf_counter()
        await asyncio.sleep(tick)
        longest = max(longest, perf_counter() - begun - tick)
    return longest


@contextmanager
def _collector_off() -> Iterator[None]:
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


class _Runs:
    """The runs up to now, against their bound in seconds."""

    def __init__(self, bound: float) -> None:
        self._bound = bound
        self._count = 0
        self._least = math.inf

    def suffice(self, seconds: float) -> bool:
        """Whether a run was within the bound; this was the latest. AssertionError when none of them all was."""
        self._count += 1
        self._least = min(self._least, seconds if seconds < self._bound else seconds / slowness())
        if self._least < self._bound:
            return True
        best = f"{self._least:.3f} s at the pace of a quiet machine in the best of {RUNS} runs"
        assert self._count < RUNS, f"{best}, not below {self._bound} s"
        return False
