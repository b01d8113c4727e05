"""Mailgun's raw route: what is read of its form, and which signatures count."""

import hmac
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from ingester.settings.groups import Providers
from ingester.transport.providers import SignatureCheck, may_be_signed, read_form
from ingester.transport.providers.mailgun import AHEAD, PAST
from ingester.transport.submission import Assertion, Submission
from ingester.web.problem import Problem
from tests.transport.providers.bodies import MAIL, MULTIPART, URLENCODED, Fields, form, read, urlencoded, without

KEY = "key-of-the-webhook"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TOKEN = b"7c1e8f0a4d5b6c7d8e9f0a1b2c3d4e5f60718293a4b5c6d7e8"
KEYS = Providers(mailgun_signing_key=SecretStr(KEY))


def signature(at: bytes, token: bytes = TOKEN, key: str = KEY) -> bytes:
    return hmac.new(key.encode(), at + token, "sha256").hexdigest().encode()


def fields(at: datetime = NOW, **changed: bytes) -> Fields:
    timestamp = str(int(at.timestamp())).encode()
    given = {
        "recipient": b"support@demo.test",
        "sender": b"bounces+1@sender.test",
        "from": b"Anna <anna@sender.test>",
        "subject": b"Hello",
        "body-mime": MAIL,
        "timestamp": timestamp,
        "token": TOKEN,
        "signature": signature(timestamp),
    }
    return list((given | {name.replace("_", "-"): value for name, value in changed.items()}).items())


def submission(found: Submission | Problem) -> Submission:
    assert isinstance(found, Submission), found
    return found


@pytest.mark.parametrize("asked", [None, "mailgun", "another", "postmark"])
def test_the_mail_and_its_envelope(asked: str | None) -> None:
    assert submission(read_form(form(*fields()), asked=asked)) == Submission(
        raw=MAIL,
        provider="mailgun",
        event_id=TOKEN.decode(),
        recipients=("support@demo.test",),
        asserted=Assertion(mail_from="bounces+1@sender.test"),
        metadata={
            "sender": "bounces+1@sender.test",
            "from": "Anna <anna@sender.test>",
            "timestamp": str(int(NOW.timestamp())),
        },
    )


def test_urlencoded_is_the_same() -> None:
    found = read(URLENCODED, [urlencoded(fields())])
    assert not isinstance(found, Problem)
    assert read_form(found, asked=None) == read_form(form(*fields()), asked=None)


@pytest.mark.parametrize(
    ("recipient", "expected"),
    [
        (b"a@demo.test, b@demo.test", ("a@demo.test", "b@demo.test")),
        (b'"a, b"@demo.test,c@demo.test', ('"a, b"@demo.test', "c@demo.test")),
        (b"Support <a@demo.test>", ("a@demo.test",)),
        ("j\u00f6rg@demo.test".encode(), ("j\u00f6rg@demo.test",)),
        (b"", ()),
        (b", ,", ()),
    ],
)
def test_recipients_are_a_list(recipient: bytes, expected: tuple[str, ...]) -> None:
    assert submission(read_form(form(*fields(recipient=recipient)), asked=None)).recipients == expected


@pytest.mark.parametrize(("sender", "expected"), [(b"", ""), (b"<>", ""), (b"<a@b.test>", "a@b.test")])
def test_the_null_sender_is_said(sender: bytes, expected: str) -> None:
    assert submission(read_form(form(*fields(sender=sender)), asked=None)).asserted.mail_from == expected


def test_what_is_not_said_is_none() -> None:
    given = without(without(without(fields(), "sender"), "token"), "signature")
    found = submission(read_form(form(*given), asked=None))
    assert (found.event_id, found.asserted.mail_from) == (None, None)


@pytest.mark.parametrize("token", [b"", b"a b", b"\xff" * 50, b"x" * 101, b"a\0b"])
def test_an_odd_token_is_no_event_id(token: bytes) -> None:
    assert submission(read_form(form(*fields(token=token)), asked=None)).event_id is None


@pytest.mark.parametrize("name", ["body-mime", "recipient"])
def test_a_missing_field_is_named(name: str) -> None:
    problem = read_form(form(*without(fields(), name)), asked="mailgun")
    assert isinstance(problem, Problem)
    assert (problem.status, problem.field) == (422, name)


@pytest.mark.parametrize("asked", [None, "mailgun"])
def test_the_parsed_form_tells_what_to_change(asked: str | None) -> None:
    problem = read_form(form(*without(fields(), "body-mime"), ("body-plain", b"Hello")), asked=asked)
    assert isinstance(problem, Problem)
    assert problem.field == "body-mime"
    assert "mime" in problem.message


@pytest.mark.parametrize("name", ["body-mime", "recipient", "sender", "timestamp", "token", "signature"])
def test_a_repeated_field_is_refused(name: str) -> None:
    problem = read_form(form(*fields(), (name, b"another")), asked=None)
    assert isinstance(problem, Problem)
    assert (problem.status, problem.field) == (422, name)


def signed_by(given: Fields, now: datetime = NOW, keys: Providers = KEYS) -> str | None:
    return SignatureCheck(keys, {}).signed_by(form(*given), now)


def test_a_true_signature_counts_while_it_is_fresh() -> None:
    assert signed_by(fields()) == "mailgun"
    assert signed_by(fields(), NOW + PAST) == "mailgun"
    assert signed_by(fields(), NOW - AHEAD) == "mailgun"
    assert signed_by(fields(), NOW + PAST + timedelta(seconds=1)) is None
    assert signed_by(fields(), NOW - AHEAD - timedelta(seconds=1)) is None


def test_retries_last_shorter_than_a_signature() -> None:
    """Mailgun tries for eight hours: a mail that we could not store at first is not lost to the clock."""
    assert timedelta(hours=8) < PAST < timedelta(days=1)


def test_the_signature_of_the_parent_account_counts() -> None:
    timestamp = str(int(NOW.timestamp())).encode()
    given = fields(signature=b"0" * 64, parent_signature=signature(timestamp))
    assert signed_by(given) == "mailgun"


STAMP = str(int(NOW.timestamp())).encode()


@pytest.mark.parametrize(
    "changed",
    [
        {"signature": b"0" * 64},
        {"signature": b""},
        {"signature": signature(STAMP)[:-1]},
        {"signature": signature(STAMP) + b"0"},
        {"signature": b"\xff" * 64},
        {"signature": signature(STAMP, key="another")},
        {"signature": signature(STAMP, key="")},
        {"token": TOKEN + b"0"},
        {"token": b""},
        {"timestamp": str(int(NOW.timestamp()) + 1).encode()},
        {"timestamp": b""},
        {"timestamp": b"-1"},
        {"timestamp": b" " + STAMP},
        {"timestamp": b"9" * 10_000},
        {"timestamp": STAMP + TOKEN[:1], "token": TOKEN[1:]},  # the same bytes are signed
        {"timestamp": STAMP[:-1], "token": STAMP[-1:] + TOKEN},
    ],
)
def test_no_other_signature_counts(changed: dict[str, bytes]) -> None:
    assert signed_by(fields(NOW, **changed)) is None


@pytest.mark.parametrize("name", ["timestamp", "token", "signature"])
def test_a_missing_or_repeated_part_of_the_signature_is_none(name: str) -> None:
    assert signed_by(without(fields(), name)) is None
    assert signed_by([*fields(), (name, dict(fields())[name])]) is None


def test_without_a_key_nothing_is_signed() -> None:
    timestamp = str(int(NOW.timestamp())).encode()
    given = fields(signature=signature(timestamp, key=""))
    for keys in (Providers(), Providers(mailgun_signing_key=SecretStr(""))):
        assert signed_by(given, keys=keys) is None
        assert not may_be_signed(keys, headers={}, content_type=MULTIPART)


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [(MULTIPART, True), (URLENCODED, True), ("application/json", False), ("message/rfc822", False), ("", False)],
)
def test_only_a_form_may_be_signed(content_type: str, expected: bool) -> None:
    assert may_be_signed(KEYS, headers={}, content_type=content_type) is expected
