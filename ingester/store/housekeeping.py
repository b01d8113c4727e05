"""Removing what is over its time: claims, events, refusals. In small steps: no lock is held long."""

from datetime import datetime, timedelta

from ingester.store.db import Connection

STEP = 1000
"""Rows removed by one statement."""


async def expire_claims(connection: Connection, now: datetime) -> None:
    """Remove claims that no longer hold. A claim that is being taken over is skipped."""
    await _expire(connection, "claims", "key", "expires_at <= $1", now)


async def expire_events(connection: Connection, now: datetime) -> None:
    """Remove events of providers whose claims no longer hold."""
    await _expire(connection, "provider_events", "key", "expires_at <= $1", now)


async def expire_refusals(connection: Connection, now: datetime, days: int) -> None:
    """Remove refusals older than `days`."""
    await _expire(connection, "refusals", "id", "minute <= $1", now - timedelta(days=days))


async def expire_delivery_events(connection: Connection, now: datetime, days: int) -> None:
    """Remove delivery events older than `days` that belong to no message of ours: that mail was sent without us."""
    old = "message_id IS NULL AND received_at <= $1"
    await _expire(connection, "delivery_events", "id", old, now - timedelta(days=days))


async def _expire(connection: Connection, table: str, key: str, old: str, before: datetime) -> None:
    """Remove the old rows of a table, some at a time; one that somebody else holds is left for the next time."""
    removed = STEP
    while removed == STEP:
        status = await connection.execute(
            f"""
            DELETE FROM {table} t USING (
                SELECT tenant_id, {key} FROM {table} WHERE {old} LIMIT $2 FOR UPDATE SKIP LOCKED
            ) o WHERE t.tenant_id = o.tenant_id AND t.{key} = o.{key}
            """,  # noqa: S608  (only our own words are put in)
            before,
            STEP,
        )
        removed = int(status.rpartition(" ")[2])
