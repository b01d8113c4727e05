"""The wall clock, and ids made of it: what the pure parts must not have and are given."""

import os
import threading
import time
from datetime import UTC, datetime
from uuid import UUID

from ingester.core.ids import ENTROPY, stamped, tails

_AT_ONCE = 64
"""Ids whose random bytes are asked of the system in one call: the call costs as much as all the rest of an id."""


def now() -> datetime:
    """The wall clock, in UTC."""
    return datetime.now(UTC)


def new_id() -> UUID:
    """A fresh UUIDv7."""
    return stamped(time.time_ns() // 1_000_000, _pool.take(1)[0])


def new_ids(count: int) -> list[UUID]:
    """So many of them, of one moment."""
    unix_ms = time.time_ns() // 1_000_000
    return [stamped(unix_ms, tail) for tail in _pool.take(count)]


class _Pool:
    """What is random in ids that are not yet made. Each piece is given away once, to whatever thread asks.

    After a fork parent and child would hold the same pieces: the child begins with none.
    """

    __slots__ = ("_lock", "_tails")

    def __init__(self) -> None:
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._tails: list[int] = []

    def take(self, count: int) -> list[int]:
        with self._lock:
            held = self._tails
            if len(held) < count:
                held += tails(os.urandom(ENTROPY * max(count, _AT_ONCE)))
            rest = len(held) - count
            taken = held[rest:]
            del held[rest:]
        return taken


_pool = _Pool()
