"""Uuencoded blocks in text: found, decoded as the standard library does it, and bounded."""

from binascii import b2a_uu
from hashlib import sha256
from random import Random

import pytest

from ingester.core.content import decode_view, measure
from ingester.core.message import digest
from ingester.core.mime import Bounds, decode
from ingester.core.uuencode import MAX_BLOCKS, find_blocks
from tests.cost import assert_cheap

MB = 1 << 20


def encode(data: bytes, name: bytes = b"f.bin", *, end: bytes = b"\r\n", blank: bool = False, width: int = 45) -> bytes:
    lines = [b2a_uu(data[at : at + width], backtick=not blank).rstrip(b"\n") for at in range(0, len(data), width)]
    return end.join((b"begin 644 " + name, *lines, b" " if blank else b"`", b"end")) + end


def decoded(raw: bytes) -> list[bytes]:
    blocks, _ = find_blocks(raw, 0, len(raw))
    return [decode_view(raw, block.offset, block.length, "uuencode") for block in blocks]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 44, 45, 46, 90, 91, 1000, 200_000])
@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
@pytest.mark.parametrize("blank", [False, True])
@pytest.mark.parametrize("width", [45, 30, 20])
def test_what_was_encoded_comes_back(size: int, end: bytes, blank: bool, width: int) -> None:
    data = Random(size).randbytes(size)
    raw = b"hello" + end + encode(data, end=end, blank=blank, width=width) + b"bye" + end
    assert decoded(raw) == [data]
    (block,) = find_blocks(raw, 0, len(raw))[0]
    assert block.name == b"f.bin"
    found = measure(raw, block.offset, block.length, "uuencode")
    assert (found.sha256, found.faults) == (sha256(data).digest(), ())


def test_blanks_that_were_cut_off_are_zeros() -> None:
    raw = b"\n".join(line.rstrip() for line in encode(b"a" * 45 + bytes(500), blank=True, end=b"\n").splitlines())
    assert decoded(raw)[0].startswith(b"a" * 45 + bytes(495))


def test_blocks_are_parts_after_their_text() -> None:
    raw = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhello\r\n"
        + encode(b"one", b"../one.txt")
        + b"between\r\n"
        + encode(b"two" * 100, b"two words.txt")
        + b"bye\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>\r\n--b--\r\n"
    )
    message = digest(raw, Bounds())
    assert [(part.ordinal, part.parent_ordinal, part.path) for part in message.parts] == [
        (1, None, "1"), (2, 1, "1.u1"), (3, 1, "1.u2"), (4, None, "2"),
    ]  # fmt: skip
    assert [part.role for part in message.parts] == ["body", "attachment", "attachment", "body"]
    assert [part.filename for part in message.parts] == [None, "_one.txt", "two words.txt", None]
    assert "begin 644 two words.txt\n" in message.body_text
    assert [decode(raw, part) for part in message.parts[1:3]] == [b"one", b"two" * 100]
    assert "unbalanced" not in message.flags


@pytest.mark.parametrize(
    "text",
    [
        b"begin 644 the work\nand do it well\nend\n",
        b"we begin 644 f\n#0V%T\n`\nend\n",
        b"begin 644 f\nOK\nend\n",
        b"begin 644 f\n",
        b"begin 9 f\n#0V%T\n`\nend\n",
        b"begin\nend\n",
        b"=ybegin line=128 size=4 name=f\nabcd\n=yend size=4\n",
    ],
)
def test_prose_is_no_block(text: bytes) -> None:
    assert find_blocks(text, 0, len(text)) == ([], False)


def test_a_broken_block_gives_what_is_in_it() -> None:
    data = Random(1).randbytes(450)
    lines = encode(data).splitlines(keepends=True)
    raw = b"".join([*lines[:4], b"a foreign line\r\n", *lines[5:]])
    assert decoded(raw) == [data[:135] + data[180:]]
    assert measure(raw, 0, len(raw), "uuencode").faults == ("bad_uuencode",)
    cut = b"".join(lines[:6])
    assert decoded(cut + b"prose goes on\r\n") == [data[:225]]
    assert measure(cut, 0, len(cut), "uuencode").faults == ("bad_uuencode",)


def test_a_transfer_encoding_of_this_name_is_decoded() -> None:
    (part,) = digest(b"Content-Transfer-Encoding: x-uuencode\r\n\r\n" + encode(b"cat" * 50), Bounds()).parts
    assert (part.encoding, part.decoded_size, part.sha256) == ("uuencode", 150, sha256(b"cat" * 50).digest())


@pytest.mark.parametrize(
    ("kind", "name", "filename"),
    [
        (b"image/jpeg", b"../f\xc3\xa9 1.jpg", "_fé 1.jpg"),
        (b"image/jpeg; name=given.jpg", b"other.jpg", "given.jpg"),
    ],
)
def test_a_part_in_this_encoding_has_the_name_that_stands_in_it(kind: bytes, name: bytes, filename: str) -> None:
    head = b"Content-Type: " + kind + b"\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\n"
    (part,) = digest(head + encode(b"cat" * 50, name), Bounds()).parts
    assert part.filename == filename


def test_a_part_in_this_encoding_that_holds_no_block_has_no_name() -> None:
    head = b"Content-Type: image/jpeg\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\n"
    (part,) = digest(head + b"begin again\r\n", Bounds()).parts
    assert part.filename is None


def test_the_number_of_blocks_is_bounded() -> None:
    raw = encode(b"x") * (MAX_BLOCKS + 1)
    assert len(find_blocks(raw, 0, len(raw))[0]) == MAX_BLOCKS
    assert "parts_limit" in digest(b"\r\n" + raw, Bounds()).parts[0].flags
    assert len(digest(b"\r\n" + raw, Bounds(max_parts=7)).parts) == 7


@pytest.mark.parametrize("seed", range(20))
def test_no_text_raises_and_blocks_are_in_it_in_order(seed: int) -> None:
    rng = Random(seed)
    for _ in range(100):
        _check_any_text(rng)


def _check_any_text(rng: Random) -> None:
    words = (
        b"begin 644 f\n",
        b"end",
        b"\n",
        b"\r\n",
        b"`",
        b"#0V%T\n",
        b"M" * 61,
        b" ",
        b"!\n",
        b"\xff",
        encode(b"cat"),
    )
    raw = b"".join(rng.choice(words) for _ in range(rng.randrange(60)))
    start, stop = rng.randrange(len(raw) + 1), len(raw)
    pos = start
    for block in find_blocks(raw, start, stop - start)[0]:
        assert pos <= block.offset < block.offset + block.length <= stop
        pos = block.offset + block.length
        decode_view(raw, block.offset, block.length, "uuencode")


BEGIN = b"begin 644 x\n"


@pytest.mark.parametrize(
    "unit", [BEGIN, BEGIN + b"#0V%T\n", b"!    \n", b"!\n", b"`\n", b"\n", b"M", b"end\n", b"\nbegin 644  ", b"\nend "]
)
@pytest.mark.parametrize("head", [b"", b"Content-Transfer-Encoding: x-uuencode\r\n"])
def test_a_hostile_text_of_a_megabyte_is_cheap(unit: bytes, head: bytes) -> None:
    raw = head + b"\r\n" + BEGIN + b"#0V%T\n" + (unit * (MB // len(unit) + 1))[:MB]
    assert_cheap(lambda: digest(raw, Bounds()), seconds=1)
