"""Our own JSON for a mail: an event id, the mail in one of three ways, and what is said beside it. Pure.

Lists and objects stay undecoded until their size is known, so that a hostile body costs no more than its bytes.
"""

import binascii
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
import pybase64

from ingester.core.outcome import Reason
from ingester.transport.http.fields import (
    GENERIC,
    EventId,
    Fault,
    Helo,
    ProviderName,
    check_assertion,
    check_recipients,
)
from ingester.transport.json_text import unescaped
from ingester.transport.metadata import read_metadata
from ingester.transport.submission import Assertion, Submission
from ingester.web.body import PLAIN, decode, unprocessable
from ingester.web.problem import Problem

MAX_LIST: Final = 1 << 20
"""Bytes of a list of recipients."""
_WAYS: Final = ("raw_mime_base64", "raw_mime", "raw_mime_url")
_SURROGATE: Final = re.compile(rb"\\u[dD][89abAB]")
_END: Final = 16
_HALF: Final = ("surrogate", "unexpected end of hex escape")
"""What msgspec says of one half of a pair, in text that it reads and in text that it leaves."""
_NO_TEXT: Final = "JSON holds UTF-8 text only: hand in other bytes as raw_mime_base64."
_BLANKS: Final = b" \t\r\n"

_LIST_SCHEMA: Final[dict[str, Any]] = {
    "type": ["array", "null"],
    "items": {"type": "string", "format": "email"},
    "examples": [["support@example.com"]],
}
_Recipients = Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema=_LIST_SCHEMA)]
_Object = Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"type": ["object", "null"]})]
_Text = Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"type": ["string", "null"]})]
_Line = Annotated[str, msgspec.Meta(max_length=998, pattern=PLAIN)]


def _null() -> msgspec.Raw:
    """What is not said. No plain default: it could not be told in a schema."""
    return msgspec.Raw(b"null")


class EnvelopeTold(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The SMTP envelope as the provider saw it. It counts only from a token that may assert it. `mail_from` is empty
    for the null sender.
    """

    mail_from: _Line | None = None
    recipients: _Recipients = msgspec.field(default_factory=_null)
    client_ip: _Line | None = None
    helo: Helo | None = None


class InboundMail(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A mail and what is known of it: exactly one of `raw_mime_base64` (any bytes), `raw_mime` (UTF-8 text) and
    `raw_mime_url` (where it is allowed). Without `recipients` the envelope's count, else those of the mail's header.
    Without `provider` it is the token's, else `generic`.
    """

    event_id: EventId
    provider: ProviderName | None = None
    message_id: _Line | None = None
    recipients: _Recipients = msgspec.field(default_factory=_null)
    raw_mime_base64: _Text = msgspec.field(default_factory=_null)
    raw_mime: _Text = msgspec.field(default_factory=_null)
    raw_mime_url: str | None = None
    metadata: _Object = msgspec.field(default_factory=_null)
    envelope: EnvelopeTold | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """A mail that must be fetched first; `submission` lacks its bytes."""

    submission: Submission
    url: str


_DECODER: Final = msgspec.json.Decoder(InboundMail)
_LIST: Final = msgspec.json.Decoder(tuple[str, ...] | None)


def read_json(body: bytes, *, provider: str | None, most: int) -> Submission | Elsewhere | Fault:
    """Read a body. `provider` is what the token or the query says, where they say it; `most` recipients are taken."""
    asked = _decode(body)
    if isinstance(asked, Problem):
        return asked
    told = asked.envelope or EnvelopeTold()
    recipients = _addresses(asked.recipients, field="recipients", most=most)
    if not isinstance(recipients, tuple):
        return recipients
    by_envelope = _addresses(told.recipients, field="envelope.recipients", most=most)
    if not isinstance(by_envelope, tuple):
        return by_envelope
    assertion = Assertion(mail_from=told.mail_from, client_ip=told.client_ip, helo=told.helo, recipients=by_envelope)
    fault = check_assertion(assertion, within="envelope.")
    if fault is not None:
        return fault
    metadata = read_metadata(asked.metadata)
    if isinstance(metadata, Problem):
        return metadata
    raw = _mail(asked)
    if isinstance(raw, Problem):
        return raw
    submission = Submission(
        raw=raw,
        provider=asked.provider or provider or GENERIC,
        event_id=asked.event_id,
        recipients=recipients,
        asserted=assertion,
        metadata=metadata if asked.message_id is None else {"message_id": asked.message_id} | metadata,
    )
    return submission if asked.raw_mime_url is None else Elsewhere(submission=submission, url=asked.raw_mime_url)


def _decode(body: bytes) -> InboundMail | Problem:
    """As every body, but text that is no UTF-8 is a fault of the field: the JSON around it may be sound."""
    try:
        return _DECODER.decode(body)
    except UnicodeDecodeError:
        pass
    except msgspec.ValidationError:
        return decode(body, _DECODER)
    except msgspec.DecodeError as error:
        # At the very end of a body it is the other half that msgspec misses.
        half = any(words in str(error) for words in _HALF) or _SURROGATE.search(body[-_END:])
        if not half:
            return decode(body, _DECODER)
    except RecursionError:
        return decode(body, _DECODER)
    return unprocessable("raw_mime", _NO_TEXT)


def _addresses(text: msgspec.Raw, *, field: str, most: int) -> tuple[str, ...] | Fault:
    if len(bytes(text)) > MAX_LIST:
        return Reason.TOO_MANY_RECIPIENTS
    try:
        found = _LIST.decode(text) or ()
    except msgspec.ValidationError:
        return unprocessable(field, "Expected `array` of `str`.")
    return check_recipients(found, field=field, most=most) or found


def _mail(asked: InboundMail) -> bytes | Problem:
    """The bytes; none yet where they must be fetched."""
    given = [name for name in _WAYS if _is_said(getattr(asked, name))]
    if len(given) != 1:
        return unprocessable(given[1] if given else _WAYS[0], f"Exactly one of {', '.join(_WAYS)} is needed.")
    if asked.raw_mime_url is not None:
        return b""
    raw = _from_base64(asked.raw_mime_base64) if _is_said(asked.raw_mime_base64) else _from_text(asked.raw_mime)
    return unprocessable(given[0], "The mail is empty.") if raw == b"" else raw


def _is_said(value: msgspec.Raw | str | None) -> bool:
    return bytes(memoryview(value)[:5]) != b"null" if isinstance(value, msgspec.Raw) else value is not None


def _from_text(text: msgspec.Raw) -> bytes | Problem:
    raw = unescaped(text)
    return unprocessable("raw_mime", _NO_TEXT) if raw is None else raw


def _from_base64(text: msgspec.Raw) -> bytes | Problem:
    """Base64 (RFC 4648, 4), strict but for blanks and line ends, which some put in."""
    encoded = unescaped(text)
    if encoded is not None:
        with suppress(binascii.Error, ValueError):
            return pybase64.b64decode(encoded.translate(None, _BLANKS), validate=True)
    return unprocessable("raw_mime_base64", "This is not base64.")
