"""Filenames for display and download: what a stranger sent, made harmless. The name as sent is kept elsewhere."""

import re

MAX_BYTES = 255
"""What file systems take for one name, in UTF-8."""
_MAX_CHARS = 1024

# Separators become `_`. Controls, surrogates, line separators, and what turns or hides text (UAX 9, Trojan Source) go.
_UNSAFE = dict.fromkeys(
    [*range(0x20), *range(0x7F, 0xA0), 0x061C, *range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2060, 0x2070),
     *range(0xD800, 0xE000), 0xFEFF, *range(0xFFF9, 0xFFFC)]
)  # fmt: skip
_TABLE: dict[int, str | None] = {**_UNSAFE, ord("/"): "_", ord("\\"): "_", 0x09: " ", 0x0A: " ", 0x0D: " "}
_BLANKS = re.compile(r"\s+")


def sanitise(name: str | None) -> str | None:
    """A name without path, control and bidi characters, leading dots or trailing blanks, at most 255 bytes of UTF-8.

    None when nothing is left. A long name keeps its extension.
    """
    if not name:
        return None
    text = _BLANKS.sub(" ", name[:_MAX_CHARS].translate(_TABLE)).strip(" ").lstrip(". ").rstrip(". ")
    if len(text.encode("utf-8")) > MAX_BYTES:
        stem, dot, extension = text.rpartition(".")
        if not dot or len(extension.encode("utf-8")) > 32:
            stem, extension = text, ""
        tail = (dot + extension if extension else "").encode("utf-8")
        text = (stem.encode("utf-8")[: MAX_BYTES - len(tail)] + tail).decode("utf-8", "ignore").strip(" ")
    return text or None
