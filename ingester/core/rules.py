"""The gates: may this mailbox take mail now? The first that refuses names the reason (design page, chapter 4). Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from ingester.core.outcome import Reason, Refusal

SUSPENSION_GRACE = timedelta(days=3)
"""A suspended mailbox answers 4xx this long, so that nothing bounces while somebody mends it; then 5xx."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Status of tenant, domain and mailbox, as the database has them now."""

    tenant_id: UUID
    mailbox_id: UUID
    tenant_active: bool
    domain_verified: bool
    mailbox_active: bool
    suspended_since: datetime | None
    strict_senders: bool


def status_gate(standing: Standing | None, now: datetime) -> Refusal | None:
    """First gate. None for a standing means that the mailbox is gone."""
    if standing is None:
        return Refusal(reason=Reason.UNKNOWN_MAILBOX)
    if not standing.domain_verified:
        return Refusal(reason=Reason.DOMAIN_PENDING)
    if standing.tenant_active and standing.mailbox_active:
        return None
    since = standing.suspended_since
    return Refusal(reason=Reason.MAILBOX_SUSPENDED, final=since is not None and now - since > SUSPENSION_GRACE)


def loop_gate(received_count: int, limit: int) -> Refusal | None:
    """Refuse a mail that has gone round: more Received fields than the limit (RFC 5321, 6.3)."""
    return Refusal(reason=Reason.MAIL_LOOP) if received_count > limit else None
