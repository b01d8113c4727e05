"""What providers of inbound mail hand in by HTTP, each in its own format, made into submissions. No I/O, no clock.

A format is told by its fields unless it is known. Nothing raises: what cannot be read is a Problem, with its field.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from ingester.settings.groups import Providers
from ingester.transport.forms import Form
from ingester.transport.providers import cloudmailin, mailgun, postmark, sendgrid
from ingester.transport.submission import Submission
from ingester.web.body import unprocessable
from ingester.web.problem import Problem

_READERS: Final[Mapping[str, Callable[[Form], Submission | Problem]]] = {
    mailgun.NAME: mailgun.read,
    sendgrid.NAME: sendgrid.read,
    cloudmailin.NAME: cloudmailin.read,
}


def read_form(form: Form, *, asked: str | None) -> Submission | Problem:
    """The mail in a form. `asked` is the provider if it is known; another word than our formats' tells nothing."""
    reader = _READERS.get(asked or "") or _READERS.get(_format_of(form) or "")
    return reader(form) if reader else unprocessable(None, "This is no form of Mailgun, SendGrid or CloudMailin.")


def _format_of(form: Form) -> str | None:
    if mailgun.is_like(form):
        return mailgun.NAME
    if sendgrid.is_like(form):
        return sendgrid.NAME
    return cloudmailin.NAME if cloudmailin.is_like(form) else None


def read_json(body: bytes, *, asked: str | None) -> Submission | Problem | None:
    """The mail in JSON of a provider's; None where it is of no provider's making. 25 MB take a thread's while."""
    return postmark.read(body) if asked in (None, postmark.NAME) else None


def may_be_signed(keys: Providers, *, headers: Mapping[str, str], content_type: str) -> bool:
    """Whether the body of a request can prove who sent it, and is worth reading: the key to check it is there."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in ("multipart/form-data", "application/x-www-form-urlencoded"):
        return False
    return bool(_mailgun_key(keys)) or (bool(keys.sendgrid_public_key) and sendgrid.Signature(headers).is_shown)


class SignatureCheck:
    """Whether a provider signed a request: begun with its headers, told of each chunk of its body, asked at its end."""

    __slots__ = ("_keys", "_sendgrid")

    def __init__(self, keys: Providers, headers: Mapping[str, str]) -> None:
        self._keys = keys
        self._sendgrid = sendgrid.Signature(headers) if keys.sendgrid_public_key else None

    def update(self, chunk: bytes) -> None:
        """The next bytes of the body."""
        if self._sendgrid is not None and self._sendgrid.is_shown:
            self._sendgrid.update(chunk)

    def signed_by(self, form: Form, now: datetime) -> str | None:
        """The provider whose signature of the request is true and fresh; None where none is."""
        if self._sendgrid is not None and self._sendgrid.is_true(self._keys.sendgrid_public_key, now):
            return sendgrid.NAME
        key = _mailgun_key(self._keys)
        return mailgun.NAME if key and mailgun.is_signed(form, key, now) else None


def _mailgun_key(keys: Providers) -> str:
    return "" if keys.mailgun_signing_key is None else keys.mailgun_signing_key.get_secret_value()
