"""The wall clock, and ids made of it: what the pure parts must not have and are given."""

import os
import time
from datetime import UTC, datetime
from uuid import UUID

from ingester.core.ids import ENTROPY, uuid7

_IDS_AT_ONCE = 64
"""Ids whose random bytes are asked of the system in one call: the call costs as much as all the rest of an id."""


def now() -> datetime:
    """The wall clock, in UTC."""
    return datetime.now(UTC)


def new_id() -> UUID:
    """A fresh UUIDv7."""
    return uuid7(unix_ms=time.time_ns() // 1_000_000, entropy=_pool.take())


class _Pool:
    """Random bytes of the system that no id has used yet. Each piece is given away once, to whatever thread asks.

    After a fork parent and child hold the same bytes: the child throws its own away.
    """

    __slots__ = ("_pieces", "_process")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._process = 0

    def take(self) -> bytes:
        process = os.getpid()
        if process != self._process:
            self._pieces, self._process = [], process
        try:
            return self._pieces.pop()
        except IndexError:
            data = os.urandom(ENTROPY * _IDS_AT_ONCE)
            fresh = [data[at : at + ENTROPY] for at in range(0, len(data), ENTROPY)]
            piece = fresh.pop()
            self._pieces.extend(fresh)
            return piece


_pool = _Pool()
