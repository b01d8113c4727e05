"""What there is to read of dead letters: lists for operators, the pages of a redrive, piles to be counted.

Everything that waits is found by an index that holds nothing else, however many letters there have been.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from ingester.store.db import Connection

UNKNOWN_VERSION: Final = "unknown"
"""What a letter was buried by whose version did not say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Buried:
    """A dead letter as it lies in the table."""

    tenant_id: UUID
    id: UUID
    kind: str
    state: str
    reason: str
    detail: str
    envelope: dict[str, Any]
    raw_id: UUID
    attempts: int
    created_at: datetime
    buried_by: str
    """The version that could not digest it, last of all."""
    settled_at: datetime | None
    settled_by: str | None
    why: str | None
    size: int
    """Bytes of the mail; 0 where they are gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """Which letters are meant; what is None does not matter. `until` is the first moment that is too late."""

    tenant_id: UUID | None = None
    reason: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    buried_by: str | None = None
    not_by: str | None = None
    """Only those of other versions than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pile:
    """Letters that wait, of one reason and one version."""

    reason: str
    buried_by: str
    count: int
    oldest: datetime


_COLUMNS: Final = """d.tenant_id, d.id, d.kind, d.state, d.reason, d.detail, d.envelope, d.raw_id, d.attempts,
                     d.created_at, coalesce(d.buried_by, 'unknown') AS buried_by, d.settled_at, d.settled_by, d.why,
                     coalesce(r.size, 0) AS size"""
_FROM: Final = "dead_letters d LEFT JOIN raws r ON r.tenant_id = d.tenant_id AND r.id = d.raw_id"
_MEANT: Final = """
    ($1::uuid IS NULL OR d.tenant_id = $1) AND ($2::text IS NULL OR d.reason = $2)
    AND ($3::timestamptz IS NULL OR d.created_at >= $3) AND ($4::timestamptz IS NULL OR d.created_at < $4)
    AND ($5::text IS NULL OR coalesce(d.buried_by, 'unknown') = $5)
    AND ($6::text IS NULL OR d.buried_by IS DISTINCT FROM $6)
"""


def _meant(which: Which) -> tuple[object, ...]:
    return which.tenant_id, which.reason, which.since, which.until, which.buried_by, which.not_by


async def letters(connection: Connection, which: Which, *, state: str | None, limit: int) -> list[Buried]:
    """Letters in one state, or in any, newest first (the operator's view: of all tenants where none is named)."""
    # The index of those that wait is only taken where the state stands in the statement.
    in_state = "d.state = 'dead' AND $7 = 'dead'" if state == "dead" else "($7::text IS NULL OR d.state = $7)"
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM {_FROM} WHERE {in_state} AND {_MEANT} ORDER BY d.created_at DESC, d.id LIMIT $8",  # noqa: S608
        *_meant(which),
        state,
        limit,
    )
    return [Buried(**dict(row)) for row in rows]


async def waiting(
    connection: Connection, which: Which, *, after: tuple[datetime, UUID] | None = None, limit: int
) -> list[Buried]:
    """Letters that wait, oldest first, a page at a time: `after` is the time and the id of the last one seen."""
    moment, last = after or (None, None)
    rows = await connection.fetch(
        f"""
        SELECT {_COLUMNS} FROM {_FROM}
        WHERE d.state = 'dead' AND {_MEANT} AND ($7::timestamptz IS NULL OR (d.created_at, d.id) > ($7, $8::uuid))
        ORDER BY d.created_at, d.id LIMIT $9
        """,  # noqa: S608  (only our own constants are put in)
        *_meant(which),
        moment,
        last,
        limit,
    )
    return [Buried(**dict(row)) for row in rows]


async def piles(connection: Connection, which: Which) -> list[Pile]:
    """Those that wait, counted by reason and version, the largest pile first."""
    rows = await connection.fetch(
        f"""
        SELECT d.reason, coalesce(d.buried_by, 'unknown') AS buried_by, count(*)::integer AS count,
               min(d.created_at) AS oldest
        FROM dead_letters d WHERE d.state = 'dead' AND {_MEANT}
        GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2
        """,  # noqa: S608
        *_meant(which),
    )
    return [Pile(**dict(row)) for row in rows]


async def letter(connection: Connection, letter_id: UUID) -> Buried | None:
    """One dead letter by id (the operator's view): a look-up by key in each tenant."""
    row = await connection.fetchrow(
        f"""
        SELECT {_COLUMNS}
        FROM tenants t CROSS JOIN LATERAL (
            SELECT x.* FROM dead_letters x WHERE x.tenant_id = t.id AND x.id = $1 OFFSET 0
        ) d LEFT JOIN raws r ON r.tenant_id = d.tenant_id AND r.id = d.raw_id
        """,  # noqa: S608
        letter_id,
    )
    return None if row is None else Buried(**dict(row))


def versions(heap: Sequence[Pile], but: str) -> dict[str, int]:
    """How many letters each other version has buried."""
    found: dict[str, int] = {}
    for pile in heap:
        if pile.buried_by != but:
            found[pile.buried_by] = found.get(pile.buried_by, 0) + pile.count
    return found
