"""What a mail says of itself in its top header block, read as texts, addresses, ids and a moment.

Nothing is judged. What had to be cut is named in the flags of the mail; all text is safe for Postgres.
"""

from dataclasses import dataclass
from datetime import datetime

from ingester.core.addresses import Mailbox, parse_addresses
from ingester.core.charset import clean
from ingester.core.fields import HeaderBlock
from ingester.core.headers import message_id, message_ids, parse_date
from ingester.core.words import header_text, line_text

MAX_ADDRESSES = 1000
"""Addresses kept of one field."""
_MAX_DATE = 200
_MAX_DATES = 10
"""Date fields that are tried, where a mail has more than the one that RFC 5322, 3.6 allows."""


@dataclass(frozen=True, slots=True)
class TopHeader:
    """Reads values of the top header block, and flags what it had to cut."""

    block: HeaderBlock
    charset: str | None
    flags: set[str]
    max_tokens: int

    def text(self, name: str, limit: int) -> str | None:
        values = self.block.by_name.get(name)
        return self._read(values[0], limit) if values else None

    def _read(self, value: bytes, limit: int) -> str:
        cut = len(value) > 8 * limit
        text = header_text(value[: 8 * limit] if cut else value, self.charset)
        if cut or len(text) > limit:
            self.flags.add("header_cut")
            text = text[:limit]
        return clean(text, self.flags)

    def addresses(self, name: str) -> tuple[str, ...]:
        return only_addresses(self.mailboxes(name)) if name in self.block.by_name else ()

    def mailboxes(self, name: str) -> list[Mailbox]:
        out: list[Mailbox] = []
        for value in self.block.by_name.get(name, ()):
            if len(out) >= MAX_ADDRESSES:
                self.flags.add("addresses_cut")
                break
            found, cut = parse_addresses(line_text(value, self.charset), max_tokens=self.max_tokens)
            if cut or len(out) + len(found) > MAX_ADDRESSES:
                self.flags.add("addresses_cut")
            out += found
        return [self._clean(one) for one in out[:MAX_ADDRESSES]]

    def _clean(self, one: Mailbox) -> Mailbox:
        said = f"{one.name}{one.address}"
        if said.isascii() and "\0" not in said:
            return one
        name, address = clean(one.name, self.flags), clean(one.address or "", self.flags) or None
        return one if (name, address) == (one.name, one.address) else Mailbox(name=name, address=address)

    def ids(self, name: str) -> tuple[str, ...]:
        values = self.block.by_name.get(name)
        if not values:
            return ()
        text = " ".join([header_text(value, self.charset) for value in values])
        ids, cut = message_ids(text)
        if cut:
            self.flags.add("ids_cut")
        if text.isascii() and "\0" not in text:
            return tuple(ids)
        return tuple([clean(one, self.flags) for one in ids])

    def date(self) -> tuple[datetime | None, str | None]:
        """The moment of the first Date that can be read, and its text; without such a one, the text of the first."""
        texts = [self._read(value, _MAX_DATE) for value in self.block.by_name.get("date", ())[:_MAX_DATES]]
        for text in texts:
            moment = parse_date(text)
            if moment is not None:
                return moment, text
        return None, texts[0] if texts else None

    def message_id(self) -> str | None:
        value = self.block.first("message-id")
        found = message_id(header_text(value, self.charset)) if value is not None else None
        return clean(found, self.flags) if found else None


def only_addresses(mailboxes: list[Mailbox]) -> tuple[str, ...]:
    return tuple([one.address for one in mailboxes if one.address])
