"""Quotas as operators see and set them, with what of them is used today. The gate reads them in `finding`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from ingester.core.address import Address
from ingester.store.db import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaState:
    """The quota of a tenant (`mailbox` is None) or of a mailbox. None is no limit."""

    tenant: str
    mailbox: str | None
    mails: int | None
    bytes: int | None
    matched_share: int
    used_mails: int
    used_bytes: int


async def set_quota(
    connection: Connection,
    *,
    tenant_id: UUID,
    mailbox_id: UUID | None,
    mails: int | None,
    size: int | None,
    matched_share: int,
) -> None:
    """Set the quota of a tenant, or of one mailbox of it."""
    if mailbox_id is None:
        await connection.execute(
            "UPDATE tenants SET quota_mails = $2, quota_bytes = $3, quota_matched_share = $4 WHERE id = $1",
            tenant_id,
            mails,
            size,
            matched_share,
        )
        return
    await connection.execute(
        """
        UPDATE mailboxes SET quota_mails = $3, quota_bytes = $4, quota_matched_share = $5
        WHERE tenant_id = $1 AND id = $2
        """,
        tenant_id,
        mailbox_id,
        mails,
        size,
        matched_share,
    )


async def quotas(connection: Connection, tenant_ids: Sequence[UUID], day: date) -> list[QuotaState]:
    """The quotas of these tenants and their mailboxes, with what is used on this day (UTC)."""
    rows = await connection.fetch(
        """
        SELECT t.slug, NULL AS local_part, NULL AS domain, t.quota_mails, t.quota_bytes, t.quota_matched_share,
               coalesce(u.mails, 0) AS mails, coalesce(u.bytes, 0) AS bytes
        FROM tenants t
        LEFT JOIN quota_usage u ON u.tenant_id = t.id AND u.day = $2
                               AND u.mailbox_id = '00000000-0000-0000-0000-000000000000'
        WHERE t.id = ANY ($1) AND (t.quota_mails IS NOT NULL OR t.quota_bytes IS NOT NULL)
        UNION ALL
        SELECT t.slug, m.local_part, m.domain, m.quota_mails, m.quota_bytes, m.quota_matched_share,
               coalesce(u.mails, 0), coalesce(u.bytes, 0)
        FROM mailboxes m
        JOIN tenants t ON t.id = m.tenant_id
        LEFT JOIN quota_usage u ON u.tenant_id = m.tenant_id AND u.day = $2 AND u.mailbox_id = m.id
        WHERE m.tenant_id = ANY ($1) AND (m.quota_mails IS NOT NULL OR m.quota_bytes IS NOT NULL)
        ORDER BY slug, domain NULLS FIRST, local_part
        """,
        tenant_ids,
        day,
    )
    return [
        QuotaState(
            tenant=row["slug"],
            mailbox=None if row["domain"] is None else str(Address(local=row["local_part"], domain=row["domain"])),
            mails=row["quota_mails"],
            bytes=row["quota_bytes"],
            matched_share=row["quota_matched_share"],
            used_mails=row["mails"],
            used_bytes=row["bytes"],
        )
        for row in rows
    ]
