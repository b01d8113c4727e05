"""Events of providers: which mail an event brought, so that another mail under the same id is told from a second try.

Beside the claims, which make a second try a duplicate mailbox by mailbox, and in the same transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from ingester.store.db import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What a provider's event is known by (its key, of provider and id), and for how long."""

    key: bytes
    expires_at: datetime


class EventConflict(Exception):
    """A provider's event that brought another mail before; nothing of its mail is stored."""


async def claim_events(
    connection: Connection, tenant_id: UUID, events: Sequence[tuple[Event, bytes, datetime]]
) -> None:
    """Note events with the sha256 of their mail and their time of arrival. Raises EventConflict.

    In key order, and before anything else of the transaction: who has the same event waits here.
    """
    ordered = sorted(events, key=lambda one: (one[0].key, one[1]))
    keys = [event.key for event, _, _ in ordered]
    await connection.execute(
        """
        INSERT INTO provider_events AS e (tenant_id, key, raw_sha256, created_at, expires_at)
        SELECT DISTINCT ON (n.key) $1, n.key, n.raw_sha256, n.created_at, n.expires_at
        FROM unnest($2::bytea[], $3::bytea[], $4::timestamptz[], $5::timestamptz[])
             AS n(key, raw_sha256, created_at, expires_at)
        ORDER BY n.key
        ON CONFLICT (tenant_id, key) DO UPDATE
        SET raw_sha256 = excluded.raw_sha256, created_at = excluded.created_at, expires_at = excluded.expires_at
        WHERE e.expires_at <= excluded.created_at
        """,
        tenant_id,
        keys,
        [raw_sha256 for _, raw_sha256, _ in ordered],
        [at for _, _, at in ordered],
        [event.expires_at for event, _, _ in ordered],
    )
    rows = await connection.fetch(
        "SELECT key, raw_sha256 FROM provider_events WHERE tenant_id = $1 AND key = ANY ($2::bytea[])", tenant_id, keys
    )
    held = {row["key"]: row["raw_sha256"] for row in rows}
    if any(held.get(event.key) != raw_sha256 for event, raw_sha256, _ in ordered):
        raise EventConflict
