"""Machine reports without the structure of a standard: bounces in plain text, complaints of Hotmail's programme.

What is read here tells what became of a mail; it does not decide the kind (`kind` does, by more signs than these).
Bounded and linear; nothing raises; nothing is proven.
"""

import re
from dataclasses import replace

from ingester.core.addresses import parse_addresses
from ingester.core.charset import clean
from ingester.core.content import decode_start
from ingester.core.fields import HeaderBlock, read_header
from ingester.core.kind_words import DELAYED, OPENINGS
from ingester.core.mime import Scan
from ingester.core.report import MAX_RECIPIENTS, MAX_TEXT, DeliveryStatus, Feedback, Recipient, Report, source_ip
from ingester.core.words import header_text

MAX_READ = 64 << 10
"""Characters of a bounce's text, and bytes of a returned mail's header, that are read."""
MAX_LINES = 2000
_OPENING = 400
"""Characters of the text in which a mail system introduces itself."""
_FIRST_WORDS = frozenset(words.split()[0] for words, _ in OPENINGS)
"""Few texts begin with one of them: the others are not looked at further."""
_WORDING = 2000
"""Characters in which it says what has happened."""

HOTMAIL = re.compile(r"staff@(?:hotmail|outlook|live)\.com", re.IGNORECASE)
"""Who sends the complaints of the Junk Mail Reporting Program."""
HOTMAIL_FIELD = "x-hmxmroriginalrecipient"
"""Who complained: on the complaint, or on the mail that it returns."""

_ADDRESS = r"[^<>\s@]{1,320}@[^<>\s@:]{1,255}"
_IN_BRACKETS = re.compile(rf"<({_ADDRESS})>(?: \(expanded from <?[^<>\n]{{1,320}}>?\))?:[ \t]*+(.*+)")
"""A failed recipient of qmail's (alone in its line) and of Postfix's; the reason follows."""
_INDENTED = re.compile(rf"  ({_ADDRESS})(?:[ \t]\(.{{0,400}})?")
"""One of Exim's."""
_STATUS = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?![\d.])", re.ASCII)


def mail_system(text: str) -> str | None:
    """The mail system that introduces itself at the beginning of a text, by its known words."""
    first = text[:_OPENING].split(maxsplit=1)[:1]
    if not first or first[0].lower() not in _FIRST_WORDS:
        return None
    opening = " ".join(text[:_OPENING].lower().split())
    return next((name for words, name in OPENINGS if opening.startswith(words)), None)


def read_bounce(text: str) -> DeliveryStatus | None:
    """The recipients that a bounce in plain text names (qmail's QSBMF, Exim's and Postfix's); None where it names none.

    The copy of the returned mail begins at a line of dashes and is not read.
    """
    if mail_system(text) is None:
        return None
    action = "delayed" if any(words in text[:_WORDING].lower() for words in DELAYED) else "failed"
    found: list[tuple[str, list[str]]] = []
    reason: list[str] | None = None
    for line in text[:MAX_READ].split("\n", MAX_LINES)[:MAX_LINES]:
        if line.startswith("--"):
            break
        named = _IN_BRACKETS.fullmatch(line) or _INDENTED.fullmatch(line.rstrip())
        if named is not None:
            reason = list(named.groups()[1:])
            found.append((named.group(1), reason))
        elif not line.strip():
            reason = None
        elif reason is not None:
            reason.append(line)
    recipients = tuple(_recipient(address, " ".join(lines), action) for address, lines in found[:MAX_RECIPIENTS])
    return DeliveryStatus(recipients=recipients, cut=len(found) > MAX_RECIPIENTS) if recipients else None


def _recipient(address: str, reason: str, action: str) -> Recipient:
    status = _STATUS.search(reason[: 4 * MAX_TEXT])
    return Recipient(
        final_recipient=address,
        original_recipient=None,
        action=action,
        status=status.group(1) if status else None,
        diagnostic_code=" ".join(reason[: 4 * MAX_TEXT].split())[:MAX_TEXT] or None,
        remote_mta=None,
    )


def with_hotmail(
    report: Report | None, raw: bytes, structure: Scan, *, sender: str | None, subject: str
) -> Report | None:
    """The report, completed by what only Hotmail's field tells; a complaint of theirs that has no report part is one.

    `sender` is the From address. The subject ends in the address of the host that sent the mail complained about.
    """
    complaint = report is None and sender is not None and HOTMAIL.fullmatch(sender) is not None
    lacking = isinstance(report, Feedback) and not report.original_rcpt_to
    if not complaint and not lacking:
        return report
    complainers = _complainers(raw, structure)
    if isinstance(report, Feedback):
        return replace(report, original_rcpt_to=complainers)
    if not complainers:
        return None
    host = source_ip(subject[-60:].rpartition(" ")[2])
    return Feedback(feedback_type="abuse", original_rcpt_to=complainers, source_ip=host)


def _complainers(raw: bytes, structure: Scan) -> tuple[str, ...]:
    returned = next((part for part in structure.parts if part.content_type == "message/rfc822"), None)
    blocks = [structure.header]
    if returned is not None:
        head = decode_start(raw, returned.offset, returned.length, returned.encoding, MAX_READ)
        blocks.append(_header(head))
    value = next((value for block in blocks if (value := block.first(HOTMAIL_FIELD))), b"")
    mailboxes, _ = parse_addresses(header_text(value[: 4 * MAX_TEXT]), max_tokens=100)
    return tuple(clean(one.address, set())[:MAX_TEXT] for one in mailboxes[:1] if one.address)


def _header(head: bytes) -> HeaderBlock:
    return read_header(head, 0, len(head), max_bytes=MAX_READ, max_fields=1000, top=True)
