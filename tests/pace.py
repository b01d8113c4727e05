"""How fast this machine is just now, so that bounds in seconds hold on every machine and under every load.

A second of CPU is no fixed amount of work: two busy threads that share a core do each little more than half of it.
"""

import re
from statistics import median
from time import process_time
from typing import Final

QUIET_SECONDS: Final = 0.009
"""What the yardstick takes on a machine with two cores of the kind that the bounds were set on, nothing else running;
with both busy it takes 0.015."""
SLOWEST: Final = 2.5
"""A machine that is slower yet gets no more: a bound that gives way to everything is none."""
RUNS: Final = 5

_FIELD: Final = re.compile(rb"([!-9;-~]+)[ \t]*:(.*)")


def slowness() -> float:
    """How many times as long as on the quiet machine work takes now: 1 to SLOWEST. Takes a tenth of a second."""
    return min(max(median(_measure() for _ in range(RUNS)) / QUIET_SECONDS, 1.0), SLOWEST)


def _measure() -> float:
    begun = process_time()
    _work()
    return process_time() - begun


def _work() -> None:
    """What most of our code does: pieces of octets found, decoded, counted."""
    seen: dict[str, int] = {}
    for number in range(12_000):
        found = _FIELD.fullmatch(b"X-Field-%d: some value %d" % (number % 500, number))
        assert found is not None
        name = found[1].decode().lower()
        seen[name] = seen.get(name, 0) + len(found[2].strip())
