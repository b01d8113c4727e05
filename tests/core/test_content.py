"""Transfer decoding: against another decoder on all corpora, and on what is broken."""

import re
from binascii import a2b_base64
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from ingester.core import content
from ingester.core.content import WINDOW, decode_start, decode_view, measure, normalise_encoding
from ingester.core.mime import Bounds, scan
from tests.core.slow_binhex import undo_binhex

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def decode(raw: bytes, encoding: str) -> bytes:
    """Decode in the middle of something else, and check that the other ways in agree."""
    whole = b"before" + raw + b"after="
    content = decode_view(whole, 6, len(raw), encoding)
    found = measure(whole, 6, len(raw), encoding)
    assert (found.size, found.sha256) == (len(content), sha256(content).digest())
    assert content.startswith(decode_start(whole, 6, len(raw), encoding, 7))
    return content


def faults(raw: bytes, encoding: str) -> tuple[str, ...]:
    return measure(raw, 0, len(raw), encoding).faults


def other_decoder(data: bytes, encoding: str) -> bytes:
    """Written from RFC 2045 without binascii: bits for base64, one substitution for quoted-printable."""
    if encoding == "base64":
        bits = "".join(f"{_ALPHABET.index(char):06b}" for char in data if char in _ALPHABET)
        return bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits) - 7, 8))
    if encoding == "quoted-printable":
        joined = re.sub(rb"=\r?\n|=\Z", b"", data)
        return re.sub(rb"=([0-9A-Fa-f]{2})", lambda match: bytes([int(match.group(1), 16)]), joined)
    if encoding == "binhex":
        return undo_binhex(data)
    if encoding == "uuencode":
        lines = data[data.index(b"begin ") :].splitlines()[1:]
        digits = [
            (line[0] - 32 & 63, [char - 32 & 63 for char in line[1:]]) for line in lines if line and line[0] != 101
        ]
        return b"".join(
            int("".join(f"{digit:06b}" for digit in line), 2).to_bytes(len(line) * 3 // 4)[:size]
            for size, line in digits
            if size
        )
    return data


def test_every_sound_part_of_the_corpora_is_decoded_as_another_decoder_does(corpora: Path) -> None:
    compared = 0
    for path in sorted(corpora.glob("mime-*/**/*")):
        if path.suffix not in (".eml", ".txt", ".raw") or path.stat().st_size > 1 << 20:
            continue
        raw = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        for part in scan(raw, Bounds()).parts:
            found = measure(raw, part.offset, part.length, part.encoding)
            if not found.faults:
                data = raw[part.offset : part.offset + part.length]
                assert found.sha256 == sha256(other_decoder(data, part.encoding)).digest(), (path, part.path)
                compared += 1
    assert compared > 500


@pytest.mark.parametrize("size", [0, 1, 2, 3, 100, WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW + 5])
@pytest.mark.parametrize("end", [b"\r\n", b"\n", b""])
def test_windows_do_not_show_in_base64(size: int, end: bytes) -> None:
    from base64 import encodebytes

    content = Random(size).randbytes(size)
    assert decode(encodebytes(content).replace(b"\n", end), "base64") == content
    assert faults(encodebytes(content).replace(b"\n", end), "base64") == ()


@pytest.mark.parametrize("line", [70, 76, 1000, 3 * WINDOW])
@pytest.mark.parametrize("shift", range(8))
def test_windows_do_not_show_in_quoted_printable(line: int, shift: int) -> None:
    encoded = b"x" * shift + b"=C3=A9" * (line // 6) + b"=\r\n"
    encoded *= 1 + 2 * WINDOW // len(encoded)
    assert decode(encoded, "quoted-printable") == other_decoder(encoded, "quoted-printable")


@pytest.mark.parametrize(
    ("raw", "content"),
    [
        (b"aGVsbG8", b"hello"),
        (b"aGVsbG8=====", b"hello"),
        (b"aGVs!bG8=", b"hello"),
        (b"aGVs\0bG8=\r\n\r\n", b"hello"),
        (b"aGVsbG8gd29ybGQhaGVsbG8gd29ybGQhaGVsbG8gd29ybGQh*", b"hello world!" * 3),
        (b"aGVsbG8=aGVsbG8=", b"hellohello"),
        (b"aGVsbG8=\r\naGVsbG8=\r\n", b"hellohello"),
        (b"aGVsbG8gd29ybGQhaGVsbG8gd28=\r\n-- \r\nA list footer, with words.\r\n", b"hello world!hello wo"),
        (b"aGVsb", b"hel"),
        (b"aGVsbG", b"hell"),
        (b"=", b""),
        (b"====aGVs", b"hel"),
        (b"A", b""),
    ],
)
def test_dirty_base64_gives_what_is_in_it(raw: bytes, content: bytes) -> None:
    assert decode(raw, "base64") == content
    assert "bad_base64" in faults(raw, "base64")


def test_text_that_is_called_base64_stays_as_it_is() -> None:
    raw = b"... this is no base64 at all, is it?\r\n"
    assert decode(raw, "base64") == raw
    assert faults(raw, "base64") == ("bad_base64", "not_base64")


@pytest.mark.parametrize(
    ("raw", "content", "bad"),
    [
        (b"caf=C3=A9 =3D\r\n", b"caf\xc3\xa9 =\r\n", False),
        (b"caf=c3=a9", b"caf\xc3\xa9", False),
        (b"soft=\r\nbreak", b"softbreak", False),
        (b"soft=\nbreak", b"softbreak", False),
        (b"soft= \t\r\nbreak", b"softbreak", True),
        (b"a=ZZb=", b"a=ZZb", True),
        (b"a=\rb\r\nc", b"a=\rb\r\nc", True),
        (b"a=4", b"a=4", True),
        (b"8bit \xe9", b"8bit \xe9", False),
    ],
)
def test_quoted_printable(raw: bytes, content: bytes, bad: bool) -> None:
    assert decode(raw, "quoted-printable") == content
    assert faults(raw, "quoted-printable") == (("bad_quoted_printable",) if bad else ())


@pytest.mark.parametrize("encoding", ["7bit", "8bit", "binary", "unknown"])
def test_other_encodings_are_the_identity(encoding: str) -> None:
    assert decode(bytes(range(256)), encoding) == bytes(range(256))


@pytest.mark.parametrize(
    ("value", "encoding"),
    [
        ("BASE64", "base64"),
        ("Base-64 (RFC 2045)", "base64"),
        (" quoted-printable;", "quoted-printable"),
        ('"8bit"', "8bit"),
        ("7 bit", "7bit"),
        ("", "7bit"),
        ("x-uuencode", "uuencode"),
        ("x-rot13", "unknown"),
    ],
)
def test_encodings_have_one_spelling(value: str, encoding: str) -> None:
    assert normalise_encoding(value) == encoding


def test_pybase64_takes_and_refuses_what_binascii_does(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = Random(1)
    raws = [bytes(rng.choices(b"AZz09+/==\r\n -_\xff", k=rng.randrange(40))) for _ in range(20_000)]
    found = [measure(raw, 0, len(raw), "base64") for raw in raws]
    monkeypatch.setattr(content, "b64decode", lambda data, **_: a2b_base64(data, strict_mode=True))
    assert [measure(raw, 0, len(raw), "base64") for raw in raws] == found
