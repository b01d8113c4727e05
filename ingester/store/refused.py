"""What `refusals list` reads: who was not let in, when, at which door and why. `refusals` next door writes the counts.

What was refused before DATA is a row a minute with some samples, what was refused after DATA a row each; both are told
in one form here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from ingester.store.db import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt of the `count`. `mail_from` is "" for the null sender, and where the door had none to tell."""

    at: datetime
    mail_from: str
    recipients: list[str]
    helo: str | None
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalRow:
    """One row: so many refusals of a minute for one reason. With an `arrival_id` it is a single one, after DATA."""

    tenant: str
    tenant_id: UUID
    id: UUID
    minute: datetime
    door: str
    reason: str
    client_prefix: str
    count: int
    arrival_id: UUID | None
    attempts: list[Attempt]


async def refusals(
    connection: Connection, tenant_ids: Sequence[UUID], *, since: datetime | None, reason: str | None, limit: int
) -> list[RefusalRow]:
    """The newest refusals of these tenants, newest first. The minute that `since` falls into is included."""
    rows = await connection.fetch(
        """
        SELECT t.slug AS tenant, x.*
        FROM tenants t
        CROSS JOIN LATERAL (
            SELECT r.tenant_id, r.id, r.minute, r.door, r.reason, r.client_prefix, r.count, r.arrival_id, r.samples,
                   r.envelope, r.detail
            FROM refusals r
            WHERE r.tenant_id = t.id AND r.minute >= coalesce(date_trunc('minute', $2::timestamptz), '-infinity')
              AND ($3::text IS NULL OR r.reason = $3)
            ORDER BY r.minute DESC, r.id DESC LIMIT $4
        ) x
        WHERE t.id = ANY ($1)
        ORDER BY x.minute DESC, x.id DESC LIMIT $4
        """,
        tenant_ids,
        since,
        reason,
        limit,
    )
    return [_row(row) for row in rows]


async def named(connection: Connection, keys: Sequence[tuple[UUID, UUID]]) -> list[RefusalRow]:
    """These rows (tenant and id), oldest first; one that is gone meanwhile is left out."""
    if not keys:
        return []
    rows = await connection.fetch(
        """
        SELECT t.slug AS tenant, r.tenant_id, r.id, r.minute, r.door, r.reason, r.client_prefix, r.count, r.arrival_id,
               r.samples, r.envelope, r.detail
        FROM unnest($1::uuid[], $2::uuid[]) AS k(tenant_id, id)
        JOIN refusals r ON r.tenant_id = k.tenant_id AND r.id = k.id
        JOIN tenants t ON t.id = r.tenant_id
        ORDER BY r.minute, r.id
        """,
        [tenant_id for tenant_id, _ in keys],
        [row_id for _, row_id in keys],
    )
    return [_row(row) for row in rows]


def _row(row: asyncpg.Record) -> RefusalRow:
    values = dict(row)
    samples, envelope, detail = values.pop("samples"), values.pop("envelope"), values.pop("detail")
    single = [] if envelope is None else [_single(envelope, detail or "")]
    return RefusalRow(attempts=single or [_sampled(sample) for sample in samples], **values)


def _single(envelope: dict[str, Any], detail: str) -> Attempt:
    """As `messages` keeps a refusal after DATA."""
    return Attempt(
        at=datetime.fromisoformat(envelope["received_at"]),
        mail_from=envelope["envelope_from"],
        recipients=envelope["envelope_to"],
        helo=envelope["helo"],
        detail=detail,
    )


def _sampled(sample: dict[str, Any]) -> Attempt:
    """As `refusals` keeps a sample of those before DATA."""
    return Attempt(
        at=datetime.fromisoformat(sample["at"]),
        mail_from=sample["mail_from"],
        recipients=sample["recipients"],
        helo=sample["helo"] or None,
        detail=sample["detail"],
    )
