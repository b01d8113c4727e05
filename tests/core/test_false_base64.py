"""Words that are called base64 stand as they are; base64 that is only dirty does not."""

from base64 import b64encode, encodebytes
from hashlib import sha256

import pytest

from ingester.core.message import Message, digest
from ingester.core.mime import Bounds

WORDS = b"Guten Tag,\r\n\r\ndies sind Worte  und keine Kodierung\r\nwie man leicht erkennt wenn man sie liest\r\n"


def read(raw: bytes) -> Message:
    return digest(raw, Bounds())


def in_base64(content: bytes, media: bytes = b"text/plain; charset=utf-8") -> bytes:
    return b"Content-Type: " + media + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + content


@pytest.mark.parametrize("charset", ["utf-8", "us-ascii", "iso-8859-1", "shift_jis", "gb2312", "utf-16", "no-such"])
@pytest.mark.parametrize(
    "words",
    [
        WORDS,
        b"hello world",
        b"plain words\nin a few lines\nwithout any sign\n" * 5000,
        "Grüße aus Köln, wo es schön ist.\r\n".encode(),
        b"Hello, it's me - a text (with signs), isn't it? See also: a = b.\r\n" * 30,
    ],
)
def test_words_that_are_called_base64_are_shown_as_they_stand(words: bytes, charset: str) -> None:
    charset = "utf-8" if not words.isascii() else charset
    raw = in_base64(words, b"text/plain; charset=" + charset.encode())
    (part,) = read(raw).parts
    assert (part.encoding, part.flags) == ("8bit", ("not_base64",))
    assert raw[part.offset :] == words
    assert (part.decoded_size, part.sha256) == (len(words), sha256(words).digest())
    assert read(raw).body_text == words.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_wide_text_stays_base64(codec: str) -> None:
    letter = WORDS.decode()
    raw = in_base64(encodebytes(letter.encode(codec)), b"text/plain; charset=" + codec.encode())
    assert read(raw).parts[0].encoding == "base64"
    assert read(raw).body_text == letter.replace("\r\n", "\n")


LETTER = "Grüße aus Köln! Anbei die Unterlagen, wie gestern besprochen.\r\n".encode() * 20


@pytest.mark.parametrize(
    "dirty",
    [
        encodebytes(LETTER).replace(b"\n", b" \t \r\n"),
        encodebytes(LETTER).replace(b"\n", b"\r\n "),
        encodebytes(LETTER).replace(b"\n", b" "),
        b" ".join(b64encode(LETTER)[at : at + 7] for at in range(0, 3000, 7)),
        b"\n".join(b64encode(LETTER)[at : at + 5] for at in range(0, 3000, 5)),
        encodebytes(LETTER).replace(b"\n", b"! ?\r\n"),
        encodebytes(LETTER).replace(b"\n", b" x y\r\n", 1)[4:],
        b64encode(LETTER[:21]) + b"\r\n" + b"A footer with several words in it, as lists have.\r\n" * 9,
        encodebytes(LETTER) + b"A footer with several words in it, as lists have.\r\n" * 99,
        b"This mail was checked.\r\n\r\n" + encodebytes(LETTER),
    ],
)
@pytest.mark.parametrize("charset", [b"utf-8", b"iso-8859-1", b"us-ascii"])
def test_dirty_base64_stays_base64(dirty: bytes, charset: bytes) -> None:
    (part,) = read(in_base64(dirty, b"text/plain; charset=" + charset)).parts
    assert part.encoding == "base64"
    assert "not_base64" not in part.flags


def test_what_is_no_text_may_be_called_base64_whatever_it_holds() -> None:
    (part,) = read(in_base64(WORDS, b"application/pdf")).parts
    assert part.encoding == "base64"
