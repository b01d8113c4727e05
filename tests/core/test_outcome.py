"""ingester.core.outcome: the table of reasons."""

from uuid import UUID

import pytest

from ingester.core.outcome import CODES, FINAL_CODES, Code, Outcome, Reason, Refusal, Stored

ARRIVAL = UUID(int=7)
ALL_CODES = [*CODES.items(), *FINAL_CODES.items()]

# The contract (design page, Reasons): reason, SMTP basic, enhanced, HTTP.
CONTRACT = {
    "accepted": (250, "2.0.0", 202),
    "duplicate": (250, "2.0.0", 200),
    "unknown_domain": (550, "5.7.1", 200),
    "unknown_mailbox": (550, "5.1.1", 200),
    "domain_pending": (450, "4.7.1", 503),
    "cold_inbound_refused": (550, "5.7.1", 200),
    "sender_blocked": (550, "5.7.1", 200),
    "authentication_failed": (550, "5.7.26", 200),
    "authentication_unavailable": (451, "4.4.3", 503),
    "spam_refused": (550, "5.7.1", 200),
    "spam_deferred": (451, "4.7.1", 503),
    "oversized": (552, "5.3.4", 413),
    "malformed_transfer": (550, "5.6.0", 400),
    "mail_loop": (554, "5.4.6", 200),
    "quota_exceeded": (452, "4.2.2", 503),
    "mailbox_suspended": (450, "4.2.1", 503),
    "too_many_recipients": (452, "4.5.3", 413),
    "store_unavailable": (451, "4.3.0", 503),
    "overloaded": (452, "4.3.1", 503),
    "harvest_suspected": (451, "4.7.1", 503),
    "event_conflict": (550, "5.6.0", 409),
}


def test_the_table_is_the_contract() -> None:
    assert {reason.value: (code.smtp, code.enhanced, code.http) for reason, code in CODES.items()} == CONTRACT
    assert {reason.value for reason in Reason} == set(CONTRACT)


@pytest.mark.parametrize(("reason", "code"), ALL_CODES)
def test_basic_code_enhanced_code_http_class_and_retry_agree(reason: Reason, code: Code) -> None:
    assert code.enhanced.startswith(f"{code.smtp // 100}.")
    assert code.retry == (code.smtp // 100 == 4)
    # 413 is a 4xx of HTTP, which a provider does not repeat by itself; that the one mail is too big is for good, that
    # it has too many recipients is for now: the two rows of the contract where only SMTP can say "again".
    if reason is not Reason.TOO_MANY_RECIPIENTS:
        assert code.retry == (code.http == 503)
    assert (code.smtp == 250) <= (code.http in (200, 202))


@pytest.mark.parametrize(("reason", "code"), ALL_CODES)
def test_reply_words_are_fixed_ascii_and_one_line(reason: Reason, code: Code) -> None:
    assert code.line.isascii()
    assert code.line.isprintable()
    assert len(code.line) <= 500, "RFC 5321, 4.5.3.1.5"


def test_accepted_and_duplicate_are_told_in_the_same_words() -> None:
    accepted = Outcome(reason=Reason.ACCEPTED, arrival_id=ARRIVAL).smtp_line
    assert accepted == Outcome(reason=Reason.DUPLICATE, arrival_id=ARRIVAL).smtp_line
    assert accepted == f"250 2.0.0 stored as {ARRIVAL}"


def test_a_suspension_that_lasts_becomes_final() -> None:
    assert Refusal(reason=Reason.MAILBOX_SUSPENDED).code.line.startswith("450 4.2.1")
    assert Refusal(reason=Reason.MAILBOX_SUSPENDED, final=True).code.line.startswith("550 5.2.1")
    assert Outcome(reason=Reason.MAILBOX_SUSPENDED, final=True, arrival_id=ARRIVAL).smtp_line.startswith("550 5.2.1")


def test_each_recipient_is_told_its_own_fate() -> None:
    """What is stored for one is a yes, also where the mail as a whole is deferred for another."""
    row = Stored(
        tenant_id=UUID(int=1), mailbox_id=UUID(int=2), message_id=UUID(int=3), matched=False, parts=1, duplicate=False
    )
    full, cold = Refusal(reason=Reason.QUOTA_EXCEEDED), Refusal(reason=Reason.COLD_INBOUND_REFUSED)
    mixed = Outcome(
        reason=Reason.QUOTA_EXCEEDED,
        arrival_id=UUID(int=7),
        stored=(row,),
        refused=(("full@a.test", full), ("cold@a.test", cold)),
    )
    assert mixed.smtp_line_for("full@a.test") == mixed.smtp_line == full.code.line
    assert mixed.smtp_line_for("cold@a.test") == cold.code.line
    assert mixed.smtp_line_for("kept@a.test") == f"250 2.0.0 stored as {UUID(int=7)}"


def test_without_rows_all_recipients_share_the_fate() -> None:
    """A dead letter is a yes to each, a store that is away a later to each."""
    for reason, code in ((Reason.ACCEPTED, "250"), (Reason.STORE_UNAVAILABLE, "451")):
        assert Outcome(reason=reason, arrival_id=UUID(int=7)).smtp_line_for("any@a.test").startswith(code)
