"""The header as signatures see it: the same fields, the same end as the core's, each field whole."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingester.auth.header import Header, readable, split
from ingester.core.message import digest
from ingester.core.mime import Bounds, scan

MAIL = (
    b"Received: from a\r\n\tby b;\r\n date\r\n"
    b"From: Ann <ann@a.test>\r\n"
    b"Subject : blanks before the colon\r\n"
    b"X-Empty:\r\n"
    b"To: b@b.test\r\n"
    b"\r\n"
    b"From: not@a.field\r\n\r\nend\r\n"
)
_PIECES = [
    *(b"From: a@b.test", b"from : c@d.test", b"\xef\xbb\xbfFrom: x@y.test", b"no field", b"--boundary", b"Subject: x"),
    *(b" folded", b"\tfolded", b" ", b"", b":", b"a:", b"From", b"From someone Sat Nov 21", b"\xffFrom: 8@bit.test"),
    *(b"F\0rom: n@ul.test", b"From\r: c@r.test", b"X: \r", b"Content-Type: text/plain", b"Fro m: e@f.test"),
    *(b"\xef\xbb\xbfContent-Type: text/plain", b" content-type: a/b", b"body text", b"From:"),
]
_ENDS = [b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b""]


def agrees(raw: bytes, max_bytes: int = 256 << 10, max_fields: int = 1000) -> Header:
    """Assert that ours and the core's are the same fields and the same body."""
    block = scan(raw, Bounds(max_header_bytes=max_bytes, max_header_fields=max_fields)).header
    header = split(raw, max_bytes=max_bytes, max_fields=max_fields)
    assert [field.name for field in header.fields] == [name for name, _ in block.fields]
    assert [field.value for field in header.fields] == [value.removesuffix(b"\r") for _, value in block.fields]
    assert header.body == block.end
    for name in header.values:
        own = Header(raw, block)
        assert own.all(name) == [field for field in header.fields if field.name == name], "as of all of them"
        assert own.all(name) is own.all(name)
    position = 0
    for field in header.fields:
        # What looks the same may stand before it, after a lone CR, which ends no line.
        found = position if raw.startswith(field.raw, position) else raw.find(b"\n" + field.raw, position) + 1
        assert raw.startswith(field.raw, found), "a field begins a line"
        position = found + len(field.raw)
    assert position <= header.body or header.cut
    return header


def test_fields_are_whole_and_in_order() -> None:
    header = agrees(MAIL)
    assert [field.name for field in header.fields] == ["received", "from", "subject", "x-empty", "to"]
    assert header.fields[0].raw == b"Received: from a\r\n\tby b;\r\n date\r\n"
    assert header.fields[2].value == b" blanks before the colon"
    assert b"".join(field.raw for field in header.fields) + b"\r\n" == MAIL[: header.body]
    assert len(header.all("from")) == 1
    assert not header.cut


@pytest.mark.parametrize(
    ("raw", "names", "body"),
    [
        (b"", [], 0),
        (b"\r\nFrom: a@b.test\r\n", [], 2),
        (b"From: a@b.test", ["from"], 14),
        (b"From: a@b.test\nTo: x\n\nbody", ["from", "to"], 22),
        (b"From a@b Sat Nov 21\r\nFrom: a@b.test\r\n\r\n", ["from"], 39),
        (b"From : a@b.test\r\n\r\n", ["from"], 19),
        (b"From x\r\nno field\r\n\r\n", [], 8),
        (b" x: y\r\nab: z\r\n\r\n", ["ab"], 16),
        (b" led by a blank\r\nFrom: a@b.test\r\n\r\n", ["from"], 35),
        (b"From: a@b.test\r\nno field\r\nFrom: c@d.test\r\n\r\n", ["from", "from"], 44),
        (b"From: a@b.test\r\nno field\r\nnor this\r\nFrom: c@d.test\r\n\r\n", ["from"], 16),
        (b"From: a@b.test\r\n--b\r\nFrom: c@d.test\r\n\r\n", ["from"], 16),
    ],
)
def test_where_fields_begin_and_the_header_ends(raw: bytes, names: list[str], body: int) -> None:
    header = agrees(raw)
    assert [field.name for field in header.fields] == names
    assert header.body == body


def test_a_header_beyond_the_bounds_is_cut() -> None:
    many = b"X: y\r\n" * 1001 + b"From: a@b.test\r\n\r\nbody"
    assert len(agrees(many).fields) == 1000
    assert agrees(many).cut
    assert not agrees(b"X: y\r\n" * 1000 + b"\r\nbody").cut
    large = b"From: a@b.test\r\nX: " + b"y" * (1 << 20) + b"\r\nFrom: c@d.test\r\n\r\nbody"
    header = agrees(large)
    assert header.cut
    assert large[header.body :] == b"body"
    assert not agrees(b"X: " + b"y" * ((256 << 10) - 100) + b"\r\n\r\n" + b"z" * 1000).cut


@given(st.lists(st.tuples(st.sampled_from(_PIECES), st.sampled_from(_ENDS)), max_size=12), st.integers(1, 200))
def test_it_agrees_with_the_core_on_lines_of_all_kinds(lines: list[tuple[bytes, bytes]], max_bytes: int) -> None:
    raw = b"".join(piece + end for piece, end in lines)
    agrees(raw)
    agrees(raw, max_bytes=max_bytes, max_fields=4)


def test_it_agrees_with_the_core_on_mutated_mails() -> None:
    rng = random.Random(4)
    seen = 0
    for _ in range(4000):
        raw = bytearray(MAIL)
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(raw))
            piece = rng.choice(
                [bytes([rng.randrange(256)]), b"\r\n", b"\n", b" ", b":", b"\r\nFrom: x@y.test\r\n", b""]
            )
            raw[at : at + rng.choice([0, 0, 1, 5])] = piece
        header = agrees(bytes(raw))
        seen += len(header.all("from")) != 1
    assert seen > 300, "the mutations must reach the From fields"


def test_the_from_fields_are_those_that_the_reader_counts() -> None:
    raw = b"From : a@b.test\r\nX: y\r\nFROM:\r\n c@d.test\r\n\r\nFrom: body@b.test\r\n"
    assert len(split(raw).all("from")) == 2
    assert "several_from" in digest(raw, Bounds()).flags


def test_text_for_reports_is_harmless() -> None:
    assert readable(b"a\0b\r\n\tc\xff") == "a b c\ufffd"
    assert readable("x\ud800\x85y\u2028") == "x? y"
    assert len(readable(b"x" * 10_000)) == 256
    assert readable("\u00e9" * 300, 10) == "\u00e9" * 10
