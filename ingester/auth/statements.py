"""What others wrote into a mail about its authentication: Authentication-Results (RFC 8601), also the kind of ARC.

Reading only: whom to believe is decided in `results`. Strangers write such fields, too, and spoil honest ones by what
they put into an envelope: a field with an open comment or string says nothing. authres's own parser copies the text at
each token and recurses into comments, so it is not used here. Bounded, linear, never raises.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ingester.auth.header import Header, readable, split

MAX_STATEMENTS = 50
"""Fields that are read of one mail; an honest chain of hosts writes one or two each."""
MAX_VALUE = 4096
MAX_CLAIMS = 30
MAX_HOPS = 10

_PIECE = re.compile(
    r'(?P<blank>\s+)|(?P<open>\()|(?P<close>\))|"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<word>[^\s()";\\]+)|.',
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_COMMENT = re.compile(r"[()]|\\.", re.DOTALL)
_BY = re.compile(rb"(?:^|[\s)])by[ \t\r\n]+([A-Za-z0-9._-]{1,255})", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One result: `dkim`, `pass`, and its properties (`header.d`, `example.com`), all but the values in lower case."""

    method: str
    result: str
    properties: tuple[tuple[str, str], ...] = ()

    def only(self, name: str) -> str:
        """The value of the one property of this name, or "": what is said twice is not said."""
        values = [value for key, value in self.properties if key == name]
        return values[0] if len(values) == 1 else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One Authentication-Results field. `hops`: the hosts that say so in the Received fields above it (`by`).

    No more than the first ten; an eleventh, "", stands for all that follow.
    """

    authserv_id: str
    claims: tuple[Claim, ...]
    hops: tuple[str, ...]


def read_statements(raw: bytes, header: Header | None = None) -> tuple[Statement, ...]:
    """The first fifty Authentication-Results fields of a mail, from the top. `header`: what `split` made of it."""
    header = header or split(raw)
    if "authentication-results" not in header.values:
        return ()
    found: list[Statement] = []
    hops: tuple[str, ...] = ()
    for field in header.fields:
        if field.name == "received" and len(hops) <= MAX_HOPS:
            by = _BY.search(field.value[:MAX_VALUE])
            hops = (*hops, by[1].decode("ascii").lower() if by and len(hops) < MAX_HOPS else "")
        elif field.name == "authentication-results" and len(found) < MAX_STATEMENTS:
            authserv_id, claims = read_value(field.value[: 4 * MAX_VALUE].decode("utf-8", "replace"))
            found.append(Statement(authserv_id=authserv_id, claims=claims, hops=hops))
    return tuple(found)


def read_value(text: str, limit: int = MAX_VALUE) -> tuple[str, tuple[Claim, ...]]:
    """The authserv-id in lower case ("" where none can be read) and the claims of a value.

    Of a text of `limit` characters or more the last claim is left out: it may have been cut in the middle of a name.
    """
    sections = _sections(text[:limit])
    if sections is None:
        return "", ()
    if len(text) >= limit:
        sections.pop()
    claims = [claim for section in sections[1 : MAX_CLAIMS + 1] if (claim := _claim(section)) is not None]
    return (_authserv_id(sections[0]) if sections else ""), tuple(claims)


@dataclass(frozen=True, slots=True)
class _Piece:
    text: str
    quoted: bool
    glued: bool
    """It follows the one before it without a blank or comment."""


def _sections(text: str) -> list[list[_Piece]] | None:
    """The pieces between semicolons, without comments and blanks; None where a comment or string is left open."""
    sections: list[list[_Piece]] = [[]]
    position, glued = 0, False
    while position < len(text):
        match = _PIECE.match(text, position)
        if match is None or match[0] in (")", '"', "\\"):
            return None
        position = match.end()
        if match["open"]:
            position = _after_comment(text, position)
            if position < 0:
                return None
        if match["blank"] or match["open"]:
            glued = False
        elif match[0] == ";":
            sections.append([])
            glued = False
        else:
            quoted = match["quoted"]
            piece = match["word"] if quoted is None else _ESCAPE.sub(r"\1", quoted)
            sections[-1].append(_Piece(piece, quoted is not None, glued))
            glued = True
    return sections


def _after_comment(text: str, position: int) -> int:
    """Where the comment that is open at `position` ends, those in it included (RFC 5322, 3.2.2); -1 if it does not."""
    depth = 1
    for match in _COMMENT.finditer(text, position):
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if depth == 0:
            return match.end()
    return -1


def _authserv_id(section: list[_Piece]) -> str:
    """The first word, a version after it set aside; the instance (`i=1`) of the ARC kind is a section of its own."""
    if not section or len(section) > 2 or (len(section) == 2 and section[1].text != "1"):
        return ""
    return readable(section[0].text).lower()


def _claim(section: list[_Piece]) -> Claim | None:
    """`method[/version]=result [reason=...] [ptype.property=value ...]` (RFC 8601, 2.2)."""
    (first, result), *rest = [*_pairs(section)] or [("", "")]
    method = first.partition("/")[0]
    if not method or not result:
        return None
    return Claim(method=method, result=result.lower(), properties=tuple(rest))


def _pairs(section: list[_Piece]) -> Iterator[tuple[str, str]]:
    """`key=value`, blanks allowed: the key in lower case, the value with what is glued to it (`"a b"@example.com`)."""
    key: list[str] = []
    value: list[str] | None = None
    for piece in section:
        if value is not None and (piece.glued or not value):
            value.append(piece.text)
            continue
        if value is not None:
            yield "".join(key).lower(), readable("".join(value))
            key, value = [], None
        before, equals, after = ("", "", "") if piece.quoted else piece.text.partition("=")
        key.append(before)
        if equals:
            value = [after] if after else []
    if value is not None:
        yield "".join(key).lower(), readable("".join(value))
