"""Readers that take turns over the same inputs, in CPU time: what slows the machine down slows all of them alike."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from time import process_time
from typing import TypeVar

Input = TypeVar("Input")

CHUNK = 25
"""Inputs that one reader takes before the next has its turn."""
_ENOUGH_SECONDS = 0.02
"""A growth is taken from times that last longer than the clock's grain and a collection of garbage."""
_TRIES = 4
"""The best of so many: what counts is what the code needs."""


def take_turns(
    readers: Sequence[Callable[[Input], object]], inputs: Sequence[Input], runs: int, *, chunk: int = CHUNK
) -> list[list[float]]:
    """CPU-seconds of each reader over all inputs, a row for each run. A first run, not counted, warms up."""
    taken: list[list[float]] = []
    for number in range(runs + 1):
        seconds = [0.0] * len(readers)
        for at in range(0, len(inputs), chunk):
            some = inputs[at : at + chunk]
            for index, reader in enumerate(readers):
                seconds[index] += seconds_of(reader, some)
        if number:
            taken.append(seconds)
    return taken


def seconds_of(reader: Callable[[Input], object], inputs: Sequence[Input]) -> float:
    begun = process_time()
    for one in inputs:
        reader(one)
    return process_time() - begun


def medians(taken: Sequence[Sequence[float]]) -> list[float]:
    """Of each reader's runs."""
    return [statistics.median(column) for column in zip(*taken, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """How cost grows with size: 1 is linear, 2 quadratic, 0 that a cap holds it. `seconds` are those of the largest."""

    exponent: float
    seconds: float


def growth(make: Callable[[int], Input], work: Callable[[Input], object], size: int, *, most: float) -> Growth:
    """Measure with `size` and four times as much. What seems to grow by more than `most` is measured again.

    Cost makes a step where another room takes over, as where HTML is too large to be laid out: on either side of it
    cost is linear, across it steep. So what stays steep is also measured with a quarter and with four times the sizes,
    and the median counts: what truly grows is steep in two of the three. Small costs are repeated until they last long
    enough to be compared.
    """
    found = _best(make, work, size, most)
    if found.exponent <= most:
        return found
    beside = (_best(make, work, size // 4, most), _best(make, work, 4 * size, most))
    return sorted((found, *beside), key=lambda one: one.exponent)[1]


def _best(make: Callable[[int], Input], work: Callable[[Input], object], size: int, most: float) -> Growth:
    small, large = make(size), make(4 * size)
    found = _growth(small, large, work)
    for _ in range(_TRIES - 1):
        if found.exponent <= most:
            break
        found = min(found, _growth(small, large, work), key=lambda one: one.exponent)
    return found


def _growth(small: Input, large: Input, work: Callable[[Input], object]) -> Growth:
    first, last = _seconds_each(small, work), _seconds_each(large, work)
    return Growth(exponent=log(last / first, 4), seconds=last)


def _seconds_each(one: Input, work: Callable[[Input], object]) -> float:
    once = max(seconds_of(work, [one]), 1e-6)
    if once >= _ENOUGH_SECONDS:
        return once
    repeats = int(_ENOUGH_SECONDS / once) + 1
    return max(seconds_of(work, [one] * repeats) / repeats, 1e-9)
