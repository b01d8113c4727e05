"""Removing the next rows that are over their time, of one tenant (`store/due.py` finds whose they are).

Each function is one small transaction, and finds its batch through an index. A conversation that mail is arriving in is
left for the next time.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Generic, TypeVar
from uuid import UUID

import asyncpg

from ingester.store.db import Connection
from ingester.store.due import LETTER_IS_DUE, PART_IS_DUE, RAW_IS_DUE, DueMailbox, Kind, Limits, floor
from ingester.store.erasing import count_of, lock, remove
from ingester.store.registry import enter_alone

BATCH: Final = 100
"""Messages, or raw mails, that go in one transaction."""
BATCH_BYTES: Final = 32 << 20
"""Bytes of raw mails that do."""
STEP: Final = 1000
"""Small rows that do."""
PATIENCE: Final = "200ms"
"""How long we wait for a lock; whoever brings mail would wait behind us."""
_FIRST: Final = UUID(int=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """How far a mailbox has been gone through, in the order in which its messages came."""

    received_at: datetime
    message_id: UUID


Cursor = TypeVar("Cursor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch(Generic[Cursor]):
    """The rows that went with one batch, by table. `after` is where the next begins; None: there is none."""

    rows: Counter[str]
    after: Cursor | None


DUE_MESSAGES: Final = """
    SELECT id, received_at FROM messages
    WHERE tenant_id = $1 AND mailbox_id = $2 AND received_at < $3 AND received_at >= $4 AND (received_at, id) > ($4, $5)
    ORDER BY received_at, id LIMIT $6
"""


async def expire_messages(connection: Connection, due: DueMailbox, after: Place | None) -> Batch[Place]:
    """Remove the oldest messages of a mailbox with their parts, and the conversations that are empty then."""
    async with connection.transaction():
        await _be_brief(connection)
        found = await connection.fetch(
            DUE_MESSAGES,
            due.tenant_id,
            due.mailbox_id,
            due.before,
            after.received_at if after else datetime.min.replace(tzinfo=due.before.tzinfo),
            after.message_id if after else _FIRST,
            BATCH,
        )
        if not found:
            return Batch(rows=Counter(), after=None)
        ids = [row["id"] for row in found]
        rows = await lock(connection, due.tenant_id, ids, wait=False, raws=False)
        removed = await remove(connection, due.tenant_id, rows, raws=False, forget_ours=False)
        last = Place(received_at=found[-1]["received_at"], message_id=found[-1]["id"])
        return Batch(rows=removed.rows, after=last if len(found) == BATCH else None)


DUE_RAWS: Final = f"""
    SELECT r.id, r.size FROM raws r
    WHERE r.tenant_id = $1 AND r.id > $2 AND {RAW_IS_DUE.format(young="$3", before="$4")} ORDER BY r.id LIMIT $5
"""  # noqa: S608  (only our own words are put in)


async def expire_raws(connection: Connection, one: Limits, after: UUID | None) -> Batch[UUID]:
    """Remove the oldest raw bytes, but those of dead letters, which are nothing else."""
    async with connection.transaction():
        await _be_brief(connection)
        found = await connection.fetch(DUE_RAWS, one.tenant_id, after or _FIRST, floor(one.raws), one.raws, BATCH)
        ids: list[UUID] = []
        size = 0
        for row in found:
            if ids and size + row["size"] > BATCH_BYTES:
                break
            ids.append(row["id"])
            size += row["size"]
        status = await connection.execute(
            """
            DELETE FROM raws r USING (
                SELECT id FROM raws WHERE tenant_id = $1 AND id = ANY ($2::uuid[]) ORDER BY id FOR UPDATE SKIP LOCKED
            ) o WHERE r.tenant_id = $1 AND r.id = o.id
            """,
            one.tenant_id,
            ids,
        )
        return Batch(rows=Counter(raws=count_of(status)), after=ids[-1] if ids else None)


DUE_PARTS: Final = f"""
    SELECT message_id, ordinal FROM parts WHERE tenant_id = $1 AND {PART_IS_DUE.format(young="$2")} LIMIT $3
"""  # noqa: S608


async def expire_parts(connection: Connection, one: Limits, _: UUID | None) -> Batch[UUID]:
    """Empty the oldest parts that have bytes of their own: they are not in the raw bytes, and go when these do."""
    status = await connection.execute(
        f"""
        UPDATE parts p SET data = '' FROM ({DUE_PARTS} FOR UPDATE SKIP LOCKED) o
        WHERE p.tenant_id = $1 AND p.message_id = o.message_id AND p.ordinal = o.ordinal
        """,  # noqa: S608
        one.tenant_id,
        floor(one.raws),
        BATCH,
    )
    emptied = count_of(status)
    return Batch(rows=Counter(emptied_parts=emptied), after=_FIRST if emptied == BATCH else None)


DUE_RECEIPTS: Final = """
    SELECT id FROM receipts WHERE tenant_id = $1 AND id > $2 AND id < $3 ORDER BY id LIMIT $4
"""


async def expire_receipts(connection: Connection, one: Limits, after: UUID | None) -> Batch[UUID]:
    """Remove the oldest receipts."""
    rows = await connection.fetch(
        f"""
        WITH o AS ({DUE_RECEIPTS} FOR UPDATE SKIP LOCKED), gone AS (
            DELETE FROM receipts r USING o WHERE r.tenant_id = $1 AND r.id = o.id
        )
        SELECT id FROM o ORDER BY id
        """,  # noqa: S608
        one.tenant_id,
        after or _FIRST,
        floor(one.receipts),
        STEP,
    )
    return Batch(rows=Counter(receipts=len(rows)), after=rows[-1]["id"] if len(rows) == STEP else None)


DUE_LETTERS: Final = f"""
    SELECT id, raw_id, state FROM dead_letters
    WHERE tenant_id = $1 AND {LETTER_IS_DUE.format(settled="$2::timestamptz", unsettled="$3::timestamptz")} LIMIT $4
"""  # noqa: S608


async def expire_letters(connection: Connection, one: Limits, _: UUID | None) -> Batch[UUID]:
    """Remove dead letters: those that were redriven or discarded, and the others, with their bytes, when it is time."""
    async with connection.transaction():
        await _be_brief(connection)
        rows = await connection.fetch(
            f"{DUE_LETTERS} FOR UPDATE SKIP LOCKED", one.tenant_id, one.settled, one.messages, BATCH
        )
        letters = await connection.execute(
            "DELETE FROM dead_letters WHERE tenant_id = $1 AND id = ANY ($2::uuid[])",
            one.tenant_id,
            [row["id"] for row in rows],
        )
        # The bytes of a letter that was redriven are its message's.
        raws = await connection.execute(
            "DELETE FROM raws WHERE tenant_id = $1 AND id = ANY ($2::uuid[])",
            one.tenant_id,
            [row["raw_id"] for row in rows if row["state"] != "redriven"],
        )
        gone = Counter(dead_letters=count_of(letters), raws=count_of(raws))
        return Batch(rows=gone, after=_FIRST if len(rows) == BATCH else None)


LONELY_CONTACTS: Final = """
    SELECT c.id, EXISTS (SELECT FROM messages m WHERE m.tenant_id = c.tenant_id AND m.contact_id = c.id)
              OR EXISTS (SELECT FROM participants p WHERE p.tenant_id = c.tenant_id AND p.contact_id = c.id) AS needed
    FROM contacts c
    WHERE c.tenant_id = $1 AND c.id > $2 AND c.id < $3 ORDER BY c.id LIMIT $4
"""


async def expire_contacts(connection: Connection, one: Limits, after: UUID | None) -> Batch[UUID]:
    """Remove old contacts that no mail and no conversation names any more."""
    found = await connection.fetch(LONELY_CONTACTS, one.tenant_id, after or _FIRST, floor(one.messages), STEP)
    lonely = [row["id"] for row in found if not row["needed"]]
    removed = await _remove_lonely(connection, one.tenant_id, lonely) if lonely else 0
    return Batch(rows=Counter(contacts=removed), after=found[-1]["id"] if len(found) == STEP else None)


async def _remove_lonely(connection: Connection, tenant_id: UUID, contact_ids: Sequence[UUID]) -> int:
    """Remove those of them that are lonely still.

    A mail that names one may be on its way: nobody writes for the tenant while we look, a few milliseconds.
    """
    async with connection.transaction():
        await _be_brief(connection)
        await enter_alone(connection, tenant_id)
        status = await connection.execute(
            """
            DELETE FROM contacts c WHERE c.tenant_id = $1 AND c.id = ANY ($2::uuid[])
              AND NOT EXISTS (SELECT FROM messages m WHERE m.tenant_id = $1 AND m.contact_id = c.id)
              AND NOT EXISTS (SELECT FROM participants p WHERE p.tenant_id = $1 AND p.contact_id = c.id)
            """,
            tenant_id,
            contact_ids,
        )
        return count_of(status)


EXPIRE: Final[Mapping[Kind, Callable[[Connection, Limits, UUID | None], Awaitable[Batch[UUID]]]]] = {
    Kind.LETTERS: expire_letters,
    Kind.RAWS: expire_raws,
    Kind.PARTS: expire_parts,
    Kind.RECEIPTS: expire_receipts,
}


def is_held(error: Exception) -> bool:
    """Whether somebody else holds what we wanted."""
    return isinstance(error, asyncpg.LockNotAvailableError | asyncpg.DeadlockDetectedError)


async def _be_brief(connection: Connection) -> None:
    await connection.execute("SELECT set_config('lock_timeout', $1, true)", PATIENCE)
