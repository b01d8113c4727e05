"""SPF macros (RFC 7208, 7): parsed before the evaluation, expanded during it. Pure; asks no DNS."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from ingester.auth.dns_name import MAX_NAME

LETTERS = frozenset("slodipvh")
EXPLANATION_LETTERS = LETTERS | frozenset("crt")
"""`c`, `r` and `t` mean something in explanation texts only (RFC 7208, 7.2)."""

_MACRO = r"%\{([A-Za-z])([0-9]*)([rR]?)([-.+,/_=]*)\}|(%[%_-])"
_TOKEN = re.compile(_MACRO + r"|([!-$&-~]+)")
_TOKEN_OR_BLANK = re.compile(_MACRO + r"|([ -$&-~]+)")
_ESCAPES = {"%%": "%", "%_": " ", "%-": "%20"}
_ALL = 0
_MOST_PARTS = 999
"""Beyond it a DIGIT means all parts: RFC 7208, 7.3 wants at least 127."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expansion:
    """One `%{...}`: the letter in lower case, how many parts to keep at the right (0: all), what to do with them."""

    letter: str
    keep: int
    reverse: bool
    delimiters: str
    escape: bool

    def expand(self, values: Mapping[str, str]) -> str:
        """The value, transformed (RFC 7208, 7.3): parts are joined with dots whatever divided them."""
        value = values[self.letter]
        if self.keep or self.reverse or self.delimiters:
            value = ".".join(self._parts(value))
        return quote(value.encode("utf-8", "replace"), safe="") if self.escape else value

    def _parts(self, value: str) -> list[str]:
        delimiters = self.delimiters or "."
        for other in delimiters[1:]:
            value = value.replace(other, delimiters[0])
        parts = value.split(delimiters[0])
        if self.reverse:
            parts.reverse()
        return parts[-self.keep :] if self.keep else parts


@dataclass(frozen=True, slots=True, kw_only=True)
class MacroText:
    """A macro-string: literal text and expansions. `letters` are the macro letters in it."""

    parts: tuple[str | Expansion, ...]
    letters: frozenset[str]
    ends_in_macro: bool

    def expand(self, values: Mapping[str, str]) -> str:
        """The whole text; `values` holds one for each of `letters`."""
        return "".join(part if isinstance(part, str) else part.expand(values) for part in self.parts)

    def target_name(self, values: Mapping[str, str]) -> str:
        """The name to ask for: labels at the left go until it fits 253 characters (RFC 7208, 7.3).

        It is made from the right, and no further than that. Whether it can be asked for is not looked at.
        """
        taken: list[str] = []
        length = 0
        for part in reversed(self.parts):
            piece = part if isinstance(part, str) else part.expand(values)
            taken.append(piece)
            length += len(piece)
            if length > MAX_NAME + 1:
                break
        name = "".join(reversed(taken)).removesuffix(".")
        if len(name) <= MAX_NAME:
            return name
        dot = name.find(".", len(name) - MAX_NAME - 1)
        return name[dot + 1 :]


def parse_text(text: str, *, explanation: bool = False) -> MacroText | None:
    """A macro-string (RFC 7208, 7.1), or None for a syntax error. An explanation may hold blanks, `c`, `r` and `t`."""
    letters = EXPLANATION_LETTERS if explanation else LETTERS
    token = _TOKEN_OR_BLANK if explanation else _TOKEN
    parts: list[str | Expansion] = []
    match = None
    end = 0
    while end < len(text):
        match = token.match(text, end)
        if match is None:
            return None
        end = match.end()
        part = match[6] or _ESCAPES.get(match[5] or "") or _expansion(match, letters)
        if part is None:
            return None
        parts.append(part)
    used = frozenset(part.letter for part in parts if isinstance(part, Expansion))
    return MacroText(parts=tuple(parts), letters=used, ends_in_macro=match is not None and match[6] is None)


def parse_domain(text: str) -> MacroText | None:
    """A domain-spec: a macro-string that ends in a macro or in a dot and a top label (RFC 7208, 7.1), or None."""
    parsed = parse_text(text)
    if parsed is None or not (parsed.ends_in_macro or _ends_in_top_label(text)):
        return None
    return parsed


def _expansion(match: re.Match[str], letters: frozenset[str]) -> Expansion | None:
    letter, digits, reverse, delimiters = match.group(1, 2, 3, 4)
    if letter.lower() not in letters:
        return None
    significant = digits.lstrip("0")
    if digits and not significant:  # "the value MUST be nonzero" (RFC 7208, 7.3)
        return None
    keep = int(significant) if 0 < len(significant) <= len(str(_MOST_PARTS)) else _ALL
    return Expansion(
        letter=letter.lower(), keep=keep, reverse=bool(reverse), delimiters=delimiters, escape=letter.isupper()
    )


def _ends_in_top_label(text: str) -> bool:
    _, dot, label = text.removesuffix(".").rpartition(".")
    return bool(
        dot
        and label
        and label.isascii()
        and label.replace("-", "").isalnum()
        and not label.isdigit()
        and label[0] != "-"
        and label[-1] != "-"
    )
