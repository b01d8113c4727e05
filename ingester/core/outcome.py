"""Outcomes: what a door is told, and the one table of reasons that fixes every code (design page, Reasons)."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class Reason(StrEnum):
    """Why a mail or a recipient was answered as it was. Closed: doors, refusals and metrics all use these words."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    UNKNOWN_DOMAIN = "unknown_domain"
    UNKNOWN_MAILBOX = "unknown_mailbox"
    DOMAIN_PENDING = "domain_pending"
    COLD_INBOUND_REFUSED = "cold_inbound_refused"
    SENDER_BLOCKED = "sender_blocked"
    AUTHENTICATION_FAILED = "authentication_failed"
    AUTHENTICATION_UNAVAILABLE = "authentication_unavailable"
    SPAM_REFUSED = "spam_refused"
    SPAM_DEFERRED = "spam_deferred"
    OVERSIZED = "oversized"
    MALFORMED_TRANSFER = "malformed_transfer"
    MAIL_LOOP = "mail_loop"
    QUOTA_EXCEEDED = "quota_exceeded"
    MAILBOX_SUSPENDED = "mailbox_suspended"
    TOO_MANY_RECIPIENTS = "too_many_recipients"
    STORE_UNAVAILABLE = "store_unavailable"
    OVERLOADED = "overloaded"
    HARVEST_SUSPECTED = "harvest_suspected"
    EVENT_CONFLICT = "event_conflict"


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """One row of the table: SMTP basic and enhanced code, HTTP status, and fixed words that leak nothing.

    `retry` says whether the sender should come again; it must agree with both codes, and a test walks the table.
    """

    smtp: int
    enhanced: str
    http: int
    retry: bool
    words: str

    @property
    def line(self) -> str:
        """The SMTP reply without CRLF (RFC 5321, 4.2; RFC 2034)."""
        return f"{self.smtp} {self.enhanced} {self.words}"


def _code(smtp: int, enhanced: str, http: int, words: str) -> Code:
    return Code(smtp=smtp, enhanced=enhanced, http=http, retry=400 <= smtp < 500, words=words)


CODES: dict[Reason, Code] = {
    Reason.ACCEPTED: _code(250, "2.0.0", 202, "stored"),
    Reason.DUPLICATE: _code(250, "2.0.0", 200, "stored"),
    Reason.UNKNOWN_DOMAIN: _code(550, "5.7.1", 200, "We do not receive mail for this domain"),
    Reason.UNKNOWN_MAILBOX: _code(550, "5.1.1", 200, "No such mailbox here"),
    Reason.DOMAIN_PENDING: _code(450, "4.7.1", 503, "This domain is not verified yet, try again later"),
    Reason.COLD_INBOUND_REFUSED: _code(550, "5.7.1", 200, "This mailbox only takes replies to its own mail"),
    Reason.SENDER_BLOCKED: _code(550, "5.7.1", 200, "This mailbox does not take mail from this sender"),
    Reason.AUTHENTICATION_FAILED: _code(550, "5.7.26", 200, "The sender of this mail could not be authenticated"),
    Reason.AUTHENTICATION_UNAVAILABLE: _code(451, "4.4.3", 503, "The sender could not be checked now, try again later"),
    Reason.SPAM_REFUSED: _code(550, "5.7.1", 200, "This mail was taken for spam"),
    Reason.SPAM_DEFERRED: _code(451, "4.7.1", 503, "This mail was deferred, try again later"),
    Reason.OVERSIZED: _code(552, "5.3.4", 413, "The mail is larger than we take"),
    Reason.MALFORMED_TRANSFER: _code(550, "5.6.0", 400, "Stray line ends around a dot make the end ambiguous"),
    Reason.MAIL_LOOP: _code(554, "5.4.6", 200, "Too many Received fields: this mail is in a loop"),
    Reason.QUOTA_EXCEEDED: _code(452, "4.2.2", 503, "The mailbox is over its quota, try again later"),
    Reason.MAILBOX_SUSPENDED: _code(450, "4.2.1", 503, "The mailbox is suspended, try again later"),
    Reason.TOO_MANY_RECIPIENTS: _code(452, "4.5.3", 413, "Too many recipients, send the others again"),
    Reason.STORE_UNAVAILABLE: _code(451, "4.3.0", 503, "We could not store the mail now, try again later"),
    Reason.OVERLOADED: _code(452, "4.3.1", 503, "We are busy, try again later"),
    Reason.EVENT_CONFLICT: _code(550, "5.6.0", 409, "This event was handed in before with another mail"),
    Reason.HARVEST_SUSPECTED: _code(451, "4.7.1", 503, "Too many unknown recipients, try again later"),
}

FINAL_CODES: dict[Reason, Code] = {
    Reason.MAILBOX_SUSPENDED: _code(550, "5.2.1", 200, "The mailbox is closed"),
}
"""What a reason that is for now becomes when it has lasted too long (a mailbox suspended for three days)."""


def code_of(reason: Reason, *, final: bool = False) -> Code:
    """The code of a reason; `final` where it has become one for good."""
    return FINAL_CODES.get(reason, CODES[reason]) if final else CODES[reason]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A recipient or a mail that is not taken, for good or for now: the reason says which."""

    reason: Reason
    final: bool = False

    @property
    def code(self) -> Code:
        return code_of(self.reason, final=self.final)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One message row that stands for this arrival in one mailbox. `duplicate`: it stood there before."""

    tenant_id: UUID
    mailbox_id: UUID
    message_id: UUID
    matched: bool
    parts: int
    duplicate: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one mail. Only a `reason` of accepted or duplicate means that everything is committed.

    `refused` names the recipients that are not served and why: some doors answer each (LMTP, HTTP). It is empty where
    none could be judged alone (a dead letter, a store that is away).
    """

    reason: Reason
    arrival_id: UUID
    stored: tuple[Stored, ...] = ()
    final: bool = False
    attachments: int = 0
    refused: tuple[tuple[str, Refusal], ...] = ()

    @property
    def code(self) -> Code:
        return code_of(self.reason, final=self.final)

    @property
    def smtp_line(self) -> str:
        """The reply to the final dot: in the same words for accepted and duplicate, so that nothing leaks."""
        if self.reason in (Reason.ACCEPTED, Reason.DUPLICATE):
            return f"250 2.0.0 stored as {self.arrival_id}"
        return self.code.line

    def smtp_line_for(self, recipient: str) -> str:
        """The reply for one recipient (RFC 2033, 4.2): what was stored for it stays stored, whatever the others get."""
        for address, refusal in self.refused:
            if address == recipient:
                return refusal.code.line
        if self.stored:
            return f"250 2.0.0 stored as {self.arrival_id}"
        return self.smtp_line
