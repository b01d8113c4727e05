"""What is over its time, and whose. Asked for hundreds of tenants at once: most have nothing, and cost no statement.

Each is found by one look-up by key: messages by mailbox and time, what else there is by its id, which tells when it was
made (UUIDv7).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from ingester.core.ids import uuid7
from ingester.store.db import Connection


class Kind(StrEnum):
    """What goes on its own, not with its message."""

    LETTERS = "letters"
    RAWS = "raws"
    PARTS = "parts"
    RECEIPTS = "receipts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The moments of one tenant before which its rows are over their time; None: none of them ever is."""

    tenant_id: UUID
    messages: datetime | None
    """Of dead letters that are dead, too."""
    raws: datetime | None
    receipts: datetime | None
    settled: datetime | None
    """Of dead letters that were redriven or discarded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DueMailbox:
    """A mailbox with messages that were received before `before`."""

    tenant_id: UUID
    mailbox_id: UUID
    before: datetime


DUE_MAILBOXES: Final = """
    SELECT b.tenant_id, b.id AS mailbox_id, k.before
    FROM unnest($1::uuid[], $2::timestamptz[]) AS k(tenant_id, before)
    JOIN mailboxes b ON b.tenant_id = k.tenant_id
    CROSS JOIN LATERAL (
        SELECT FROM messages m
        WHERE m.tenant_id = b.tenant_id AND m.mailbox_id = b.id AND m.received_at < k.before
        LIMIT 1
    ) due
    ORDER BY b.tenant_id, b.id
"""


async def due_mailboxes(connection: Connection, limits: Sequence[Limits]) -> list[DueMailbox]:
    """The mailboxes of these tenants with messages that are over their time."""
    some = [one for one in limits if one.messages is not None]
    rows = await connection.fetch(DUE_MAILBOXES, [one.tenant_id for one in some], [one.messages for one in some])
    return [DueMailbox(**dict(row)) for row in rows]


LETTER_IS_DUE: Final = "created_at < greatest({settled}, {unsettled}) AND (created_at < {unsettled} OR state <> 'dead')"
RAW_IS_DUE: Final = """
    r.id < {young} AND r.created_at < {before}
    AND NOT EXISTS (SELECT FROM dead_letters d
                    WHERE d.tenant_id = r.tenant_id AND d.raw_id = r.id AND d.state = 'dead')
"""
PART_IS_DUE: Final = "message_id < {young} AND octet_length(data) > 0"

DUE_KINDS: Final = f"""
    WITH k AS (
        SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::timestamptz[], $5::uuid[],
                             $6::uuid[]) AS k(tenant_id, unsettled, settled, before, young, young_receipt)
    )
    SELECT k.tenant_id, 'letters' AS kind FROM k CROSS JOIN LATERAL (
        SELECT FROM dead_letters WHERE tenant_id = k.tenant_id
          AND {LETTER_IS_DUE.format(settled="k.settled", unsettled="k.unsettled")} LIMIT 1) x
    UNION ALL
    SELECT k.tenant_id, 'raws' FROM k CROSS JOIN LATERAL (
        SELECT FROM raws r WHERE r.tenant_id = k.tenant_id
          AND {RAW_IS_DUE.format(young="k.young", before="k.before")} ORDER BY r.id LIMIT 1) x
    UNION ALL
    SELECT k.tenant_id, 'parts' FROM k CROSS JOIN LATERAL (
        SELECT FROM parts WHERE tenant_id = k.tenant_id AND {PART_IS_DUE.format(young="k.young")} LIMIT 1) x
    UNION ALL
    SELECT k.tenant_id, 'receipts' FROM k CROSS JOIN LATERAL (
        SELECT FROM receipts r WHERE r.tenant_id = k.tenant_id AND r.id < k.young_receipt ORDER BY r.id LIMIT 1) x
"""  # noqa: S608  (only our own words are put in)


async def due_kinds(connection: Connection, limits: Sequence[Limits]) -> Mapping[UUID, Collection[Kind]]:
    """What each of these tenants has that is over its time."""
    rows = await connection.fetch(
        DUE_KINDS,
        [one.tenant_id for one in limits],
        [one.messages for one in limits],
        [one.settled for one in limits],
        [one.raws for one in limits],
        [floor(one.raws) for one in limits],
        [floor(one.receipts) for one in limits],
    )
    found: dict[UUID, set[Kind]] = {}
    for row in rows:
        found.setdefault(row["tenant_id"], set()).add(Kind(row["kind"]))
    return found


async def due_messages(connection: Connection, tenant_id: UUID, before: datetime | None) -> int:
    """How many messages of a tenant are over their time."""
    return int(
        await connection.fetchval(
            """
            SELECT count(*) FROM mailboxes b JOIN messages m ON m.tenant_id = b.tenant_id AND m.mailbox_id = b.id
            WHERE b.tenant_id = $1 AND m.received_at < $2
            """,
            tenant_id,
            before,
        )
    )


def floor(moment: datetime | None) -> UUID | None:
    """The least id that is made at this moment (UUIDv7: RFC 9562, 5.7); for none there is none."""
    return None if moment is None else uuid7(unix_ms=int(moment.timestamp() * 1000), entropy=bytes(10))
