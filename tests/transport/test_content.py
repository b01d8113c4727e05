"""ingester.transport.content: the same bytes and flags that the SMTP door makes of the same mail."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingester.transport.content import as_content
from ingester.transport.data import DataReader
from tests.cost import assert_cheap

LINES = st.lists(st.sampled_from([b"a", b"bc", b" ", b"\n", b"\r\n", b"\r", b"\0", b"=", b"long" * 5]), max_size=30)


def by_smtp(raw: bytes, max_line: int) -> tuple[bytes, tuple[str, ...]]:
    """What DataReader makes of it. It takes whole lines only, so the mail must end with one."""
    reader = DataReader(max_bytes=1 << 20, max_line=max_line, normalise=True)
    assert reader.feed(raw + b".\r\n")
    return reader.take(), tuple(sorted(reader.flags))


@given(LINES)
def test_it_is_what_smtp_makes_of_it(pieces: list[bytes]) -> None:
    raw = b"".join(pieces).replace(b"\r\r", b"\r") + b"end\r\n"
    assert as_content(raw, max_line=12) == by_smtp(raw, 12)


def test_line_ends_across_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingester.transport.content._PIECE", 64)
    raw = (b"x" * 99 + b"\n") * 40 + b"y" * 70 + b"\r\n\n\r\n"
    out, flags = as_content(raw, max_line=1000)
    assert out == (b"x" * 99 + b"\r\n") * 40 + b"y" * 70 + b"\r\n\r\n\r\n"
    assert flags == ("bare_lf",)


def test_a_plain_mail_is_not_copied() -> None:
    raw = b"Subject: x\r\n\r\nbody\r\n"
    out, flags = as_content(raw, max_line=1000)
    assert out is raw
    assert flags == ()


def test_the_end_of_a_mail_is_left_as_it_is() -> None:
    assert as_content(b"Subject: x\r\n\r\nno line end", max_line=1000) == (b"Subject: x\r\n\r\nno line end", ())
    assert as_content(b"", max_line=1000) == (b"", ())


@pytest.mark.parametrize("piece", [b"\n", b"\r", b"\r\n", b"\n\r", b"x\r\r\n", b"\0"])
def test_hostile_line_ends_cost_no_more_than_their_bytes(piece: bytes) -> None:
    raw = piece * (8 << 20)
    assert_cheap(lambda: as_content(raw, max_line=1000), seconds=1.0)
