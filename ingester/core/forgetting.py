"""What becomes of a row that names a person who is to be forgotten. Pure: the rules, no database.

- What the person sent, what we sent to that person alone, and reports about that, go as a whole.
- What somebody else wrote is that one's: the person is taken out of its address columns, and of what we noted about it.
  Subject, text and bytes stay as they are, and are listed.
- What is kept of the person alone goes: contact, participant, sender rule, delivery events, dead letter.
- That something came stays: receipts and refusals, without the person.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ingester.core.kind import Kind
from ingester.core.person import Person

Row = Mapping[str, Any]

IDS: Final = ("rfc_message_id", "in_reply_to", "reference_ids", "sent_message_id", "provider_message_id")
LISTED: Final[Mapping[str, frozenset[str]]] = {
    "messages": frozenset(("subject", "body_text", "body_html", "reply_text", *IDS)),
    "parts": frozenset(("filename", "original_filename", "content_id")),
    "threads": frozenset(("subject",)),
}
"""Columns with what somebody wrote, and the ids by which mails are known: they are listed, never rewritten."""
OPERATORS: Final = frozenset(("domains", "mailboxes", "routes", "forwarders", "api_keys", "intake_tokens"))
"""Tables that operators fill by hand: what stands there is listed."""
REPORTS: Final = frozenset((Kind.BOUNCE, Kind.COMPLAINT, Kind.READ_RECEIPT, Kind.REPORT))

MAX_HEADER: Final = 256 << 10
_END: Final = re.compile(rb"\r?\n\r?\n")
_FIELD: Final = re.compile(
    rb"^(?:from|sender|return-path)[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*", re.IGNORECASE | re.MULTILINE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What is to be done with a row. `listed` are the columns that name the person and stay as they are."""

    remove: bool = False
    changes: Mapping[str, Any] = field(default_factory=dict)
    listed: tuple[str, ...] = ()


def fate(table: str, row: Row, person: Person, *, unique: Collection[str] = ()) -> Fate:
    """Judge a row by its text columns. What is `unique` is not changed: another row may become the same."""
    gone = _GONE.get(table)
    if gone is not None and gone(row, person):
        return Fate(remove=True)
    named = [name for name, value in row.items() if person.in_value(value)]
    kept = {*named} if table in OPERATORS else {*LISTED.get(table, ()), *unique} & {*named}
    changes = {name: person.without(row[name]) for name in named if name not in kept}
    if changes and table in _BARED:
        changes = changes | _BARED[table](row, person)
    return Fate(changes=changes, listed=tuple(name for name in named if name in kept))


def _message_goes(row: Row, person: Person) -> bool:
    if row["direction"] == "outbound":
        return person.is_all((*row["to_addresses"], *row["cc_addresses"]))
    if person.has(row["from_address"]) or person.has(row["envelope_from"]):
        return True
    return row["kind"] in REPORTS and person.in_value(row["details"].get("report"))


def is_sender(raw: bytes, person: Person) -> bool:
    """Whether a mail that nobody could read says in its header that the person has sent it."""
    header = _END.split(raw[:MAX_HEADER], maxsplit=1)[0]
    return any(person.in_bytes(field) for field in _FIELD.findall(header))


def _is_about(column: str) -> Callable[[Row, Person], bool]:
    return lambda row, person: person.has(row[column])


_GONE: Final[Mapping[str, Callable[[Row, Person], bool]]] = {
    "messages": _message_goes,
    "contacts": _is_about("address"),
    "participants": _is_about("address"),
    "sender_rules": _is_about("pattern"),
    "delivery_events": lambda row, person: person.is_all(row["recipients"]),
    "dead_letters": lambda row, person: person.has(row["envelope"].get("envelope_from")),
}


def bare_receipt() -> dict[str, Any]:
    """What takes the place of what a receipt says of its sender."""
    return {"envelope_from": "", "client_ip": None, "helo": None, "auth_report": {}, "metadata": {}}


def _bare_receipt(row: Row, person: Person) -> dict[str, Any]:
    return bare_receipt() if person.has(row["envelope_from"]) else {}


def _bare_refusal(row: Row, person: Person) -> dict[str, Any]:
    """Samples that name the person go; of a mail that was refused whole, its envelope stays without the sender."""
    envelope = row["envelope"]
    samples = [one for one in row["samples"] if not person.in_value(one)]
    if envelope is None or not person.has(envelope.get("envelope_from")):
        return {"samples": samples}
    return {"samples": samples, "envelope": person.without(envelope) | bare_receipt()}


_BARED: Final[Mapping[str, Callable[[Row, Person], dict[str, Any]]]] = {
    "receipts": _bare_receipt,
    "refusals": _bare_refusal,
}
