"""What SES's notifications say, read without trusting them."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingester.core.outbound_status import EventKind
from ingester.transport.ses.notification import (
    MAX_RECIPIENTS,
    InBucket,
    Malformed,
    Notification,
    Other,
    Received,
    Told,
    is_setup_key,
    read_notification,
)
from tests.cost import assert_cheap
from tests.transport.ses.house import bounce, complaint, delay, delivery, in_s3, received


def read(message: Any) -> Notification:
    return read_notification(json.dumps(message))


def test_a_mail_in_a_bucket() -> None:
    found = read(received("a@acme.test", "b@acme.test", action=in_s3("bucket", "in/\u00fc key"), source="c@d.test"))
    assert isinstance(found, Received)
    assert (found.sender, found.recipients) == ("c@d.test", ("a@acme.test", "b@acme.test"))
    assert found.mail == InBucket(bucket="bucket", key="in/\u00fc key")
    assert found.evidence == {
        "spam": "PASS",
        "virus": "PASS",
        "spf": "PASS",
        "dkim": "GRAY",
        "dmarc": "FAIL",
        "dmarc_policy": "reject",
        "ses_message_id": "d6iitobk75ur44p8kdnnp7g2n800",
        "source": "c@d.test",
        "timestamp": "2026-11-21T08:00:00.000Z",
    }


@pytest.mark.parametrize(
    ("source", "sender"), [("<>", ""), ("", ""), ("a@b.test", "a@b.test"), (None, None), (7, None)]
)
def test_the_envelope_sender(source: Any, sender: str | None) -> None:
    found = read(received(action=in_s3("bucket", "key"), source=source))
    assert isinstance(found, Received)
    assert found.sender == sender


@pytest.mark.parametrize("encoding", ["BASE64", "Base64", "base64"])
def test_an_inline_mail_in_base64(encoding: str) -> None:
    content = base64.b64encode(b"From: a\r\n\r\n\xff\x00").decode()
    found = read(received(action={"type": "SNS", "encoding": encoding}, content=content))
    assert isinstance(found, Received)
    assert found.mail == b"From: a\r\n\r\n\xff\x00"


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF8", None])
def test_an_inline_mail_as_text(encoding: str | None) -> None:
    found = read(received(action={"type": "SNS", "encoding": encoding}, content="From: \u00fc\n\n"))
    assert isinstance(found, Received)
    assert found.mail == "From: \u00fc\n\n".encode()


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ([], "Message"),
        ({}, "notificationType"),
        ({"notificationType": 7}, "notificationType"),
        (received(action=in_s3("", "key")), "receipt.action.bucketName"),
        (received(action=in_s3("x" * 65, "key")), "receipt.action.bucketName"),
        (received(action=in_s3("bucket", "")), "receipt.action.objectKey"),
        (received(action=in_s3("bucket", "a\0b")), "receipt.action.objectKey"),
        (received(action=in_s3("bucket", "\u00fc" * 513)), "receipt.action.objectKey"),
        (received(action={"type": "SNS"}), "content"),
        (received(action={"type": "SNS"}, content=""), "content"),
        (received(action={"type": "SNS", "encoding": "BASE64"}, content="a b="), "content"),
        (received(action={"type": "SNS", "encoding": "BASE64"}, content="\u00fc"), "content"),
        (delivery(""), "mail.messageId"),
        ({"eventType": "Complaint"}, "mail.messageId"),
    ],
)
def test_what_makes_no_sense(message: Any, field: str) -> None:
    found = read(message)
    assert isinstance(found, Malformed)
    assert found.field == field


def test_a_receipt_without_recipients_makes_no_sense() -> None:
    message = received(action=in_s3("bucket", "key"))
    message["receipt"]["recipients"] = [None, "", 7]
    found = read(message)
    assert isinstance(found, Malformed)
    assert found.field == "receipt.recipients"


@pytest.mark.parametrize("text", ["", "x", "{", '"', "[" * 100_000, "\ud800", '"\\ud800"', "{}x"])
def test_what_is_no_json(text: str) -> None:
    found = read_notification(text)
    assert isinstance(found, Malformed)
    assert found.field == "Message"


@pytest.mark.parametrize(
    ("message", "what"),
    [
        ({"notificationType": "AmazonSnsSubscriptionSucceeded"}, "AmazonSnsSubscriptionSucceeded"),
        ({"eventType": "Open"}, "Open"),
        ({"eventType": "Rendering Failure"}, "Rendering Failure"),
        (received(action={"type": "Lambda"}), "Received Lambda"),
        (received(action={}), "Received"),
        (received(action=in_s3("bucket", "in/AMAZON_SES_SETUP_NOTIFICATION")), "setup"),
    ],
)
def test_what_needs_nothing(message: Any, what: str) -> None:
    assert read(message) == Other(what=what)


def test_the_trials_of_topics_and_buckets() -> None:
    validated = "Successfully validated SNS topic for Amazon SES event publishing."
    assert read_notification(validated) == Other(what="validation")
    assert is_setup_key("AMAZON_SES_SETUP_NOTIFICATION")
    assert not is_setup_key("AMAZON_SES_SETUP_NOTIFICATION/mail")


@pytest.mark.parametrize("word", ["eventType", "notificationType"])
def test_events_of_mail_that_was_sent(word: str) -> None:
    def told(message: Any) -> Told:
        found = read(message)
        assert isinstance(found, Told)
        assert found.provider_message_id == "m-1"
        assert found.sender == "support@acme.test"
        assert found.recipients == ("ada@customer.test",)
        assert found.occurred_at == datetime(2026, 11, 21, 8, 0, 5, tzinfo=UTC)
        return found

    found = told(delivery("m-1", word=word))
    assert (found.kind, found.status) == (EventKind.DELIVERY, "delivered")
    assert found.detail == {"smtp_response": "250 ok", "reporting_mta": "a8-70.smtp-out.amazonses.com"}
    found = told(bounce("m-1", word=word))
    assert (found.kind, found.status) == (EventKind.BOUNCE, "bounced")
    assert (found.detail["type"], found.detail["subtype"]) == ("Permanent", "General")
    assert found.detail["recipients"] == [
        {
            "address": "ada@customer.test",
            "action": "failed",
            "status": "5.1.1",
            "diagnostic": "smtp; 550 5.1.1 user unknown",
        }
    ]
    found = told(complaint("m-1", word=word))
    assert (found.kind, found.status, found.detail["type"]) == (EventKind.COMPLAINT, "complained", "abuse")
    found = told(delay("m-1", word=word))
    assert (found.kind, found.status, found.detail["type"]) == (EventKind.DELAY, "delayed", "MailboxFull")


@pytest.mark.parametrize("kind", ["Transient", "Undetermined", "", "permanent"])
def test_only_a_permanent_bounce_says_bounced(kind: str) -> None:
    found = read(bounce("m-1", kind))
    assert isinstance(found, Told)
    assert (found.kind, found.status) == (EventKind.BOUNCE, None)


@pytest.mark.parametrize("moment", ["", "yesterday", "0001-01-01T00:00:00+14:00", "2026-13-01T00:00:00Z", 7, None])
def test_a_time_that_is_none(moment: Any) -> None:
    message = delivery("m-1")
    message["delivery"]["timestamp"] = message["mail"]["timestamp"] = moment
    found = read(message)
    assert isinstance(found, Told)
    assert found.occurred_at is None


def test_recipients_and_texts_are_bounded_and_fit_the_database() -> None:
    message = bounce("m-1")
    one = {"emailAddress": "a\0b@c.test", "diagnosticCode": "x" * 5000}
    message["bounce"]["bouncedRecipients"] = [one] * 5000
    found = read(message)
    assert isinstance(found, Told)
    assert found.recipients == ("a\ufffdb@c.test",) * MAX_RECIPIENTS
    assert len(json.dumps(found.detail)) < 60_000
    many = read(received(*(["a@b.test"] * 5000), action=in_s3("bucket", "key")))
    assert isinstance(many, Received)
    assert len(many.recipients) == MAX_RECIPIENTS + 1  # so that the intake sees that they are too many


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=10,
)


@given(st.text())
def test_no_text_raises(text: str) -> None:
    assert isinstance(read_notification(text), Malformed | Other)


@given(st.data())
def test_no_value_in_any_place_raises(data: st.DataObject) -> None:
    """Each known field gets something else: another type, another text, nothing."""
    whole = data.draw(
        st.sampled_from(
            [
                received(action=in_s3("bucket", "key")),
                received(action={"type": "SNS", "encoding": "BASE64"}, content="YQ=="),
                bounce("m-1"),
                delivery("m-1"),
                complaint("m-1"),
                delay("m-1"),
            ]
        )
    )
    whole = json.loads(json.dumps(whole))
    places = [*_places(whole)]
    holder, key = places[data.draw(st.integers(0, len(places) - 1))]
    holder[key] = data.draw(_JSON)
    found = read_notification(json.dumps(whole))
    assert isinstance(found, Received | Told | Other | Malformed)
    assert "\0" not in repr(found).replace("\\x00", "\0") or (isinstance(found, Received) and found.mail)


def _places(value: Any) -> Any:
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in [*steps]:
        yield value, key
        yield from _places(inner)


def test_a_large_notification_is_cheap() -> None:
    """As large as the door lets through."""
    message = bounce("m-1")
    message["bounce"]["bouncedRecipients"] = [{"emailAddress": "a@b.test", "x": [[]] * 50}] * 3000
    text = json.dumps(message)
    assert len(text) > 600_000
    assert_cheap(lambda: read_notification(text), seconds=0.05)
