"""What is told of one mail when it has come to its end: to the log, to the spans, to whoever watches. Not a word of the
mail: ids, counts, sizes and words of closed sets; addresses stand under keys that the log hashes.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ingester.auth.report import AuthReport
from ingester.core.envelope import Envelope
from ingester.core.message import Message
from ingester.core.outcome import Outcome, Reason

MOST: Final = 5
"""Recipients and messages of one mail that its log line names."""


class Ending(StrEnum):
    """What became of a mail, in the fewest words."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REFUSED = "refused"
    DEFERRED = "deferred"
    DEAD = "dead"
    """Accepted and kept as a dead letter: our code could not digest it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One mail at its end. `message` and `report` are None where the bytes were not (or could not be) digested."""

    envelope: Envelope
    message: Message | None
    report: AuthReport | None
    outcome: Outcome
    seconds: float

    @property
    def ending(self) -> Ending:
        """What became of it."""
        return ending_of(self.outcome)


def ending_of(outcome: Outcome) -> Ending:
    """What became of a mail."""
    if outcome.reason is Reason.DUPLICATE:
        return Ending.DUPLICATE
    if outcome.reason is Reason.ACCEPTED:
        return Ending.ACCEPTED if outcome.stored else Ending.DEAD
    return Ending.DEFERRED if outcome.code.retry else Ending.REFUSED


def summary(arrival: Arrival) -> dict[str, str | int]:
    """What an operator wants to know of every mail, without any address."""
    envelope, message, outcome, report = arrival.envelope, arrival.message, arrival.outcome, arrival.report
    told: dict[str, str | int] = {
        "door": envelope.door,
        "outcome": arrival.ending,
        "reason": outcome.reason,
        "bytes": len(envelope.raw),
        "recipients": len(envelope.recipients),
        "stored": len(outcome.stored),
        "matched": [one.matched for one in outcome.stored].count(True),
        "tls": envelope.client.tls or "none",
    }
    if message is not None:
        told["parts"] = len(message.parts)
    if report is not None:
        told |= {
            "spf": report.spf.result,
            "dkim": report.dkim.result,
            "dmarc": report.dmarc.result,
            "arc": report.arc.result,
        }
    return told


def correspondents(envelope: Envelope) -> dict[str, object]:
    """Who is writing to whom, for the log, which hashes what stands under these keys."""
    return {
        "client": envelope.client.prefix if envelope.client.ip else "",
        "mail_from": envelope.mail_from,
        "rcpt_to": [str(one.address) for one in envelope.recipients[:MOST]],
    }
