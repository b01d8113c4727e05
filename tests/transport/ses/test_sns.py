"""SNS messages: what is read, what is believed, in which order it is looked at, and what each refusal is answered."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ingester.settings import Owner, Topic
from ingester.transport.ses.sns import MAX_AHEAD, MAX_BODY, Flaw, Kind, Message, Sns, Trusted, read_message, signed_text
from tests.cost import assert_cheap
from tests.sns import TOPIC, Envelope, FakeSns, body_of, headers_of, pem_of, rsa_key

NOW = datetime(2026, 6, 1, 12, 0, 0, 500_000, tzinfo=UTC)
HOUR = 3600.0
SECOND = timedelta(seconds=1)
OWNER = Owner(tenant="acme")
KINDS: dict[Kind, Callable[..., Envelope]] = {
    Kind.NOTIFICATION: lambda amazon, **changed: amazon.notification("hello", **changed),
    Kind.SUBSCRIPTION: lambda amazon, **changed: amazon.subscription(**changed),
    Kind.UNSUBSCRIPTION: lambda amazon, **changed: amazon.unsubscription(**changed),
}


@pytest.fixture
def amazon() -> FakeSns:
    made = FakeSns()
    made.certificate = pem_of(made.key, begins=NOW - timedelta(days=30), ends=NOW + timedelta(days=30))
    return made


def listening(amazon: FakeSns, *topics: str) -> Sns:
    known = [Topic(arn=arn, owner=OWNER) for arn in topics or (amazon.topic_arn,)]
    return Sns(topics=known, timestamp_seconds=HOUR, get=amazon.get)


def read(envelope: Envelope) -> Message:
    message = read_message(body_of(envelope), headers_of(envelope)["x-amz-sns-message-type"])
    assert isinstance(message, Message), message
    return message


async def verdict(amazon: FakeSns, envelope: Envelope, now: datetime = NOW) -> Trusted | Flaw:
    return await listening(amazon).verify(read(envelope), now)


# Believed


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("kind", Kind)
async def test_a_true_message_is_believed(amazon: FakeSns, kind: Kind, version: str) -> None:
    envelope = KINDS[kind](amazon, at=NOW, version=version)
    found = await verdict(amazon, envelope)
    assert isinstance(found, Trusted)
    assert found.topic == Topic(arn=TOPIC, owner=OWNER)
    assert found.message.kind is kind
    assert found.message.id == envelope["MessageId"]
    assert found.message.text == envelope["Message"]
    assert amazon.fetched == [amazon.certificate_url]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        '{"notificationType":"Received"}',
        "a\r\nb\n",
        "\u00e4\u4e2d\U0001f600",
        "\0\x01\x7f",
        "\\n\"'",
        "x" * 262_144,
    ],
    ids=lambda text: text[:10],
)
async def test_the_text_may_be_anything(amazon: FakeSns, text: str) -> None:
    found = await verdict(amazon, amazon.notification(text, at=NOW))
    assert isinstance(found, Trusted)
    assert found.message.text == text


@pytest.mark.parametrize("subject", [None, "", "a", "Amazon SES Email Event Notification", "\u00e4\u4e2d"])
async def test_a_subject_is_signed_where_there_is_one(amazon: FakeSns, subject: str | None) -> None:
    assert isinstance(await verdict(amazon, amazon.notification("hello", subject=subject, at=NOW)), Trusted)


async def test_a_subject_that_is_null_is_none(amazon: FakeSns) -> None:
    envelope = amazon.notification("hello", subject=None, at=NOW) | {"Subject": None}
    assert isinstance(await verdict(amazon, envelope), Trusted)


async def test_fields_that_nobody_signs_are_passed_over(amazon: FakeSns) -> None:
    envelope = amazon.notification("hello", at=NOW) | {"MessageAttributes": {"a": {"Type": "String"}}, "Other": [1]}
    assert isinstance(await verdict(amazon, envelope), Trusted)


@pytest.mark.parametrize(
    "topic",
    [
        "arn:aws:sns:us-east-1:123456789012:a",
        "arn:aws-cn:sns:cn-north-1:123456789012:a_-9",
        "arn:aws-us-gov:sns:us-gov-west-1:123456789012:a",
    ],
)
async def test_other_regions_have_their_own_hosts(topic: str) -> None:
    amazon = FakeSns(topic)
    now = datetime.now(UTC)
    assert isinstance(await verdict(amazon, amazon.notification("hello"), now), Trusted)
    subscription = read(amazon.subscription())
    trusted = await listening(amazon).verify(subscription, now)
    assert isinstance(trusted, Trusted)
    assert await listening(amazon).attend(trusted) is None
    assert amazon.confirmed == [subscription.subscribe_url]


# Not believed


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (Kind.NOTIFICATION, "Message", "hello!"),
        (Kind.NOTIFICATION, "MessageId", "99999999-2222-4333-8444-555555555555"),
        (Kind.NOTIFICATION, "Subject", "Another"),
        (Kind.NOTIFICATION, "Subject", None),
        (Kind.NOTIFICATION, "Timestamp", "2026-06-01T12:00:00.501Z"),
        (Kind.NOTIFICATION, "Timestamp", "2026-06-01T12:00:00.500000Z"),
        (Kind.NOTIFICATION, "TopicArn", f"{TOPIC}2"),
        (Kind.SUBSCRIPTION, "Message", "hello!"),
        (Kind.SUBSCRIPTION, "MessageId", "99999999-2222-4333-8444-555555555555"),
        (Kind.SUBSCRIPTION, "Timestamp", "2026-06-01T12:00:00.501Z"),
        (Kind.SUBSCRIPTION, "Type", "UnsubscribeConfirmation"),
        (Kind.UNSUBSCRIPTION, "Type", "SubscriptionConfirmation"),
        (Kind.UNSUBSCRIPTION, "Message", ""),
    ],
)
async def test_a_field_that_was_touched_spoils_the_signature(
    amazon: FakeSns, kind: Kind, version: str, field: str, value: str | None
) -> None:
    envelope = KINDS[kind](amazon, at=NOW, version=version) | {field: value}
    sns = listening(amazon, TOPIC, f"{TOPIC}2")
    assert await sns.verify(read(envelope), NOW) is Flaw.SIGNATURE


async def test_a_confirmation_s_token_is_signed_too(amazon: FakeSns) -> None:
    envelope = amazon.subscription(at=NOW)
    other = "0" * len(envelope["Token"])
    envelope |= {"Token": other, "SubscribeURL": envelope["SubscribeURL"].replace(envelope["Token"], other)}
    assert await verdict(amazon, envelope) is Flaw.SIGNATURE


@pytest.mark.parametrize(("made", "told"), [("1", "2"), ("2", "1")])
async def test_a_signature_is_of_the_version_that_it_says(amazon: FakeSns, made: str, told: str) -> None:
    envelope = amazon.notification("hello", at=NOW, version=made) | {"SignatureVersion": told}
    assert await verdict(amazon, envelope) is Flaw.SIGNATURE


@pytest.mark.parametrize("version", ["", "0", "3", "01", "1 ", "\u0661", "sha1"])
async def test_other_versions_are_not_known(amazon: FakeSns, version: str) -> None:
    envelope = amazon.notification("hello", at=NOW) | {"SignatureVersion": version}
    assert await verdict(amazon, envelope) is Flaw.SIGNATURE_VERSION
    assert amazon.fetched == []


@pytest.mark.parametrize("signature", ["", "AAAA", "no base64", "A" * 344, "\u00e4", "A" * 10_000])
async def test_what_is_no_signature_is_not_true(amazon: FakeSns, signature: str) -> None:
    envelope = amazon.notification("hello", at=NOW) | {"Signature": signature}
    assert await verdict(amazon, envelope) is Flaw.SIGNATURE


async def test_another_s_key_signs_nothing_of_ours(amazon: FakeSns) -> None:
    stranger = FakeSns(key=rsa_key(2048, 1))
    envelope = stranger.notification("hello", at=NOW) | {"SigningCertURL": amazon.certificate_url}
    assert await verdict(amazon, envelope) is Flaw.SIGNATURE


async def test_a_text_with_line_ends_is_not_read_in_another_way(amazon: FakeSns) -> None:
    """Who may publish could write `\\nMessageId\\n...` into a text, and move the borders of the fields afterwards."""
    real = amazon.notification("a\nMessageId\n11111111-2222-4333-8444-555555555555\nSubject\nb", subject=None, at=NOW)
    moved = real | {
        "Message": "a",
        "MessageId": "11111111-2222-4333-8444-555555555555",
        "Subject": f"b\nMessageId\n{real['MessageId']}",
    }
    same = "".join(f"{name}\n{moved[name]}\n" for name in ("Message", "MessageId", "Subject"))
    assert signed_text(read(real)).decode().startswith(same)
    assert read_message(body_of(moved), "Notification") is Flaw.MALFORMED


# Topics


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:sns:eu-west-1:123456789012:other",
        "arn:aws:sns:eu-west-1:123456789012:inboun",
        "arn:aws:sns:eu-west-1:123456789012:inbound2",
        "arn:aws:sns:eu-west-1:999999999999:inbound",
        "arn:aws:sns:us-east-1:123456789012:inbound",
        "arn:aws:sns:eu-west-1:123456789012:Inbound",
    ],
)
async def test_a_topic_that_is_not_listed_is_not_heard(amazon: FakeSns, arn: str) -> None:
    for make in KINDS.values():
        assert await listening(amazon, TOPIC).verify(read(make(FakeSns(arn), at=NOW)), NOW) is Flaw.TOPIC
    assert amazon.fetched == []


async def test_no_topic_means_that_none_is_heard(amazon: FakeSns) -> None:
    sns = Sns(topics=(), timestamp_seconds=HOUR, get=amazon.get)
    assert await sns.verify(read(amazon.notification("hello", at=NOW)), NOW) is Flaw.TOPIC
    assert amazon.fetched == []


# Times


@pytest.mark.parametrize(
    ("at", "flaw"),
    [
        (NOW, None),
        (NOW - timedelta(seconds=HOUR), None),
        (NOW - timedelta(seconds=HOUR) - timedelta(milliseconds=1), Flaw.STALE),
        (NOW - timedelta(days=400), Flaw.STALE),
        (NOW + MAX_AHEAD, None),
        (NOW + MAX_AHEAD + timedelta(milliseconds=1), Flaw.IN_FUTURE),
        (NOW + timedelta(days=400), Flaw.IN_FUTURE),
    ],
)
@pytest.mark.parametrize("kind", Kind)
async def test_a_message_is_of_now(amazon: FakeSns, kind: Kind, at: datetime, flaw: Flaw | None) -> None:
    found = await verdict(amazon, KINDS[kind](amazon, at=at))
    assert (found if isinstance(found, Flaw) else None) is flaw
    assert amazon.fetched == ([] if flaw else [amazon.certificate_url])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-06-01",
        "2026-06-01T12:00:00",
        "2026-06-01T12:00:00.000+00:00",
        "2026-06-01 12:00:00.000Z",
        "2026-06-01T12:00:00.000Z\n",
        "2026-13-01T12:00:00.000Z",
        "2026-06-31T12:00:00.000Z",
        "2026-06-01T25:00:00.000Z",
        "0000-06-01T12:00:00.000Z",
        "2026-06-01T12:00:00.0000000Z",
        "\u0662026-06-01T12:00:00.000Z",
        "1780315200",
    ],
)
def test_a_time_has_one_form(amazon: FakeSns, text: str) -> None:
    envelope = amazon.notification("hello", at=NOW) | {"Timestamp": text}
    assert read_message(body_of(envelope), "Notification") is Flaw.MALFORMED


def test_a_time_may_lack_its_fraction(amazon: FakeSns) -> None:
    envelope = amazon.notification("hello") | {"Timestamp": "2026-06-01T12:00:00Z"}
    assert read(envelope).sent_at == datetime(2026, 6, 1, 12, tzinfo=UTC)


# Certificates


@pytest.mark.parametrize(
    "url",
    [
        "https://sns.eu-west-1.amazonaws.com.evil.test{path}",
        "https://user@sns.eu-west-1.amazonaws.com{path}",
        "https://sns.eu-west-1.amazonaws.com:8443{path}",
        "https://sns.eu-west-1.amazonaws.com{path}?x=y",
        "https://sns.eu-west-1.amazonaws.com{path}#x",
        "http://sns.eu-west-1.amazonaws.com{path}",
        "https://SNS.eu-west-1.amazonaws.com{path}",
        "https://sns.eu-west-1.amazonaws.com.{path}",
        "https://sns.us-east-1.amazonaws.com{path}",
        "https://sns.s3.amazonaws.com{path}",
        "https://evil.test{path}",
        "https://127.0.0.1{path}",
        "file:///etc/hostname",
        "",
    ],
)
@pytest.mark.parametrize("kind", Kind)
async def test_a_stranger_does_not_choose_what_is_fetched(amazon: FakeSns, kind: Kind, url: str) -> None:
    """The envelope is signed with the right key: the URL alone refuses it."""
    path = amazon.certificate_url.removeprefix(f"https://{amazon.host}")
    envelope = KINDS[kind](amazon, at=NOW) | {"SigningCertURL": url.format(path=path)}
    assert await verdict(amazon, envelope) is Flaw.CERTIFICATE_URL
    assert amazon.fetched == []


async def test_a_certificate_that_cannot_be_had_is_for_later(amazon: FakeSns) -> None:
    amazon.down = True
    message = read(amazon.notification("hello", at=NOW))
    sns = listening(amazon)
    assert await sns.verify(message, NOW) is Flaw.CERTIFICATE_UNAVAILABLE
    amazon.down = False
    assert await sns.verify(message, NOW) is Flaw.CERTIFICATE_UNAVAILABLE
    assert isinstance(await sns.verify(message, NOW + timedelta(minutes=2)), Trusted)
    assert len(amazon.fetched) == 2


@pytest.mark.parametrize("data", [b"", b"<html>", b"a" * 100_000], ids=["empty", "html", "large"])
async def test_what_is_no_certificate_is_for_later(amazon: FakeSns, data: bytes) -> None:
    amazon.certificate = data
    assert await verdict(amazon, amazon.notification("hello", at=NOW)) is Flaw.CERTIFICATE_UNAVAILABLE


@pytest.mark.parametrize(
    ("begins", "ends", "flaw"),
    [
        (-2, -1, Flaw.CERTIFICATE_EXPIRED),
        (1, 2, Flaw.CERTIFICATE_EXPIRED),
        (-1, 1, None),
    ],
)
async def test_a_certificate_is_of_now(amazon: FakeSns, begins: int, ends: int, flaw: Flaw | None) -> None:
    amazon.certificate = pem_of(amazon.key, begins=NOW + timedelta(days=begins), ends=NOW + timedelta(days=ends))
    found = await verdict(amazon, amazon.notification("hello", at=NOW))
    assert (found if isinstance(found, Flaw) else None) is flaw


async def test_a_weak_key_proves_nothing() -> None:
    weak = FakeSns(key=rsa_key(1024))
    now = datetime.now(UTC)
    assert await verdict(weak, weak.notification("hello"), now) is Flaw.CERTIFICATE_UNAVAILABLE


async def test_many_messages_need_one_fetch(amazon: FakeSns) -> None:
    sns = listening(amazon)
    for number in range(20):
        assert isinstance(await sns.verify(read(amazon.notification(f"{number}", at=NOW)), NOW), Trusted)
    assert len(amazon.fetched) == 1


# Subscriptions


async def trusted(amazon: FakeSns, sns: Sns, envelope: Envelope) -> Trusted:
    found = await sns.verify(read(envelope), NOW)
    assert isinstance(found, Trusted)
    return found


async def test_a_subscription_is_confirmed_when_all_is_true(amazon: FakeSns) -> None:
    sns = listening(amazon)
    envelope = amazon.subscription(at=NOW)
    one = await trusted(amazon, sns, envelope)
    assert amazon.confirmed == []
    assert await sns.attend(one) is None
    assert amazon.confirmed == [envelope["SubscribeURL"]]


async def test_a_confirmation_that_fails_is_for_later(amazon: FakeSns) -> None:
    sns = listening(amazon)
    one = await trusted(amazon, sns, amazon.subscription(at=NOW))
    amazon.down = True
    assert await sns.attend(one) is Flaw.NOT_CONFIRMED
    amazon.down = False
    assert await sns.attend(one) is None


async def test_an_end_of_subscription_is_logged_and_left(amazon: FakeSns) -> None:
    sns = listening(amazon)
    one = await trusted(amazon, sns, amazon.unsubscription(at=NOW))
    with capture_logs() as logs:
        assert await sns.attend(one) is None
    assert amazon.confirmed == []
    assert [(log["event"], log["topic"]) for log in logs] == [("sns.unsubscribed", TOPIC)]


async def test_a_notification_needs_no_attention(amazon: FakeSns) -> None:
    sns = listening(amazon)
    one = await trusted(amazon, sns, amazon.notification("hello", at=NOW, SubscribeURL="https://evil.test/"))
    assert await sns.attend(one) is None
    assert amazon.fetched == [amazon.certificate_url]


@pytest.mark.parametrize(
    "changed",
    [
        "https://evil.test/?{query}",
        "http://{host}/?{query}",
        "https://{host}.evil.test/?{query}",
        "https://user@{host}/?{query}",
        "https://{host}:8443/?{query}",
        "https://{host}/?{query}#x",
        "https://{host}/?{query}&x=y",
        "https://{host}/../?{query}",
        "https://{host}\\@evil.test/?{query}",
        "https://{host}./?{query}",
        "https://169.254.169.254/latest/meta-data/?{query}",
        "",
    ],
)
@pytest.mark.parametrize("kind", [Kind.SUBSCRIPTION, Kind.UNSUBSCRIPTION])
async def test_a_subscription_is_not_confirmed_elsewhere(amazon: FakeSns, kind: Kind, changed: str) -> None:
    """Even where Amazon itself signs such a URL, it is not gone to."""
    query = KINDS[kind](amazon)["SubscribeURL"].partition("?")[2]
    envelope = KINDS[kind](amazon, at=NOW, SubscribeURL=changed.format(host=amazon.host, query=query))
    assert await verdict(amazon, envelope) is Flaw.SUBSCRIBE_URL
    assert amazon.fetched == []


async def test_a_subscription_is_to_its_own_topic(amazon: FakeSns) -> None:
    envelope = amazon.subscription(at=NOW)
    url = envelope["SubscribeURL"].replace("inbound", "other")
    assert await verdict(amazon, amazon.signed(envelope | {"SubscribeURL": url})) is Flaw.SUBSCRIBE_URL


# Shapes


@pytest.mark.parametrize("header", [None, "", "notification", "SubscriptionConfirmation", "Notification ", "Other"])
def test_the_header_says_the_same_kind(amazon: FakeSns, header: str | None) -> None:
    assert read_message(body_of(amazon.notification("hello")), header) is Flaw.MALFORMED


@pytest.mark.parametrize("name", ["Type", "MessageId", "TopicArn", "Message", "Timestamp", "SignatureVersion"])
@pytest.mark.parametrize("value", [None, 1, True, [], {}, ...])
def test_fields_are_there_and_are_texts(amazon: FakeSns, name: str, value: object) -> None:
    envelope = amazon.notification("hello")
    if value is ...:
        del envelope[name]
    else:
        envelope[name] = value
    assert read_message(body_of(envelope), "Notification") is Flaw.MALFORMED


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Type", "Other"),
        ("MessageId", ""),
        ("MessageId", "a\nb"),
        ("MessageId", "a" * 101),
        ("MessageId", "\u00e4"),
        ("TopicArn", ""),
        ("TopicArn", f"{TOPIC}\n"),
        ("TopicArn", "arn:" + "a" * 500),
        ("Subject", "a\nb"),
        ("Subject", "a\rb"),
        ("Subject", "a\x00b"),
        ("Subject", "a" * 1001),
        ("Subject", 1),
        ("SigningCertURL", "a" * 3000),
    ],
)
def test_values_have_their_shapes(amazon: FakeSns, name: str, value: object) -> None:
    assert read_message(body_of(amazon.notification("hello") | {name: value}), "Notification") is Flaw.MALFORMED


@pytest.mark.parametrize(
    ("name", "value"),
    [("Token", ""), ("Token", "a\nb"), ("Token", "a&b=c"), ("Token", "a" * 1001), ("SubscribeURL", "a" * 3000)],
)
def test_a_confirmation_s_values_have_their_shapes(amazon: FakeSns, name: str, value: str) -> None:
    envelope = amazon.subscription() | {name: value}
    assert read_message(body_of(envelope), "SubscriptionConfirmation") is Flaw.MALFORMED


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"{}",
        b"[]",
        b"null",
        b'"Notification"',
        b"\xff\xfe{}",
        b'{"Type":"Notification"',
        b'{"Type":"\xff"}',
        b'{"Type":"\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"Records":[{"EventSource":"aws:sns"}]}',
    ],
    ids=lambda body: str(body[:20]),
)
def test_what_is_no_message_is_told_so(body: bytes) -> None:
    assert read_message(body, "Notification") is Flaw.MALFORMED


def test_a_body_is_bounded(amazon: FakeSns) -> None:
    body = body_of(amazon.notification("hello"))
    assert isinstance(read_message(body.ljust(MAX_BODY), "Notification"), Message)
    assert read_message(body.ljust(MAX_BODY + 1), "Notification") is Flaw.OVERSIZED


def test_the_largest_text_of_sns_fits(amazon: FakeSns) -> None:
    """All of it quotes, each of which JSON writes in two characters."""
    assert len(read(amazon.notification('"' * 262_144)).text) == 262_144


# Answers


def test_no_answer_is_403_and_what_may_pass_is_503() -> None:
    """A 4xx is final for SNS; Postmark's like would stop for good at a 403 (design page, Traps)."""
    told = {flaw: flaw.status for flaw in Flaw}
    assert {flaw for flaw, status in told.items() if status == 503} == {
        Flaw.CERTIFICATE_UNAVAILABLE,
        Flaw.NOT_CONFIRMED,
    }
    assert {flaw for flaw, status in told.items() if status not in (401, 503)} == {Flaw.MALFORMED, Flaw.OVERSIZED}
    assert (Flaw.MALFORMED.status, Flaw.OVERSIZED.status) == (400, 413)


async def test_nothing_of_a_message_is_logged(amazon: FakeSns) -> None:
    secret = "user@secret.test"
    with capture_logs() as logs:
        await verdict(amazon, amazon.notification(secret, subject=secret, at=NOW) | {"Signature": secret})
        amazon.down = True
        await verdict(amazon, amazon.notification(secret, subject=secret, at=NOW))
        sns = listening(amazon)
        amazon.down = False
        one = await trusted(amazon, sns, amazon.subscription(at=NOW))
        amazon.down = True
        await sns.attend(one)
    assert {log["event"] for log in logs} == {"sns.certificate_unavailable", "sns.not_confirmed"}
    assert "secret" not in str(logs)
    assert one.message.token not in str(logs)


# Whatever a stranger writes


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = [
    "Type",
    "MessageId",
    "TopicArn",
    "Message",
    "Timestamp",
    "SignatureVersion",
    "Signature",
    "SigningCertURL",
    "Subject",
    "Token",
    "SubscribeURL",
]


@given(st.binary(max_size=200), st.none() | st.text(max_size=30))
def test_any_bytes_have_an_answer(body: bytes, header: str | None) -> None:
    assert isinstance(read_message(body, header), Flaw)


@given(st.sampled_from(Kind), st.dictionaries(st.sampled_from(NAMES), JSON | st.text(), max_size=4))
async def test_any_change_of_an_envelope_has_an_answer(kind: Kind, changes: dict[str, Any]) -> None:
    amazon = FakeSns()
    real = KINDS[kind](amazon)
    envelope = real | changes
    message = read_message(json.dumps(envelope).encode(), kind)
    if isinstance(message, Flaw):
        return
    found = await listening(amazon).verify(message, datetime.now(UTC))
    unread = {"Token", "SubscribeURL"} if kind is Kind.NOTIFICATION else {"Subject"}
    same = all(envelope.get(name) == real.get(name) for name in NAMES if name not in unread)
    assert isinstance(found, Trusted) is same


def test_the_worst_bodies_cost_little(amazon: FakeSns) -> None:
    """A body of the largest size that is allowed, read: it holds the loop no longer than the design page allows."""
    fill = MAX_BODY - 2000
    bodies = [
        body_of(amazon.notification("x" * fill)),
        body_of(amazon.notification("hello") | {"MessageAttributes": [0] * (fill // 3)}),
        body_of(amazon.notification("hello") | {"Other": "\\" * (fill // 2)}),
        body_of(amazon.notification("hello") | {"Subject": "\n" * (fill // 2)}),
        body_of(amazon.notification("hello") | {"TopicArn": "arn:" + "a" * fill}),
        body_of(amazon.notification("hello") | {"Timestamp": "2" * fill}),
        b"[" * fill,
        b'{"a":' * (fill // 5),
    ]
    for body in bodies:
        assert_cheap(lambda body=body: read_message(body, "Notification"), seconds=0.025)  # type: ignore[misc]


def test_the_worst_signature_costs_little(amazon: FakeSns) -> None:
    message = read(amazon.notification("x" * (MAX_BODY - 2000), at=NOW))
    assert len(assert_cheap(lambda: signed_text(message), seconds=0.025)) > MAX_BODY - 2000
