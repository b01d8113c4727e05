"""What is to be written of a mail, decided: its deliveries, claims and refusals; and what became of them. No SQL."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from ingester.core.envelope import Envelope
from ingester.core.kind import Verdict
from ingester.core.message import Message
from ingester.core.outcome import Reason
from ingester.core.resolve import Attachment, Sender
from ingester.store.provider_events import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthColumns:
    """The verdicts as columns, and how much they say beside those of another arrival of the same mail."""

    spf: str
    dkim: str
    dmarc: str
    arc: str
    strength: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What makes a second arrival a duplicate, and for how long."""

    key: bytes
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message for one mailbox, decided to be stored."""

    mailbox_id: UUID
    message_id: UUID
    thread_id: UUID
    receipt_id: UUID
    claims: tuple[Claim, ...]
    envelope_to: tuple[str, ...]
    role: str
    tag: str | None
    verdict: Verdict
    sender: Sender
    quarantined: bool
    auth: AuthColumns
    auth_report: Any
    attachment: Attachment
    answered_status: str | None
    """What the mail makes of the message that it answers: bounced, complained, or nothing."""
    decision: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """One recipient's refusal after DATA."""

    id: UUID
    reason: Reason
    recipients: tuple[str, ...]
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """One mail for one tenant: what is written, all or nothing. `stored` raws (a redrive) are not written again."""

    tenant_id: UUID
    envelope: Envelope
    raw_id: UUID
    raw_sha256: bytes
    raw_stored: bool
    rfc_message_id: str
    message: Message | None
    auth_report: Any
    contact_id: UUID
    """For a contact that may be made of the sender."""
    deliveries: tuple[Delivery, ...]
    refused: tuple[Refused, ...]
    blob_key: str | None = None
    """The URL of the object with the bytes, written before; None where they go into the row."""
    event: Event | None = None
    """The provider's event that brought it, where it has an id of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What became of one delivery. `dead`: the id is a dead letter's, as the first arrival could not be digested."""

    mail: int
    mailbox_id: UUID
    message_id: UUID
    duplicate: bool
    matched: bool
    method: str | None
    """On what evidence it was matched; None for what is not, or was there already."""
    dead: bool
