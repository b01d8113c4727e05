"""What an erasure says of itself: counts, what is left and why, a time, and a checksum. Nothing is done here."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from typing import TypeAlias
from uuid import UUID

import msgspec

Watch: TypeAlias = Callable[[str, int], object]
"""Told how many rows of which table were gone through or removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mention:
    """A row that names the person and stays. `where` are its columns; `bytes` means the raw mail, or a part."""

    tenant: str
    table: str
    id: str
    where: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """Raw mails in an object store: how many had to go, and how many of these are there still."""

    queued: int
    left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What was done or, not `applied`, would be. Not `complete`: it is to be run again."""

    id: UUID
    at: datetime
    applied: bool
    complete: bool
    tenants: tuple[str, ...]
    address: str | None
    removed: dict[str, int]
    changed: dict[str, int]
    """Rows that stay, and do not name the person any more."""
    objects: Objects
    mentions: tuple[Mention, ...]
    kept: tuple[str, ...]
    sha256: str = ""
    """Of all the rest, as JSON with sorted keys."""


def sealed(receipt: Receipt) -> Receipt:
    """The receipt with its checksum."""
    text = msgspec.json.encode(replace(receipt, sha256=""), order="sorted")
    return replace(receipt, sha256=sha256(text).hexdigest())


def told(counts: Counter[str], without: Sequence[str] = ()) -> dict[str, int]:
    """Counts by name, those of nothing left out."""
    return {name: many for name, many in sorted(counts.items()) if many and name not in without}
