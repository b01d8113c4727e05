"""Takes out of HTML what mail clients mark as quoted or as signature, and leaves a line in its place. Linear, bounded.

Only marks are looked at, never layout: a plain blockquote is the writer's own. What comes out is for reading as text.
"""

import re
from dataclasses import dataclass

from ingester.core.reply_lines import HOLE, SIGNED

MAX_TAGS = 10_000
"""Tags that are looked at; beyond them HTML stays as it is."""
_MAX_ATTRIBUTES = 1000
_MAX_READ = 200_000
"""Characters of attributes that are looked at, of one tag and of all."""
_TAG = re.compile(r"<(/?)(blockquote|div|span|hr|a|table|td|p|font|section|pre)(?![a-z0-9-])([^<>]*+)>?", re.IGNORECASE)
_QUOTE = re.compile(
    r"""\b(?:gmail_quote(?!_)|gmail_attr|gmail_quote_attribution|yahoo_quoted|protonmail_quote|tutanota_quote|moz-cite-prefix"""
    r"""|moz-email-headers-table|zmail_extra|front-blockquote|isReplyContent|mail-editor-reference-message-container)"""
    r"""|\btype\s*=\s*["']?cite\b|\bname\s*=\s*["']?(?:quote|quoted-content|messageReplySection)\b""",
    re.IGNORECASE,
)
_TO_THE_END = re.compile(
    r"""\bid\s*=\s*["']?(?:x_)?(?:divRplyFwdMsg|appendonsend|stopSpelling|zwchr|OLK_SRC_BODY_SECTION)\b"""
    r"""|\bOutlookMessageHeader\b"""
    r"""|\bborder(?:-top)?\s*:\s*(?:none;\s*border-top\s*:\s*)?solid\s+#(?:E1E1E1|B5C4DF)""",
    re.IGNORECASE,
)
_SIGNATURE = re.compile(
    r"""\b(?:gmail_signature|moz-signature|ms-outlook-mobile-signature|protonmail_signature_block|composer_signature)"""
    r"""|\bid\s*=\s*["']?(?:x_)?Signature(?=["'\s]|$)""",
    re.IGNORECASE,
)
_DASHES = re.compile(r"(?:\s|<[^<>]{0,200}+>){0,20}-{5,}")


def mark_quotes(html: str) -> str | None:
    """HTML with a line `HOLE` for each quotation and a line `SIGNED` for each signature; None where none is marked."""
    return _Cutter(html.replace(HOLE, "").replace(SIGNED, "")).cut()


@dataclass(slots=True)
class _Cutter:
    """One pass over the tags: `kept` collects what stands outside of the marked elements."""

    html: str

    def cut(self) -> str | None:
        kept: list[str] = []
        pos = depth = 0
        name, hole, unread = "", "", _MAX_READ
        for count, match in enumerate(_TAG.finditer(self.html)):
            if count >= MAX_TAGS:
                break
            tag = (match.group(2) or "").lower()
            if hole:
                depth += 0 if tag != name else -1 if match.group(1) else 1
                if depth == 0:
                    pos, hole = match.end(), ""
                continue
            attributes = match.group(3)
            if match.group(1) or not attributes or len(attributes) > _MAX_ATTRIBUTES:
                continue
            unread -= len(attributes)
            if unread < 0:
                break
            hole = self._hole(tag, attributes, match.end())
            if not hole:
                continue
            kept += [self.html[pos : match.start()], f"<div>{hole[0]}</div>"]
            pos = len(self.html)
            if hole == _REST:
                return "".join(kept)
            name, depth = tag, 1
        kept.append(self.html[pos:])
        return "".join(kept) if len(kept) > 1 else None

    def _hole(self, tag: str, attributes: str, end: int) -> str:
        """What to put in the place of an element: nothing, a line, or a line for all the rest."""
        if _TO_THE_END.search(attributes):
            return _REST
        if _SIGNATURE.search(attributes):
            return SIGNED
        if not _QUOTE.search(attributes):
            return ""
        if "gmail_" in attributes and tag == "div":
            if "gmail_attr" in attributes or "attribution" in attributes:
                return _REST if _DASHES.match(self.html, end, end + 500) else HOLE
            return ""  # Gmail's division holds the quotation, and answers between its pieces
        return "" if tag in ("hr", "a") else HOLE


_REST = HOLE * 2
