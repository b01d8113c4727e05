"""Postmark's JSON with the raw mail: what is read of it, piece by piece, and what is lost before it comes."""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingester.transport.metadata import checked
from ingester.transport.providers import read_json
from ingester.transport.submission import Assertion, Submission
from ingester.web.problem import Problem
from tests.cost import assert_cheap

MIB = 1 << 20
MAIL = 'From: Anna <anna@sender.test>\r\nSubject: Gr\u00fc\u00dfe \U0001f600\r\n\r\n\\ "quoted" \t\x00\x7f\u2028\r\n'
ID = "73e6d360-66eb-11e1-8e72-a8904824019b"
INBOUND: dict[str, Any] = {
    "FromName": "Anna",
    "MessageStream": "inbound",
    "From": "anna@sender.test",
    "FromFull": {"Email": "anna@sender.test", "Name": "Anna", "MailboxHash": ""},
    "To": "Support <support@demo.test>",
    "ToFull": [{"Email": "support@demo.test", "Name": "Support", "MailboxHash": ""}],
    "Cc": "",
    "CcFull": [{"Email": "sales@demo.test", "Name": "", "MailboxHash": ""}],
    "BccFull": [{"Email": "hidden@demo.test", "Name": "", "MailboxHash": ""}],
    "OriginalRecipient": "support@demo.test",
    "Subject": "Hello",
    "MessageID": ID,
    "MailboxHash": "",
    "TextBody": "Hello",
    "HtmlBody": "",
    "Tag": "",
    "Headers": [
        {"Name": "X-Spam-Status", "Value": "No"},
        {"Name": "X-Spam-Score", "Value": "-0.1"},
        {"Name": "Received-SPF", "Value": "Pass (sender SPF authorized) identity=mailfrom"},
        {"Name": "X-Mailer", "Value": "x"},
        {"Name": "X-SPAM-SCORE", "Value": "-100"},
    ],
    "Attachments": [{"Name": "a.txt", "Content": "aGVsbG8=", "ContentType": "text/plain", "ContentLength": 5}],
    "RawEmail": MAIL,
}


def told(**changed: Any) -> Submission | Problem | None:
    return read_json(json.dumps(INBOUND | changed).encode(), asked=None)


def submission(found: Submission | Problem | None) -> Submission:
    assert isinstance(found, Submission), found
    return found


def problem(found: Submission | Problem | None) -> Problem:
    assert isinstance(found, Problem), found
    return found


@pytest.mark.parametrize("asked", [None, "postmark"])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_the_mail_and_what_is_said_of_it(asked: str | None, ascii_only: bool) -> None:
    body = json.dumps(INBOUND, ensure_ascii=ascii_only).encode()
    assert submission(read_json(body, asked=asked)) == Submission(
        raw=MAIL.encode(),
        provider="postmark",
        event_id=ID,
        recipients=("support@demo.test",),
        asserted=Assertion(),
        metadata={
            "OriginalRecipient": "support@demo.test",
            "MessageStream": "inbound",
            "x-spam-status": "No",
            "x-spam-score": "-0.1",
            "received-spf": "Pass (sender SPF authorized) identity=mailfrom",
        },
    )


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"OriginalRecipient": "<a@demo.test>"}, ("a@demo.test",)),
        ({"OriginalRecipient": ""}, ("support@demo.test", "sales@demo.test", "hidden@demo.test")),
        (
            {"OriginalRecipient": "451d9b+x@Inbound.PostmarkApp.com"},
            ("support@demo.test", "sales@demo.test", "hidden@demo.test"),
        ),
        ({"OriginalRecipient": None, "CcFull": "x", "BccFull": [{"Email": 1}]}, ("support@demo.test",)),
        (
            {"OriginalRecipient": "", "CcFull": [{"Email": "SUPPORT@demo.test"}, {"Email": "support@demo.test"}, {}]},
            ("support@demo.test", "SUPPORT@demo.test", "hidden@demo.test"),
        ),
        ({"OriginalRecipient": "", "ToFull": [], "CcFull": [], "BccFull": []}, ()),
    ],
)
def test_recipients(changed: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert submission(told(**changed)).recipients == expected


def test_lost_bytes_are_noted() -> None:
    """The mail held bytes that are no UTF-8; Postmark's text cannot."""
    found = submission(told(RawEmail="Subject: Gr\ufffd\ufffde\r\n\r\n"))
    assert found.raw == "Subject: Gr\ufffd\ufffde\r\n\r\n".encode()
    assert found.metadata["replacement_characters"] == "2"


@pytest.mark.parametrize("raw", ["", None, 1, ["x"], {"a": "b"}])
def test_a_mail_that_is_no_text_is_refused(raw: object) -> None:
    found = problem(told(RawEmail=raw))
    assert (found.status, found.field) == (422, "RawEmail")


@pytest.mark.parametrize(
    "raw", [b"\xff", b"\xc3", b"a\xc3\\n", b"\xed\xa0\x80", b"\x80", b"x" * 70_000 + b"\x80" * 70_000]
)
def test_a_mail_of_broken_text_is_refused(raw: bytes) -> None:
    body = b'{"MessageID":"1","RawEmail":"%b"}' % raw
    assert problem(read_json(body, asked=None)).field == "RawEmail"


@pytest.mark.parametrize("raw", [rb"\ud800", rb"\udc00\ud800", rb"\ud800\u0041", rb"\x", b"\r\n", b"\x00"])
def test_what_is_not_json_is_none_of_ours(raw: bytes) -> None:
    assert read_json(b'{"MessageID":"1","RawEmail":"%b"}' % raw, asked="postmark") is None


@pytest.mark.parametrize("event_id", ["", None, 1, "a b", "a\0", "\u00fc", "x" * 201])
def test_without_an_id_it_is_refused(event_id: object) -> None:
    found = problem(told(MessageID=event_id))
    assert (found.status, found.field) == (422, "MessageID")


@pytest.mark.parametrize("asked", [None, "postmark"])
def test_without_the_raw_mail_it_tells_what_to_change(asked: str | None) -> None:
    body = json.dumps({name: value for name, value in INBOUND.items() if name != "RawEmail"}).encode()
    found = problem(read_json(body, asked=asked))
    assert (found.status, found.field) == (422, "RawEmail")
    assert "Include raw email" in found.message


@pytest.mark.parametrize(
    "body",
    [b"", b"x", b"[]", b"null", b"{}", b'{"event_id":"1","raw_mime":"x"}', b'{"a":{"RawEmail":"x"}}', b"[" * 200_000],
)
def test_other_json_is_none_of_ours(body: bytes) -> None:
    assert read_json(body, asked=None) is None
    assert read_json(body, asked="postmark") is None


def test_another_provider_is_not_read() -> None:
    assert read_json(json.dumps(INBOUND).encode(), asked="generic") is None


PIECE = 64 << 10
UNITS = ["x", "\\", '"', "\n", "\x00", "\u00fc", "\u20ac", "\U0001f600", "\ufffd", "\x7f"]


@given(st.lists(st.sampled_from(UNITS), max_size=12), st.sampled_from(UNITS), st.integers(0, 12), st.booleans())
@example(["x"], "\U0001f600", 11, True)
@example(["x"], "\\", 1, True)
def test_no_cut_changes_the_mail(start: list[str], unit: str, offset: int, ascii_only: bool) -> None:
    """Whatever stands where it is cut: an escape, a pair of them, a character of several bytes."""
    mail = "x" * (PIECE - 12 - offset) + "".join(start) + unit * 40
    body = json.dumps({"MessageID": "1", "RawEmail": mail}, ensure_ascii=ascii_only).encode()
    assert submission(read_json(body, asked=None)).raw == mail.encode()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=8), below, max_size=3),
    max_leaves=8,
)
RECIPIENT = st.fixed_dictionaries({}, optional={"Email": JSON, "Name": JSON})


@given(st.fixed_dictionaries({}, optional={name: JSON | st.lists(RECIPIENT, max_size=2) for name in INBOUND}), JSON)
def test_any_json_gives_a_mail_or_a_problem(fields: dict[str, Any], other: object) -> None:
    for value in (fields, INBOUND | fields, other):
        found = read_json(json.dumps(value).encode(), asked="postmark")
        assert found is None or isinstance(found, Problem | Submission)
        if isinstance(found, Submission):
            assert not isinstance(checked(dict(found.metadata)), Problem)


@given(st.binary(max_size=200), st.integers(0, 3000))
def test_any_bytes_give_a_mail_or_a_problem(inserted: bytes, at: int) -> None:
    body = json.dumps(INBOUND).encode()
    found = read_json(body[:at] + inserted + body[at:], asked="postmark")
    assert found is None or isinstance(found, Problem | Submission)


def test_evidence_is_bounded() -> None:
    spam = [
        {"Name": name, "Value": "\U0001f600" * 100_000} for name in ("X-Spam-Status", "X-Spam-Score", "X-Spam-Tests")
    ]
    cases = [{"Name": f"x-{'Ss'[n & 1]}{'Pp'[n >> 1 & 1]}am-status", "Value": "x" * 5000} for n in range(1000)]
    long = {
        "OriginalRecipient": '"' * 9000,
        "MailboxHash": "\x01" * 9000,
        "MessageStream": '"' * 9000,
        "Tag": "\\" * 9000,
    }
    for headers in (spam, cases, [{"Name": "Received-SPF", "Value": "\x00\ud83d"}]):
        found = submission(told(**long, Headers=headers) or told(**long))
        assert not isinstance(checked(dict(found.metadata)), Problem)


WORST = {
    "plain": lambda: "x" * 25 * MIB,
    "line ends": lambda: ("x" * 76 + "\r\n") * (25 * MIB // 78),
    "only line ends": lambda: "\r\n" * (25 * MIB // 2),
    "wide": lambda: "x" * (25 * MIB - 4) + "\U0001f600",
    "escaped pairs": lambda: "\U0001f600" * (25 * MIB // 4),
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", WORST)
def test_the_worst_mails_are_cheap_and_held_about_once(name: str) -> None:
    body = json.dumps({"MessageID": "1", "Attachments": ["x" * MIB], "RawEmail": WORST[name]()}).encode()
    found = submission(assert_cheap(lambda: read_json(body, asked=None), seconds=3.0))
    size = len(found.raw)
    del found
    tracemalloc.start()
    try:
        assert read_json(body, asked=None) is not None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.3 * size
