"""SendGrid's raw Inbound Parse: what is read of its form, and which signatures count."""

from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ingester.settings.groups import Providers
from ingester.transport.forms import Form
from ingester.transport.providers import SignatureCheck, may_be_signed, read_form
from ingester.transport.providers.sendgrid import AHEAD, PAST
from ingester.transport.submission import Assertion, Submission
from ingester.web.problem import Problem
from tests.transport.providers.bodies import (
    MAIL,
    MULTIPART,
    URLENCODED,
    Fields,
    form,
    multipart,
    pieces,
    read,
    without,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CONTENT_TYPE = "multipart/form-data; boundary=xYzZY"
SIGNATURE = "X-Twilio-Email-Event-Webhook-Signature"
TIMESTAMP = "X-Twilio-Email-Event-Webhook-Timestamp"
KEY = ec.generate_private_key(ec.SECP256R1())
ENVELOPE = b'{"to":["support@demo.test","sales@demo.test"],"from":"anna@sender.test"}'
FIELDS: Fields = [
    ("to", b"Support <support@demo.test>"),
    ("from", b"Anna <anna@sender.test>"),
    ("subject", b"Hello"),
    ("email", MAIL),
    ("dkim", b"{@sender.test : pass}"),
    ("SPF", b"pass"),
    ("sender_ip", b"192.0.2.7"),
    ("spam_score", b"0.1"),
    ("envelope", ENVELOPE),
    ("charsets", b'{"to":"UTF-8"}'),
]


def public(key: ec.EllipticCurvePrivateKey = KEY) -> str:
    return b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


def keys(key: ec.EllipticCurvePrivateKey = KEY) -> Providers:
    return Providers(sendgrid_public_key=public(key))


def signed(body: bytes, at: str | None = None, key: ec.EllipticCurvePrivateKey = KEY) -> dict[str, str]:
    at = at or str(int(NOW.timestamp()))
    return {SIGNATURE: b64encode(key.sign(at.encode() + body, ec.ECDSA(SHA256()))).decode(), TIMESTAMP: at}


def submission(found: Submission | Problem) -> Submission:
    assert isinstance(found, Submission), found
    return found


def changed(name: str, value: bytes) -> Form:
    return form(*((other, value if other == name else kept) for other, kept in FIELDS))


@pytest.mark.parametrize("asked", [None, "sendgrid"])
def test_the_mail_and_its_envelope(asked: str | None) -> None:
    assert submission(read_form(form(*FIELDS), asked=asked)) == Submission(
        raw=MAIL,
        provider="sendgrid",
        recipients=("support@demo.test", "sales@demo.test"),
        asserted=Assertion(mail_from="anna@sender.test", client_ip="192.0.2.7"),
        metadata={
            "envelope": ENVELOPE.decode(),
            "sender_ip": "192.0.2.7",
            "SPF": "pass",
            "dkim": "{@sender.test : pass}",
            "spam_score": "0.1",
            "charsets": '{"to":"UTF-8"}',
        },
    )


@pytest.mark.parametrize(
    ("envelope", "mail_from", "recipients"),
    [
        (b'{"to":["a@demo.test"],"from":""}', "", ("a@demo.test",)),
        (b'{"to":["<a@demo.test>"],"from":"<>"}', "", ("a@demo.test",)),
        (b'{"to":[]}', None, ()),
        (b'{"from":null,"to":["a@demo.test"],"x":1}', None, ("a@demo.test",)),
    ],
)
def test_envelopes(envelope: bytes, mail_from: str | None, recipients: tuple[str, ...]) -> None:
    found = submission(read_form(changed("envelope", envelope), asked=None))
    assert (found.asserted.mail_from, found.recipients) == (mail_from, recipients)


@pytest.mark.parametrize(
    "envelope",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"to":"a@demo.test"}',
        b'{"to":[1]}',
        b'{"to":["\xff"]}',
        b"[" * 100_000,
        b'{"to":[],"from":1}',
    ],
)
def test_an_envelope_that_is_none_is_refused(envelope: bytes) -> None:
    problem = read_form(changed("envelope", envelope), asked=None)
    assert isinstance(problem, Problem)
    assert (problem.status, problem.field) == (422, "envelope")


@pytest.mark.parametrize("value", [b"", b"unknown", b"192.0.2.7 192.0.2.8", b"300.1.1.1", b"\xff"])
def test_a_client_that_is_no_address_is_unknown(value: bytes) -> None:
    assert submission(read_form(changed("sender_ip", value), asked=None)).asserted.client_ip is None


@pytest.mark.parametrize("name", ["email", "envelope"])
def test_a_missing_field_is_named(name: str) -> None:
    problem = read_form(form(*without(FIELDS, name)), asked="sendgrid")
    assert isinstance(problem, Problem)
    assert (problem.status, problem.field) == (422, name)


@pytest.mark.parametrize("asked", [None, "sendgrid"])
def test_the_parsed_form_tells_what_to_change(asked: str | None) -> None:
    problem = read_form(form(*without(FIELDS, "email"), ("text", b"Hello")), asked=asked)
    assert isinstance(problem, Problem)
    assert problem.field == "email"
    assert "raw, full MIME" in problem.message


def test_a_mail_that_brings_an_envelope_of_its_own_is_refused() -> None:
    """The boundary is known to who writes a mail. What he adds is told from nothing, but it cannot take the place."""
    mail = (
        MAIL + multipart([("envelope", b'{"to":["ceo@demo.test"]}'), ("x", b"")], "xYzZY")[: -len("--xYzZY--\r\n") - 2]
    )
    body = multipart([(name, mail if name == "email" else value) for name, value in FIELDS], "xYzZY")
    found = read(CONTENT_TYPE, [body])
    assert isinstance(found, Form)
    problem = read_form(found, asked="sendgrid")
    assert isinstance(problem, Problem)
    assert (problem.status, problem.field) == (422, "envelope")


@pytest.mark.parametrize("name", ["email", "envelope", "sender_ip"])
def test_a_repeated_field_is_refused(name: str) -> None:
    problem = read_form(form(*FIELDS, (name, b"another")), asked=None)
    assert isinstance(problem, Problem)
    assert (problem.status, problem.field) == (422, name)


BODY = multipart(FIELDS, "xYzZY")


def signed_by(
    headers: dict[str, str], *, body: bytes = BODY, now: datetime = NOW, by: Providers | None = None
) -> str | None:
    check = SignatureCheck(by or keys(), headers)
    for chunk in pieces(body, 100):
        check.update(chunk)
    return check.signed_by(form(*FIELDS), now)


def test_a_true_signature_counts_while_it_is_fresh() -> None:
    headers = signed(BODY)
    assert signed_by(headers) == "sendgrid"
    assert signed_by(headers, now=NOW + PAST) == "sendgrid"
    assert signed_by(headers, now=NOW - AHEAD) == "sendgrid"
    assert signed_by(headers, now=NOW + PAST + timedelta(seconds=1)) is None
    assert signed_by(headers, now=NOW - AHEAD - timedelta(seconds=1)) is None


def test_retries_last_shorter_than_a_signature() -> None:
    """SendGrid tries for three days: a mail that we could not store at first is not lost to the clock."""
    assert timedelta(days=3) < PAST < timedelta(days=14)


def test_no_other_signature_counts() -> None:
    headers, at = signed(BODY), str(int(NOW.timestamp()))
    another = ec.generate_private_key(ec.SECP256R1())
    p384 = ec.generate_private_key(ec.SECP384R1())
    assert signed_by(headers, body=BODY + b"x") is None
    assert signed_by(headers, body=BODY[:-1]) is None
    assert signed_by(headers | {TIMESTAMP: str(int(at) + 1)}) is None
    assert signed_by({TIMESTAMP: at}) is None
    assert signed_by({SIGNATURE: headers[SIGNATURE]}) is None
    assert signed_by(signed(BODY, key=another)) is None
    assert signed_by(signed(BODY, key=p384), by=keys(p384)) is None
    assert signed_by(headers, by=Providers(sendgrid_public_key="")) is None


@pytest.mark.parametrize("at", ["", "now", " 1772366400", "-5", "9" * 5000, "\u0661\u0662", "1772366400.0"])
def test_a_timestamp_that_is_none_is_no_signature(at: str) -> None:
    headers = signed(BODY) | {TIMESTAMP: at}
    assert signed_by(headers) is None
    assert not may_be_signed(keys(), headers=headers, content_type=CONTENT_TYPE)


@pytest.mark.parametrize(
    "shown", ["", "x", "!!!!", "AAAA", "\udcff", "A" * 100_000, b64encode(b"\x30\x06\x02\x01\x00\x02\x01\x00").decode()]
)
def test_a_signature_that_is_none_is_no_signature(shown: str) -> None:
    assert signed_by(signed(BODY) | {SIGNATURE: shown}) is None


@pytest.mark.parametrize(
    "public_key", ["x", "AAAA", "-----BEGIN PUBLIC KEY-----", b64encode(b64decode(public())[:-1]).decode()]
)
def test_a_key_that_is_none_proves_nothing(public_key: str) -> None:
    assert signed_by(signed(BODY), by=Providers(sendgrid_public_key=public_key)) is None


def test_only_a_form_with_both_headers_may_be_signed() -> None:
    headers = signed(BODY)
    assert may_be_signed(keys(), headers=headers, content_type=CONTENT_TYPE)
    assert may_be_signed(keys(), headers=headers, content_type=URLENCODED)
    assert not may_be_signed(keys(), headers=headers, content_type="application/json")
    assert not may_be_signed(keys(), headers={SIGNATURE: headers[SIGNATURE]}, content_type=MULTIPART)
    assert not may_be_signed(keys(), headers={TIMESTAMP: headers[TIMESTAMP]}, content_type=MULTIPART)
    assert not may_be_signed(Providers(), headers=headers, content_type=CONTENT_TYPE)
