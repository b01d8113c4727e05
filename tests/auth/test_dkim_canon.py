"""Canonicalisation: that of the RFC, equal to dkimpy's on everything, in windows of any size, in linear time."""

import random
from hashlib import sha256

import pytest
from dkim.canonicalization import ALGORITHMS
from hypothesis import given
from hypothesis import strategies as st

from ingester.auth import dkim_canon
from ingester.auth.dkim_canon import (
    BodyForm,
    canonical_field,
    hash_bodies,
    relaxed_body,
    relaxed_text,
    signed_text,
    simple_body,
)
from ingester.auth.header import HeaderField
from tests.cost import assert_cheap

_VALUES = [b"x", b" ", b"\t", b"\r\n ", b"\n\t", b"\r", b"\x0b", b"\x0c", b"\x85", b"b=", b";", b"word"]
"""What values are made of: a line feed in one is always folding."""
_BITS = [
    b"a",
    b"word",
    b" ",
    b"  ",
    b"\t",
    b" \t ",
    b"\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\r",
    b"\n",
    b"\r\r\n",
    b"\xff",
    b"\0",
]
_LONG = [b" " * 700, b"\t" * 40, b"\r\n" * 60, b" \r\n" * 30, b"x" * 300]


def simple(body: bytes, start: int = 0) -> bytes:
    return b"".join(simple_body(body, start))


def relaxed(body: bytes, start: int = 0) -> bytes:
    return b"".join(relaxed_body(body, start))


def same(body: bytes) -> None:
    assert simple(body) == ALGORITHMS[b"simple"].canonicalize_body(body), body
    assert relaxed(body) == ALGORITHMS[b"relaxed"].canonicalize_body(body), body


def random_body(rng: random.Random) -> bytes:
    pieces = _BITS + _LONG if rng.random() < 0.2 else _BITS
    return b"".join(rng.choices(pieces, k=rng.randrange(25)))


def test_the_example_of_the_rfc() -> None:
    """RFC 6376, 3.4.5."""
    body = b" C \r\nD \t E\r\n\r\n\r\n"
    assert relaxed(body) == b" C\r\nD E\r\n"
    assert simple(body) == b" C \r\nD \t E\r\n"
    assert canonical_field(b"A: X\r\n", relaxed=True) == b"a:X\r\n"
    assert canonical_field(b"B : Y\t\r\n\tZ  \r\n", relaxed=True) == b"b:Y Z\r\n"
    assert canonical_field(b"B : Y\t\r\n\tZ  \r\n", relaxed=False) == b"B : Y\t\r\n\tZ  \r\n"


@pytest.mark.parametrize(("body", "as_simple", "as_relaxed"), [(b"", b"\r\n", b""), (b"\r\n\r\n", b"\r\n", b"")])
def test_an_empty_body(body: bytes, as_simple: bytes, as_relaxed: bytes) -> None:
    """RFC 6376, 3.4.3 and 3.4.4."""
    assert (simple(body), relaxed(body)) == (as_simple, as_relaxed)


@pytest.mark.parametrize("window", [2, 4, 6, 64, dkim_canon.WINDOW])
def test_random_bodies_are_those_of_dkimpy(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dkim_canon, "WINDOW", window)
    monkeypatch.setattr(dkim_canon, "_STEP", window // 2)
    monkeypatch.setattr(dkim_canon, "_STRETCH", 3 * window)
    monkeypatch.setattr(dkim_canon, "_TAIL", window)
    rng = random.Random(window)
    for _ in range(4000):
        same(random_body(rng))


@given(st.lists(st.sampled_from(_BITS)).map(b"".join), st.integers(1, 8))
def test_a_body_is_that_of_dkimpy(body: bytes, start: int) -> None:
    same(body)
    assert simple(b"h" * start + body, start) == simple(body)
    assert relaxed(b"h" * start + body, start) == relaxed(body)


def test_bodies_larger_than_a_window_are_those_of_dkimpy() -> None:
    rng = random.Random(1)
    for _ in range(12):
        body = b"".join(random_body(rng) + b"y" * rng.randrange(3000) for _ in range(150)) + rng.choice(_LONG)
        assert len(body) > dkim_canon.WINDOW
        same(body)
    same(b"x\r\n" + b"\r\n" * dkim_canon.WINDOW)
    same(b"\r\n" * dkim_canon.WINDOW + b"x")


def test_random_fields_are_those_of_dkimpy() -> None:
    rng = random.Random(2)
    for _ in range(4000):
        value = b"".join(rng.choices([b"a", b" ", b"\t", b"\r\n ", b"\r\n\t", b"  ", b"\xfc"], k=rng.randrange(12)))
        for word in (b"simple", b"relaxed"):
            ((name, text),) = ALGORITHMS[word].canonicalize_headers([(b"SubJect", value + b"\r\n")])
            field = canonical_field(b"SubJect:" + value + b"\r\n", relaxed=word == b"relaxed")
            assert field == name + b":" + text


@pytest.mark.parametrize(
    ("value", "canonical"),
    [
        (b" x\x0b y\x0c", b"x\x0b y\x0c"),
        (b"\x0b \x0c", b"\x0b \x0c"),
        (b" \t x\r ", b"x\r"),
        (b" x\ry \r\r\n z\x85", b"x\ry \r z\x85"),
        (b"a\n b\r\n\tc ", b"a b c"),
    ],
)
def test_only_blank_and_tab_are_blanks(value: bytes, canonical: bytes) -> None:
    """RFC 6376, 2.8; and one field that is odd changes nothing for those beside it."""
    assert canonical_field(b"X-Odd:" + value + b"\r\n", relaxed=True) == b"x-odd:" + canonical + b"\r\n"
    fields = [HeaderField("a", b"A :  1\r\n\t 2 \r\n"), HeaderField("x-odd", b"x-Odd:" + value + b"\r\n")]
    text = signed_text(fields, HeaderField("b", b"B: b=c\r\n"), relaxed=True)
    assert text == b"a:1 2\r\nx-odd:" + canonical + b"\r\nb:b="


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b-c"]), st.lists(st.sampled_from(_VALUES)).map(b"".join)), max_size=4),
    st.lists(st.sampled_from(_VALUES)).map(b"".join),
    st.sampled_from([b"\r\n", b"\n"]),
)
def test_values_at_hand_are_as_good_as_whole_fields(
    values: list[tuple[str, bytes]], own_value: bytes, end: bytes
) -> None:
    """What the core calls a value ends before the line feed."""
    fields = [HeaderField(name, name.upper().encode() + b" \t:" + value + end) for name, value in values]
    own = HeaderField("dkim-signature", b"DKIM-Signature:" + own_value + end)
    at_hand = [(name, value + end.removesuffix(b"\n")) for name, value in values]
    assert relaxed_text(at_hand, own) == signed_text(fields, own, relaxed=True)


@pytest.mark.parametrize(
    ("value", "without"),
    [
        (b" v=1; b=abc", b" v=1; b="),
        (b" v=1; b=abc; c=simple", b" v=1; b=; c=simple"),
        (b" b=abc\r\n def==;\r\n v=1", b" b=;\r\n v=1"),
        (b"b=abc ; bh=xyz", b"b=; bh=xyz"),
        (b" v=1; bh=b=; \r\n\tb\r\n =\r\n abc\r\n def", b" v=1; bh=b=; \r\n\tb\r\n ="),
        (b" v=1;b=\r\n\t\t; h=b:b", b" v=1;b=; h=b:b"),
        (b" bb=x; xb=y; b=z", b" bb=x; xb=y; b="),
        (b" v=1", b" v=1"),
    ],
)
def test_only_the_value_of_b_is_left_out(value: bytes, without: bytes) -> None:
    """RFC 6376, 3.5: with all blanks around the value."""
    own = HeaderField("dkim-signature", b"DKIM-Signature:" + value + b"\r\n")
    assert signed_text([], own, relaxed=False) == b"DKIM-Signature:" + without


def test_hashes_for_several_limits_are_made_in_one_walk() -> None:
    body = b"one  two \r\nthree\r\n\r\n"
    forms = [BodyForm(form, limit) for form in (True, False) for limit in (None, 0, 5, 17, 10_000)]
    hashes = hash_bodies(b"head" + body, 4, forms)
    for form in forms:
        text = relaxed(body) if form.relaxed else simple(body)
        assert hashes[form].digest == sha256(text[: form.limit]).digest()
        assert hashes[form].length == len(text)


@pytest.mark.parametrize(
    "body",
    [
        b" " * (1 << 20),
        b"\t" * (1 << 20) + b"x",
        b"\r\n" * (1 << 19),
        b" \r\n" * (1 << 18) + b"x",
        b"x  " * (1 << 18),
        (b" " * 65_000 + b"x " * 33_000) * 8,
        (b" " * 127 + b"\r\n") * (1 << 13),
        b"\r" * (1 << 20),
        b"\n" * (1 << 20),
        b"\r\r\n" * (1 << 18),
    ],
)
def test_a_crafted_megabyte_is_cheap(body: bytes) -> None:
    assert_cheap(lambda: hash_bodies(body, 0, [BodyForm(True, None), BodyForm(False, None)]), seconds=0.05)
