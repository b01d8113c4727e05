"""Postmark: the inbound webhook with "Include raw email content in JSON payload".

It signs nothing: a password in the URL tells who it is. JSON is text, so that a byte of the mail which is no UTF-8 is
lost before it comes here; where that shows, it is noted.
"""

import re
from typing import Final, TypeVar

import msgspec

from ingester.transport.json_text import unescaped
from ingester.transport.providers.values import evidence, path
from ingester.transport.submission import Submission
from ingester.web.body import unprocessable
from ingester.web.problem import Problem

NAME: Final = "postmark"
_RAW: Final = "RawEmail"
_RAW_MISSING: Final = (
    'The raw mail is missing: tick "Include raw email content in JSON payload" in Postmark\'s settings.'
)
_OWN_DOMAIN: Final = "@inbound.postmarkapp.com"
_MAX_FIELD: Final = 1 << 20
"""Bytes of JSON of a field beside the mail that are read."""
_EVENT_ID: Final = re.compile(r"[!-~]{1,200}")
_LOST: Final = "\ufffd".encode()
_TOLD: Final = ("x-spam-status", "x-spam-score", "x-spam-tests", "received-spf")
_Read = TypeVar("_Read")


class _Recipient(msgspec.Struct):
    address: str = msgspec.field(name="Email", default="")


class _Field(msgspec.Struct):
    name: str = msgspec.field(name="Name", default="")
    value: str = msgspec.field(name="Value", default="")


_Part = msgspec.Raw | msgspec.UnsetType


class _Inbound(msgspec.Struct, rename="pascal"):
    """The fields that are used, each as it stands: the mail is large, and not every other fault is worth a refusal."""

    raw_email: _Part = msgspec.UNSET
    message_id: _Part = msgspec.field(name="MessageID", default=msgspec.UNSET)
    original_recipient: _Part = msgspec.UNSET
    to_full: _Part = msgspec.UNSET
    cc_full: _Part = msgspec.UNSET
    bcc_full: _Part = msgspec.UNSET
    headers: _Part = msgspec.UNSET
    mailbox_hash: _Part = msgspec.UNSET
    message_stream: _Part = msgspec.UNSET
    tag: _Part = msgspec.UNSET


_INBOUND: Final = msgspec.json.Decoder(_Inbound)
_TEXT: Final = msgspec.json.Decoder(str)
_RECIPIENTS: Final = msgspec.json.Decoder(list[_Recipient])
_FIELDS: Final = msgspec.json.Decoder(list[_Field])
_FAULTS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def read(body: bytes) -> Submission | Problem | None:
    """The mail in a JSON object of Postmark's; None where it is none. Its event's id is Postmark's MessageID."""
    try:
        inbound = _INBOUND.decode(body)
    except _FAULTS:
        return None
    if inbound.raw_email is msgspec.UNSET:
        return None if inbound.message_id is msgspec.UNSET else unprocessable(_RAW, _RAW_MISSING)
    raw = unescaped(inbound.raw_email)
    if not raw:
        return unprocessable(_RAW, "This must be the raw mail as a JSON string.")
    event_id = _decoded(inbound.message_id, _TEXT) or ""
    if not _EVENT_ID.fullmatch(event_id):
        return unprocessable("MessageID", "This must be Postmark's id of the mail.")
    return Submission(
        raw=raw,
        provider=NAME,
        event_id=event_id,
        recipients=_recipients(inbound),
        metadata=_evidence(inbound, lost=raw.count(_LOST)),
    )


def _recipients(inbound: _Inbound) -> tuple[str, ...]:
    """Whom the SMTP envelope named; else, and of a mail forwarded to an address of Postmark's own, whom it names."""
    original = path(_decoded(inbound.original_recipient, _TEXT) or "")
    if original and not _is_own(original):
        return (original,)
    lists = (_decoded(part, _RECIPIENTS) or [] for part in (inbound.to_full, inbound.cc_full, inbound.bcc_full))
    addresses = dict.fromkeys(recipient.address.strip() for listed in lists for recipient in listed)
    return tuple(address for address in addresses if address and not _is_own(address))


def _is_own(address: str) -> bool:
    return address.lower().endswith(_OWN_DOMAIN)


def _evidence(inbound: _Inbound, *, lost: int) -> dict[str, str]:
    """What Postmark says beside the mail, and how many signs in it stand for bytes that may be lost."""
    headers = _decoded(inbound.headers, _FIELDS) or []
    told = {field.name.lower(): field.value for field in reversed(headers) if field.name.lower() in _TOLD}
    return evidence(
        {
            "OriginalRecipient": _decoded(inbound.original_recipient, _TEXT),
            "MailboxHash": _decoded(inbound.mailbox_hash, _TEXT),
            "MessageStream": _decoded(inbound.message_stream, _TEXT),
            "Tag": _decoded(inbound.tag, _TEXT),
            "replacement_characters": str(lost) if lost else None,
            **told,
        }
    )


def _decoded(part: _Part, decoder: msgspec.json.Decoder[_Read]) -> _Read | None:
    """A field's value; None where it is absent, of another kind or too large."""
    if part is msgspec.UNSET or len(memoryview(part)) > _MAX_FIELD:
        return None
    try:
        return decoder.decode(part)
    except _FAULTS:
        return None
