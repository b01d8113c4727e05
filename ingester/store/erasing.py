"""Erasing one message: its row, its parts and, where nothing else needs them, its raw bytes.

The receipts stay: they hold no mail text, and who fetches mail from a bucket knows by them what has come already. The
claims stay, so that a retry does not bring the message back (design page, Claims). Answers stay matched in their
conversation and lose the link alone.
"""

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

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


async def preview(connection: Connection, tenant_id: UUID, message_id: UUID) -> Erased | None:
    """What `erase` would do; nothing is written. None when there is no such message."""
    row = await connection.fetchrow(
        """
        SELECT m.thread_id, m.size, r.id AS raw_id, r.blob_key,
               (SELECT count(*) FROM messages o
                WHERE o.tenant_id = m.tenant_id AND o.thread_id = m.thread_id AND o.id <> m.id) AS left,
               (SELECT count(*) FROM messages a
                WHERE a.tenant_id = m.tenant_id AND a.reply_to_email_id = m.id) AS answers,
               (SELECT count(*) FROM parts p WHERE p.tenant_id = m.tenant_id AND p.message_id = m.id) AS parts
        FROM messages m
        -- The deliveries of one mail have one Message-ID, by which each mailbox is looked up.
        LEFT JOIN raws r ON r.tenant_id = m.tenant_id AND r.id = m.raw_id
          AND NOT EXISTS (
            SELECT FROM mailboxes b JOIN messages o ON o.tenant_id = b.tenant_id AND o.mailbox_id = b.id
            WHERE b.tenant_id = m.tenant_id AND o.rfc_id_hash = m.rfc_id_hash AND o.raw_id = m.raw_id AND o.id <> m.id)
          AND NOT EXISTS (
            SELECT FROM dead_letters d
            WHERE d.tenant_id = m.tenant_id AND d.raw_id = m.raw_id AND d.state <> 'redriven')
        WHERE m.tenant_id = $1 AND m.id = $2
        """,
        tenant_id,
        message_id,
    )
    return None if row is None else Erased(tenant_id=tenant_id, message_id=message_id, **dict(row))


async def erase(connection: Connection, tenant_id: UUID, message_id: UUID) -> Erased | None:
    """Erase a message in one transaction. None when there is no such message.

    The object of its bytes, if they lie in one, is noted in the trash by the trigger on `raws`.
    """
    async with connection.transaction():
        message = await _lock(connection, tenant_id, message_id)
        erased = None if message is None else await preview(connection, tenant_id, message_id)
        if message is None or erased is None:
            return None
        await connection.execute("DELETE FROM parts WHERE tenant_id = $1 AND message_id = $2", tenant_id, message_id)
        await connection.execute(
            "DELETE FROM delivery_events WHERE tenant_id = $1 AND message_id = $2", tenant_id, message_id
        )
        await connection.execute("DELETE FROM messages WHERE tenant_id = $1 AND id = $2", tenant_id, message_id)
        await _release_answers(connection, tenant_id, message_id)
        if erased.left:
            await _shrink_thread(connection, tenant_id, message)
        else:
            await _remove_thread(connection, tenant_id, message)
        if erased.raw_id is not None:
            await connection.execute("DELETE FROM raws WHERE tenant_id = $1 AND id = $2", tenant_id, erased.raw_id)
        return erased


async def _lock(connection: Connection, tenant_id: UUID, message_id: UUID) -> Any:
    """Lock the thread, as all writers do first, and the message, which may change its thread while we wait.

    And no sibling may go at the same time, or each would leave the bytes to the other.
    """
    thread_id = await connection.fetchval(
        "SELECT thread_id FROM messages WHERE tenant_id = $1 AND id = $2", tenant_id, message_id
    )
    for _ in range(MOVES):
        await connection.execute(
            "SELECT FROM threads WHERE tenant_id = $1 AND id = $2 FOR UPDATE", tenant_id, thread_id
        )
        message = await connection.fetchrow(
            """
            SELECT id, mailbox_id, thread_id, raw_id, from_address, to_addresses, cc_addresses
            FROM messages WHERE tenant_id = $1 AND id = $2 FOR UPDATE
            """,
            tenant_id,
            message_id,
        )
        if message is None or message["thread_id"] == thread_id:
            break
        thread_id = message["thread_id"]
    if message is not None:
        await connection.execute(
            "SELECT FROM raws WHERE tenant_id = $1 AND id = $2 FOR UPDATE", tenant_id, message["raw_id"]
        )
    return message


async def _release_answers(connection: Connection, tenant_id: UUID, message_id: UUID) -> None:
    await connection.execute(
        """
        UPDATE messages
        SET reply_to_email_id = NULL, decision = decision || jsonb_build_object('answered_erased', $2::uuid)
        WHERE tenant_id = $1 AND reply_to_email_id = $2
        """,
        tenant_id,
        message_id,
    )


async def _shrink_thread(connection: Connection, tenant_id: UUID, message: Any) -> None:
    """The thread forgets the message: its count, its subject if it began there, and who took part in it alone.

    Its ids stay known: an answer that is still on its way belongs to this conversation.
    """
    await connection.execute(
        """
        UPDATE threads h SET
            message_count = message_count - 1,
            last_message_at = x.newest,
            has_outbound = x.ours,
            root_message_id = CASE WHEN root_message_id = $3 THEN x.root ELSE root_message_id END,
            subject = CASE WHEN root_message_id = $3 THEN x.subject ELSE h.subject END
        FROM (
            SELECT max(received_at) AS newest, bool_or(direction = 'outbound') AS ours,
                   (array_agg(id ORDER BY received_at, id))[1] AS root,
                   (array_agg(subject ORDER BY received_at, id))[1] AS subject
            FROM messages WHERE tenant_id = $1 AND thread_id = $2
        ) x
        WHERE h.tenant_id = $1 AND h.id = $2
        """,
        tenant_id,
        message["thread_id"],
        message["id"],
    )
    named = {message["from_address"], *message["to_addresses"], *message["cc_addresses"]} - {None}
    await connection.execute(
        """
        DELETE FROM participants p
        WHERE p.tenant_id = $1 AND p.thread_id = $2 AND p.address = ANY ($3::text[]) AND NOT EXISTS (
            SELECT FROM messages m, unnest(m.from_address || m.to_addresses || m.cc_addresses) AS a(address)
            WHERE m.tenant_id = $1 AND m.thread_id = $2 AND lower(a.address) = p.address)
        """,
        tenant_id,
        message["thread_id"],
        [address.lower() for address in named],
    )


async def _remove_thread(connection: Connection, tenant_id: UUID, message: Any) -> None:
    """A thread without a message is none; a mail that cites its ids later begins a new one."""
    thread_id = message["thread_id"]
    await connection.execute("DELETE FROM participants WHERE tenant_id = $1 AND thread_id = $2", tenant_id, thread_id)
    await connection.execute(
        "DELETE FROM thread_ids WHERE tenant_id = $1 AND mailbox_id = $2 AND thread_id = $3",
        tenant_id,
        message["mailbox_id"],
        thread_id,
    )
    await connection.execute("DELETE FROM threads WHERE tenant_id = $1 AND id = $2", tenant_id, thread_id)
