"""Delivery events: what a provider tells of messages of ours that it was given to send.

An event may be faster than the application that tells us the provider's id of a message: it waits for it here. Whoever
notes an event or such an id takes the id's lock first, so that neither misses the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from ingester.core.outbound_status import outranked_by, strongest
from ingester.store.db import Connection
from ingester.store.registry import enter


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """One event to be kept. `status` is what it makes of its message, None where it changes nothing."""

    tenant_id: UUID
    id: UUID
    provider: str
    provider_message_id: str
    provider_event_id: str
    kind: str
    status: str | None
    recipients: tuple[str, ...]
    detail: dict[str, Any]
    occurred_at: datetime
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What became of an event. `message_id` is None while its message is not known; `duplicate`: it was here before."""

    event_id: UUID
    message_id: UUID | None
    duplicate: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryEvent:
    """An event as it lies in the table."""

    id: UUID
    provider: str
    kind: str
    status: str | None
    recipients: list[str]
    detail: dict[str, Any]
    occurred_at: datetime
    received_at: datetime


async def record(connection: Connection, new: NewEvent) -> Recorded:
    """Keep an event once, whatever the provider repeats, and let it change the status of its message."""
    async with connection.transaction():
        await enter(connection, new.tenant_id)
        await lock_provider_id(connection, new.tenant_id, new.provider_message_id)
        message_id = await _bearer(connection, new.tenant_id, new.provider_message_id)
        added = await connection.fetchval(
            """
            INSERT INTO delivery_events (tenant_id, id, message_id, provider, provider_message_id, provider_event_id,
                                         kind, status, recipients, detail, occurred_at, received_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
            ON CONFLICT (tenant_id, provider, provider_event_id) DO NOTHING RETURNING true
            """,
            new.tenant_id,
            new.id,
            message_id,
            new.provider,
            new.provider_message_id,
            new.provider_event_id,
            new.kind,
            new.status,
            list(new.recipients),
            new.detail,
            new.occurred_at,
            new.received_at,
        )
        if added is not True:
            return await _known(connection, new)
        if message_id is not None:
            await _change_status(connection, new.tenant_id, message_id, new.status)
        return Recorded(event_id=new.id, message_id=message_id, duplicate=False)


async def lock_provider_id(connection: Connection, tenant_id: UUID, provider_message_id: str) -> None:
    """Take the lock of a provider's id until the end of the caller's transaction; before any row of it is locked."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtext($1), hashtext($2))", str(tenant_id), provider_message_id
    )


async def _bearer(connection: Connection, tenant_id: UUID, provider_message_id: str) -> UUID | None:
    """Our message of this tenant that the provider knows by this id."""
    found = await connection.fetchval(
        """
        SELECT id FROM messages
        WHERE tenant_id = $1 AND provider_message_id = $2 AND direction = 'outbound' ORDER BY id LIMIT 1
        """,
        tenant_id,
        provider_message_id,
    )
    return found if isinstance(found, UUID) else None


async def _known(connection: Connection, new: NewEvent) -> Recorded:
    row = await connection.fetchrow(
        """
        SELECT id, message_id FROM delivery_events
        WHERE tenant_id = $1 AND provider = $2 AND provider_event_id = $3
        """,
        new.tenant_id,
        new.provider,
        new.provider_event_id,
    )
    assert row is not None  # events are removed after days, not while their lock is held
    return Recorded(event_id=row["id"], message_id=row["message_id"], duplicate=True)


async def _change_status(connection: Connection, tenant_id: UUID, message_id: UUID, status: str | None) -> None:
    """Give a message a status, unless the one that it has says more."""
    await connection.execute(
        "UPDATE messages SET status = $3 WHERE tenant_id = $1 AND id = $2 AND status = ANY ($4::text[])",
        tenant_id,
        message_id,
        status,
        outranked_by(status),
    )


async def adopt_waiting(connection: Connection, tenant_id: UUID, message_id: UUID, provider_message_id: str) -> None:
    """Give a message the events that came before its provider's id was known, in the caller's transaction.

    The caller holds the lock of the id (`lock_provider_id`).
    """
    rows = await connection.fetch(
        """
        UPDATE delivery_events SET message_id = $3
        WHERE tenant_id = $1 AND provider_message_id = $2 AND message_id IS NULL RETURNING status
        """,
        tenant_id,
        provider_message_id,
        message_id,
    )
    await _change_status(connection, tenant_id, message_id, strongest(row["status"] for row in rows))


async def events_of(connection: Connection, tenant_id: UUID, message_id: UUID) -> Sequence[DeliveryEvent]:
    """The events of a message, in the order in which they happened."""
    rows = await connection.fetch(
        """
        SELECT id, provider, kind, status, recipients, detail, occurred_at, received_at
        FROM delivery_events WHERE tenant_id = $1 AND message_id = $2 ORDER BY occurred_at, id
        """,
        tenant_id,
        message_id,
    )
    return [DeliveryEvent(**dict(row)) for row in rows]
