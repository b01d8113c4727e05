"""Removing what is over its time: claims, events, refusals. In small steps: no lock is held long."""

from datetime import datetime, timedelta

from ingester.store.db import Connection

STEP = 1000
"""Rows removed by one statement."""


async def expire_claims(connection: Connection, now: datetime) -> None:
    """Remove claims that no longer hold. A claim that is being taken over is skipped."""
    removed = STEP
    while removed == STEP:
        removed = await _removed(
            connection,
            """
            DELETE FROM claims c USING (
                SELECT tenant_id, key FROM claims WHERE expires_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED
            ) old WHERE c.tenant_id = old.tenant_id AND c.key = old.key
            """,
            now,
        )


async def expire_events(connection: Connection, now: datetime) -> None:
    """Remove events of providers whose claims no longer hold."""
    removed = STEP
    while removed == STEP:
        removed = await _removed(
            connection,
            """
            DELETE FROM provider_events e USING (
                SELECT tenant_id, key FROM provider_events WHERE expires_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED
            ) old WHERE e.tenant_id = old.tenant_id AND e.key = old.key
            """,
            now,
        )


async def expire_refusals(connection: Connection, now: datetime, days: int) -> None:
    """Remove refusals older than `days`."""
    removed = STEP
    while removed == STEP:
        removed = await _removed(
            connection,
            """
            DELETE FROM refusals r USING (
                SELECT tenant_id, id FROM refusals WHERE minute <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED
            ) old WHERE r.tenant_id = old.tenant_id AND r.id = old.id
            """,
            now - timedelta(days=days),
        )


async def expire_delivery_events(connection: Connection, now: datetime, days: int) -> None:
    """Remove delivery events older than `days` that belong to no message of ours: that mail was sent without us."""
    removed = STEP
    while removed == STEP:
        removed = await _removed(
            connection,
            """
            DELETE FROM delivery_events e USING (
                SELECT tenant_id, id FROM delivery_events WHERE message_id IS NULL AND received_at <= $1
                LIMIT $2 FOR UPDATE SKIP LOCKED
            ) old WHERE e.tenant_id = old.tenant_id AND e.id = old.id
            """,
            now - timedelta(days=days),
        )


async def _removed(connection: Connection, statement: str, before: datetime) -> int:
    status = await connection.execute(statement, before, STEP)
    return int(status.rpartition(" ")[2])
