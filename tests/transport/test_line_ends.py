"""Whether all lines end by CRLF, against an obvious reading."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingester.transport import line_ends
from ingester.transport.line_ends import only_crlf

STRAY = re.compile(rb"\r(?!\n)|(?<!\r)\n")
OPEN = re.compile(rb"\r(?!\n|\Z)|(?<!\r)\n")
TEXTS = st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"a", b"\0", b"\x85", b"\xff", b"\x0b", b"line"])).map(
    b"".join
)


@given(data=TEXTS)
def test_every_octet_counts(data: bytes) -> None:
    assert only_crlf(data, whole=True) == (STRAY.search(data) is None)


@given(data=TEXTS)
def test_a_cr_at_the_very_end_is_undecided_where_more_may_come(data: bytes) -> None:
    assert only_crlf(data, whole=False) == (OPEN.search(data) is None)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_edges_of_pieces_are_no_edges_of_lines(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_ends, "_PIECE", size)
    assert only_crlf(b"one\r\ntwo\r\n\r\nthree\r\n", whole=True)
    assert not only_crlf(b"one\r\ntwo\n\r\nthree\r\n", whole=True)
    assert not only_crlf(b"one\r\ntwo\r\rthree\r\n", whole=True)
    assert not only_crlf(b"one\r\ntwo\r", whole=True)
