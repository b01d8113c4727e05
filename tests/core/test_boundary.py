"""The search for a boundary line, which goes by dashes first: it finds what a plain search finds, wherever that is."""

import pytest

from ingester.core.boundary import NOWHERE, Frame

_LINE = b"\n--edge\r\n"


def _search(raw: bytes) -> int:
    frame = Frame(needle=b"\n--edge", node=0, path="", digest=False)
    frame.search(raw, 0, NOWHERE)
    return frame.next


@pytest.mark.parametrize("size", [0, 1, 8 << 10, (8 << 10) + 1, 24 << 10, 56 << 10, 1 << 20])
@pytest.mark.parametrize("before", [b"", b"-", b"\n--", b"\n--edg"])
@pytest.mark.parametrize("shift", range(-9, 10))
def test_found_behind_dashes_at_every_end_of_a_stretch(size: int, before: bytes, shift: int) -> None:
    filler = before + b"A" * max(size + shift - len(before), 0)

    assert _search(filler + _LINE + b"A" * (20 << 10)) == len(filler)


@pytest.mark.parametrize("text", [b"A" * 100_000, b"-" * 100_000, b"\n--" * 40_000, b"\n--edg" * 20_000])
def test_none_is_found_where_none_is(text: bytes) -> None:
    assert _search(text) == NOWHERE
