"""Erasing messages: their rows, their parts and, where nothing else needs them, their raw bytes.

The receipts stay: they hold no mail text, and who fetches mail from a bucket knows by them what has come already. The
claims stay, so that a retry does not bring a message back (design page, Claims). Answers stay matched in their
conversation and lose the link alone.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from ingester.core.address import normalise
from ingester.store.db import Connection

MOVES: Final = 10
"""How often a message may change its thread while we wait for the lock on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """What goes, or would go. `raw_id` is None where another mail or a dead letter needs the bytes."""

    tenant_id: UUID
    message_id: UUID
    thread_id: UUID
    left: int
    """Messages that stay in the thread; without any the thread goes too."""
    answers: int
    parts: int
    raw_id: UUID | None
    size: int
    blob_key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """Rows that went with messages, by table; `objects` are those that are to go from the object store."""

    rows: Counter[str]
    message_ids: tuple[UUID, ...]


_RAW_IS_FREE: Final = """
    -- The deliveries of one mail have one Message-ID, by which each mailbox is looked up.
    NOT EXISTS (
        SELECT FROM mailboxes b JOIN messages o ON o.tenant_id = b.tenant_id AND o.mailbox_id = b.id
        WHERE b.tenant_id = $1 AND o.rfc_id_hash = m.rfc_id_hash AND o.raw_id = m.raw_id AND o.id <> m.id)
    AND NOT EXISTS (
        SELECT FROM dead_letters d
        WHERE d.tenant_id = $1 AND d.raw_id = m.raw_id AND d.state <> 'redriven')
"""


async def preview(connection: Connection, tenant_id: UUID, message_id: UUID) -> Erased | None:
    """What `erase` would do; nothing is written. None when there is no such message."""
    row = await connection.fetchrow(
        f"""
        SELECT m.thread_id, m.size, r.id AS raw_id, r.blob_key,
               (SELECT count(*) FROM messages o
                WHERE o.tenant_id = m.tenant_id AND o.thread_id = m.thread_id AND o.id <> m.id) AS left,
               (SELECT count(*) FROM messages a
                WHERE a.tenant_id = m.tenant_id AND a.reply_to_email_id = m.id) AS answers,
               (SELECT count(*) FROM parts p WHERE p.tenant_id = m.tenant_id AND p.message_id = m.id) AS parts
        FROM messages m
        LEFT JOIN raws r ON r.tenant_id = m.tenant_id AND r.id = m.raw_id AND {_RAW_IS_FREE}
        WHERE m.tenant_id = $1 AND m.id = $2
        """,  # noqa: S608  (only our own words are put in)
        tenant_id,
        message_id,
    )
    return None if row is None else Erased(tenant_id=tenant_id, message_id=message_id, **dict(row))


async def erase(connection: Connection, tenant_id: UUID, message_id: UUID) -> Erased | None:
    """Erase a message in one transaction. None when there is no such message.

    The object of its bytes, if they lie in one, is noted in the trash by the trigger on `raws`.
    """
    async with connection.transaction():
        for _ in range(MOVES):
            rows = await lock(connection, tenant_id, [message_id])
            erased = await preview(connection, tenant_id, message_id)
            if rows or erased is None:
                break
        if erased is None or not rows:
            return None
        await remove(connection, tenant_id, rows)
        return erased


async def lock(
    connection: Connection, tenant_id: UUID, message_ids: Sequence[UUID], *, wait: bool = True, raws: bool = True
) -> Sequence[Any]:
    """Lock the threads in id order, as all writers do first, then the messages, in the caller's transaction.

    Gives the rows that are locked now. A message that has changed its thread while we waited is not among them, nor,
    without `wait`, one whose conversation somebody else is writing to. `raws`: the bytes are to go too.
    """
    skip = "" if wait else "SKIP LOCKED"
    threads = await connection.fetch(
        f"""
        SELECT h.id FROM threads h
        WHERE h.tenant_id = $1 AND h.id = ANY (ARRAY(
            SELECT m.thread_id FROM messages m WHERE m.tenant_id = $1 AND m.id = ANY ($2::uuid[])))
        ORDER BY h.id FOR UPDATE {skip}
        """,  # noqa: S608
        tenant_id,
        message_ids,
    )
    rows = await connection.fetch(
        """
            SELECT id, thread_id, raw_id, rfc_id_hash, from_address, to_addresses, cc_addresses
            FROM messages WHERE tenant_id = $1 AND id = ANY ($2::uuid[]) AND thread_id = ANY ($3::uuid[])
            ORDER BY id FOR UPDATE
            """,
        tenant_id,
        message_ids,
        [row["id"] for row in threads],
    )
    if raws:  # no sibling may go at the same time, or each would leave the bytes to the other
        await connection.execute(
            "SELECT FROM raws WHERE tenant_id = $1 AND id = ANY ($2::uuid[]) ORDER BY id FOR UPDATE",
            tenant_id,
            [row["raw_id"] for row in rows],
        )
    return list(rows)


async def remove(
    connection: Connection, tenant_id: UUID, rows: Sequence[Any], *, raws: bool = True, forget_ours: bool = True
) -> Removed:
    """Remove locked messages with all that is theirs, in the caller's transaction.

    Without `raws` the bytes are left to somebody else. Without `forget_ours` a conversation that held a message of ours
    stays one, though that message goes: whoever takes part in it may go on.
    """
    ids = [row["id"] for row in rows]
    counts: Counter[str] = Counter()
    if not rows:
        return Removed(rows=counts, message_ids=())
    for table, key in (("parts", "message_id"), ("delivery_events", "message_id"), ("messages", "id")):
        status = await connection.execute(
            f"DELETE FROM {table} WHERE tenant_id = $1 AND {key} = ANY ($2::uuid[])",  # noqa: S608
            tenant_id,
            ids,
        )
        counts[table] = count_of(status)
    if raws:
        counts += await _delete_raws(connection, tenant_id, rows)
    await _release_answers(connection, tenant_id, ids)
    left = await _shrink_threads(connection, tenant_id, rows, forget_ours=forget_ours)
    counts["participants"] = await _forget_absent(connection, tenant_id, rows, left)
    counts += await _remove_threads(connection, tenant_id, {row["thread_id"] for row in rows} - left)
    return Removed(rows=counts, message_ids=tuple(ids))


def count_of(status: str) -> int:
    """How many rows a statement says that it has changed."""
    return int(status.rpartition(" ")[2])


async def _delete_raws(connection: Connection, tenant_id: UUID, rows: Sequence[Any]) -> Counter[str]:
    """Delete the raw bytes that nobody needs any more."""
    gone = await connection.fetch(
        f"""
        DELETE FROM raws r USING unnest($2::uuid[], $3::uuid[], $4::bytea[]) AS m(id, raw_id, rfc_id_hash)
        WHERE r.tenant_id = $1 AND r.id = m.raw_id AND {_RAW_IS_FREE}
        RETURNING r.blob_key IS NOT NULL AS outside
        """,  # noqa: S608
        tenant_id,
        *(
            list(column)
            for column in zip(*((row["id"], row["raw_id"], row["rfc_id_hash"]) for row in rows), strict=True)
        ),
    )
    return Counter(raws=len(gone), objects=sum(row["outside"] for row in gone))


async def _release_answers(connection: Connection, tenant_id: UUID, ids: Sequence[UUID]) -> None:
    await connection.execute(
        """
        UPDATE messages
        SET reply_to_email_id = NULL, decision = decision || jsonb_build_object('answered_erased', reply_to_email_id)
        WHERE tenant_id = $1 AND reply_to_email_id = ANY ($2::uuid[])
        """,
        tenant_id,
        ids,
    )


async def _shrink_threads(
    connection: Connection, tenant_id: UUID, rows: Sequence[Any], *, forget_ours: bool
) -> set[UUID]:
    """Threads forget the messages: their count, their subject if it began there. Gives those that have some left.

    Their ids stay known: an answer that is still on its way belongs to this conversation.
    """
    many = Counter(row["thread_id"] for row in rows)
    left = await connection.fetch(
        """
        UPDATE threads h SET
            message_count = h.message_count - g.many,
            last_message_at = first.newest,
            has_outbound = h.has_outbound AND (NOT $5 OR EXISTS (
                SELECT FROM messages o
                WHERE o.tenant_id = $1 AND o.thread_id = h.id AND o.direction = 'outbound')),
            root_message_id = CASE WHEN h.root_message_id = ANY ($4) THEN first.id ELSE h.root_message_id END,
            subject = CASE WHEN h.root_message_id = ANY ($4) THEN first.subject ELSE h.subject END
        FROM unnest($2::uuid[], $3::integer[]) AS g(thread_id, many)
        CROSS JOIN LATERAL (
            SELECT m.id, m.subject, (
                SELECT max(n.received_at) FROM messages n
                WHERE n.tenant_id = $1 AND n.thread_id = g.thread_id) AS newest
            FROM messages m WHERE m.tenant_id = $1 AND m.thread_id = g.thread_id
            ORDER BY m.received_at, m.id LIMIT 1
        ) AS first
        WHERE h.tenant_id = $1 AND h.id = g.thread_id
        RETURNING h.id
        """,
        tenant_id,
        list(many),
        list(many.values()),
        [row["id"] for row in rows],
        forget_ours,
    )
    return {row["id"] for row in left}


async def _forget_absent(connection: Connection, tenant_id: UUID, rows: Sequence[Any], left: Collection[UUID]) -> int:
    """Who took part in the removed messages alone takes part no more."""
    named = {
        (row["thread_id"], spelling)
        for row in rows
        if row["thread_id"] in left
        for address in (row["from_address"], *row["to_addresses"], *row["cc_addresses"])
        if address is not None
        for spelling in (address.lower(), normalise(address))
    }
    status = await connection.execute(
        """
        DELETE FROM participants p USING unnest($2::uuid[], $3::text[]) AS n(thread_id, address)
        WHERE p.tenant_id = $1 AND p.thread_id = n.thread_id AND p.address = n.address AND NOT EXISTS (
            SELECT FROM messages m, unnest(m.from_address || m.to_addresses || m.cc_addresses) AS a(address)
            WHERE m.tenant_id = $1 AND m.thread_id = n.thread_id AND lower(a.address) = p.address)
        """,
        tenant_id,
        [thread_id for thread_id, _ in named],
        [address for _, address in named],
    )
    return count_of(status)


async def _remove_threads(connection: Connection, tenant_id: UUID, thread_ids: Collection[UUID]) -> Counter[str]:
    """A thread without a message is none; a mail that cites its ids later begins a new one."""
    counts: Counter[str] = Counter()
    for table, key in (("participants", "thread_id"), ("thread_ids", "thread_id"), ("threads", "id")):
        status = await connection.execute(
            f"DELETE FROM {table} WHERE tenant_id = $1 AND {key} = ANY ($2::uuid[])",  # noqa: S608
            tenant_id,
            list(thread_ids),
        )
        counts[table] = count_of(status)
    return counts
