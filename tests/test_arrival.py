"""What is told of a mail at its end."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from ingester.arrival import MOST, Arrival, Ending, correspondents, ending_of, summary
from ingester.auth.report import Arc, AuthReport, Dkim, Dmarc, Result, Spf
from ingester.configured import bounds
from ingester.core.address import Address
from ingester.core.envelope import Client, Door, Envelope, Recipient
from ingester.core.message import digest
from ingester.core.outcome import Outcome, Reason, Stored
from ingester.settings import load
from tests.canaries import Canaries, mail

ID = UUID(int=7)
STORED = Stored(tenant_id=ID, mailbox_id=ID, message_id=UUID(int=8), matched=True, parts=2, duplicate=False)
REPORT = AuthReport(
    spf=Spf(result=Result.PASS),
    helo=None,
    dkim=Dkim(result=Result.FAIL),
    dmarc=Dmarc(result=Result.PASS_VIA_FORWARDER),
    arc=Arc(result=Result.NONE),
)


def envelope(c: Canaries, *, ip: str = "192.0.2.7", recipients: int = 1) -> Envelope:
    addresses = [Address(local=f"{c('local')}{n}", domain=f"{c('domain')}.test") for n in range(recipients)]
    return Envelope(
        door=Door.SMTP,
        raw=mail(c, "m"),
        mail_from=f"{c('sender')}@x.test",
        recipients=tuple(Recipient(address=one) for one in addresses),
        client=Client(ip=ip, helo=c("helo"), tls="TLSv1.3"),
        arrival_id=ID,
        received_at=datetime(2026, 11, 21, tzinfo=UTC),
        provider=c("provider"),
        metadata={c("key"): c("value")},
    )


def test_a_summary_is_words_of_closed_sets_and_numbers() -> None:
    c = Canaries()
    given = envelope(c)
    arrival = Arrival(
        envelope=given,
        message=digest(given.raw, bounds(load({}))),
        report=REPORT,
        outcome=Outcome(reason=Reason.ACCEPTED, arrival_id=ID, stored=(STORED,)),
        seconds=1,
    )
    told = summary(arrival)
    assert c.found(repr(told).encode()) == set()
    assert told.pop("parts") == 6
    assert told == {
        "door": "smtp",
        "outcome": "accepted",
        "reason": "accepted",
        "bytes": len(given.raw),
        "recipients": 1,
        "stored": 1,
        "matched": 1,
        "tls": "TLSv1.3",
        "spf": "pass",
        "dkim": "fail",
        "dmarc": "pass_via_forwarder",
        "arc": "none",
    }


def test_what_was_not_digested_has_no_verdicts() -> None:
    outcome = Outcome(reason=Reason.UNKNOWN_MAILBOX, arrival_id=ID)
    told = summary(Arrival(envelope=envelope(Canaries()), message=None, report=None, outcome=outcome, seconds=1))
    assert told["outcome"] == "refused"
    assert not told.keys() & {"parts", "spf", "dkim", "dmarc", "arc"}


def test_correspondents_are_few_and_stand_under_keys_that_are_hashed() -> None:
    c = Canaries()
    told = correspondents(envelope(c, recipients=50))
    assert told.keys() == {"client", "mail_from", "rcpt_to"}
    assert len(list(told["rcpt_to"])) == MOST  # type: ignore[call-overload]
    assert told["client"] == "192.0.2.7/32"
    assert correspondents(envelope(c, ip=""))["client"] == "", "nobody knows"


@pytest.mark.parametrize(
    ("reason", "stored", "ending"),
    [
        (Reason.ACCEPTED, (STORED,), Ending.ACCEPTED),
        (Reason.ACCEPTED, (), Ending.DEAD),
        (Reason.DUPLICATE, (STORED,), Ending.DUPLICATE),
        (Reason.SPAM_REFUSED, (), Ending.REFUSED),
        (Reason.STORE_UNAVAILABLE, (), Ending.DEFERRED),
        (Reason.MAILBOX_SUSPENDED, (), Ending.DEFERRED),
    ],
)
def test_endings(reason: Reason, stored: tuple[Stored, ...], ending: Ending) -> None:
    assert ending_of(Outcome(reason=reason, arrival_id=ID, stored=stored)) is ending


def test_a_reason_that_has_become_final_is_a_refusal() -> None:
    assert ending_of(Outcome(reason=Reason.MAILBOX_SUSPENDED, arrival_id=ID, final=True)) is Ending.REFUSED
