"""What a mail may ask for while the event loop waits: small mails are digested on it, and few bytes can cost much.

The bounds are about a tenth of what the rooms take in all, and far above what people send. Whether a mail is beyond
them shows on the way, at no cost: its parts, its tags, its lines are counted or at hand. Nothing here says what a mail
means; one that is beyond is digested in the same way, only elsewhere.
"""

from collections.abc import Iterable

from ingester.core.mime import Scan

PARTS = 100
"""A part takes up to 25 microseconds; one of HTML 100."""
_HEADER = 32 << 10
"""Bytes of the mail's own header: addresses and encoded-words take up to 300 microseconds a kilobyte."""
_CODED = 32 << 10
"""Bytes of uuencode or BinHex, which is decoded line by line: up to 300 microseconds a kilobyte."""
_TAGS = 600
_HTML = 48 << 10
"""Tags and characters of HTML of which text is made: up to 25 microseconds a tag, 300 a kilobyte."""
_SHORT_TEXT = 16 << 10
_LINES = 1500
"""Lines of a text; to tell what of it is quoted takes up to 300 microseconds a kilobyte of short ones."""
_CODINGS = ("uuencode", "binhex")


class CostlyError(Exception):
    """This mail would hold the loop for more than some milliseconds."""


def check_structure(structure: Scan) -> None:
    """Raises CostlyError for many parts, a long header, much that is decoded line by line."""
    if len(structure.parts) > PARTS or structure.header.end > _HEADER:
        raise CostlyError
    if sum([part.length for part in structure.parts if part.encoding in _CODINGS]) > _CODED:
        raise CostlyError


def check_html(texts: Iterable[str]) -> None:
    """Raises CostlyError for HTML that text must be made of, and that is much or has many tags."""
    tags = chars = 0
    for text in texts:
        chars += len(text)
        tags += text.count("<") if chars <= _HTML else 0
    if chars > _HTML or tags > _TAGS:
        raise CostlyError


def check_text(text: str) -> None:
    """Raises CostlyError for a text of many lines."""
    if len(text) > _SHORT_TEXT and text.count("\n") > _LINES:
        raise CostlyError
