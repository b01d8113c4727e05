"""XCLIENT and XFORWARD attributes, and the octets of xtext."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingester.transport.wire import LINE_LIMIT
from ingester.transport.xclient import XCLIENT_NAMES, XFORWARD_NAMES, Told, add_told, decode_xtext
from tests.cost import assert_cheap

BEFORE = Told(ip="192.0.2.1", helo="before.test")


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("ADDR=192.0.2.7 HELO=mx.test", Told(ip="192.0.2.7", helo="mx.test")),
        ("addr=192.0.2.7", Told(ip="192.0.2.7", helo="before.test")),
        ("HELO=mx.test", Told(ip="192.0.2.1", helo="mx.test")),
        ("NAME=client.test PORT=25 PROTO=ESMTP IDENT=4XYZ SOURCE=REMOTE", BEFORE),
        ("ADDR=IPV6:2001:DB8::7", Told(ip="2001:db8::7", helo="before.test")),
        ("ADDR=ipv6:2001:db8::7", Told(ip="2001:db8::7", helo="before.test")),
        ("ADDR=2001:db8::7", Told(ip="2001:db8::7", helo="before.test")),
        ("ADDR=IPv6:::ffff:192.0.2.7", Told(ip="192.0.2.7", helo="before.test")),
        ("ADDR=[UNAVAILABLE] HELO=[unavailable]", Told()),
        ("ADDR=[TEMPUNAVAIL]", Told(helo="before.test")),
        ("ADDR=/var/run/socket", Told(helo="before.test")),
        ("ADDR=192.0.2.256", Told(helo="before.test")),
        ("ADDR= HELO=", Told()),
        ("ADDR=192.0.2.7 ADDR=192.0.2.8", Told(ip="192.0.2.8", helo="before.test")),
        ("HELO=a+2Bb+3Dc", Told(ip="192.0.2.1", helo="a+b=c")),
        ("HELO=[192.0.2.9]", Told(ip="192.0.2.1", helo="[192.0.2.9]")),
        ("HELO=a+0D+0A+00b+C3+BC+FF", Told(ip="192.0.2.1", helo="a???bü\ufffd")),
        ("HELO=" + "x" * 255, Told(ip="192.0.2.1", helo="x" * 255)),
        ("HELO=" + "x" * 256, Told(ip="192.0.2.1", helo=None)),
        ("HELO=a=b", Told(ip="192.0.2.1", helo="a=b")),
    ],
)
def test_what_is_told_replaces_what_it_names(argument: str, told: Told) -> None:
    assert add_told(BEFORE, argument, XFORWARD_NAMES) == told


@pytest.mark.parametrize("argument", ["", " ", "ADDR", "ADDR 192.0.2.7", "LOGIN=x", "=x", "ADDR=192.0.2.7 junk"])
def test_what_is_no_attribute(argument: str) -> None:
    assert add_told(BEFORE, argument, XFORWARD_NAMES) is None


def test_each_command_has_its_own_names() -> None:
    assert add_told(Told(), "LOGIN=ada DESTADDR=198.51.100.1 DESTPORT=24", XCLIENT_NAMES) == Told()
    assert add_told(Told(), "IDENT=x", XCLIENT_NAMES) is None


@pytest.mark.parametrize(
    ("text", "plain"), [("a+2Bb", "a+b"), ("a+2bb", "a+b"), ("a+b", "a+b"), ("+", "+"), ("+4", "+4"), ("+2B41", "+41")]
)
def test_xtext(text: str, plain: str) -> None:
    assert decode_xtext(text) == plain


@given(st.text(max_size=60))
def test_xtext_gives_back_what_was_encoded(plain: str) -> None:
    octets = plain.encode()
    encoded = "".join(chr(o) if 33 <= o <= 126 and o not in b"+=" else f"+{o:02X}" for o in octets)
    assert decode_xtext(encoded) == plain


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ADDR=", "HELO=", "NAME=", "addr=IPV6:", "", "X="]),
            st.binary(max_size=40).map(lambda octets: octets.decode("utf-8", "surrogateescape")),
        ),
        max_size=6,
    )
)
def test_nothing_raises_and_what_is_kept_is_fit_for_a_row(words: list[tuple[str, str]]) -> None:
    told = add_told(BEFORE, " ".join(name + value for name, value in words), XFORWARD_NAMES)
    if told is not None:
        assert told.helo is None or (told.helo.isprintable() and 0 < len(told.helo) <= 255)
        assert told.ip.isascii()
        (told.helo or "").encode()


@pytest.mark.parametrize("unit", ["HELO=+41 ", "ADDR=IPV6:1:", "+4", "HELO=", "A=", "+", "HELO=\udcff"])
def test_the_longest_line_is_cheap(unit: str) -> None:
    line = "HELO=" + unit * (LINE_LIMIT // len(unit))
    assert_cheap(lambda: add_told(BEFORE, line, XFORWARD_NAMES), seconds=0.01)
