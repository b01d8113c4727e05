"""The wall clock, and ids made of it: what the pure parts must not have and are given."""

import os
import time
from datetime import UTC, datetime
from uuid import UUID

from ingester.core.ids import uuid7


def now() -> datetime:
    """The wall clock, in UTC."""
    return datetime.now(UTC)


def new_id() -> UUID:
    """A fresh UUIDv7."""
    return uuid7(unix_ms=time.time_ns() // 1_000_000, entropy=os.urandom(10))
