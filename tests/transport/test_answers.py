"""ingester.transport.answers: every reason over HTTP, as the design page has it."""

from uuid import UUID

import msgspec
import pytest

from ingester.core.outcome import CODES, FINAL_CODES, Outcome, Reason, Refusal, Stored
from ingester.transport.answers import Answer, told
from ingester.web.problem import Problem, refusal
from tests.inbound import Reply, assert_one_shape

ARRIVAL, TENANT, MAILBOX, MESSAGE = (UUID(int=n) for n in range(1, 5))

TABLE = {
    Reason.UNKNOWN_DOMAIN: (200, "refused", "missing_domain"),
    Reason.UNKNOWN_MAILBOX: (200, "refused", "missing_domain"),
    Reason.DOMAIN_PENDING: (503, "deferred", "domain_pending"),
    Reason.COLD_INBOUND_REFUSED: (200, "refused", "cold_inbound_refused"),
    Reason.SENDER_BLOCKED: (200, "refused", "sender_blocked"),
    Reason.AUTHENTICATION_FAILED: (200, "refused", "authentication_failed"),
    Reason.AUTHENTICATION_UNAVAILABLE: (503, "deferred", "authentication_unavailable"),
    Reason.SPAM_REFUSED: (200, "refused", "spam_refused"),
    Reason.SPAM_DEFERRED: (503, "deferred", "spam_deferred"),
    Reason.OVERSIZED: (413, "refused", "oversized_message"),
    Reason.MAIL_LOOP: (200, "refused", "mail_loop"),
    Reason.QUOTA_EXCEEDED: (503, "deferred", "quota_exceeded"),
    Reason.MAILBOX_SUSPENDED: (503, "deferred", "mailbox_suspended"),
    Reason.TOO_MANY_RECIPIENTS: (413, "refused", "too_many_recipients"),
    Reason.STORE_UNAVAILABLE: (503, "deferred", "store_unavailable"),
    Reason.OVERLOADED: (503, "deferred", "overloaded"),
    Reason.EVENT_CONFLICT: (409, "refused", "event_conflict"),
}
NOT_OVER_HTTP = {Reason.ACCEPTED, Reason.DUPLICATE, Reason.MALFORMED_TRANSFER, Reason.HARVEST_SUSPECTED}


def stored(number: int, *, matched: bool = False, duplicate: bool = False) -> Stored:
    return Stored(
        tenant_id=TENANT,
        mailbox_id=MAILBOX,
        message_id=UUID(int=number),
        matched=matched,
        parts=3,
        duplicate=duplicate,
    )


def reply(outcome: Outcome) -> Reply:
    response = told(outcome)
    assert isinstance(response.body, bytes)
    one = Reply(status=response.status, body=msgspec.json.decode(response.body), headers=response.headers)
    assert_one_shape(one)
    return one


def test_the_table_is_complete() -> None:
    assert set(TABLE) | NOT_OVER_HTTP == set(CODES) == set(Reason)
    assert set(FINAL_CODES) == {Reason.MAILBOX_SUSPENDED}


@pytest.mark.parametrize("reason", TABLE)
def test_every_reason(reason: Reason) -> None:
    one = reply(Outcome(reason=reason, arrival_id=ARRIVAL))
    assert one.said == TABLE[reason]
    assert set(one.body) == {"ok", "status", "arrival_id", "reason", "message"}
    assert one.body["arrival_id"] == str(ARRIVAL)
    assert one.headers.get("Retry-After") == ("5" if one.status == 503 else None)


def test_what_has_lasted_too_long_is_final() -> None:
    one = reply(Outcome(reason=Reason.MAILBOX_SUSPENDED, arrival_id=ARRIVAL, final=True))
    assert one.said == (200, "refused", "mailbox_suspended")


def test_nobody_learns_which_domains_and_mailboxes_there_are() -> None:
    two = [reply(Outcome(reason=one, arrival_id=ARRIVAL)) for one in (Reason.UNKNOWN_DOMAIN, Reason.UNKNOWN_MAILBOX)]
    assert two[0].body == two[1].body


def test_a_yes() -> None:
    one = reply(
        Outcome(reason=Reason.ACCEPTED, arrival_id=ARRIVAL, stored=(stored(9), stored(8, matched=True)), attachments=2)
    )
    first, second = (str(UUID(int=n)) for n in (9, 8))
    assert one.status == 202
    assert one.body == {
        "ok": True,
        "status": "accepted",
        "arrival_id": str(ARRIVAL),
        "message_id": first,
        "message_ids": [first, second],
        "match": "matched",
        "attachments": 2,
        "messages": [
            {"message_id": first, "mailbox_id": str(MAILBOX), "match": "unmatched", "duplicate": False},
            {"message_id": second, "mailbox_id": str(MAILBOX), "match": "matched", "duplicate": False},
        ],
    }


def test_a_duplicate_names_the_message_of_then() -> None:
    one = reply(Outcome(reason=Reason.DUPLICATE, arrival_id=ARRIVAL, stored=(stored(9, duplicate=True),)))
    assert (one.status, one.body["status"], one.body["message_id"]) == (200, "duplicate", str(UUID(int=9)))
    assert (one.body["match"], one.body["attachments"]) == ("unmatched", 0)


def test_a_yes_beside_a_no() -> None:
    refused = (("nobody@acme.test", Refusal(reason=Reason.UNKNOWN_MAILBOX)),)
    one = reply(Outcome(reason=Reason.ACCEPTED, arrival_id=ARRIVAL, stored=(stored(9),), refused=refused))
    assert one.status == 202
    assert one.body["refused"] == [{"recipient": "nobody@acme.test", "reason": "missing_domain"}]


def test_what_is_stored_is_told_though_it_must_come_again_for_others() -> None:
    refused = (("sales@acme.test", Refusal(reason=Reason.QUOTA_EXCEEDED)),)
    one = reply(Outcome(reason=Reason.QUOTA_EXCEEDED, arrival_id=ARRIVAL, stored=(stored(9),), refused=refused))
    assert one.said == (503, "deferred", "quota_exceeded")
    assert one.body["message_ids"] == [str(UUID(int=9))]


def test_a_dead_letter_is_a_yes_without_a_message() -> None:
    one = reply(Outcome(reason=Reason.ACCEPTED, arrival_id=ARRIVAL))
    assert one.status == 202
    assert (one.body["message_ids"], one.body["messages"], one.body["attachments"]) == ([], [], 0)
    assert "message_id" not in one.body
    assert "match" not in one.body


def test_a_problem_has_the_same_shape() -> None:
    response = refusal(Problem(status=422, reason="unprocessable", message="It is not.", field="x"))
    assert isinstance(response.body, bytes)
    body = msgspec.json.decode(response.body)
    assert_one_shape(Reply(status=422, body=body, headers=response.headers))
    assert set(body) <= set(Answer.__struct_fields__)
