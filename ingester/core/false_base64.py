"""Text that is called base64 and is none: words, whose letters happen to be those of base64. It is shown as it stands.

The judging is done once, in the scan, from a sample; the part's `encoding` then says what later readers have to do.
"""

import codecs
import re
from binascii import a2b_base64
from dataclasses import replace
from unicodedata import category

from ingester.core.charset import codec_of
from ingester.core.part import Part

_SAMPLE = 1024
"""Bytes that are judged."""
_LONGEST_WORD = 40
"""Base64 letters in one word above which it is a line of base64: those are wrapped at 60 or more."""
_WORDS = re.compile(rb"\S[ \t]+\S")
_LINE_OF_BASE64 = re.compile(rb"[A-Za-z0-9+/]{%d}" % (_LONGEST_WORD + 1))
_NO_LETTERS = re.compile(rb"[^A-Za-z0-9+/]+")
_LINE_ENDS = "\t\n\r\f"
_STRANGE = {"Cc": 8, "Cn": 8, "Co": 8, "Cs": 8} | dict.fromkeys(
    ("Sc", "Sk", "Sm", "So", "No", "Po", "Pd", "Pi", "Pf"), 1
)
"""How strange a character is that is not ASCII, by its category: signs may be in a text, controls are not."""
_REPLACED = 2
_TOLERATED = 6
"""A text is no stranger than a sign in so many characters, or a replaced one in twice, a control in 8 times so many."""


def as_it_stands(raw: bytes, part: Part) -> Part:
    """The part; a text in base64 that plainly is no base64 becomes 8bit, flagged `not_base64`.

    Plainly: most lines are several words, no word is as long as a line of base64, these words are text in the part's
    charset, and what they decode to is not. Blanks around lines, odd wrapping and stray characters do not make it so.
    """
    if part.encoding != "base64" or not part.content_type.startswith("text/"):
        return part
    sample = raw[part.offset : part.offset + min(part.length, _SAMPLE)]
    lines = [line for line in sample.splitlines() if line.strip()]
    several = sum(_WORDS.search(line) is not None for line in lines)
    if 2 * several <= len(lines) or _LINE_OF_BASE64.search(sample) or not _is_text(sample, part.charset):
        return part
    # A short line of base64 may stand over a footer of words: then it is what the part is about.
    if _is_text(_decoded(lines[0]), part.charset) or _is_text(_decoded(sample), part.charset):
        return part
    return replace(part, encoding="8bit", flags=(*part.flags, "not_base64"))


def _decoded(data: bytes) -> bytes:
    """What the base64 letters mean, up to a padding: what comes after that is something else."""
    letters = _NO_LETTERS.sub(b"", data.partition(b"=")[0])
    return a2b_base64(letters[: len(letters) & ~3])


def _is_text(data: bytes, charset: str | None) -> bool:
    """Whether bytes are readable in a charset, utf-8 when there is none. A character cut off at the end is no fault."""
    codec = codec_of(charset) or "utf_8"
    try:
        text = _read("utf_8" if codec == "ascii" else codec, data)
    except UnicodeError:  # UTF-16 that does not say which end comes first: that is read as utf-8 in the end
        text = _read("utf_8", data)
    strange = sum(
        _REPLACED if char == "\ufffd" else _STRANGE.get(category(char), 0)
        for char in text
        if not " " <= char <= "~" and char not in _LINE_ENDS
    )
    return bool(text) and strange * _TOLERATED <= len(text)


def _read(codec: str, data: bytes) -> str:
    return codecs.getincrementaldecoder(codec)("replace").decode(data)
