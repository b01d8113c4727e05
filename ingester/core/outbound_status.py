"""What bounces, complaints and events make of the message that they are about, and whose word counts. Pure."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from ingester.core.kind import Kind, Verdict
from ingester.core.report import DeliveryStatus, Report
from ingester.core.resolve import Attachment, Method

DELAYED: Final = "delayed"
DELIVERED: Final = "delivered"
BOUNCED: Final = "bounced"
COMPLAINED: Final = "complained"
_ORDER: Final = ("registered", "sent", DELAYED, DELIVERED, BOUNCED, COMPLAINED)
"""What `messages.status` can be of a message of ours, the weakest first. Events come in any order, and of a message to
several people the worst that befell one of them stands; what became of each is in the events.
"""

_TOKENS = (Method.TOKEN_RECIPIENT, Method.TOKEN_HEADER, Method.TOKEN_REFERENCE)


def status_of_answered(verdict: Verdict, report: Report | None, attachment: Attachment, *, vouched: bool) -> str | None:
    """The new status of the message that a mail is about, or None.

    Anybody can write a bounce. It counts with a reply token, which only who had the message can know, or where the
    reporter is known (`vouched`: DKIM aligns, or a provider's own door handed it in).
    """
    if not attachment.ours or not (vouched or attachment.method in _TOKENS):
        return None
    if verdict.kind is Kind.COMPLAINT:
        return COMPLAINED
    if verdict.kind is Kind.BOUNCE and _for_good(report):
        return BOUNCED
    return None


def _for_good(report: Report | None) -> bool:
    """Whether a recipient was given up (RFC 3464, 2.3.3); a bounce in mere words says so by itself."""
    if not isinstance(report, DeliveryStatus) or not report.recipients:
        return True
    return any(one.action == "failed" for one in report.recipients)


class EventKind(StrEnum):
    """What a provider tells of a message that it was given to send."""

    DELIVERY = "delivery"
    BOUNCE = "bounce"
    COMPLAINT = "complaint"
    DELAY = "delay"


def status_of_event(kind: EventKind, *, for_good: bool) -> str | None:
    """The status that an event gives. A bounce that is not `for_good` (a full mailbox, an absence) gives none."""
    if kind is EventKind.BOUNCE:
        return BOUNCED if for_good else None
    return {EventKind.DELIVERY: DELIVERED, EventKind.COMPLAINT: COMPLAINED, EventKind.DELAY: DELAYED}[kind]


def outranked_by(status: str | None) -> tuple[str, ...]:
    """The statuses whose place a status may take: the weaker ones."""
    return _ORDER[: _ORDER.index(status)] if status in _ORDER else ()


def strongest(statuses: Iterable[str | None]) -> str | None:
    """The one that stands of several, or None where none says anything."""
    return max((one for one in statuses if one in _ORDER), key=_ORDER.index, default=None)
