"""What a mail adds to its conversation: its text without the quoted thread and the signature; body_text keeps all.

Text is judged line by line. HTML that came without a text part is cut where clients mark their quotations, then judged
like text; the answer is given in the lines of the body, so that it can always be found there.
"""

import re

from ingester.core.html import TextMaker, strip_tags
from ingester.core.reply_html import mark_quotes
from ingester.core.reply_lines import Kind, classify
from ingester.core.reply_signature import mark_signatures

MAX_JUDGED = 256 << 10
"""Characters of a text that are judged; nobody has typed a longer one, and the judging needs copies of it."""
MAX_LINES = 20_000
"""Lines of a text that are judged; what follows is kept, except for the rest of a marked quotation."""
MAX_HTML = 512 << 10
"""Characters of HTML above which it is not looked at for quotations: its text is judged by its lines."""
_PRETTY_TAGS = 1000
_MARKED_REST = re.compile(r"(?:[ \t]*+>[^\n]*+\n?)*")
_NOT_WORD = re.compile(r"[\W_]+")


def reply_text(body_text: str, body_html: str | None) -> str:
    """The new text of a mail. Its lines are lines of `body_text` in their order; never blank when that is not.

    Give `body_html` only when `body_text` was made of it. A forward without a word of its own is returned whole, and so
    is a text longer than MAX_JUDGED.
    """
    if len(body_text) > MAX_JUDGED:
        return body_text if body_text.strip() else ""
    text = body_text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n", MAX_LINES)
    rest = lines.pop() if len(lines) > MAX_LINES else None
    kinds = _judge(lines)
    if rest is not None:
        lines.append(rest[_continued(kinds, rest) :])
        kinds.append(Kind.NEW)
    if body_html is not None and len(body_html) <= MAX_HTML:
        found = _from_html(lines, body_html)
        if found is not None:
            return found
    return _choose(lines, kinds) if text.strip() else ""


def _judge(lines: list[str]) -> list[Kind]:
    kinds = classify(lines)
    mark_signatures(lines, kinds)
    return kinds


def _continued(kinds: list[Kind], rest: str) -> int:
    """How much of what was not judged belongs to the quotation that was being read."""
    last = kinds[-1]
    if last is Kind.NEW:
        return 0
    match = _MARKED_REST.match(rest)
    end = match.end() if match else 0
    return end or (len(rest) if last is not Kind.SIGNATURE else 0)


def _choose(lines: list[str], kinds: list[Kind]) -> str:
    """The new lines; if there are none, the signature of an empty reply, or all of a forward."""
    fresh = Kind.NEW
    new = _keep(lines, bytes([kind is fresh for kind in kinds]))
    if not new and Kind.FORWARD not in kinds:
        new = _keep(lines, bytes([kind in (Kind.NEW, Kind.SIGNATURE) for kind in kinds]))
    return new or _keep(lines, b"\1" * len(lines))


def _keep(lines: list[str], wanted: bytes) -> str:
    """The wanted lines, without blank ones at the ends; of those beside what was left out at most one."""
    start = wanted.find(1)
    if start < 0:
        return ""
    end = wanted.rfind(1) + 1
    while start < end and not lines[start].strip():
        start += 1
    while start < end and not lines[end - 1].strip():
        end -= 1
    if wanted.find(0, start, end) < 0:
        return "\n".join(lines[start:end])
    out: list[str] = []
    blanks: list[str] = []
    cut = False
    for line, want in zip(lines[start:end], wanted[start:end], strict=True):
        if not line.strip():
            blanks.append(line)
        elif not want:
            cut = True
        else:
            if out:
                out += blanks[:1] if cut else blanks
            out.append(line)
            blanks, cut = [], False
    return "\n".join(out)


def _from_html(lines: list[str], html: str) -> str | None:
    """The new text by the marks of HTML, in the lines of the body; None where there is no mark, or no such lines."""
    marked = mark_quotes(html)
    if marked is None:
        return None
    text = TextMaker().text(marked) if marked.count("<") <= _PRETTY_TAGS else strip_tags(marked)
    own = text.split("\n", MAX_LINES)
    kinds = _judge(own)
    new = [_key(line) for line, kind in zip(own, kinds, strict=True) if kind is Kind.NEW and line.strip()]
    wanted = _align(lines, new) if new else None
    return None if wanted is None else _keep(lines, wanted)


def _key(line: str) -> str:
    """What a line says, whatever way it was laid out."""
    return _NOT_WORD.sub("", line) or "".join(line.split())


def _align(lines: list[str], new: list[str]) -> bytes | None:
    """Which lines of the body are the new ones, each found after the one before it."""
    wanted = bytearray()
    at = 0
    for line in lines:
        if not line.strip():
            wanted.append(wanted[-1] if wanted else 0)
            continue
        found = at < len(new) and _key(line) == new[at]
        wanted.append(found)
        at += found
    return bytes(wanted) if at == len(new) else None
