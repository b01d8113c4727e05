"""Everything the store keeps of a mail, derived from its bytes alone: the one entry to the MIME rooms.

`digest` never raises and is bounded; what was cut, guessed or broken is named in `flags`.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256

from ingester.core.addresses import Mailbox, parse_addresses
from ingester.core.body import Body, read_body
from ingester.core.calendar import Calendar, find_calendar
from ingester.core.charset import clean
from ingester.core.content import decode_start
from ingester.core.fields import HeaderBlock, read_header
from ingester.core.hashed_body import HashedBody
from ingester.core.headers import message_id, message_ids, parse_date
from ingester.core.kind import Nature, read_nature
from ingester.core.mime import Bounds, Scan, scan, tiles_balance
from ingester.core.plain_report import read_bounce, with_hotmail
from ingester.core.reply import reply_text
from ingester.core.report import Report, find_report, returned_id
from ingester.core.rows import PartRow, part_rows
from ingester.core.sealed import seals
from ingester.core.words import header_text, line_text, unfold

MAX_SUBJECT = 4096
MAX_HEADER_TO = 16_384
"""Characters kept of the decoded Subject and To."""
MAX_ADDRESSES = 1000
"""Addresses kept of one field."""
_MAX_DATE = 200
_MAX_TOKEN = 200
_MAX_DATES = 10
"""Date fields that are tried, where a mail has more than the one that RFC 5322, 3.6 allows."""
_REPORT_HEADER = 64 << 10
_CUT_HEADER = {"header_limit", "header_fields_limit"}
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_SHOWN = frozenset(
    {"from", "sender", "reply-to", "to", "cc", "subject", "date", "message-id", "in-reply-to", "references"}
)
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


def digest(raw: bytes, bounds: Bounds) -> Message:
    """Derive everything from the bytes. CPU: about the decoding of the parts and their sha256."""
    structure = scan(raw, bounds)
    flags = set(structure.flags)
    if not tiles_balance(structure, raw):
        flags.add("unbalanced")
    body = read_body(raw, structure, flags)
    header = _Header(structure.header, _declared_charset(structure), flags, bounds.max_address_tokens)
    sender = header.addresses("from")
    from_fields = _from_fields(structure.header, sender, cut="addresses_cut" in flags)
    first = next((one for one in sender if one.address), None)
    if len(structure.header.all("from")) > 1 or len(sender) > 1:
        flags.add("several_from")
    subject = header.text("subject", MAX_SUBJECT) or ""
    address = first.address if first else None
    calendar = find_calendar(raw, structure)
    report = with_hotmail(find_report(raw, structure), raw, structure, sender=address, subject=subject)
    sent_at, date_raw = header.date()
    nature = read_nature(structure, sender=address, subject=subject, text=body.text, calendar=calendar, report=report)
    if report is None and nature.from_mail_system:
        report = read_bounce(body.text)
    hashed = HashedBody(raw, structure.header.end)
    sealed = seals(raw, structure, body.text)
    flags.update(sealed.values())
    return Message(
        subject=subject,
        from_address=address,
        from_name=((first or sender[0]).name or None) if sender else None,
        authors=_only_addresses(sender),
        from_fields=from_fields,
        to_addresses=_only_addresses(header.addresses("to")),
        cc_addresses=_only_addresses(header.addresses("cc")),
        reply_to_addresses=_only_addresses(header.addresses("reply-to")),
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
        content_key=_content_key(structure.header, hashed),
        hashed=hashed,
        shown_hash=_shown_hash(structure.header),
        nature=nature,
        calendar=calendar,
        report=report,
        flags=tuple(sorted(flags)),
    )


@dataclass(frozen=True, slots=True)
class _Header:
    """Reads values of the top header block, and flags what it had to cut."""

    block: HeaderBlock
    charset: str | None
    flags: set[str]
    max_tokens: int

    def text(self, name: str, limit: int) -> str | None:
        value = self.block.first(name)
        return None if value is None else self._read(value, limit)

    def _read(self, value: bytes, limit: int) -> str:
        text = header_text(value[: 8 * limit], self.charset)
        if len(text) > limit or len(value) > 8 * limit:
            self.flags.add("header_cut")
        return clean(text[:limit], self.flags)

    def addresses(self, name: str) -> list[Mailbox]:
        out: list[Mailbox] = []
        for value in self.block.all(name):
            if len(out) >= MAX_ADDRESSES:
                self.flags.add("addresses_cut")
                break
            found, cut = parse_addresses(line_text(value, self.charset), max_tokens=self.max_tokens)
            if cut or len(out) + len(found) > MAX_ADDRESSES:
                self.flags.add("addresses_cut")
            out += found
        return [self._clean(one) for one in out[:MAX_ADDRESSES]]

    def _clean(self, one: Mailbox) -> Mailbox:
        name, address = clean(one.name, self.flags), clean(one.address or "", self.flags) or None
        return one if (name, address) == (one.name, one.address) else Mailbox(name=name, address=address)

    def ids(self, name: str) -> tuple[str, ...]:
        text = " ".join(header_text(value, self.charset) for value in self.block.all(name))
        ids, cut = message_ids(text)
        if cut:
            self.flags.add("ids_cut")
        return tuple(clean(one, self.flags) for one in ids)

    def date(self) -> tuple[datetime | None, str | None]:
        """The moment of the first Date that can be read, and its text; without such a one, the text of the first."""
        texts = [self._read(value, _MAX_DATE) for value in self.block.all("date")[:_MAX_DATES]]
        for text in texts:
            moment = parse_date(text)
            if moment is not None:
                return moment, text
        return None, texts[0] if texts else None

    def message_id(self) -> str | None:
        value = self.block.first("message-id")
        found = message_id(header_text(value, self.charset)) if value is not None else None
        return clean(found, self.flags) if found else None


def _from_fields(header: HeaderBlock, sender: list[Mailbox], *, cut: bool) -> int:
    """How many From fields there are, to be judged: one that cannot be read in whole counts twice.

    A From that holds more than one plain address is one that readers show differently, and so is one with control
    characters, one of which not all was read (`cut`), and a header beyond our bounds.
    """
    fields = header.all("from")
    doubtful = (
        cut
        or bool(_CUT_HEADER & set(header.flags))
        or not all(one.is_plain for one in sender)
        or any(_CONTROL.search(unfold(value)) for value in fields)
    )
    return len(fields) + doubtful


def _only_html(structure: Scan, body: Body) -> bool:
    """Whether the body text was made of HTML."""
    return all(part.content_type == "text/html" for part in structure.parts if part.ordinal in body.leaves)


def _only_addresses(mailboxes: list[Mailbox]) -> tuple[str, ...]:
    return tuple(one.address for one in mailboxes if one.address)


def _declared_charset(structure: Scan) -> str | None:
    """What raw 8-bit in the header is probably written in: the charset of the first text that declares one."""
    return next((part.charset for part in structure.parts if part.charset), None)


def _report_ids(raw: bytes, structure: Scan, bounds: Bounds, nature: Nature, text: str) -> tuple[str, ...]:
    """The Message-IDs that a report names (RFC 6522; RFC 8098, 3.2.5): the only look into an embedded message."""
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


def _shown_hash(header: HeaderBlock) -> bytes:
    """Of all fields that are shown, answered to, or say how to read the body; blanks folded, for relays refold."""
    shown = [
        b"%b:%b\0" % (name.encode(), b" ".join(value.split()))
        for name, value in header.fields
        if name in _SHOWN or name.startswith("content-")
    ]
    return sha256(b"".join(shown)).digest()


def _content_key(header: HeaderBlock, body: HashedBody) -> bytes:
    """Message-ID, From, Date, Subject (blanks folded: relays refold) and everything after the header block.

    But for line ends at its very end: SMTP ends every mail with one, another door brings the mail without.
    """
    values = [b" ".join((header.first(name) or b"").split()) for name in ("message-id", "from", "date", "subject")]
    return sha256(b"\0".join([*values, body.digest()])).digest()
