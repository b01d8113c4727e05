"""What OpenAPI says of `POST /events/inbound`."""

from typing import Any, Final

from ingester.transport.answers import Answer
from ingester.transport.http.fields import ACCEPTED, ACCEPTED_STATUS, MAX_EVENT_ID, MAX_HELO, MAX_PROVIDER
from ingester.transport.http.json_mail import InboundMail
from ingester.web.openapi import Operation, Parameter

PATHS: Final = ("/events/inbound", "/events/inbound/mime")
"""Mailgun hands in raw mail only where the URL ends in `mime`."""

_ABOUT: Final = """\
A yes (202, or 200 with `ok: true`) means that the mail is committed. 200 with `ok: false` is final: the mail was
understood and is not wanted, and bringing it again changes nothing. 503 is a fault of ours, or a wait that we ask for:
bring the mail again, after `Retry-After` seconds at the earliest. The same event, or the same mail, is stored once,
however often it comes.

Recipients are those that the provider lists, else those of an envelope that the token may assert, else those that the
mail's header names (Delivered-To, X-Original-To, then To and Cc) and that are within the token's bounds.
"""
_EMAIL: Final[dict[str, Any]] = {"type": "string", "format": "email"}
_RAW_ONLY: Final = "Only beside message/rfc822: other bodies say it themselves."
_ASSERTED: Final = f"It counts only from a token that may assert the envelope. {_RAW_ONLY}"
_ADDRESSES: Final[dict[str, Any]] = {"type": "array", "items": _EMAIL}

_EVENT_ID: Final[dict[str, Any]] = {"type": "string", "minLength": 1, "maxLength": MAX_EVENT_ID}

_BESIDE: Final = (
    ("event_id", _EVENT_ID, f"The event's id, else the hash. {_RAW_ONLY}"),
    ("provider", {"type": "string", "maxLength": MAX_PROVIDER}, "The provider's name."),
    ("recipient", _ADDRESSES, f"A recipient, as often as there are any. {_RAW_ONLY}"),
    ("mail_from", _EMAIL, f"The envelope sender. {_ASSERTED}"),
    ("client_ip", {"type": "string"}, f"The address of the client that sent the mail. {_ASSERTED}"),
    ("helo", {"type": "string", "maxLength": MAX_HELO}, f"The name that it gave. {_ASSERTED}"),
)
"""Beside a mail as it is: each in the query or in a header."""
_ACCEPTED: Final = Parameter(
    name=ACCEPTED,
    place="query",
    about=f"{ACCEPTED_STATUS} takes the place of 202, for providers that take any other status for a failure.",
    schema={"type": "integer", "enum": [ACCEPTED_STATUS]},
)

_ANSWERS: Final = {
    202: "Stored.",
    200: "`duplicate`: stored before, with the ids of then. `refused`: final. `accepted`: as the URL asks.",
    400: "The body is not what its type says.",
    401: "No token that is live. Never 403.",
    408: "The body did not come in time.",
    409: "The event was handed in before with another mail.",
    413: "The mail is too large, or has too many recipients.",
    415: "The body is of another type, or compressed.",
    422: "A value cannot be used; `field` names it.",
    503: "A fault of ours, or a wait that we ask for: bring it again.",
}


def operations() -> tuple[Operation, ...]:
    """The operations of this door: the same one under each path."""
    return tuple(
        Operation(
            method="POST",
            path=path,
            name="postInbound" if path == PATHS[0] else "postInboundMime",
            summary="Hand in a mail.",
            about=_ABOUT,
            security=("intake_bearer", "intake_basic"),
            parameters=tuple(_parameters()),
            bodies={
                "message/rfc822": {"type": "string", "description": "The mail as it is."},
                "application/json": InboundMail,
                "multipart/form-data": _form(),
                "application/x-www-form-urlencoded": _form(),
            },
            answers={status: (Answer, about) for status, about in _ANSWERS.items()},
        )
        for path in PATHS
    )


def _parameters() -> list[Parameter]:
    return [
        _ACCEPTED,
        *(Parameter(name=name, place="query", about=about, schema=schema) for name, schema, about in _BESIDE),
        *(
            Parameter(name="X-Ingester-" + name.title().replace("_", "-"), place="header", about=about, schema=schema)
            for name, schema, about in _BESIDE
        ),
    ]


def _form() -> dict[str, Any]:
    return {"type": "object", "description": "The form of a provider that is known: Mailgun, SendGrid, CloudMailin."}
