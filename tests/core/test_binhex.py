"""BinHex 4.0: what an encoder of our own wrote comes back, damage is flagged, bombs and noise are bounded."""

from binascii import b2a_base64, crc_hqx
from random import Random
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingester.core.binhex import MAX_BYTES, decode_binhex
from ingester.core.content import measure
from ingester.core.message import Message, digest
from ingester.core.mime import Bounds, decode
from tests.cost import assert_cheap

MB = 1 << 20
_DIGITS = b"!\"#$%&'()*+,-012345689@ABCDEFGHIJKLMNPQRSTUVXYZ[`abcdefhijklmpqr"
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
LINE = b"(This file must be converted with BinHex 4.0)\r\n\r\n"


def runs(data: bytes) -> bytes:
    """Run-length encoding, byte by byte: `x 90 n` is n times x, `90 00` is 90 itself."""
    out = bytearray()
    at = 0
    while at < len(data):
        count = 1
        while count < 255 and data[at : at + 1] == data[at + count : at + count + 1]:
            count += 1
        out += b"\x90\x00" if data[at] == 0x90 else data[at : at + 1]
        if count > 2:
            out += bytes([0x90, count])
        else:
            count = 1
        at += count
    return bytes(out)


def text_of(packed: bytes) -> bytes:
    digits = b2a_base64(packed, newline=False).translate(bytes.maketrans(_BASE64, _DIGITS)).rstrip(b"=")
    whole = b":" + digits + b":"
    return LINE + b"\r\n".join(whole[at : at + 64] for at in range(0, len(whole), 64)) + b"\r\n"


def checked(data: bytes) -> bytes:
    return data + pack(">H", crc_hqx(data, 0))


def head_of(name: bytes, size: int, resource: int = 0) -> bytes:
    return checked(bytes([len(name)]) + name + b"\0TEXTttxt" + pack(">HII", 0, size, resource))


def encode(data: bytes, name: bytes = b"f.bin", resource: bytes = b"") -> bytes:
    return text_of(runs(head_of(name, len(data), len(resource)) + checked(data) + checked(resource)))


def decoded(text: bytes) -> tuple[bytes, set[str]]:
    faults: set[str] = set()
    return b"".join(decode_binhex(text, 0, len(text), faults)), faults


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 100, 49_100, 49_152, 300_000])
@pytest.mark.parametrize("alphabet", [bytes(range(256)), b"\x90", b"a", b"\x90\0a", b"\x90\x90b"])
def test_what_was_encoded_comes_back(size: int, alphabet: bytes) -> None:
    data = bytes(Random(size).choices(alphabet, k=size))
    text = encode(data)
    assert decoded(text) == (data, set())
    assert decoded(text.replace(b"\r\n", b"\n")) == (data, set())


@given(st.lists(st.tuples(st.sampled_from(b"\x90\0ab\x8f\x91"), st.integers(1, 600)), max_size=40))
def test_runs_of_any_length_come_back(stretches: list[tuple[int, int]]) -> None:
    data = b"".join(bytes([byte]) * count for byte, count in stretches)
    assert decoded(encode(data)) == (data, set())


def test_a_run_of_144_is_written_with_the_mark_as_its_count() -> None:
    for before in range(6):
        data = b"x" * before + b"y" * 144 + b"\0" + b"\x90" * 144
        assert b"\x90\x90" in runs(data)
        assert decoded(encode(data)) == (data, set())


def mail(body: bytes, head: bytes = b"Content-Type: application/mac-binhex40") -> Message:
    return digest(head + b"\r\n\r\n" + body, Bounds())


def test_the_part_is_the_data_fork_and_a_view() -> None:
    raw = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhello\r\n--b\r\n"
        b"Content-Type: application/mac-binhex40; name=mine.png\r\n\r\n" + encode(b"\x90" * 500 + b"png", b"its.png")
        + b"--b\r\nContent-Type: application/mac-binhex40\r\n\r\n" + encode(b"two", b"Fr\x9asche/../x.txt")
        + b"--b--\r\n"
    )  # fmt: skip
    message = digest(raw, Bounds())
    _, first, second = message.parts
    assert [part.encoding for part in (first, second)] == ["binhex", "binhex"]
    assert [decode(raw, part) for part in (first, second)] == [b"\x90" * 500 + b"png", b"two"]
    assert raw[first.offset :].startswith(LINE)
    assert (first.data, first.decoded_size, first.flags) == (None, 503, ())
    assert (first.original_filename, second.original_filename) == ("mine.png", "Frösche/../x.txt")
    assert second.filename == "Frösche_.._x.txt"


@pytest.mark.parametrize("word", [b"x-binhex", b"binhex", b"BinHex", b"x-mac-binhex40"])
def test_a_transfer_encoding_of_this_name_is_decoded(word: bytes) -> None:
    (part,) = mail(encode(b"cat"), b"Content-Type: image/gif\r\nContent-Transfer-Encoding: " + word).parts
    assert (part.encoding, part.decoded_size, part.content_type) == ("binhex", 3, "image/gif")


def test_the_halves_of_an_appledouble_stay_what_they_are() -> None:
    message = digest(
        b"Content-Type: multipart/appledouble; boundary=b\r\n\r\n--b\r\nContent-Type: application/applefile\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\nAAUWBw==\r\n--b\r\nContent-Type: image/gif; name=a.gif\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\nR0lGODlh\r\n--b--\r\n",
        Bounds(),
    )
    assert [(part.content_type, part.encoding, part.decoded_size) for part in message.parts] == [
        ("application/applefile", "base64", 4), ("image/gif", "base64", 6),
    ]  # fmt: skip


def test_base64_around_it_is_its_own_encoding() -> None:
    head = b"Content-Type: application/mac-binhex40\r\nContent-Transfer-Encoding: base64"
    (part,) = mail(b2a_base64(encode(b"cat")), head).parts
    assert (part.encoding, part.decoded_size) == ("base64", len(encode(b"cat")))


@pytest.mark.parametrize(
    "body", [b"", b":", b"prose", b"prose: more prose:", LINE, LINE + b":!!!:", LINE + b"no colon", b"\0" * 200]
)
def test_what_is_no_binhex_stands_as_it_is(body: bytes) -> None:
    assert decoded(body) == (body, {"bad_binhex"})
    (part,) = mail(body).parts
    assert (part.decoded_size, part.flags, part.filename) == (len(body), ("bad_binhex",), None)


def test_damage_is_flagged_and_the_rest_is_given() -> None:
    data = Random(5).randbytes(1000).replace(b"\x90", b"!")
    text = encode(data)
    cut = text[: len(text) // 2]
    found, faults = decoded(cut)
    assert len(found) > 400
    assert data.startswith(found)
    assert faults == {"bad_binhex"}
    assert decoded(text[:600] + b"\xff~" + text[600:]) == (data, {"bad_binhex"})
    other = b"!" if text[600:601] != b"!" else b'"'
    found, faults = decoded(text[:600] + other + text[601:])
    assert (len(found), faults) == (1000, {"bad_binhex"})
    broken = text.replace(text[len(LINE) + 3 : len(LINE) + 4], b"r", 1)
    assert decoded(broken) == (broken, {"bad_binhex"})


def test_a_resource_fork_is_told_of_and_a_file_of_nothing_else_is_kept_whole() -> None:
    assert decoded(encode(b"data", resource=b"icons")) == (b"data", {"binhex_resource"})
    text = encode(b"", resource=b"icons")
    assert decoded(text) == (text, {"binhex_resource"})


def test_a_bomb_stands_as_it_is() -> None:
    bomb = text_of(runs(head_of(b"f", MAX_BYTES + 1)) + b"a" + b"\x90\xff" * 200_000)
    assert decoded(bomb) == (bomb, {"binhex_limit"})
    liar = text_of(head_of(b"f", 1000) + b"a" + b"\x90\xff" * 200_000)
    found, faults = decoded(liar)
    assert (found, faults) == (b"a" * 1000, {"bad_binhex"})
    large = text_of(runs(head_of(b"f", MAX_BYTES)) + b"a" + b"\x90\xff" * 200_000)
    assert measure(large, 0, len(large), "binhex").size == MAX_BYTES


@pytest.mark.parametrize(
    "unit",
    [
        b"\x90\x02",
        b"\x90\x00",
        b"\x90\x01",
        b"x\x90\x02",
        b"\x90\x90",
        b"\x00",
    ],
)
def test_hostile_runs_of_a_megabyte_are_cheap(unit: bytes) -> None:
    text = text_of(runs(head_of(b"f", MAX_BYTES)) + (unit * MB)[: MB * 3 // 4])
    assert_cheap(lambda: mail(text), seconds=1)


@pytest.mark.parametrize("unit", [LINE, LINE + b":", b":", b"(This file must be converted with BinHex", b" ", b"\r\n"])
def test_hostile_text_of_a_megabyte_is_cheap(unit: bytes) -> None:
    text = (unit * MB)[:MB]
    assert_cheap(lambda: mail(text), seconds=1)


@given(st.binary(max_size=300))
def test_no_bytes_raise(data: bytes) -> None:
    for text in (data, LINE + b":" + data, text_of(data), text_of(head_of(b"f", 50) + data)):
        decoded(text)
