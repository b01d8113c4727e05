# ruff: noqa: RUF001  (the letters of other scripts are meant)
"""Finds signatures at the end of what is new: the delimiter of RFC 3676, 4.3, and what phones and mail apps add."""

import re

from ingester.core.reply_lines import Kind
from ingester.core.reply_words import DEVICE, LITTLE, MOBILE_CJK, SENT

_MAX_LINES = 8
"""Lines after a delimiter that has lost its blank; more is rather the second half of a text."""
_MAX_MOBILE = 3
"""Lines of an app's signature (with its link below it) that are taken off."""
_MAX_SEGMENTS = 200
_MAX_CHARS = 200
_MAX_WORDS = 14
_MODEL = re.compile(r"[a-z]{0,2}\d{1,3}[a-z]{0,2}\+?")
"""The 'S21' of a Galaxy S21."""


def mark_signatures(lines: list[str], kinds: list[Kind]) -> None:
    """Mark the signature of every stretch of new lines; each ends where something quoted begins."""
    new = Kind.NEW
    fresh = bytes([kind is new for kind in kinds])
    end = 0
    for _ in range(_MAX_SEGMENTS):
        start = fresh.find(1, end)
        if start < 0:
            return
        end = fresh.find(0, start)
        end = end if end >= 0 else len(fresh)
        _segment(lines, kinds, start, end)


def _segment(lines: list[str], kinds: list[Kind], start: int, end: int) -> None:
    bare = None
    for at in range(start, end):
        if lines[at][:2] == "--":
            if lines[at] in ("-- ", "--\xa0"):
                bare = None
                end = _sign(kinds, at, end)
                break
            bare = at if lines[at].rstrip() == "--" else bare
    if bare is not None and _is_delimiter(lines, start, bare, end):
        end = _sign(kinds, bare, end)
    for _ in range(_MAX_MOBILE):
        while end > start and not lines[end - 1].strip():
            end -= 1
        last = end - 1
        if last > start and _is_link(lines[last]) and is_mobile(lines[last - 1]):
            last -= 1
        if last < start or not is_mobile(lines[last]):
            return
        kinds[last:end] = [Kind.SIGNATURE] * (end - last)
        end = last


def _sign(kinds: list[Kind], at: int, end: int) -> int:
    kinds[at:end] = [Kind.SIGNATURE] * (end - at)
    return at


def _is_delimiter(lines: list[str], start: int, at: int, end: int) -> bool:
    """Whether '--' without its blank, as clients strip it, begins a signature: few short lines, after a blank one."""
    if at > start and lines[at - 1].strip():
        return False
    after = [line.strip() for line in lines[at + 1 : end] if line.strip()]
    if not after or len(after) > _MAX_LINES:
        return False
    return len(after[0]) <= 60 and not any(len(line) > 100 or line.endswith(("?", "!")) for line in after)


def is_mobile(line: str) -> bool:
    """Whether a line says from what device or app a mail was sent, and nothing else."""
    text = line.strip(" \t\r\xa0*_-–—.<>[]()|").casefold()
    if not 6 <= len(text) <= _MAX_CHARS:
        return False
    link = text.find("http")
    text = (text[:link] if link > 6 else text).strip(" <([-:.\xa0")
    if not text.isascii() and MOBILE_CJK.fullmatch(text):
        return True
    words = [word.strip(",().") for word in text.split(maxsplit=_MAX_WORDS)]
    if len(words) > _MAX_WORDS or SENT.isdisjoint(words):
        return False
    devices = [DEVICE.fullmatch(word) is not None for word in words]
    known = (
        device or not word or word in SENT or word in LITTLE or _MODEL.fullmatch(word)
        for word, device in zip(words, devices, strict=True)
    )
    return any(devices) and all(known)


def _is_link(line: str) -> bool:
    text = line.strip(" \t\r<>[]()")
    return text.startswith(("http://", "https://")) and " " not in text
