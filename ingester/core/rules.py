"""The gates: may this mailbox take mail now? The first that refuses names the reason (design page, chapter 4). Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ingester.core.outcome import Reason, Refusal
from ingester.core.resolve import Attachment
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
class Quota:
    """Mails and bytes a day, None for no limit, and what of them is used. `matched_share` is in percent."""

    mails: int | None
    size: int | None
    matched_share: int
    used_mails: int
    used_size: int

    def has_room(self, size: int, *, matched: bool) -> bool:
        """Whether one more mail fits; a cold one may not use the share that is left to matched mail."""
        percent = 100 if matched else 100 - self.matched_share
        mails_fit = self.mails is None or (self.used_mails + 1) * 100 <= self.mails * percent
        return mails_fit and (self.size is None or (self.used_size + size) * 100 <= self.size * percent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A mailbox as a mail finds it: whether it takes mail at all, and what it asks of senders."""

    tenant: str
    """The slug, which reply tokens are signed for."""
    status: Status
    accepts_cold_inbound: bool
    strict_senders: bool
    auth_policy: str
    require_alignment: bool
    accept_forwarded: bool
    sender_mode: SenderMode
    """The stricter of the tenant's and the mailbox's; always `none` for a system mailbox (RFC 5321, 4.5.1)."""
    quotas: tuple[Quota, ...]
    """Of the tenant and of the mailbox, where they have one."""


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


def quota_gate(quotas: Sequence[Quota], size: int, *, matched: bool) -> Refusal | None:
    """Refuse for today what a quota of the tenant or the mailbox has no room for."""
    if all(one.has_room(size, matched=matched) for one in quotas):
        return None
    return Refusal(reason=Reason.QUOTA_EXCEEDED)


def cold_gate(standing: Standing, attachment: Attachment) -> Refusal | None:
    """Last gate: a thread-only mailbox takes what joins a conversation that holds a message of ours."""
    if standing.accepts_cold_inbound or attachment.ours:
        return None
    return Refusal(reason=Reason.COLD_INBOUND_REFUSED)
