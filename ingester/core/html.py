"""HTML to text for mails that bring no text: pretty (inscriptis) while small and plain, else a linear stripper.

Only the text matters here, never safety: what is shown as HTML must be sanitised where it is shown.
"""

import re
from dataclasses import dataclass
from html import unescape

from inscriptis.html_engine import Inscriptis
from inscriptis.model.config import ParserConfig
from lxml.etree import LxmlError, iterwalk
from lxml.html import HtmlElement, HTMLParser, document_fromstring

PRETTY_CHARS = 128 << 10
"""HTML above this many characters goes to the stripper."""
PRETTY_TAGS = 4000
"""Tags that inscriptis is given for one mail: it takes up to 25 microseconds for one."""
PRETTY_DEPTH = 100
"""Nesting above which inscriptis nears Python's recursion limit, and lxml begins to drop content (about 250)."""
MAX_HTML = 2 << 20
"""Characters of HTML that are turned into text for one mail; body_html keeps everything."""
_MAX_ENTITIES = 20_000
_STEP = 64 << 10
"""Bytes stripped at a time: a substitution holds the GIL to its end."""

_INSTRUCTION = re.compile(r"<\?[^>]*+>?")
_BLOCKS = frozenset({"table", "tbody", "thead", "tfoot", "tr"})

_HIDDEN = (
    (b"-->", re.compile(rb"<!--.*?-->", re.DOTALL)),
    (b"</script", re.compile(rb"<script(?![a-z0-9-]).*?</script[^<>]*+>?", re.IGNORECASE | re.DOTALL)),
    (b"</style", re.compile(rb"<style(?![a-z0-9-]).*?</style[^<>]*+>?", re.IGNORECASE | re.DOTALL)),
    (b"</title", re.compile(rb"<title(?![a-z0-9-]).*?</title[^<>]*+>?", re.IGNORECASE | re.DOTALL)),
    (b"</template", re.compile(rb"<template(?![a-z0-9-]).*?</template[^<>]*+>?", re.IGNORECASE | re.DOTALL)),
)
_BREAK = re.compile(
    rb"</?(?=[a-zA-Z])(?:p|div|br|tr|table|ul|ol|li|h[1-6]|blockquote|pre|hr|section|article|header|footer|d[ldt]|form|body|title)"
    rb"(?![a-zA-Z0-9-])[^<>]*+>?",
    re.IGNORECASE,
)
_CELL = re.compile(rb"</t[dh](?![a-zA-Z0-9-])[^<>]*+>?", re.IGNORECASE)
_TAG = re.compile(rb"<[!?/a-zA-Z][^<>]*+>?")
_BLANKS = re.compile(rb"[ \t\r\n\f]+")
_LINES = re.compile(rb" ?\v[ \v]*")
_ENTITIES = (("&nbsp;", " "), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&#39;", "'"), ("&zwnj;", ""))


@dataclass(slots=True)
class TextMaker:
    """Makes text of the HTML leaves of one mail, within bounds that count for all of them together. Linear."""

    tags: int = PRETTY_TAGS
    chars: int = MAX_HTML
    cut: bool = False
    """Whether some HTML was not read."""

    def text(self, html: str) -> str:
        """The readable text of one leaf."""
        tags = html.count("<")
        if len(html) <= PRETTY_CHARS and tags <= self.tags:
            self.tags -= tags
            text = _pretty(html)
            if text is not None:
                return text
        self.cut = self.cut or len(html) > self.chars
        text = strip_tags(html[: self.chars])
        self.chars -= min(len(html), self.chars)
        return text


def _pretty(html: str) -> str | None:
    """Inscriptis's text, or None where the HTML is nested too deep or is none."""
    source = _INSTRUCTION.sub("", html) if "<?" in html else html
    if not source.strip():
        return ""
    try:
        tree = document_fromstring(source.encode("utf-8", "replace"), parser=HTMLParser(encoding="utf-8"))
    except (LxmlError, ValueError, AssertionError):
        return None
    if not _tame(tree):
        return None
    text = Inscriptis(tree, ParserConfig()).get_text()
    return "\n".join(line.rstrip() for line in text.split("\n")).strip("\n")


def _tame(tree: HtmlElement) -> bool:
    """Take out what would make the layout swell: column widths of tables, indents of styles. False when too deep.

    Tables lay out mails rather than hold data: a row becomes a line. Of a style, only `display: none` is text's matter.
    """
    depth = 0
    for event, node in iterwalk(tree, events=("start", "end")):
        if event == "end":
            depth -= 1
            continue
        depth += 1
        if depth > PRETTY_DEPTH:
            return False
        style = node.attrib.pop("style", None)
        if style is not None and "display:none" in style.replace(" ", "").lower():
            node.set("style", "display:none")
        if node.tag in _BLOCKS:
            node.tag = "div"
        elif node.tag in ("td", "th"):
            node.tag = "span"
            node.tail = "  " + (node.tail or "")
    return True


def strip_tags(html: str) -> str:
    """Text without tags, in C speed: works on UTF-8, where ASCII case folding keeps the offsets."""
    data = html.encode("utf-8", "replace").replace(b"\v", b" ")
    for close, pattern in _HIDDEN:
        data = _without(pattern, data, close)
    out: list[bytes] = []
    pos = 0
    while pos < len(data):
        stop = len(data) if pos + _STEP >= len(data) else max(data.rfind(b"<", pos, pos + _STEP), 0)
        stop = stop if stop > pos else pos + _STEP
        out.append(_strip_step(data[pos:stop]))
        pos = stop
    text = b"".join(out).decode("utf-8", "replace")
    for entity, char in _ENTITIES:
        text = text.replace(entity, char)
    return (unescape(text) if text.count("&") <= _MAX_ENTITIES else text.replace("&amp;", "&")).strip()


def _strip_step(data: bytes) -> bytes:
    data = _BLANKS.sub(b" ", data)
    data = _BREAK.sub(b"\v", data)  # a vertical tab stands for a line end that the blanks' pass must not take
    return _LINES.sub(b"\n", _TAG.sub(b"", _CELL.sub(b"  ", data)))


def _without(pattern: re.Pattern[bytes], data: bytes, close: bytes) -> bytes:
    """Remove every match, which ends with `close`; up to the last `close`: beyond, each try would read to the end."""
    last = data.lower().rfind(close)
    if last < 0:
        return data
    out: list[bytes] = []
    pos = 0
    for match in pattern.finditer(data, 0, data.find(b">", last) + 1 or len(data)):
        out.append(data[pos : match.start()])
        pos = match.end()
    return b"".join([*out, data[pos:]])
