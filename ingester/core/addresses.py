"""Address lists of header fields (RFC 5322, 3.4; RFC 6854 groups; obsolete forms): whatever is sent gives mailboxes.

The envelope's grammar is another one and lives in `address`. Linear; nothing raises; nothing is judged.
"""

import re
from dataclasses import dataclass, field, replace
from itertools import islice

from ingester.core.words import decode_words

MAX_TOKENS = 10_000
"""Tokens read of one field (design page, 9)."""
_MAX_NAME = 1000
_MAX_ADDRESS = 1000

_WORD = r"=\?[^?\s]{1,80}\?[bBqQ]\?[^?<>]{0,1000}\?="
_PLAIN = (
    rf"(?P<word>{_WORD})|(?P<angle><[^<>]*+>?)|(?P<special>[,:;()])|(?P<space>\s++)"
    r"|(?P<atom>[^\s,:;()<>\"]++|[>\"])"
)
_PLAIN_TOKEN = re.compile(_PLAIN)
_QUOTED = r'"[^"\\]*+(?:\\.[^"\\]*+)*"'
_TOKEN = re.compile(rf'(?P<quoted>{_QUOTED})|(?P<strange><[^<>"]*+(?:{_QUOTED}[^<>"]*+)*>)|' + _PLAIN, re.DOTALL)
_ATOMS = r"[^\s,:;()<>\"]++(?: [^\s,:;()<>\"]++)*"
_USUAL_ADDRESS = r"[^\s<>@\"'():,;\[\]\\]++@[^\s<>@\"'():,;\[\]\\]++"
_USUAL = re.compile(rf'(?:(?P<name>{_ATOMS}|"[^"\\=]*+") )?<(?P<angle>{_USUAL_ADDRESS})>(?:,[ \t]*+|\Z)')
_USUAL_BARE = re.compile(rf"(?P<bare>{_USUAL_ADDRESS})(?:,[ \t]*+|\Z)")
"""Mailboxes in which nothing is left to be told apart: a name, an address that holds one `@` and no special sign."""
_COMMENT_EDGE = re.compile(r"(?:\\.)+|\(+|\)+", re.DOTALL)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_BLANKS = re.compile(r"\s+")
_LOCAL = r"[^\s\x00-\x1f\x7f-\x9f@\uff20\ufe6b,;<>\"]+"
_ONE_ADDRESS = re.compile(rf'(?:{_LOCAL}|"[^"\\]*(?:\\.[^"\\]*)*")@[^@]+', re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mailbox:
    """One member of a list: the display name ("" when absent) and the address as sent, or None where there is none."""

    name: str
    address: str | None

    @property
    def is_plain(self) -> bool:
        """Whether the address can be read in one way only: one local part, one `@`, one domain, nothing encoded.

        The signs that look like an `@` count as one.
        """
        address = self.address
        return address is not None and "=?" not in address and _ONE_ADDRESS.fullmatch(address) is not None


@dataclass(slots=True)
class _Reader:
    """The mailbox under construction, and those that are done."""

    done: list[Mailbox] = field(default_factory=list)
    phrase: list[str] = field(default_factory=list)
    comment: str = ""
    after: bool = False
    """Whether only blanks and comments came since the last address in angle brackets."""
    left: int = MAX_TOKENS
    """Tokens that may still be read. A run of brackets within a comment is one."""

    def add(self, piece: str) -> None:
        self.phrase.append(piece)
        self.after = self.after and piece == " "

    def note(self, comment: str) -> None:
        """A comment is the name of an address that has none (RFC 5322, 3.4 on the form before RFC 822)."""
        if self.after and self.done and not self.done[-1].name:
            self.done[-1] = replace(self.done[-1], name=_name(comment))
        elif not self.after:
            self.comment = self.comment or comment

    def end_group_name(self) -> None:
        """Drop the name of a group, or a source route. A name that is an address counts: some readers show it."""
        bare = _bare_address(self.phrase)
        if bare is not None and not bare.startswith("@"):
            self.finish()
        self.phrase.clear()

    def finish(self, address: str | None = None) -> None:
        """End a mailbox: with the address in angle brackets, or with what stands there bare."""
        phrase = "".join(self.phrase)
        if address is None:
            bare = _bare_address(self.phrase)
            if bare is not None:
                address, phrase = bare, self.comment
        name = _name(phrase) or _name(self.comment)
        if address or name:
            self.done.append(Mailbox(name=name, address=address[:_MAX_ADDRESS] if address else None))
        self.phrase, self.comment, self.after = [], "", False


def parse_addresses(text: str, *, max_tokens: int = MAX_TOKENS) -> tuple[list[Mailbox], bool]:
    """The mailboxes of an address list, group members included, in order; and whether it was cut at the limit.

    What stands in angle brackets is the address, whatever the display name looks like. Encoded-words are decoded after
    the structure is known (RFC 2047, 6.2), so that a decoded comma or bracket cannot make an address.
    """
    usual = _usual_addresses(text) if len(text) <= min(max_tokens, _MAX_NAME, _MAX_ADDRESS) else None
    if usual is not None:
        return usual, False
    reader = _Reader(left=max_tokens)
    pattern = _TOKEN
    comments = True
    pos = 0
    while reader.left > 0:
        match = pattern.match(text, pos)
        if match is None:
            break
        reader.left -= 1
        pos = match.end()
        kind, piece = match.lastgroup, match.group()
        if kind in ("atom", "angle") and ('"' in piece) and pattern is _TOKEN:
            pattern = _PLAIN_TOKEN  # a quote that nothing closes: from here on quotes are characters like others
        if kind in ("angle", "strange"):
            reader.finish(_address(piece[1:].removesuffix(">"), reader))
            reader.after = True
        elif piece == "(" and comments:
            close = _close_comment(text, pos, reader)
            comments = close >= 0
            if comments:
                reader.note(text[pos : close - 1][:_MAX_NAME])
                pos = close
        elif kind != "special":
            reader.add(" " if kind == "space" else piece)
        elif piece in ",;":
            reader.finish()
        elif piece == ":":
            reader.end_group_name()
    reader.finish()
    return reader.done, pos < len(text)


def _usual_addresses(text: str) -> list[Mailbox] | None:
    """The list, where each of its members has one of the two forms that nearly all have; else None."""
    done: list[Mailbox] = []
    pos = 0
    while pos < len(text):
        match = _USUAL.match(text, pos)
        if match is not None:
            name, address = match.groups()
            if name is None:
                name = ""
            elif name[0] == '"' or "=?" in name:
                name = _name(name)
            done.append(Mailbox(name=name, address=address))
        else:
            match = _USUAL_BARE.match(text, pos)
            if match is None:
                return None
            done.append(Mailbox(name="", address=match.group("bare")))
        pos = match.end()
    return done


def _close_comment(text: str, pos: int, reader: _Reader) -> int:
    """Where the comment that was opened before `pos` ends (they nest), or -1 when it does not, as far as is read."""
    depth = 1
    for match in islice(_COMMENT_EDGE.finditer(text, pos), reader.left):
        reader.left -= 1
        begin, end = match.span()
        if text[begin] == "(":
            depth += end - begin
        elif text[begin] == ")":
            if depth <= end - begin:
                return begin + depth
            depth -= end - begin
    return -1


def _address(text: str, reader: _Reader) -> str:
    """What stands in angle brackets, without blanks around and within, and without a source route."""
    text = text.strip()[: 8 * _MAX_ADDRESS]
    if text.startswith("@") and ":" in text:
        text = text.partition(":")[2]
    if text.startswith('"'):
        return text
    return _last_word(_without_comments(text, reader) if "(" in text else text)


def _without_comments(text: str, reader: _Reader) -> str:
    """Comments may stand on either side of the `@`, nested and with quoted brackets (RFC 5322, 3.2.2)."""
    kept: list[str] = []
    pos = 0
    while (begin := text.find("(", pos)) >= 0:
        kept.append(text[pos:begin])
        close = _close_comment(text, begin + 1, reader)
        pos = close if close >= 0 else len(text)
    return "".join([*kept, text[pos:]])


def _bare_address(tokens: list[str]) -> str | None:
    """The address among the tokens of a mailbox without angle brackets (RFC 5322, 3.4: addr-spec), or None."""
    words = "".join(tokens).strip()
    if "@" not in words:
        return None
    if words.startswith('"'):
        inner = words[1:-1]
        return words if '"@' in words else inner if words.endswith('"') and not _BLANKS.search(inner) else None
    word = _last_word(words)
    return word if "@" in word else None


def _last_word(text: str) -> str:
    """The last word that holds an `@`, blanks around `@` and dots not counted; else all words together.

    Where several words hold one, all stay: to take one of them would be to choose the author.
    """
    text = " ".join(text.split())
    for sign in "@.":
        text = text.replace(" " + sign, sign).replace(sign + " ", sign)
    at = text.rfind("@")
    if at < 0:
        text = text.replace(" ", "")
    elif "@" not in text[: text.rfind(" ", 0, at) + 1]:
        end = text.find(" ", at)
        text = text[text.rfind(" ", 0, at) + 1 : end if end >= 0 else None]
    if text[:7].lower() == "mailto:":
        text = text[7:]
    return text.strip("'<>") if not text.startswith("[") else text.strip("'<>[]")


def _name(phrase: str) -> str:
    """The readable display name: quotes and quoted pairs undone, encoded-words decoded, blanks single."""
    text = phrase.strip()[: 4 * _MAX_NAME]
    if '"' in text and "=?" not in text:
        text = _QUOTED_PAIR.sub(r"\1", text.replace('\\"', "\0").replace('"', "")).replace("\0", '"')
    elif '"' in text:
        text = text.replace('"', "")
    if "=?" in text:
        text = decode_words(text)
    return _BLANKS.sub(" ", text).strip()[:_MAX_NAME]
