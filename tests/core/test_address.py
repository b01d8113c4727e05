"""ingester.core.address"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingester.core.address import Address, normalise_domain, parse_path
from tests.cost import assert_cheap


@pytest.mark.parametrize(
    ("text", "local", "domain"),
    [
        ("user@example.com", "user", "example.com"),
        ("User.Name+Tag@EXAMPLE.com", "User.Name+Tag", "example.com"),
        ('"quoted local"@example.com', "quoted local", "example.com"),
        ('"a\\"b"@example.com', 'a"b', "example.com"),
        ('"a@b"@example.com', "a@b", "example.com"),
        ("@relay.test,@other.test:user@example.com", "user", "example.com"),
        ("user@[192.0.2.1]", "user", "[192.0.2.1]"),
        ("user@[IPv6:2001:db8::1]", "user", "[ipv6:2001:db8::1]"),
        ("user@example.com.", "user", "example.com"),
        ("o'brien@example.com", "o'brien", "example.com"),
        ("jürgen@bücher.example", "jürgen", "xn--bcher-kva.example"),
        ("a..b@example.com", "a..b", "example.com"),
        ("Postmaster", "postmaster", ""),
        ("x" * 128 + "@example.com", "x" * 128, "example.com"),
    ],
)
def test_addresses_parse(text: str, local: str, domain: str) -> None:
    assert parse_path(text) == Address(local=local, domain=domain)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "user",
        "@",
        "user@",
        "@example.com",
        "us er@example.com",
        "user@exa mple.com",
        "user@-bad-\x00.com",
        '"unfinished@example.com',
        '"x"example.com',
        "user@[192.0.2.1",
        "user@[2001:db8::1]",
        "user@[IPv6:192.0.2.1]",
        "user@a..b",
        "user@xn--\u2013",
        "a@xn---",
        "x" * 129 + "@example.com",
        "user@" + "a" * 64 + ".com",
        "user@" + "abcd." * 60 + "com",
        "us\ner@example.com",
        '"a\0b"@example.com',
    ],
)
def test_what_is_no_address_gives_none(text: str) -> None:
    assert parse_path(text) is None


@given(st.text(max_size=300))
def test_any_text_parses_or_gives_none_and_what_parsed_prints_and_parses_again(text: str) -> None:
    address = parse_path(text)
    if address is not None:
        assert parse_path(str(address)) == address


@pytest.mark.parametrize(
    ("local", "base", "tag"),
    [("Support+Foo", "support", "Foo"), ("support", "support", None), ("+x", "+x", None), ("a+b+c", "a", "b+c")],
)
def test_plus_tags_are_split_off_the_base(local: str, base: str, tag: str | None) -> None:
    assert Address(local=local, domain="x.test").split_tag() == (base, tag)


def test_a_megabyte_costs_nothing() -> None:
    texts = ("a" * 1_000_000, '"' + "\\" * 1_000_000, "@" * 1_000_000, "a@" + "b." * 500_000)
    assert assert_cheap(lambda: [parse_path(text) for text in texts], seconds=0.05) == [None] * 4


def test_domains_normalise() -> None:
    assert normalise_domain("EXAMPLE.Test") == "example.test"
    assert normalise_domain("..") is None
