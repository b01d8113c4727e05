"""Everything the store keeps of a mail, derived from its bytes alone: the one entry to the MIME rooms.

`digest` never raises and is bounded; what was cut, guessed or broken is named in `flags`.
"""

import re
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from hashlib import sha256

from ingester.core.addresses import Mailbox
from ingester.core.body import Body, read_body
from ingester.core.calendar import Calendar, find_calendar
from ingester.core.charset import clean
from ingester.core.content import decode_start
from ingester.core.fields import HeaderBlock, read_header
from ingester.core.hashed_body import HashedBody
from ingester.core.headers import message_id
from ingester.core.kind import Nature, read_nature
from ingester.core.mime import Bounds, Scan, scan, tiles_balance
from ingester.core.patience import PARTS, CostlyError, check_structure, check_text
from ingester.core.plain_report import read_bounce, with_hotmail
from ingester.core.reply import reply_text
from ingester.core.report import Report, find_report, returned_id
from ingester.core.rows import PartRow, part_rows
from ingester.core.sealed import seals
from ingester.core.top_header import TopHeader, only_addresses
from ingester.core.words import header_text, unfold

MAX_SUBJECT = 4096
MAX_HEADER_TO = 16_384
"""Characters kept of the decoded Subject and To."""
_MAX_TOKEN = 200
_REPORT_HEADER = 64 << 10
_CUT_HEADER = frozenset({"header_limit", "header_fields_limit"})
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_SHOWN = {
    name.decode(): name + b":"
    for name in (
        *(b"from", b"sender", b"reply-to", b"to", b"cc", b"subject", b"date"),
        *(b"message-id", b"in-reply-to", b"references"),
    )
}
_KEYED = ("message-id", "from", "date", "subject")
_MAX_RETURNED = 20
"""Embedded messages that are looked into."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a mail says of itself. Nothing here is proven: the From address is what the header claims.

    All text is safe for Postgres: no NUL, no lone surrogates. Ids have no brackets. `sent_at` is in UTC.
    `content_key` is the second claim key of the design page; it counts only for a mail that has a Message-ID.
    """

    subject: str
    from_address: str | None
    from_name: str | None
    authors: tuple[str, ...]
    """Every address of every From field: DMARC wants exactly one."""
    from_fields: int
    to_addresses: tuple[str, ...]
    cc_addresses: tuple[str, ...]
    reply_to_addresses: tuple[str, ...]
    header_to: str | None
    rfc_message_id: str | None
    in_reply_to: tuple[str, ...]
    reference_ids: tuple[str, ...]
    report_message_ids: tuple[str, ...]
    reply_token: str | None
    """What stands in X-OpenSend-Reply-Token; nothing is proven."""
    sent_at: datetime | None
    date_raw: str | None
    body_text: str
    body_html: str | None
    reply_text: str
    parts: tuple[PartRow, ...]
    received_count: int
    flags: tuple[str, ...]
    content_key: bytes
    shown_hash: bytes
    """Of the header fields that people and programs act on, to compare two arrivals of one mail."""
    nature: Nature
    calendar: Calendar | None
    report: Report | None
    hashed: HashedBody = field(compare=False, repr=False)
    """Handed on to whoever wants the hash of the body too."""
    header: HeaderBlock = field(compare=False, repr=False)
    """Handed on to whoever must see the very fields that were read here."""


def digest(raw: bytes, bounds: Bounds) -> Message:
    """Derive everything from the bytes. CPU: about the decoding of the parts and their sha256."""
    return _digest(raw, scan(raw, bounds), bounds, hasty=False)


def digest_at_once(raw: bytes, bounds: Bounds) -> Message | None:
    """The same while the event loop waits; None for a mail that would hold it too long: then `digest` it beside."""
    structure = scan(raw, _hasty(bounds))
    try:
        check_structure(structure)
        return _digest(raw, structure, bounds, hasty=True)
    except CostlyError:
        return None


@lru_cache(maxsize=8)  # a process has one
def _hasty(bounds: Bounds) -> Bounds:
    """With as few parts as are digested at once, and one more to tell that there are more."""
    return replace(bounds, max_parts=min(bounds.max_parts, PARTS + 1))


def _digest(raw: bytes, structure: Scan, bounds: Bounds, *, hasty: bool) -> Message:
    """Raises CostlyError only in haste."""
    flags = set(structure.flags)
    if not tiles_balance(structure, raw):
        flags.add("unbalanced")
    body = read_body(raw, structure, flags, hasty=hasty)
    if hasty:
        check_text(body.text)
    header = TopHeader(structure.header, _declared_charset(structure), flags, bounds.max_address_tokens)
    sender = header.mailboxes("from")
    authors = only_addresses(sender)
    from_fields = _from_fields(structure.header, sender, cut="addresses_cut" in flags)
    if len(structure.header.all("from")) > 1 or len(sender) > 1:
        flags.add("several_from")
    subject = header.text("subject", MAX_SUBJECT) or ""
    address = authors[0] if authors else None
    calendar = find_calendar(raw, structure)
    report = with_hotmail(find_report(raw, structure), raw, structure, sender=address, subject=subject)
    sent_at, date_raw = header.date()
    nature = read_nature(structure, sender=address, subject=subject, text=body.text, calendar=calendar, report=report)
    if report is None and nature.from_mail_system:
        report = read_bounce(body.text)
    hashed = HashedBody(raw, structure.header.end)
    content_key, shown_hash = _keys(structure.header, hashed)
    sealed = seals(raw, structure, body.text)
    flags.update(sealed.values())
    return Message(
        subject=subject,
        from_address=address,
        from_name=_name_of(sender),
        authors=authors,
        from_fields=from_fields,
        to_addresses=header.addresses("to"),
        cc_addresses=header.addresses("cc"),
        reply_to_addresses=header.addresses("reply-to"),
        header_to=header.text("to", MAX_HEADER_TO),
        rfc_message_id=header.message_id(),
        in_reply_to=header.ids("in-reply-to"),
        reference_ids=header.ids("references"),
        report_message_ids=_report_ids(raw, structure, bounds, nature, body.text),
        reply_token=header.text("x-opensend-reply-token", _MAX_TOKEN),
        sent_at=sent_at,
        date_raw=date_raw,
        body_text=body.text,
        body_html=body.html,
        reply_text=reply_text(body.text, body.html if _only_html(structure, body) else None),
        parts=part_rows(raw, structure.parts, body, sealed, flags, max_parts=bounds.max_parts),
        received_count=len(structure.header.all("received")),
        content_key=content_key,
        hashed=hashed,
        header=structure.header,
        shown_hash=shown_hash,
        nature=nature,
        calendar=calendar,
        report=report,
        flags=tuple(sorted(flags)),
    )


def _from_fields(header: HeaderBlock, sender: list[Mailbox], *, cut: bool) -> int:
    """How many From fields there are, to be judged: one that cannot be read in whole counts twice.

    A From that holds more than one plain address is one that readers show differently, and so is one with control
    characters, one of which not all was read (`cut`), and a header beyond our bounds.
    """
    fields = header.all("from")
    doubtful = (
        cut
        or not _CUT_HEADER.isdisjoint(header.flags)
        or False in [one.is_plain for one in sender]
        or [value for value in fields if _CONTROL.search(unfold(value))] != []
    )
    return len(fields) + doubtful


def _only_html(structure: Scan, body: Body) -> bool:
    """Whether the body text was made of HTML."""
    others = [part for part in structure.parts if part.ordinal in body.leaves and part.content_type != "text/html"]
    return not others


def _name_of(sender: list[Mailbox]) -> str | None:
    """The name beside the first address; where there is no address, of the first mailbox."""
    for one in sender:
        if one.address:
            return one.name or None
    return sender[0].name or None if sender else None


def _declared_charset(structure: Scan) -> str | None:
    """What raw 8-bit in the header is probably written in: the charset of the first text that declares one."""
    for part in structure.parts:
        if part.charset:
            return part.charset
    return None


def _report_ids(raw: bytes, structure: Scan, bounds: Bounds, nature: Nature, text: str) -> tuple[str, ...]:
    """The Message-IDs that a report names (RFC 6522; RFC 8098, 3.2.5): the only look into an embedded message."""
    if "multipart/report" not in structure.types and not nature.from_mail_system:
        return ()
    out: dict[str, None] = {}
    looked = 0
    for node in structure.nodes:
        if node.part is None or node.parent < 0:
            continue
        if structure.nodes[node.parent].content_type != "multipart/report" and not nature.from_mail_system:
            continue
        subtype = node.content_type.partition("/")[2]
        name = "original-message-id" if subtype == "disposition-notification" else "message-id"
        if name == "message-id" and subtype not in ("rfc822", "rfc822-headers", "global", "global-headers"):
            continue
        looked += 1
        if looked > _MAX_RETURNED:
            break
        part = structure.parts[node.part]
        head = decode_start(raw, part.offset, part.length, part.encoding, _REPORT_HEADER)
        block = read_header(head, 0, len(head), max_bytes=_REPORT_HEADER, max_fields=bounds.max_header_fields, top=True)
        value = block.first(name)
        found = message_id(header_text(value)) if value is not None else None
        if found:
            out[clean(found, set())] = None
    return tuple(out) or (returned_id(text) if nature.from_mail_system else ())


def _keys(header: HeaderBlock, body: HashedBody) -> tuple[bytes, bytes]:
    """`content_key` and `shown_hash` of a message.

    The key is of Message-ID, From, Date, Subject and everything after the header block, but for line ends at its very
    end: SMTP ends every mail with one, another door brings the mail without. The hash is of all fields that are shown,
    answered to, or say how to read the body. Of both blanks are folded, for relays refold.
    """
    first: dict[str, bytes] = {}
    shown: list[bytes] = []
    for name, value in header.fields:
        if name in _SHOWN:
            prefix = _SHOWN[name]
        elif name[:8] == "content-":
            prefix = name.encode() + b":"
        else:
            continue
        folded = b" ".join(value.split())
        shown += (prefix, folded, b"\0")
        if name not in first:
            first[name] = folded
    values = [first.get(name, b"") for name in _KEYED]
    return sha256(b"\0".join([*values, body.digest()])).digest(), sha256(b"".join(shown)).digest()
