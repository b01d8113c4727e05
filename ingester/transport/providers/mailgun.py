"""Mailgun: routes that forward to a URL which ends in `mime`.

The form holds `body-mime`, the envelope's `recipient` and `sender`, and a signature over `timestamp` and `token`, which
says that Mailgun made a request at that time, but not which.
"""

import hmac
import re
from datetime import datetime, timedelta
from typing import Final

from ingester.core.addresses import parse_addresses
from ingester.transport.forms import Form
from ingester.transport.providers.values import fault, path, said, text
from ingester.transport.submission import Assertion, Submission
from ingester.web.problem import Problem

NAME: Final = "mailgun"
PAST: Final = timedelta(hours=9)
"""How old a signature may be. Mailgun tries again for eight hours and does not say that it signs anew. What a replay
within them can do is bounded by the token, which is the event's id: the same mail is a duplicate, another a conflict.
"""
AHEAD: Final = timedelta(minutes=5)

_RAW: Final = "body-mime"
_RAW_MISSING: Final = "The raw mail is missing: the URL in Mailgun's route must end in `mime`."
_SIGNED: Final = ("timestamp", "token", "signature")
_EVIDENCE: Final = ("sender", "from", "domain", "timestamp", "X-Mailgun-Spf", "X-Mailgun-Sflag", "X-Mailgun-Sscore")
_TIMESTAMP: Final = re.compile(rb"[0-9]{1,12}")
_TOKEN: Final = re.compile(rb"[!-~]{1,100}")


def is_like(form: Form) -> bool:
    """Whether the fields are Mailgun's."""
    return _RAW in form.fields or all(name in form.fields for name in ("recipient", *_SIGNED))


def read(form: Form) -> Submission | Problem:
    """The mail in a form of Mailgun's. Its event's id is the token, as far as there is one."""
    problem = fault(form, raw=_RAW, raw_missing=_RAW_MISSING, needed=("recipient",), optional=("sender", *_SIGNED))
    if problem is not None:
        return problem
    recipients, _ = parse_addresses(text(form.first("recipient") or b""))
    sender = form.first("sender")
    token = form.first("token") or b""
    return Submission(
        raw=form.first(_RAW) or b"",
        provider=NAME,
        event_id=token.decode() if _TOKEN.fullmatch(token) else None,
        recipients=tuple(box.address for box in recipients if box.address),
        asserted=Assertion(mail_from=None if sender is None else path(text(sender))),
        metadata=said(form, _EVIDENCE),
    )


def is_signed(form: Form, key: str, now: datetime) -> bool:
    """Whether Mailgun signed the request, and lately. The mail of a subaccount bears its parent's signature too."""
    timestamp, token = (form.first(name) or b"" for name in ("timestamp", "token"))
    if any(len(form.fields.get(name, ())) != 1 for name in _SIGNED):
        return False
    if not _TIMESTAMP.fullmatch(timestamp) or not _TOKEN.fullmatch(token):
        return False
    if not -PAST.total_seconds() <= int(timestamp) - now.timestamp() <= AHEAD.total_seconds():
        return False
    expected = hmac.digest(key.encode(), timestamp + token, "sha256").hex().encode()
    shown = (form.first(name) or b"" for name in ("signature", "parent-signature"))
    return any(hmac.compare_digest(one, expected) for one in shown)
