"""ingester.transport.json_text: what the JSON reader makes of a string, piece by piece and in little memory."""

import json
import tracemalloc

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingester.transport.json_text import unescaped


@given(st.text(st.characters(exclude_categories=["Cs"])), st.booleans(), st.integers(65_520, 65_540))
def test_it_is_the_text_wherever_it_is_cut(text: str, escaped: bool, before: int) -> None:
    whole = "x" * before + text
    assert unescaped(msgspec.Raw(json.dumps(whole, ensure_ascii=escaped).encode())) == whole.encode()


@pytest.mark.parametrize("json_text", [b"null", b"1", b"[]", b"{}", b"", b'"', b'"\xff"', b'"\xed\xa0\x80"', b'"\xc3"'])
def test_what_is_no_text_is_none(json_text: bytes) -> None:
    assert unescaped(msgspec.Raw(json_text)) is None


def test_one_wide_character_does_not_widen_the_others() -> None:
    """As a Python string this were four times its size."""
    text = msgspec.Raw(b'"' + b"x" * (4 << 20) + "\U0001f600".encode() + b'"')
    tracemalloc.start()
    try:
        assert unescaped(text) is not None
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()
