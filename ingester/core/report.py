"""Machine reports about a mail: delivery status (RFC 3464), feedback (RFC 5965, 6591), disposition (RFC 8098).

The fields of the machine-readable part, as values. Whatever the bytes are, something comes out and nothing raises; all
is bounded. Nothing here is proven: anyone can write a report.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address

from ingester.core.addresses import parse_addresses
from ingester.core.charset import clean
from ingester.core.content import decode_start
from ingester.core.fields import HeaderBlock, read_header
from ingester.core.headers import message_id, parse_date
from ingester.core.mime import Scan
from ingester.core.part import Part
from ingester.core.words import header_text, line_text

MAX_BYTES = 256 << 10
"""Decoded bytes read of one report part."""
MAX_RECIPIENTS = 100
MAX_TEXT = 1000
"""Characters kept of one value."""
MAX_PARTS = 4
"""Report parts that are tried."""
_MAX_FIELDS = 200

ACTIONS = frozenset({"failed", "delayed", "delivered", "relayed", "expanded"})
"""RFC 3464, 2.3.3."""
FEEDBACK = frozenset({
    "abuse", "fraud", "virus", "other", "not-spam", "auth-failure", "opt-out", "opt-out-list", "miscategorized",
})  # fmt: skip
"""The registry of RFC 5965, 7.3, with RFC 6591 and RFC 6430, and what feedback loops send besides."""

_EMPTY_LINES = re.compile(rb"\n(?:[ \t]*+\n)+")
_STATUS = re.compile(r"\b([245]\.\d{1,3}\.\d{1,3})\b", re.ASCII)
_TYPED = re.compile(r"\s*+[A-Za-z0-9-]{1,40}\s*+;(.*+)", re.DOTALL)
_RETURNED = re.compile(r"^Message-ID:[ \t]*+(?:\n[ \t]++)?<([^<>\s]{1,998})>", re.IGNORECASE | re.MULTILINE)
_WORD = re.compile(r"[a-z0-9-]{1,40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """What became of one recipient (RFC 3464, 2.3). Addresses and names stand without their type (`rfc822;`)."""

    final_recipient: str | None
    original_recipient: str | None
    action: str | None
    status: str | None
    diagnostic_code: str | None
    remote_mta: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryStatus:
    """RFC 3464, 2.2. `cut`: there were more recipients or more bytes than are read."""

    type: str = "delivery-status"
    reporting_mta: str | None = None
    original_envelope_id: str | None = None
    arrival_date: datetime | None = None
    recipients: tuple[Recipient, ...] = ()
    cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """RFC 5965, 3.1 and 3.2; `auth_failure` is RFC 6591's."""

    type: str = "feedback-report"
    feedback_type: str | None = None
    user_agent: str | None = None
    original_mail_from: str | None = None
    original_rcpt_to: tuple[str, ...] = ()
    source_ip: str | None = None
    reported_domain: tuple[str, ...] = ()
    arrival_date: datetime | None = None
    reporting_mta: str | None = None
    original_envelope_id: str | None = None
    auth_failure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Disposition:
    """RFC 8098, 3.2. `disposition` is the type (displayed, deleted, ...), `mode` how it came about."""

    type: str = "disposition-notification"
    disposition: str | None = None
    mode: str | None = None
    original_message_id: str | None = None
    final_recipient: str | None = None
    original_recipient: str | None = None
    reporting_ua: str | None = None


Report = DeliveryStatus | Feedback | Disposition

REPORT_PARTS = {
    "message/delivery-status": "delivery-status",
    "message/global-delivery-status": "delivery-status",
    "message/feedback-report": "feedback-report",
    "message/disposition-notification": "disposition-notification",
    "message/global-disposition-notification": "disposition-notification",
}
"""The media types that hold a report, and the report-type that they are for (RFC 6522; RFC 6533 for `global`)."""


def find_report(raw: bytes, structure: Scan) -> Report | None:
    """What the first readable report part of a mail says; failing that, its X-Failed-Recipients."""
    parts: list[Part] = []
    if not structure.types.isdisjoint(REPORT_PARTS):
        parts = [part for part in structure.parts if part.content_type in REPORT_PARTS]
    for part in parts[:MAX_PARTS]:
        data = decode_start(raw, part.offset, part.length, part.encoding, MAX_BYTES + 1)
        found = read_report(REPORT_PARTS[part.content_type], data)
        if found is not None:
            return found
    failed = structure.header.all("x-failed-recipients")
    named = b",".join([value[: MAX_RECIPIENTS * 400] for value in failed[:10]]) if failed else b""
    if not named or parts:
        return None
    mailboxes, _ = parse_addresses(line_text(named), max_tokens=10 * MAX_RECIPIENTS)
    return failed_recipients(tuple(clean(one.address, set()) for one in mailboxes if one.address))


def returned_id(text: str) -> tuple[str, ...]:
    """The Message-ID of the mail that a bounce without structure quotes in its text (qmail, old Exim), with its header.

    The first counts: the mail may quote others in turn.
    """
    found = _RETURNED.search(text, 0, MAX_BYTES)
    return (found.group(1),) if found else ()


def read_report(report_type: str, data: bytes) -> Report | None:
    """The report in the decoded bytes of a part, or None where they say nothing of this type."""
    cut = len(data) > MAX_BYTES
    groups, more = _groups(data[:MAX_BYTES])
    if report_type == "delivery-status":
        return _delivery_status(groups, cut=cut or more)
    fields = _Fields(tuple(groups[:2]))  # some put an empty line before the last fields
    return _feedback(fields) if report_type == "feedback-report" else _disposition(fields)


def failed_recipients(addresses: tuple[str, ...]) -> DeliveryStatus | None:
    """The report that a plain-text bounce makes in its header (Exim's and Gmail's X-Failed-Recipients)."""
    if not addresses:
        return None
    return DeliveryStatus(
        recipients=tuple(
            Recipient(
                final_recipient=address[:MAX_TEXT],
                original_recipient=None,
                action="failed",
                status=None,
                diagnostic_code=None,
                remote_mta=None,
            )
            for address in addresses[:MAX_RECIPIENTS]
        ),
        cut=len(addresses) > MAX_RECIPIENTS,
    )


def _groups(data: bytes) -> tuple[list[HeaderBlock], bool]:
    """The groups of fields between empty lines (RFC 3464, 2.1), and whether there were more than are read."""
    pieces = _EMPTY_LINES.split(data.replace(b"\r\n", b"\n").strip(b" \t\r\n"), 2 * MAX_RECIPIENTS)
    blocks = [
        read_header(piece, 0, len(piece), max_bytes=MAX_BYTES, max_fields=_MAX_FIELDS, top=True)
        for piece in pieces[: 2 * MAX_RECIPIENTS]
    ]
    return [block for block in blocks if block.fields], len(pieces) > 2 * MAX_RECIPIENTS


@dataclass(frozen=True, slots=True)
class _Fields:
    """Values of one or more groups, read by name."""

    blocks: tuple[HeaderBlock, ...]

    def raw(self, name: str) -> list[bytes]:
        return [value for block in self.blocks for value in block.all(name)]

    def texts(self, name: str) -> list[str]:
        found = (
            " ".join(clean(header_text(value[: 8 * MAX_TEXT]), set()).split())[:MAX_TEXT]
            for value in self.raw(name)[:10]
        )
        return [text for text in found if text]

    def text(self, name: str) -> str | None:
        return next(iter(self.texts(name)), None)

    def typed(self, name: str) -> str | None:
        """`type; value` without the type (RFC 3464, 2.1.2), and without brackets and the like around an address."""
        text = self.text(name)
        found = _TYPED.match(text) if text is not None else None
        value = found.group(1) if found else text
        return _bare(value) if value is not None else None

    def date(self, *names: str) -> datetime | None:
        return next((parse_date(text) for name in names if (text := self.text(name))), None)

    def word(self, name: str, known: frozenset[str]) -> str | None:
        word = (self.text(name) or "")[:60].lower().split(maxsplit=1)
        return None if not word else word[0].rstrip(";,.") if word[0].rstrip(";,.") in known else "other"


def _bare(text: str) -> str | None:
    text = text.strip()
    if text.startswith("<") and ">" in text:
        text = text[1:].partition(">")[0].strip()
    return text or None


def _delivery_status(groups: list[HeaderBlock], *, cut: bool) -> DeliveryStatus | None:
    """Whose group names a recipient or an action is a recipient's; the others tell of the message."""
    about: list[HeaderBlock] = []
    recipients: list[Recipient] = []
    for block in groups:
        if not any(block.first(name) for name in ("final-recipient", "original-recipient", "action")):
            about.append(block)
        elif len(recipients) < MAX_RECIPIENTS:
            recipients.append(_recipient(_Fields((block,))))
        else:
            cut = True
    # A report whose empty line was forgotten has its message's fields in the first recipient's group.
    fields = _Fields((*about, *groups[:1]))
    mta, arrival, envelope_id = fields.typed("reporting-mta"), fields.date("arrival-date"), None
    if not recipients and mta is None and arrival is None:
        return None
    envelope_id = fields.text("original-envelope-id")
    return DeliveryStatus(
        reporting_mta=mta,
        original_envelope_id=envelope_id,
        arrival_date=arrival,
        recipients=tuple(recipients),
        cut=cut,
    )


def _recipient(fields: _Fields) -> Recipient:
    status = _STATUS.search(fields.text("status") or "")
    code = fields.text("diagnostic-code")
    return Recipient(
        final_recipient=fields.typed("final-recipient"),
        original_recipient=fields.typed("original-recipient"),
        action=fields.word("action", ACTIONS),
        status=status.group(1) if status else None,
        diagnostic_code=code,
        remote_mta=fields.typed("remote-mta"),
    )


def _feedback(fields: _Fields) -> Feedback | None:
    kind = fields.word("feedback-type", FEEDBACK)
    if kind is None and fields.text("user-agent") is None:
        return None
    sender = fields.text("original-mail-from")
    return Feedback(
        feedback_type=kind,
        user_agent=fields.text("user-agent"),
        original_mail_from=_bare(sender) if sender else None,
        original_rcpt_to=tuple(one for text in fields.texts("original-rcpt-to") if (one := _bare(text))),
        source_ip=source_ip(fields.text("source-ip")),
        reported_domain=tuple(fields.texts("reported-domain")),
        arrival_date=fields.date("arrival-date", "received-date"),  # RFC 5965, 3.2: the older name
        reporting_mta=fields.typed("reporting-mta"),
        original_envelope_id=fields.text("original-envelope-id"),
        auth_failure=_first_word(fields.text("auth-failure")),
    )


def _disposition(fields: _Fields) -> Disposition | None:
    text = (fields.text("disposition") or "").lower()
    mode, _, what = text.rpartition(";")
    ids = fields.raw("original-message-id")
    if not text and not ids:
        return None
    named = message_id(header_text(ids[0])) if ids else None
    return Disposition(
        disposition=_first_word(what.partition("/")[0]),
        mode=next((word for word in mode.split("/") if _WORD.fullmatch(word.strip())), "").strip() or None,
        original_message_id=clean(named, set()) if named else None,
        final_recipient=fields.typed("final-recipient"),
        original_recipient=fields.typed("original-recipient"),
        reporting_ua=fields.text("reporting-ua"),
    )


def _first_word(text: str | None) -> str | None:
    found = _WORD.match((text or "").strip().lower())
    return found.group() if found else None


def source_ip(text: str | None) -> str | None:
    """The address; what some add in parentheses or brackets is dropped."""
    word = (text or "").strip().split(maxsplit=1)
    try:
        return str(ip_address(word[0].strip("[]").removeprefix("IPv6:"))) if word else None
    except ValueError:
        return None
