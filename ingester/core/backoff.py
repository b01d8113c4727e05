"""Pauses between tries of what may pass: short at first, doubling, bounded. Pure."""

from collections.abc import Iterator

FIRST_SECONDS = 0.05
MOST_SECONDS = 2.0


def pauses(first: float = FIRST_SECONDS, most: float = MOST_SECONDS) -> Iterator[float]:
    """Seconds to wait before the second try, the third, and so on without end."""
    pause = first
    while True:
        yield pause
        pause = min(pause * 2, most)
