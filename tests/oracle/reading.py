"""One mail as a reader of mail sees it: the shape in which our reading and an oracle's are compared by aspects."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from ingester.core.charset import Ladder
from ingester.core.content import decode_view
from ingester.core.message import Message, digest
from ingester.core.mime import Bounds
from ingester.core.rows import PartRow

BOUNDS = Bounds()
ASPECTS = ("parts", "types", "names", "bodies", "subject", "addresses", "date", "ids")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A leaf: its media type, its name as sent, and its content: bytes, or the text that an oracle gives instead."""

    media: str
    name: str | None
    content: bytes | str
    charset: str | None = None

    def holds(self, other: "Leaf") -> bool:
        """Whether both hold the same; where one is text, the other is read by its charset, line ends apart."""
        if isinstance(self.content, bytes) and isinstance(other.content, bytes):
            return self.content == other.content
        return self.text() == other.text()

    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content.replace("\r\n", "\n")
        data = self.content
        return Ladder().read(lambda: (data,), self.charset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A mail. None means that the reader says nothing on it. `bodies` are the numbers of the leaves to be shown."""

    leaves: tuple[Leaf, ...]
    bodies: frozenset[int] | None = None
    subject: str | None = None
    addresses: dict[str, list[str]] = field(default_factory=dict)
    date: datetime | None = None
    ids: dict[str, list[str]] = field(default_factory=dict)


def content_of(raw: bytes, part: PartRow) -> bytes:
    """The decoded bytes of a part: those of its view, or its own where it was unpacked."""
    if part.data is not None:
        return part.data
    return decode_view(raw, part.offset, part.length, part.encoding)


def ours(raw: bytes) -> Reading:
    """What `digest` makes of the mail. Parts unpacked out of another part are not counted: no oracle here does it."""
    message = digest(raw, BOUNDS)
    parts = [part for part in message.parts if part.parent_ordinal is None]
    return Reading(
        leaves=tuple(
            Leaf(
                media=part.content_type,
                name=part.original_filename,
                content=content_of(raw, part),
                charset=part.charset,
            )
            for part in parts
        ),
        bodies=frozenset(number for number, part in enumerate(parts) if part.role == "body"),
        subject=message.subject,
        addresses=_addresses(message),
        date=message.sent_at,
        ids={
            "message-id": [message.rfc_message_id] if message.rfc_message_id else [],
            "in-reply-to": list(message.in_reply_to),
            "references": list(message.reference_ids),
        },
    )


def _addresses(message: Message) -> dict[str, list[str]]:
    return {
        "from": [message.from_address] if message.from_address else [],
        "to": list(message.to_addresses),
        "cc": list(message.cc_addresses),
        "reply-to": list(message.reply_to_addresses),
    }


def differing(mine: Reading, theirs: Reading) -> list[str]:
    """The aspects in which two readings differ. Where the parts do, nothing can be said of types, names and bodies."""
    found: list[str] = []
    if not same_parts(mine.leaves, theirs.leaves):
        found.append("parts")
    else:
        pairs = list(zip(mine.leaves, theirs.leaves, strict=True))
        if any(one.media != other.media for one, other in pairs):
            found.append("types")
        if any((one.name or None) != (other.name or None) for one, other in pairs):
            found.append("names")
        if theirs.bodies is not None and mine.bodies != theirs.bodies:
            found.append("bodies")
    if theirs.subject is not None and " ".join((mine.subject or "").split()) != " ".join(theirs.subject.split()):
        found.append("subject")
    if any(
        mine.addresses[name] != (value[:1] if name == "from" else value) for name, value in theirs.addresses.items()
    ):
        found.append("addresses")
    if theirs.date is not None and mine.date != theirs.date:
        found.append("date")
    if any(mine.ids[name] != value for name, value in theirs.ids.items()):
        found.append("ids")
    return found


def same_parts(mine: tuple[Leaf, ...], theirs: tuple[Leaf, ...]) -> bool:
    return len(mine) == len(theirs) and all(one.holds(other) for one, other in zip(mine, theirs, strict=True))


def missing(mine: Iterable[Leaf], theirs: Iterable[Leaf]) -> list[Leaf]:
    """Leaves of theirs, not empty, that stand in none of ours as a whole, nor as a stretch of one."""
    texts = "\n".join(leaf.text() for leaf in mine)
    return [leaf for leaf in theirs if leaf.text().strip() and leaf.text().strip() not in texts]
