"""What OpenAPI says of the two routes for SNS, and the body of their answers."""

from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from ingester.transport.answers import Match, RefusedRecipient, StoredMessage
from ingester.web.openapi import Operation, Parameter

INBOUND: Final = "/events/inbound/ses-s3"
EVENTS: Final = "/events/ses"
KIND_HEADER: Final = "x-amz-sns-message-type"

Word = Literal["accepted", "duplicate", "refused", "deferred", "ignored", "subscribed", "unsubscribed"]


class SesAnswer(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """The answer to an SNS message. For a mail it is that of the intake. Of a delivery event `event_id` is ours, and
    `message_id` the message that it is about, once that is known.
    """

    ok: bool
    status: Word
    event_id: UUID | None = None
    arrival_id: UUID | None = None
    message_id: UUID | None = None
    message_ids: tuple[UUID, ...] | None = None
    match: Match | None = None
    attachments: int | None = None
    messages: tuple[StoredMessage, ...] | None = None
    refused: tuple[RefusedRecipient, ...] = ()
    reason: str | None = None
    message: str | None = None
    field: str | None = None


_ABOUT: Final = """\
For Amazon SNS, which signs what it sends: there is no token. A topic must be among INGESTER_SES__TOPICS, the message
young, and its signature (version 1 or 2) true. A subscription to such a topic is confirmed. Both routes take mail and
delivery events alike. SNS tries again after 5xx, and gives up at 4xx.
"""
_ANSWERS: Final = {
    202: "Stored: a mail, or a delivery event.",
    200: "`duplicate`: stored before. `refused`: final. `ignored`, `subscribed`, `unsubscribed`: nothing was stored.",
    400: "The body is no SNS message.",
    401: "The message is not proven, or its topic may not speak of that bucket. Never 403.",
    409: "The event was handed in before with another mail.",
    413: "The mail, or the body, is too large, or the mail has too many recipients.",
    415: "The body is compressed.",
    422: "SES's notification makes no sense; `field` says where.",
    503: "A fault of ours, or a wait that we ask for: an object or a certificate that is missing.",
}


def operations() -> tuple[Operation, ...]:
    """The operations of this door."""
    return (
        _operation(INBOUND, "postSesInbound", "SNS tells of mail that SES received."),
        _operation(EVENTS, "postSesEvents", "SNS tells what became of mail that SES sent."),
    )


def _operation(path: str, name: str, summary: str) -> Operation:
    kind = Parameter(name=KIND_HEADER, place="header", about="The kind of the message, as in its Type.")
    body: dict[str, Any] = {"type": "string", "description": "An SNS message: JSON, whatever type it has."}
    return Operation(
        method="POST",
        path=path,
        name=name,
        summary=summary,
        about=_ABOUT,
        parameters=(kind,),
        bodies={"text/plain": body},
        answers={status: (SesAnswer, about) for status, about in _ANSWERS.items()},
    )
