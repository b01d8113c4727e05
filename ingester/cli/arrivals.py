"""What has arrived, for people and for programs: a row that was followed as a line, and as a JSON object."""

from dataclasses import asdict
from datetime import datetime
from typing import Any, TypeAlias

from ingester.cli.mail_line import MailLine, size
from ingester.cli.refusals import reply
from ingester.core.outcome import CODES
from ingester.following import Refused
from ingester.store.watching import Arrived

One: TypeAlias = Arrived | Refused


def moment(one: One) -> datetime:
    """When it was: to the second, but of refusals that were counted together the minute."""
    if not isinstance(one, Refused):
        return one.received_at
    row = one.row
    return row.attempts[0].at if row.count == 1 and row.attempts else row.minute


def outcome(one: One) -> str:
    """What became of it, in a word: of a refusal the reason."""
    if isinstance(one, Refused):
        return one.row.reason
    if one.message_id is None:
        return "dead letter"
    if one.duplicate:
        return "duplicate"
    return one.status or "erased"


def line_of(one: One) -> MailLine:
    """As a line."""
    if isinstance(one, Refused):
        return _refused(one)
    notes = [f"{one.door:<4}", size(one.size)]
    redriven = one.dead_letter_id is not None and one.message_id is not None
    marks = ["quarantined"] * one.quarantined + ["redriven"] * redriven
    marks += [one.reason] if one.message_id is None and one.reason else []
    return MailLine(
        at=one.received_at,
        sender=one.from_address or one.envelope_from,
        recipients=", ".join(one.envelope_to),
        subject=("" if one.subject is None else one.subject) if one.message_id else "-",
        word=outcome(one),
        notes=(*notes, *marks),
        aside=str(one.message_id or one.dead_letter_id),
    )


def _refused(one: Refused) -> MailLine:
    row = one.row
    last = row.attempts[-1] if row.attempts else None
    words = next((code.words for reason, code in CODES.items() if reason == row.reason), "-")
    return MailLine(
        at=moment(one),
        sender=last.mail_from if last else "",
        recipients=", ".join(last.recipients) if last else "",
        subject=words,
        word=row.reason,
        notes=(f"{row.door:<4}", *([f"{one.more} times"] if one.more > 1 else []), row.client_prefix),
    )


def object_of(one: One) -> dict[str, Any]:
    """As an object; `outcome` and `time` are in all of them."""
    if isinstance(one, Refused):
        told = {"outcome": "refused", "time": moment(one), "more": one.more, "reply": reply(one.row)}
        return told | asdict(one.row)
    word = outcome(one)
    return {"outcome": "dead_letter" if word == "dead letter" else word, "time": moment(one)} | asdict(one)
