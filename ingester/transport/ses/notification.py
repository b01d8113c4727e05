"""What SES says in a notification: mail that it received, what became of mail that it sent, or something else. Pure.

Bounded; whatever the text is, it is one of these and nothing raises. Who says so was proven before (`sns`); that it is
true of the mail is not: verdicts are kept as evidence and decide nothing.
"""

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from ingester.core.outbound_status import EventKind, status_of_event
from ingester.transport.ses.values import MAX_LIST, MAX_WORD, Part

SETUP: Final = "AMAZON_SES_SETUP_NOTIFICATION"
"""The name of the object that SES writes to try a bucket, when a rule is made; it is no mail."""
MAX_RECIPIENTS: Final = MAX_LIST
MAX_KEY: Final = 1024
"""Bytes of a key (S3's own limit)."""
MAX_ID: Final = 255
"""Characters of an id, as many as an application may tell us of."""
_VALIDATED: Final = "Successfully validated SNS topic"
_VERDICTS: Final = {
    "spam": "spamVerdict",
    "virus": "virusVerdict",
    "spf": "spfVerdict",
    "dkim": "dkimVerdict",
    "dmarc": "dmarcVerdict",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class InBucket:
    """Where SES has put the mail."""

    bucket: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A mail that SES received. `recipients` are the envelope's, `mail` is the bytes or where they are."""

    sender: str | None
    recipients: tuple[str, ...]
    mail: InBucket | bytes
    evidence: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What became of a mail that SES was given to send. `status`: what this makes of the message, if anything."""

    kind: EventKind
    status: str | None
    provider_message_id: str
    sender: str | None
    recipients: tuple[str, ...]
    detail: Mapping[str, Any]
    occurred_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """Nothing to be done: a trial of a topic or a bucket, or an event that we do not keep. `what` is SES's word."""

    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """No notification of SES. `field` is where it stops making sense, the sentence quotes nothing."""

    field: str
    sentence: str


Notification = Received | Told | Other | Malformed


def read_notification(text: str) -> Notification:
    """Read the `Message` of an SNS notification: an SNS message has at most 256 KiB, and so has the caller's bound."""
    if text.startswith(_VALIDATED):
        return Other(what="validation")
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return _malformed("Message", "It is not JSON.")
    if not isinstance(found, dict):
        return _malformed("Message", "It is not an object.")
    whole = Part(found)
    # Feedback of an identity has the one, event publishing the other; they are else the same.
    kind = whole.word("notificationType") or whole.word("eventType")
    if kind == "Received":
        return _received(whole)
    if kind in _EVENTS:
        return _told(whole, *_EVENTS[kind])
    if not kind:
        return _malformed("notificationType", "Neither notificationType nor eventType says what it is.")
    return Other(what=kind)


def _malformed(field: str, sentence: str) -> Malformed:
    return Malformed(field=field, sentence=sentence)


# -- mail that SES received --------------------------------------------------------------------------------------------


def _received(whole: Part) -> Notification:
    receipt, mail = whole.part("receipt"), whole.part("mail")
    action = receipt.part("action")
    how = action.word("type")
    place: InBucket | bytes | Malformed | None
    if how == "S3":
        place = _bucket(action)
    elif how == "SNS" or "content" in whole.values:
        place = _content(whole, action)
    else:
        return Other(what=f"Received {how}".strip())
    if isinstance(place, Malformed):
        return place
    if _is_setup(mail, place):
        return Other(what="setup")
    recipients = tuple(receipt.texts("recipients", MAX_RECIPIENTS + 1))
    if not recipients:
        return _malformed("receipt.recipients", "The receipt names no recipient.")
    return Received(sender=_sender(mail), recipients=recipients, mail=place, evidence=_evidence(receipt, mail))


def is_setup_key(key: str) -> bool:
    """Whether an object is SES's trial of the bucket."""
    return key.rpartition("/")[2] == SETUP


def _is_setup(mail: Part, place: InBucket | bytes) -> bool:
    return mail.text("messageId") == SETUP or (isinstance(place, InBucket) and is_setup_key(place.key))


def _bucket(action: Part) -> InBucket | Malformed:
    bucket, key = action.values.get("bucketName"), action.values.get("objectKey")
    if not isinstance(bucket, str) or not 0 < len(bucket) <= MAX_WORD:
        return _malformed("receipt.action.bucketName", "It is no name of a bucket.")
    if not isinstance(key, str) or not 0 < len(key.encode()) <= MAX_KEY or "\0" in key:
        return _malformed("receipt.action.objectKey", "It is no key of an object.")
    return InBucket(bucket=bucket, key=key)


def _content(whole: Part, action: Part) -> bytes | Malformed:
    """The mail itself. As UTF-8 SES has replaced what is none already; only Base64 keeps every byte."""
    content = whole.values.get("content")
    if not isinstance(content, str) or not content:
        return _malformed("content", "The mail is missing.")
    if action.word("encoding").upper() != "BASE64":
        return content.encode()
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        return _malformed("content", "It is not Base64.")


def _sender(mail: Part) -> str | None:
    """The envelope sender: "" for the null sender, None where nothing is said."""
    sender = mail.text("source")
    if sender is None:
        return None
    return "" if sender == "<>" else sender


def _evidence(receipt: Part, mail: Part) -> dict[str, str]:
    """What SES thinks of the mail, in its own words."""
    said = {name: receipt.part(field).word("status") for name, field in _VERDICTS.items()}
    said |= {
        "dmarc_policy": receipt.word("dmarcPolicy"),
        "ses_message_id": mail.text("messageId", MAX_ID) or "",
        "source": mail.text("source") or "",
        "timestamp": mail.word("timestamp"),
    }
    return {name: value for name, value in said.items() if value}


# -- mail that SES was given to send -----------------------------------------------------------------------------------


def _told(whole: Part, kind: EventKind, name: str, detail: Callable[[Part], dict[str, Any]]) -> Told | Malformed:
    part, mail = whole.part(name), whole.part("mail")
    provider_message_id = mail.text("messageId", MAX_ID)
    if not provider_message_id:
        return _malformed("mail.messageId", "It does not say which mail it is about.")
    return Told(
        kind=kind,
        status=status_of_event(kind, for_good=part.word("bounceType") == "Permanent"),
        provider_message_id=provider_message_id,
        sender=_sender(mail),
        recipients=tuple(_recipients(part)) or tuple(mail.texts("destination", MAX_RECIPIENTS)),
        detail={key: value for key, value in detail(part).items() if value not in (None, "", [])},
        occurred_at=part.moment("timestamp") or mail.moment("timestamp"),
    )


_LISTS: Final = ("bouncedRecipients", "complainedRecipients", "delayedRecipients")


def _recipients(part: Part) -> Iterator[str]:
    """Whom the event is about: plain addresses of a delivery, else objects."""
    yield from part.texts("recipients", MAX_RECIPIENTS)
    for one in part.parts(_LISTS):
        address = one.text("emailAddress")
        if address:
            yield address


def _delivery(part: Part) -> dict[str, Any]:
    return {"smtp_response": part.text("smtpResponse"), "reporting_mta": part.text("reportingMTA")}


def _bounce(part: Part) -> dict[str, Any]:
    return {
        "type": part.word("bounceType"),
        "subtype": part.word("bounceSubType"),
        "reporting_mta": part.text("reportingMTA"),
        "feedback_id": part.text("feedbackId", MAX_ID),
        "recipients": _why(part),
    }


def _complaint(part: Part) -> dict[str, Any]:
    return {
        "type": part.word("complaintFeedbackType"),
        "subtype": part.word("complaintSubType"),
        "user_agent": part.text("userAgent"),
        "feedback_id": part.text("feedbackId", MAX_ID),
    }


def _delay(part: Part) -> dict[str, Any]:
    return {
        "type": part.word("delayType"),
        "expires_at": part.word("expirationTime"),
        "reporting_mta": part.text("reportingMTA"),
        "recipients": _why(part),
    }


_SHOWN_RECIPIENTS: Final = 50
"""Recipients whose own reason is kept; their addresses are all kept."""


def _why(part: Part) -> list[dict[str, str]]:
    """What each recipient's server said (RFC 3464, 2.3)."""
    found = []
    for one, _ in zip(part.parts(_LISTS), range(_SHOWN_RECIPIENTS), strict=False):
        said = {
            "address": one.text("emailAddress"),
            "action": one.word("action"),
            "status": one.word("status"),
            "diagnostic": one.text("diagnosticCode"),
        }
        found.append({key: value for key, value in said.items() if value})
    return found


_EVENTS: Final[Mapping[str, tuple[EventKind, str, Callable[[Part], dict[str, Any]]]]] = {
    "Delivery": (EventKind.DELIVERY, "delivery", _delivery),
    "Bounce": (EventKind.BOUNCE, "bounce", _bounce),
    "Complaint": (EventKind.COMPLAINT, "complaint", _complaint),
    "DeliveryDelay": (EventKind.DELAY, "deliveryDelay", _delay),
}
_ACTIONS: Final = ("AddHeader", "Bounce", "Lambda", "Stop", "WorkMail")
SAID: Final = frozenset(
    {
        "validation",
        "setup",
        "AmazonSnsSubscriptionSucceeded",
        "Click",
        "Open",
        "Reject",
        "Rendering Failure",
        "Send",
        "Subscription",
        "Received",
    }
    | {f"Received {action}" for action in _ACTIONS}
)
"""What SES says that we do not keep."""
