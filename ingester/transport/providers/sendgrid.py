"""SendGrid: Inbound Parse with "POST the raw, full MIME message", which is signed where a security policy says so.

The form holds `email`, and the SMTP envelope as JSON. Its boundary is always the same, so that a mail can hold it: the
reader of forms and the rule against repeated fields see to it that such a mail is refused and says nothing.
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

import msgspec

from ingester.auth import ecdsa
from ingester.transport.forms import Form
from ingester.transport.providers.values import fault, ip, path, said, text
from ingester.transport.submission import Assertion, Submission
from ingester.web.body import unprocessable
from ingester.web.problem import Problem

NAME: Final = "sendgrid"
PAST: Final = timedelta(hours=73)
"""How old a signature may be: SendGrid tries again for three days. The signature covers all that it hands in, so that a
replay brings the same mail, which is a duplicate.
"""
AHEAD: Final = timedelta(minutes=5)

_SIGNATURE: Final = "X-Twilio-Email-Event-Webhook-Signature"
_TIMESTAMP: Final = "X-Twilio-Email-Event-Webhook-Timestamp"
_SECONDS: Final = re.compile(r"[0-9]{1,12}", re.ASCII)

_RAW: Final = "email"
_RAW_MISSING: Final = 'The raw mail is missing: tick "POST the raw, full MIME message" in SendGrid\'s Inbound Parse.'
_EVIDENCE: Final = ("envelope", "sender_ip", "SPF", "dkim", "spam_score", "spam_report", "charsets")


class _Envelope(msgspec.Struct):
    to: list[str]
    sender: str | None = msgspec.field(name="from", default=None)


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)


def is_like(form: Form) -> bool:
    """Whether the fields are SendGrid's."""
    return "envelope" in form.fields and (_RAW in form.fields or "charsets" in form.fields)


def read(form: Form) -> Submission | Problem:
    """The mail in a form of SendGrid's, which gives events no id."""
    problem = fault(form, raw=_RAW, raw_missing=_RAW_MISSING, needed=("envelope",), optional=("sender_ip",))
    if problem is not None:
        return problem
    try:
        envelope = _ENVELOPE.decode(form.first("envelope") or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return unprocessable("envelope", "This must be the SMTP envelope as JSON.")
    return Submission(
        raw=form.first(_RAW) or b"",
        provider=NAME,
        recipients=tuple(path(address) for address in envelope.to),
        asserted=Assertion(
            mail_from=None if envelope.sender is None else path(envelope.sender),
            client_ip=ip(text(form.first("sender_ip") or b"")),
        ),
        metadata=said(form, _EVIDENCE),
    )


class Signature:
    """The signature of a request, while its body is read: ECDSA over the timestamp and the body as it is sent."""

    __slots__ = ("_hash", "_shown", "_timestamp")

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._shown = headers.get(_SIGNATURE, "")
        self._timestamp = headers.get(_TIMESTAMP, "")
        self._hash = hashlib.sha256(self._timestamp.encode("utf-8", "replace"))

    @property
    def is_shown(self) -> bool:
        """Whether the request has a signature at all."""
        return bool(self._shown) and _SECONDS.fullmatch(self._timestamp) is not None

    def update(self, chunk: bytes) -> None:
        """The next bytes of the body."""
        self._hash.update(chunk)

    def is_true(self, public_key: str, now: datetime) -> bool:
        """Whether SendGrid signed the body, and lately. After its last byte."""
        if not self.is_shown:
            return False
        if not -PAST.total_seconds() <= int(self._timestamp) - now.timestamp() <= AHEAD.total_seconds():
            return False
        return ecdsa.is_true(public_key, self._shown, self._hash.digest())
