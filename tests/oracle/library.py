"""The standard library's parser (email, policy compat32) as a second reader of mails that come without expectations.

What is known of it is undone here, so that the table of differences holds only what is about a mail: it drops the last
line end of a multipart that is not closed, skips parts of nothing, does not decode RFC 2047 in parameters, and what it
cannot enter it gives as one leaf.
"""

from datetime import UTC, datetime
from email import message_from_bytes
from email.errors import CloseBoundaryNotFoundDefect
from email.header import decode_header, make_header
from email.message import Message as Mail
from email.utils import collapse_rfc2231_value, getaddresses, parsedate_to_datetime

from tests.oracle.reading import Leaf, Reading


def expected(raw: bytes) -> Reading:
    mail = message_from_bytes(raw)
    addresses = {name: _addresses(mail, name) for name in ("from", "to", "cc")}
    return Reading(
        leaves=tuple(_leaf(leaf) for leaf in _leaves(mail)),
        subject=_text(mail["subject"]),
        addresses={name: value for name, value in addresses.items() if value is not None},
        date=_date(mail),
    )


def cannot_enter(reading: Reading) -> bool:
    """Whether the library has left a multipart closed: nothing is known then of what is in it."""
    return any(leaf.media.startswith("multipart/") for leaf in reading.leaves)


def unclosed(raw: bytes) -> bool:
    parts = message_from_bytes(raw).walk()
    return any(isinstance(defect, CloseBoundaryNotFoundDefect) for part in parts for defect in part.defects)


def _leaves(mail: Mail) -> list[Mail]:
    payload = mail.get_payload()
    if not isinstance(payload, list) or mail.get_content_maintype() == "message":
        return [mail]
    return [leaf for child in payload if isinstance(child, Mail) for leaf in _leaves(child)]


def _leaf(mail: Mail) -> Leaf:
    name = mail.get_param("filename", None, "content-disposition") or mail.get_param("name", None)
    payload = None if mail.is_multipart() else mail.get_payload(decode=True)  # an embedded mail is not byte-exact here
    return Leaf(
        media=mail.get_content_type(),
        name=_text(collapse_rfc2231_value(name)) if name else None,
        content=payload if isinstance(payload, bytes) else b"",
    )


def _text(value: object) -> str | None:
    """Readable text, or None where the library has given up on the charset."""
    try:
        text = str(make_header(decode_header(str(value)))) if value is not None else ""
    except (LookupError, ValueError):
        return None
    return None if "\ufffd" in text or r"\ufffd" in text or not text.isprintable() else text


def _addresses(mail: Mail, name: str) -> list[str] | None:
    """None where it gives up: on the charset, on the syntax, on an address without angle brackets after a name."""
    values = [str(value) for value in mail.get_all(name, [])]
    found = getaddresses(values)
    addresses = [one for _, one in found]
    bad = any("@" not in one or " " in one or "\ufffd" in one for one in addresses)
    return None if bad or len(values) > 1 else addresses


def _date(mail: Mail) -> datetime | None:
    try:
        found = parsedate_to_datetime(str(mail["date"]))
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
