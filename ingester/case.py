"""One mail with all that is known of it before the database is asked. Facts and what follows from them; no judging."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from uuid import UUID

from ingester.attaching import CitedToken, cited_tokens
from ingester.auth.check import Checked
from ingester.core.envelope import Envelope, Route
from ingester.core.message import Message
from ingester.core.outcome import Refusal
from ingester.core.resolve import Citation, citations, own_id
from ingester.spam import SpamVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One mailbox that the mail is for, the recipients that led there, and the ids of the rows to be."""

    route: Route
    recipients: tuple[str, ...]
    message_id: UUID
    thread_id: UUID
    receipt_id: UUID
    refusal_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Unrouted:
    """Recipients that the directory refused after DATA (a door that cannot ask before)."""

    id: UUID
    tenant_id: UUID
    refusal: Refusal
    recipients: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One mail with all that is known before the database is asked. `deadline` is on the loop's clock.

    Without slots, so that what follows from the facts is found once: it is asked for before the read and after it.
    """

    envelope: Envelope
    message: Message
    raw_sha256: bytes
    raw_ids: Mapping[UUID, UUID]
    raw_stored: bool
    targets: tuple[Target, ...]
    unrouted: tuple[Unrouted, ...]
    deadline: float
    checked: Checked
    spam: SpamVerdict | None
    contact_ids: Mapping[UUID, UUID]

    @cached_property
    def rfc_message_id(self) -> str:
        """The mail's own Message-ID or the deterministic stand-in."""
        return own_id(self.message.rfc_message_id, self.raw_sha256)

    @cached_property
    def cited(self) -> tuple[Citation, ...]:
        """The cited ids in the order in which they are tried."""
        message = self.message
        return citations(self.rfc_message_id, message.in_reply_to, message.reference_ids, message.report_message_ids)

    @property
    def event(self) -> tuple[str, str] | None:
        """The provider and its id of this event. One that is made of the bytes says no more than they do."""
        provider, event_id = self.envelope.provider, self.envelope.provider_event_id
        if provider is None or event_id is None or event_id == self.raw_sha256.hex():
            return None
        return provider, event_id

    @cached_property
    def tokens(self) -> tuple[CitedToken, ...]:
        """The reply tokens that the mail itself holds."""
        return cited_tokens(self.message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The settings that the judgement depends on. `secrets` are those of the reply tokens."""

    max_received: int
    claim_life: timedelta
    secrets: tuple[bytes, ...]
