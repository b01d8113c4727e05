"""The gates: may this mailbox take mail now? The first that refuses names the reason (design page, chapter 4). Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from ingester.core.outcome import Reason, Refusal
from ingester.core.senders import SenderMode

SUSPENSION_GRACE = timedelta(days=3)
"""A suspended mailbox answers 4xx this long, so that nothing bounces while somebody mends it; then 5xx."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Status of tenant, domain and mailbox, as the database has them now."""

    tenant_active: bool
    domain_verified: bool
    mailbox_active: bool
    suspended_since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A mailbox as a mail finds it: whether it takes mail at all, and what it asks of senders."""

    status: Status
    strict_senders: bool
    auth_policy: str
    require_alignment: bool
    accept_forwarded: bool
    sender_mode: SenderMode
    """The stricter of the tenant's and the mailbox's; always `none` for a system mailbox (RFC 5321, 4.5.1)."""


def status_gate(status: Status, now: datetime) -> Refusal | None:
    """First gate: pending domains and what is suspended."""
    if not status.domain_verified:
        return Refusal(reason=Reason.DOMAIN_PENDING)
    if status.tenant_active and status.mailbox_active:
        return None
    since = status.suspended_since
    return Refusal(reason=Reason.MAILBOX_SUSPENDED, final=since is not None and now - since > SUSPENSION_GRACE)


def loop_gate(received_count: int, limit: int) -> Refusal | None:
    """Refuse a mail that has gone round: more Received fields than the limit (RFC 5321, 6.3)."""
    return Refusal(reason=Reason.MAIL_LOOP) if received_count > limit else None
