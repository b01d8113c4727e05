"""The DATA reader against a slow and obvious reading of the same rules."""

from dataclasses import dataclass
from itertools import pairwise
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingester.transport import data
from ingester.transport.data import DataReader, Verdict
from tests.cost import assert_cheap
from tests.transport.variants import VARIANTS

MAX_LINE = 1000


def reader(*, max_bytes: int = 1 << 20, max_line: int = MAX_LINE, normalise: bool = True) -> DataReader:
    return DataReader(max_bytes=max_bytes, max_line=max_line, normalise=normalise)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reading of a whole stream gives. `verdict` None: the end has not come."""

    verdict: Verdict | None
    content: bytes = b""
    rest: bytes = b""
    flags: frozenset[str] = frozenset()


def read_slowly(wire: bytes) -> Reading:
    """The rules octet by octet: the first dot that stands alone between line ends, NUL not counted, decides."""
    text = b"\r\n" + wire
    for at, octet in enumerate(text):
        if octet != ord("."):
            continue
        left, right = at - 1, at + 1
        while left >= 0 and text[left] == 0:
            left -= 1
        while right < len(text) and text[right] == 0:
            right += 1
        if left < 0 or text[left] not in b"\r\n" or right == len(text) or text[right] not in b"\r\n":
            continue
        clean_left = text[at - 2 : at] == b"\r\n"
        if clean_left and text[at + 1 :] == b"\r":
            return Reading(None)
        if not clean_left or text[at + 1 : at + 3] != b"\r\n" or (at > 2 and text[at - 3] in b"\r\0"):
            return Reading(Verdict.AMBIGUOUS)
        return Reading(Verdict.COMPLETE, unstuff(text[:at]), text[at + 3 :], strays(text[:at]))
    return Reading(None)


def unstuff(text: bytes) -> bytes:
    out = bytearray()
    for at, octet in enumerate(text):
        if octet == ord(".") and text[at - 1 : at] == b"\n":
            continue
        if octet == ord("\n") and text[at - 1 : at] != b"\r":
            out += b"\r"
        out.append(octet)
    return bytes(out[2:])


def strays(text: bytes) -> frozenset[str]:
    flags = set()
    if 0 in text:
        flags.add("nul")
    for one, two in pairwise(text):
        if one == 13 and two != 10:
            flags.add("bare_cr")
        if two == 10 and one != 13:
            flags.add("bare_lf")
    if any(len(line) > MAX_LINE for line in unstuff(text).split(b"\n")):
        flags.add("long_line")
    return frozenset(flags)


def read(wire: bytes, sizes: list[int]) -> Reading:
    one = reader()
    at, turn = 0, 0
    while at < len(wire):
        size = sizes[turn % len(sizes)]
        turn += 1
        if one.feed(wire[at : at + size]):
            rest = one.rest + wire[at + size :]
            flags = frozenset(one.flags)
            if one.verdict is Verdict.AMBIGUOUS:
                return Reading(Verdict.AMBIGUOUS)
            return Reading(one.verdict, one.take(), rest, flags)
        at += size
    return Reading(None)


PIECES = st.sampled_from(
    [b"\r\n", b"\r\n.", b"\r\n.\r\n", b"\r", b"\n", b"\0", b".", b"x", b"..", b"\0\0\0", b"word.", b"Subject: hello"]
)
SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=5) | st.just([1]) | st.just([10_000])


@settings(max_examples=3000, deadline=None)
@given(wire=st.lists(PIECES, max_size=14).map(b"".join), sizes=SIZES)
def test_any_stream_in_any_chunks_reads_as_the_slow_reading_says(wire: bytes, sizes: list[int]) -> None:
    assert read(wire, sizes) == read_slowly(wire)


@settings(max_examples=500, deadline=None)
@given(wire=st.lists(PIECES, max_size=14).map(b"".join), sizes=SIZES, window=st.integers(2, 9))
def test_the_edges_of_windows_hide_no_dot(wire: bytes, sizes: list[int], window: int) -> None:
    with patch.object(data, "_WINDOW", window):
        assert read(wire, sizes) == read_slowly(wire)


@settings(max_examples=500, deadline=None)
@given(wire=st.binary(max_size=200), sizes=SIZES)
def test_any_octets_read_as_the_slow_reading_says(wire: bytes, sizes: list[int]) -> None:
    assert read(wire + b"\r\n.\r\n", sizes) == read_slowly(wire + b"\r\n.\r\n")


@settings(max_examples=300, deadline=None)
@given(
    lengths=st.lists(st.sampled_from([0, 1, 998, 999, 1000, 1001, 1002, 1003, 2500]), max_size=8),
    sizes=st.lists(st.sampled_from([1, 3, 500, 1001, 1002, 1003, 5000]), min_size=1, max_size=4),
)
def test_long_lines_are_flagged_at_the_limit(lengths: list[int], sizes: list[int]) -> None:
    wire = b"".join(b"x" * length + b"\r\n" for length in lengths) + b".\r\n"
    flags = read(wire, sizes).flags
    assert flags == ({"long_line"} if any(length > MAX_LINE for length in lengths) else set())


@pytest.mark.parametrize(("name", "variant"), VARIANTS.items())
@pytest.mark.parametrize("size", [1, 2, 3, 10_000])
def test_each_end_of_data_variant_gives_one_mail_or_a_refusal(name: str, variant: bytes, size: int) -> None:
    second = b"MAIL FROM:<a@b.test>\r\n"
    reading = read(b"first" + variant + second + b"second\r\n.\r\n", [size])
    if name == "CRLF.CRLF NUL":
        assert reading == Reading(Verdict.COMPLETE, b"first\r\n", b"\0" + second + b"second\r\n.\r\n")
    else:
        assert reading.verdict is Verdict.AMBIGUOUS


@pytest.mark.parametrize(("name", "variant"), VARIANTS.items())
def test_a_refusal_does_not_wait_for_a_true_end(name: str, variant: bytes) -> None:
    assert read(b"first" + variant, [1]).verdict is not None


@pytest.mark.parametrize(
    "wire",
    [
        b"text\n\r\n.\r\n",  # a naive client appends the end to LF text
        b"a lone dot. \r\n . \r\n.\r\n",
        b"x\0.\r\n.\r\n",
        b"x\r\n..\r\n.\r\n",
        b"x\n..\n\r\n.\r\n",
        b"a sentence.\nanother.\n\r\n.\r\n",
        b"\r\r\n\r\n.\r\n",
        b".\r\n",
    ],
)
def test_what_no_server_misreads_is_taken(wire: bytes) -> None:
    assert read(wire, [10_000]).verdict is Verdict.COMPLETE


def test_dots_stuffed_behind_bare_lf_are_unstuffed() -> None:
    """As Python's smtplib sends octets with bare LF."""
    assert read(b"a\n..b\n..\nc\r\n..d\r\n.\r\n", [10_000]).content == b"a\r\n.b\r\n.\r\nc\r\n.d\r\n"


def test_beyond_the_size_limit_nothing_is_kept_and_the_end_is_still_found() -> None:
    one = reader(max_bytes=2000)
    for _ in range(100):
        assert not one.feed(b"x" * 98 + b"\r\n")
        assert one.held <= 2000
    assert one.oversized
    assert one.held == 0
    assert one.feed(b".\r\nQUIT\r\n")
    assert (one.verdict, one.rest, one.size) == (Verdict.COMPLETE, b"QUIT\r\n", 10_000)


def test_content_of_exactly_the_limit_is_kept() -> None:
    one = reader(max_bytes=2000)
    assert one.feed(b"x" * 1998 + b"\r\n.\r\n")
    assert not one.oversized
    assert len(one.take()) == 2000


def test_stuffed_dots_do_not_count_as_size() -> None:
    one = reader(max_bytes=2000)
    assert one.feed(b"..x\r\n" * 500 + b".\r\n")
    assert (one.oversized, one.size) == (False, 2000)


def test_bare_lf_is_dropped_and_told_where_it_is_refused() -> None:
    one = reader(normalise=False)
    assert one.feed(b"Subject: x\n\nbody\r\n.\r\n")
    assert (one.verdict, one.dropped, one.held) == (Verdict.COMPLETE, True, 0)
    assert "bare_lf" in one.flags


def test_an_ambiguous_end_in_oversized_content_is_refused_all_the_same() -> None:
    one = reader(max_bytes=2000)
    one.feed(b"x" * 5000 + b"\r\n")
    assert one.feed(b".\n")
    assert one.verdict is Verdict.AMBIGUOUS


CRAFTED = {
    "CR": b"\r",
    "LF": b"\n",
    "dots": b".",
    "NUL": b"\0",
    "dot lines": b"\r\n.x",
    "bare dot lines": b"\n.x",
    "sentences": b"x.\n",
    "LF and NUL": b"\n\0",
    "runs of NUL": b"\n" + b"\0" * 300 + b"x.",
    "one run of NUL": b"\n" + b"\0" * 250_000 + b"x",
    "dots between NUL": b"\0.",
}


@pytest.mark.parametrize("unit", CRAFTED.values(), ids=CRAFTED.keys())
def test_crafted_content_costs_linear_time(unit: bytes) -> None:
    """4 MB in chunks as they come from the network: 2 s of CPU for a mail of 25 MB are allowed, so 0.35 s for these."""
    wire = unit * ((4 << 20) // len(unit))

    def feed() -> None:
        one = reader(max_bytes=64 << 20)
        for at in range(0, len(wire), 256_000):
            if one.feed(wire[at : at + 256_000]):
                break
        one.feed(b"\r\n.\r\n")

    assert_cheap(feed, seconds=0.35)
