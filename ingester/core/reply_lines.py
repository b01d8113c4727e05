# ruff: noqa: RUF001  (the letters of other scripts are meant)
"""Tells, line by line, what of a text is new, what is quoted and what is a signature. Linear and bounded; never raises.

When in doubt a line is new: to show a quote costs a glance, to hide an answer costs the answer. So a quotation
that is not marked line by line (RFC 3676, 4.5) must be introduced by an attribution with date and sender, by a marker
line or by a header block before all that follows is taken for it.
"""

import re
from dataclasses import dataclass
from enum import Enum

from ingester.core.reply_attribution import introduces, introduces_marked
from ingester.core.reply_words import FORWARDED, LABELS, ORIGINAL, VERB, Label

HOLE = "\ue0a5"
"""A line that stands where a quotation was taken out of HTML."""
SIGNED = "\ue0a6"
"""A line that stands where a signature was taken out of HTML."""
MAX_TRIALS = 300
"""Attributions and header blocks that are looked for in one text: a trial takes up to 50 microseconds."""
_MAX_LINE = 500
"""Characters above which a line is prose."""
_FOLDS = 4
"""Lines over which an attribution may be folded."""
_BLOCK_LINES = 30
_CONTINUED = 4
"""Lines that a value of a header block may go on for."""

_RULE = re.compile(r"[_\-=*‐‑–—]{3,}")
_INNER_MARKS = re.compile(r"(?:>[ \t]?)+")
_MARKED = re.compile(r">(?:[\s>\w\"'(\[*<“„«]|$)")
_DATE_HINT = re.compile(r"\d.{0,60}?\d[:.h]\d\d|[上下]午|오전|오후|\d[時时시]")
_CLOSES = re.compile(r">[)\]]?(?P<word>[^:：]{0,30})[:：]")
_MARKS = ">" + HOLE
_COLONS = ":："
_MARKER_ENDS = ":：-‐‑–—*_="
"""What every marker line ends with: other lines need not be looked up."""
_ENDS = _MARKER_ENDS + SIGNED
"""With one of these, or with a colon in it, a line may introduce something."""
_BLANK, _MARK, _PLAIN = 0, 1, 2
_EDGE = " \t\r\f\v\xa0\u3000\u200b\u200e\u200f\u202a\u202b\u202c\u2060\ufeff"


class Kind(Enum):
    """What a line is. What stands under a forward's marker or a bare header block may be all that the mail brings."""

    NEW = "new"
    QUOTE = "quote"
    FORWARD = "forward"
    SIGNATURE = "signature"


def classify(lines: list[str]) -> list[Kind]:
    """The kind of every line; a blank line is new unless it stands within something else."""
    return _Reader([line.strip(_EDGE) for line in lines]).read()


@dataclass(slots=True)
class _Reader:
    """One pass over the stripped lines. `quoting` once a quotation is proven: then a lone '>' is believed."""

    text: list[str]
    shape: bytes
    """Of each line whether it is blank, marked as quoted, or neither."""
    kinds: list[Kind]
    trials: int
    quoting: bool

    def __init__(self, text: list[str]) -> None:
        self.text = text
        self.shape = bytes([
            _BLANK if not line
            else _MARK if line[0] in _MARKS and not (line[-1] in _COLONS and _closes(before, line))
            else _PLAIN
            for before, line in zip(["", *text], text, strict=False)
        ])  # fmt: skip
        self.kinds = [Kind.NEW] * len(text)
        self.trials = MAX_TRIALS
        self.quoting = False

    def read(self) -> list[Kind]:
        at = 0
        text, shape = self.text, self.shape
        stop = len(text)
        while at < stop:
            if shape[at] == _MARK:
                at = self._run(at)
            elif shape[at] == _PLAIN and (text[at][-1] in _ENDS or ":" in text[at] or "：" in text[at]):
                at = self._introduced(at)
            else:
                at += 1
        return self.kinds

    def _introduced(self, at: int) -> int:
        """The next line to read, after whatever introduces a quotation here and the quotation itself."""
        line = self.text[at]
        if line == SIGNED:
            self.kinds[at] = Kind.SIGNATURE
            return at + 1
        if len(line) > _MAX_LINE:
            return at + 1
        kind = marker(line)
        if kind is not None:
            after = self._next(at + 1)
            block = self._block(after, marked=True)
            return self._quoted(at, block or at + 1, kind)
        if (":" in line[:40] or "：" in line[:40]) and _label(line) is not None:
            end = self._block(at, marked=self._after_rule(at))
            if end:
                start = at
                while start and (not self.text[start - 1] or _RULE.fullmatch(self.text[start - 1])):
                    start -= 1
                return self._quoted(start, end, Kind.FORWARD)
        if line[-1] in ":：":
            begun = self._attribution(at)
            if begun is not None:
                return self._quoted(begun, at + 1, Kind.QUOTE)
        return at + 1

    def _quoted(self, start: int, after: int, kind: Kind) -> int:
        """Mark an introduction from `start` to `after` and what it introduces: marked lines, else all that follows."""
        self.quoting = True
        at = self._next(after)
        stop = self._run_end(at) if self._is_marked(at) else len(self.text)
        self._mark(start, stop, kind)
        return stop

    def _mark(self, start: int, stop: int, kind: Kind) -> None:
        self.kinds[start:stop] = [kind] * (stop - start)

    def _next(self, at: int) -> int:
        """The next line that is not blank, or the end."""
        while at < len(self.text) and not self.text[at]:
            at += 1
        return at

    def _is_marked(self, at: int) -> bool:
        return at < len(self.text) and self.shape[at] == _MARK

    def _run_end(self, at: int) -> int:
        """The end of the marked lines that begin here, blank lines between them included."""
        plain = self.shape.find(_PLAIN, at)
        return self.shape.rfind(_MARK, at, plain if plain >= 0 else len(self.text)) + 1

    def _run(self, at: int) -> int:
        """Marked lines without an introduction: a quotation, unless the mark is an arrow, a prompt or a comparison."""
        end = self._run_end(at)
        known = self.quoting and any(_is_mark(line) for line in self.text[at:end] if line)
        if known or self._is_quotation(at, end):
            self.quoting = True
            self._mark(at, end, Kind.QUOTE)
        return end

    def _is_quotation(self, at: int, end: int) -> bool:
        run = [line for line in self.text[at:end] if line]
        if any(line[0] == HOLE for line in run):
            return True
        bare = [_INNER_MARKS.sub("", line, count=1).strip() for line in run[:50]]
        if self._tells_sender(bare[:6]):
            return True
        if not all(_is_mark(line) for line in run[:50]):
            return False
        if all(line.startswith(">>>") for line in run):
            return False  # the prompt of an interpreter
        if sum(" > " in line or line.endswith((">", "<")) for line in bare) * 2 >= len(bare) and any(bare):
            return False  # a path through menus
        before = self.text[at - 1] if at else ""
        if len(run) > 1:
            return not before.endswith((":", "："))
        return not before and run[0][1:2] in (" ", ">", "") and any(bare)

    def _tells_sender(self, lines: list[str]) -> bool:
        """Whether a run begins with the attribution itself, as iPhones send it."""
        for end, line in enumerate(lines):
            if line and line[-1] in ":：" and self._try():
                return any(introduces(" ".join(lines[start : end + 1])) for start in range(end, -1, -1))
        return False

    def _try(self) -> bool:
        self.trials -= 1
        return self.trials >= 0

    def _attribution(self, end: int) -> int | None:
        """Where the attribution begins that ends with this line: the shortest that tells date and sender."""
        if not self._try():
            return None
        lowest = end
        while lowest > 0 and end - lowest < _FOLDS - 1 and self._may_fold(lowest - 1):
            lowest -= 1
        joined = [" ".join(self.text[start : end + 1]) for start in range(end, lowest - 1, -1)]
        for back, text in enumerate(joined):
            if introduces(text):
                return end - back
        if self._is_marked(self._next(end + 1)):
            for back, text in enumerate(joined):
                if introduces_marked(text):
                    return end - back
        return None

    def _may_fold(self, at: int) -> bool:
        line = self.text[at]
        return self.shape[at] == _PLAIN and len(line) < _MAX_LINE and self.kinds[at] is Kind.NEW

    def _after_rule(self, at: int) -> bool:
        at -= 1
        while at >= 0 and not self.text[at]:
            at -= 1
        return at >= 0 and len(self.text[at]) >= 5 and bool(_RULE.fullmatch(self.text[at]))

    def _block(self, at: int, *, marked: bool) -> int | None:
        """The end of Outlook's header block, if one begins here; `marked` when a rule or marker announces it.

        Who, when, and what about or to whom with an address. Without a rule before it, the date has a clock time:
        a memo or an itinerary has none.
        """
        if at >= len(self.text) or _label(self.text[at]) is None or not self._try():
            return None
        found: dict[Label, str] = {}
        current, end, stop = Label.CC, at, min(at + _BLOCK_LINES, len(self.text))
        for number in range(at, stop):
            line = self.text[number]
            label = _label(line)
            if label is not None:
                current = label
                found[label] = _value(line)
                end = number + 1
            elif line and (
                self.shape[number] == _MARK
                or number - end >= _CONTINUED
                or (Label.SUBJECT is current and found[current])
            ):
                break
            elif line:
                found[current] += " " + line
        dated = any(char.isdigit() for char in found.get(Label.DATE, ""))
        if marked and Label.FROM in found and len(found) > 1:
            return end
        addressed = "@" in found.get(Label.FROM, "") + found.get(Label.TO, "")
        if not (dated and Label.FROM in found and (Label.SUBJECT in found or (Label.TO in found and addressed))):
            return None
        return end if addressed or _DATE_HINT.search(found[Label.DATE][:200]) else None


def marker(line: str) -> Kind | None:
    """Whether a line is one like '-----Original Message-----' or 'Begin forwarded message:'."""
    if len(line) > 100 or line[-1] not in _MARKER_ENDS:
        return None
    bare = line.strip("-_=*‐‑–—:： \t<>\xa0").casefold().replace("’", "'")
    if bare in FORWARDED:
        return Kind.FORWARD if line[-1] in ":：-‐‑–—*_=" else None
    if bare in ORIGINAL and line[0] in "-‐‑–—_=*" and line[-1] in "-‐‑–—_=*:":
        return Kind.QUOTE
    return None


def _is_mark(line: str) -> bool:
    """Whether the '>' at the head of a line marks it as quoted: '>50%' and '>:(' do not."""
    return line[0] == HOLE or (_MARKED.match(line) is not None and not line[1:2].isdigit())


def _closes(before: str, line: str) -> bool:
    """Whether a '>' at the head of a line closes an address of the line before, where an attribution was folded."""
    if len(line) > 40 or before.rfind("<") <= before.rfind(">"):
        return False
    match = _CLOSES.fullmatch(line)
    return match is not None and (not match["word"].strip() or VERB.search(match["word"].casefold()) is not None)


def _label(line: str) -> Label | None:
    head = line[:45].replace("：", ":")
    colon = head.find(":")
    if colon < 1:
        return None
    return LABELS.get(head[:colon].strip(" *_\xa0\u202f\u3000").casefold())


def _value(line: str) -> str:
    return line.replace("：", ":").partition(":")[2].strip(" *_\xa0")
