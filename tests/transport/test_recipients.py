"""ingester.transport.recipients: whom a mail is for, by lists and by its header."""

import pytest

from ingester.core.mime import Bounds
from ingester.transport import recipients
from ingester.transport.recipients import first_bad, in_headers, parse_recipient, parse_sender
from tests.cost import assert_cheap


def found(header: str) -> list[list[str]]:
    return [[str(one) for one in group] for group in in_headers(header.encode() + b"\n\nTo: body@x.test\n", Bounds())]


def test_what_a_delivery_has_written_goes_before_what_people_wrote() -> None:
    header = (
        "Delivered-To: newest@a.test\nX-Original-To: original@a.test\nDelivered-To: <older@a.test>\n"
        'To: Ada <ada@b.test>, bob@b.test\nCc: "Eve, X" <eve@B.test>\nTo: again@b.test'
    )
    assert found(header) == [
        ["newest@a.test"],
        ["older@a.test"],
        ["original@a.test"],
        ["ada@b.test", "bob@b.test", "again@b.test", "eve@b.test"],
    ]


def test_nothing_but_addresses_is_found() -> None:
    assert found("To: undisclosed-recipients:;, nobody, postmaster, @x, a@b@c\nCc: =?x?= <>\nSubject: a@b.test") == []
    assert in_headers(b"", Bounds()) == ()
    assert in_headers(b"\xff\0\r\r\n", Bounds()) == ()


def test_each_is_found_once() -> None:
    assert found("To: a@b.test, A <a@b.test>\nCc: a@b.test") == [["a@b.test"]]


def test_what_is_taken_is_bounded() -> None:
    to = ", ".join(f"n{number}@b.test" for number in range(5000))
    (group,) = in_headers(f"To: {to}\n\n".encode(), Bounds())
    assert len(group) == 1000


@pytest.mark.parametrize("value", ["<" * 200_000, "a@b.test," * 20_000, "(" * 200_000, ", " * 100_000])
def test_a_hostile_header_is_cheap(value: str) -> None:
    raw = f"To: {value}\nDelivered-To: {value}\n\n".encode()
    assert_cheap(lambda: in_headers(raw, Bounds()), seconds=0.5)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("support@acme.test", "support@acme.test"),
        (" <Support@ACME.test> ", "Support@acme.test"),
        ('"a b"@acme.test', '"a b"@acme.test'),
        ("postmaster", None),
        ("", None),
        ("<>", None),
        ("a@b@c", None),
        ("Ada <ada@acme.test>", None),
        ("a\0@acme.test", None),
        ("\ud800@acme.test", None),
    ],
)
def test_one_address_of_a_list(text: str, address: str | None) -> None:
    parsed = parse_recipient(text)
    assert (None if parsed is None else str(parsed)) == address


def test_senders() -> None:
    assert parse_sender("") == parse_sender("<>") == ""
    assert parse_sender("<ada@customer.test>") == "ada@customer.test"
    assert parse_sender("no address") is None


def test_the_first_that_is_none_is_named() -> None:
    assert first_bad(("a@b.test", "x", "y")) == 1
    assert first_bad(("a@b.test",)) is None
    assert first_bad(()) is None


def test_only_usual_addresses_are_remembered() -> None:
    remembered = recipients._parse_usual.cache_info
    before = remembered().currsize
    assert parse_recipient(f"{'x' * 1_000_000}@b.test") is None
    assert remembered().currsize == before
    bounded = remembered().maxsize
    assert bounded is not None
    for number in range(bounded + 10):
        assert str(parse_recipient(f"n{number}@many.test")) == f"n{number}@many.test"
    assert remembered().currsize == bounded
