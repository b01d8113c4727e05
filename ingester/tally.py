"""Counting mails: one at its end, and what a commit wrote, in the words of the metrics. It decides nothing.

What a commit wrote is counted in the step after it, with nothing awaited between: a worker that is killed loses the
count of what it committed in that moment, and no more.
"""

from collections.abc import Iterable, Sequence
from uuid import UUID

from ingester.arrival import Arrival
from ingester.case import Case
from ingester.core.envelope import Door
from ingester.judge import Judgement
from ingester.store.dead import DeadLetter, Kept
from ingester.store.mail import Mail, Written
from ingester.telemetry.metrics import (
    ACCEPTANCE_SECONDS,
    DEAD_LETTERS_BURIED,
    DUPLICATES,
    MAIL_BYTES,
    MAIL_PARTS,
    MAILS,
    MESSAGES,
    REFUSALS,
    VERDICTS,
    Metrics,
)


def ended(metrics: Metrics, arrival: Arrival) -> None:
    """A mail has come to its end."""
    door, report = arrival.envelope.door, arrival.report
    metrics.count(MAILS, door, arrival.ending, arrival.outcome.reason)
    metrics.observe(ACCEPTANCE_SECONDS, arrival.seconds, door)
    metrics.observe(MAIL_BYTES, len(arrival.envelope.raw), door)
    if arrival.message is not None:
        metrics.observe(MAIL_PARTS, len(arrival.message.parts))
    if report is not None:
        metrics.count(VERDICTS, "spf", report.spf.result)
        metrics.count(VERDICTS, "dkim", report.dkim.result)
        metrics.count(VERDICTS, "dmarc", report.dmarc.result)
        metrics.count(VERDICTS, "arc", report.arc.result)


def written(metrics: Metrics, case: Case, judgement: Judgement, rows: Iterable[tuple[UUID, Written]]) -> None:
    """A commit has written these rows for one mail."""
    door = case.envelope.door
    for _, row in rows:
        if row.duplicate:
            metrics.count(DUPLICATES, door)
        else:
            _message(metrics, row)
    _refused(metrics, door, judgement.mails)


def redriven(metrics: Metrics, door: Door, mails: Iterable[Mail], rows: Iterable[Written]) -> None:
    """A dead letter was tried again, and this was written. It arrived before: no duplicate is new."""
    for row in rows:
        if not row.duplicate:
            _message(metrics, row)
    _refused(metrics, door, mails)


def _message(metrics: Metrics, row: Written) -> None:
    metrics.count(MESSAGES, "matched" if row.matched else "unmatched", row.method or "none")


def _refused(metrics: Metrics, door: Door, mails: Iterable[Mail]) -> None:
    for mail in mails:
        for refused in mail.refused:
            metrics.count(REFUSALS, door, refused.reason)


def buried(metrics: Metrics, door: Door, letters: Sequence[DeadLetter], kept: Sequence[Kept]) -> None:
    """A mail was kept as these dead letters."""
    for letter, what in zip(letters, kept, strict=True):
        if what is Kept.NEW:
            metrics.count(DEAD_LETTERS_BURIED, letter.reason)
        elif what is Kept.KNOWN:
            metrics.count(DUPLICATES, door)
