"""CloudMailin's raw format: what is read of its form."""

import pytest

from ingester.transport.forms import Form
from ingester.transport.providers import read_form
from ingester.transport.submission import Assertion, Submission
from ingester.web.problem import Problem
from tests.transport.providers.bodies import MAIL, Fields, form, without

FIELDS: Fields = [
    ("message", MAIL),
    ("envelope[to]", b"support@demo.test"),
    ("envelope[recipients][0]", b"support@demo.test"),
    ("envelope[recipients][1]", b"sales@demo.test"),
    ("envelope[from]", b"anna@sender.test"),
    ("envelope[helo_domain]", b"mail.sender.test"),
    ("envelope[remote_ip]", b"2001:db8::7"),
    ("envelope[tls]", b"true"),
    ("envelope[spf][result]", b"pass"),
    ("envelope[spf][domain]", b"sender.test"),
]


def submission(found: Submission | Problem) -> Submission:
    assert isinstance(found, Submission), found
    return found


def changed(name: str, value: bytes) -> Form:
    return form(*((other, value if other == name else kept) for other, kept in FIELDS))


@pytest.mark.parametrize("asked", [None, "cloudmailin"])
def test_the_mail_and_its_envelope(asked: str | None) -> None:
    assert submission(read_form(form(*FIELDS), asked=asked)) == Submission(
        raw=MAIL,
        provider="cloudmailin",
        recipients=("support@demo.test", "sales@demo.test"),
        asserted=Assertion(mail_from="anna@sender.test", client_ip="2001:db8::7", helo="mail.sender.test"),
        metadata={
            "envelope[to]": "support@demo.test",
            "envelope[from]": "anna@sender.test",
            "envelope[helo_domain]": "mail.sender.test",
            "envelope[remote_ip]": "2001:db8::7",
            "envelope[tls]": "true",
            "envelope[spf][result]": "pass",
            "envelope[spf][domain]": "sender.test",
        },
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([("envelope[to]", b"a@demo.test")], ("a@demo.test",)),
        ([("envelope[to]", b"a@demo.test"), ("envelope[recipients][]", b"b@demo.test")], ("b@demo.test",)),
        (
            [("envelope[to]", b"a@demo.test"), *[("envelope[recipients][]", b"%d@demo.test" % n) for n in (1, 2, 1)]],
            ("1@demo.test", "2@demo.test"),
        ),
        ([("envelope[to]", b"<a@demo.test>"), ("envelope[recipients][0]", b"<b@demo.test>")], ("b@demo.test",)),
        ([("envelope[to]", b"1a2b3c@cloudmailin.net")], ()),
        (
            [("envelope[to]", b"1a2b3c@in.CloudMailin.net"), ("envelope[recipients][0]", b"a@demo.test")],
            ("a@demo.test",),
        ),
        ([("envelope[to]", b"1a2b3c@in.CloudMailin.net")], ()),
        ([("envelope[to]", b"a@notcloudmailin.net")], ("a@notcloudmailin.net",)),
        ([("envelope[to]", b"")], ()),
    ],
)
def test_recipients(fields: Fields, expected: tuple[str, ...]) -> None:
    """Those of the transaction. A mail forwarded to CloudMailin's own domain tells elsewhere for whom it is."""
    assert submission(read_form(form(("message", MAIL), *fields), asked=None)).recipients == expected


def test_a_thousand_recipients() -> None:
    listed = [(f"envelope[recipients][{n}]", b"%d@demo.test" % n) for n in range(1000)]
    found = submission(read_form(form(("message", MAIL), ("envelope[to]", b"0@demo.test"), *listed), asked=None))
    assert len(found.recipients) == 1000


@pytest.mark.parametrize(("sender", "expected"), [(b"", ""), (b"<>", ""), (b"<a@b.test>", "a@b.test")])
def test_the_null_sender_is_said(sender: bytes, expected: str) -> None:
    assert submission(read_form(changed("envelope[from]", sender), asked=None)).asserted.mail_from == expected


def test_what_is_not_said_is_none() -> None:
    found = submission(read_form(form(("message", MAIL), ("envelope[to]", b"a@demo.test")), asked=None))
    assert found.asserted == Assertion()
    assert submission(read_form(changed("envelope[remote_ip]", b"localhost"), asked=None)).asserted.client_ip is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"", None),
        (b"x" * 255, "x" * 255),
        (b"x" * 256, None),
        (b"a\0b\r\n\xff", "a?b??\ufffd"),
        (b"[192.0.2.1]", "[192.0.2.1]"),
    ],
)
def test_the_name_of_a_client_can_be_stored(name: bytes, expected: str | None) -> None:
    assert submission(read_form(changed("envelope[helo_domain]", name), asked=None)).asserted.helo == expected


@pytest.mark.parametrize("name", ["message", "envelope[to]"])
def test_a_missing_field_is_named(name: str) -> None:
    problem = read_form(form(*without(FIELDS, name)), asked="cloudmailin")
    assert isinstance(problem, Problem)
    assert (problem.status, problem.field) == (422, name)


@pytest.mark.parametrize("asked", [None, "cloudmailin"])
def test_another_format_tells_what_to_change(asked: str | None) -> None:
    problem = read_form(form(*without(FIELDS, "message"), ("plain", b"Hello")), asked=asked)
    assert isinstance(problem, Problem)
    assert problem.field == "message"
    assert "Raw" in problem.message


@pytest.mark.parametrize(
    "name", ["message", "envelope[to]", "envelope[from]", "envelope[helo_domain]", "envelope[remote_ip]"]
)
def test_a_repeated_field_is_refused(name: str) -> None:
    problem = read_form(form(*FIELDS, (name, b"another")), asked=None)
    assert isinstance(problem, Problem)
    assert (problem.status, problem.field) == (422, name)
