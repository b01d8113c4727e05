"""What who hands in a mail over HTTP is told: one shape for every answer, and the HTTP side of the table of reasons.

`status` says what to do: `accepted` and `duplicate` are done, `refused` is final, `deferred` may come again.
"""

from typing import Final, Literal
from uuid import UUID

import msgspec
from aiohttp import web

from ingester.core.outcome import CODES, Outcome, Reason, Refusal, Stored
from ingester.web.problem import RETRY_SECONDS, answer

Match = Literal["matched", "unmatched"]
Status = Literal["accepted", "duplicate", "refused", "deferred"]

_WORDS: Final = {
    Reason.UNKNOWN_DOMAIN: "missing_domain",
    Reason.UNKNOWN_MAILBOX: "missing_domain",
    Reason.OVERSIZED: "oversized_message",
}
"""Where HTTP has another word (design page, Reasons): nobody learns by it which domains and mailboxes there are."""
_NOBODY: Final = "We do not receive mail for this address."


class StoredMessage(msgspec.Struct, kw_only=True, frozen=True):
    """The mail in one mailbox. `duplicate`: it was there before, under this id."""

    message_id: UUID
    mailbox_id: UUID
    match: Match
    duplicate: bool


class RefusedRecipient(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """A recipient that is not served: beside a yes as it was named, in a no without its address (law 11)."""

    recipient: str | None = None
    reason: str


class Answer(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """Every answer of the intake. A yes names the messages: `message_id` is the first of `message_ids`. A mail that our
    code could not digest is kept whole: then it is accepted and has no message yet. A no names `reason`, a sentence for
    people, and the field that it is about.
    """

    ok: bool
    status: Status
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


def told(outcome: Outcome, *, accepted: int = CODES[Reason.ACCEPTED].http) -> web.Response:
    """The answer to an outcome. A fault of ours says when to come again (RFC 9110, 10.2.3).

    `accepted` is the status for a mail that is stored: some providers bring again whatever is not answered 200.
    """
    code = outcome.code
    response = answer(_body(outcome), status=accepted if outcome.reason is Reason.ACCEPTED else code.http)
    if code.http == 503:
        response.headers["Retry-After"] = str(RETRY_SECONDS)
    return response


def word_of(reason: Reason) -> str:
    """The word of a reason over HTTP."""
    return _WORDS.get(reason, reason.value)


def _body(outcome: Outcome) -> Answer:
    done = outcome.reason in (Reason.ACCEPTED, Reason.DUPLICATE)
    told_messages = done or bool(outcome.stored)
    refusal = None if done else Refusal(reason=outcome.reason, final=outcome.final)
    ids = tuple(one.message_id for one in outcome.stored)
    return Answer(
        ok=done,
        status=_status(outcome),
        arrival_id=outcome.arrival_id,
        message_id=ids[0] if ids else None,
        message_ids=ids if told_messages else None,
        match=_match(any(one.matched for one in outcome.stored)) if ids else None,
        attachments=outcome.attachments if told_messages else None,
        messages=tuple(map(_message, outcome.stored)) if told_messages else None,
        refused=tuple(
            RefusedRecipient(recipient=text if done else None, reason=word_of(one.reason))
            for text, one in outcome.refused
        ),
        reason=None if refusal is None else word_of(refusal.reason),
        message=None if refusal is None else _sentence(refusal),
    )


def _status(outcome: Outcome) -> Status:
    if outcome.reason is Reason.ACCEPTED:
        return "accepted"
    if outcome.reason is Reason.DUPLICATE:
        return "duplicate"
    return "deferred" if outcome.code.http == 503 else "refused"


def _message(stored: Stored) -> StoredMessage:
    return StoredMessage(
        message_id=stored.message_id,
        mailbox_id=stored.mailbox_id,
        match=_match(stored.matched),
        duplicate=stored.duplicate,
    )


def _match(matched: bool) -> Match:
    return "matched" if matched else "unmatched"


def _sentence(refusal: Refusal) -> str:
    return _NOBODY if word_of(refusal.reason) == "missing_domain" else f"{refusal.code.words}."
