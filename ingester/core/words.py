"""Encoded-words (RFC 2047): header bytes to readable text. Linear; nothing raises."""

import re
from binascii import Error, a2b_base64, a2b_qp

from ingester.core.charset import codec_of, decode_label, decode_with

# The text of a word ends at `?=`, and at the `=?` of another word: so a search never reads a stretch twice.
_WORD = re.compile(r"=\?([^?\s]{1,80})\?([bBqQ])\?([^?=]*+(?:(?:=(?!\?[^=])|\?(?!=))[^?=]*+)*)\?=")
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/]+")


def unfold(value: bytes) -> bytes:
    """One line of a folded value (RFC 5322, 2.2.3): the line end goes, the blank after it stays."""
    if b"\n" in value:
        value = value.replace(b"\r\n", b"").replace(b"\n", b"")
    return value.strip(b" \t\r")


def line_text(value: bytes, charset: str | None = None) -> str:
    """A field's value on one line, encoded-words as they stand.

    Raw 8-bit is utf-8, else `charset` (what the mail declares for its text), else cp1252.
    """
    line = unfold(value) if b"\n" in value else value.strip(b" \t\r")
    if line.isascii():
        return line.decode("ascii")
    for codec in ("utf_8", codec_of(charset)):
        text = decode_with(line, codec) if codec else None
        if text is not None:
            return text
    return line.decode("cp1252", "replace")


def header_text(value: bytes, charset: str | None = None) -> str:
    """The readable text of an unstructured field (RFC 5322, 3.6.5), encoded-words decoded."""
    text = line_text(value, charset)
    return decode_words(text) if "=?" in text else text


def decode_words(text: str) -> str:
    """Decode every encoded-word; blanks between two of them vanish (RFC 2047, 6.2).

    Neighbours of one charset are joined before decoding: senders split inside a character, against RFC 2047, 5.
    """
    out: list[str] = []
    run = bytearray()
    label: str | None = None
    end = 0
    for match in _WORD.finditer(text):
        charset = match.group(1).partition("*")[0].lower()
        gap = text[end : match.start()]
        neighbours = label is not None and (not gap or gap.isspace())
        if label is not None and not (neighbours and charset == label):
            out.append(decode_label(bytes(run), label))
            run.clear()
        if not neighbours:
            out.append(gap)
        run += _decode_b(match.group(3)) if match.group(2) in "bB" else _decode_q(match.group(3), charset)
        label = charset
        end = match.end()
    if label is not None:
        out.append(decode_label(bytes(run), label))
    out.append(text[end:])
    return "".join(out)


def _decode_b(body: str) -> bytes:
    clean = _NOT_BASE64.sub("", body)
    if len(clean) % 4 == 1:
        clean = clean[:-1]
    try:
        return a2b_base64(clean + "=" * (-len(clean) % 4))
    except Error:
        return body.encode("utf-8", "replace")


def _decode_q(body: str, charset: str) -> bytes:
    """Raw 8-bit within a word, against RFC 2047, 4.2, has been read already: it goes back to the word's charset."""
    codec = None if body.isascii() else codec_of(charset)
    try:
        data = body.encode(codec or "utf-8")
    except UnicodeError:
        data = body.encode("utf-8", "replace")
    return a2b_qp(data, header=True)
