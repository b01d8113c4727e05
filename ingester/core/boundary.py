"""Boundary lines of an open multipart (RFC 2046, 5.1.1): where the next one is. Copies nothing; bounded."""

import re
from dataclasses import dataclass

from ingester.core.content import STRIDE, find

NOWHERE = 1 << 62
MAX_BOUNDARY = 1000
"""Bytes of a boundary. RFC 2046, 5.1.1 allows 70; some senders write more."""
_SLOWNESS = 4
"""What a byte costs in the compiled search: it is about so many times slower than the plain one."""
_SHORT = 8 << 10
"""Bytes that are searched for the whole line at once: so few are not worth a search for dashes first."""
_MISSES = 64
"""False candidates after which a compiled search takes over from the plain one."""
_LINE_END = re.compile(
    rb"(--)?[ \t]*+(?:\r?\n|\Z|[^\n 0-9A-Za-z'()+_,./:=?-][^\n]*+(?:\n|\Z)|(?=(?i:content-[a-z-]{2,40}:)))"
)
"""Transport padding, and damage: what no boundary may hold cannot make it another one (RFC 2046, 5.1.1, bchars), nor
can the part's first field, where the line end before it is lost."""
_REST_OF_LINE = re.compile(rb"(--)?[^\n]*+(?:\n|\Z)")


@dataclass(slots=True)
class Frame:
    """An open multipart. `next` is the line feed before its next boundary line, valid while the scan is before it."""

    needle: bytes
    node: int
    path: str
    digest: bool
    children: int = 0
    next: int = -1
    next_end: int = 0
    closing: bool = False
    closed: bool = False
    loose: bool = False
    seen: int = -1

    def next_path(self) -> str:
        """The path of the child that begins here, counted as IMAP does (RFC 9051, 6.4.5)."""
        self.children += 1
        return f"{self.path}.{self.children}" if self.path else str(self.children)

    def _settle(self, found: int, match: re.Match[bytes] | None) -> None:
        """Keep what a search brought: a boundary line, or none before the outer frames' next."""
        if match is None:
            self.next = NOWHERE
            self.closing = False
            return
        self.next = found
        self.next_end = match.end()
        self.closing = match.lastindex is not None

    def give_up(self) -> None:
        """Search no more: there is no next boundary line, whatever the outer frames say."""
        self.seen = NOWHERE
        self._settle(-1, None)

    def search(self, raw: bytes, pos: int, limit: int) -> int:
        """Find the next boundary line from `pos` on, not after the outer frames' at `limit`. Gives what it cost."""
        needle = self.needle
        size = len(needle)
        first = at = pos - 1 if pos else 0
        stop = len(raw)
        if limit + size < stop:
            stop = limit + size
        self.seen = limit
        pattern = _REST_OF_LINE if self.loose else _LINE_END
        for _ in range(_MISSES):
            found = raw.find(needle, at, stop) if stop - at <= _SHORT else _find_line(raw, needle, at, stop)
            if found < 0:
                self._settle(-1, None)
                return stop - first
            end = found + size
            if raw[end : end + 2] == b"\r\n":  # the usual line, which either pattern takes so
                self.next, self.next_end, self.closing = found, end + 2, False
                return found - first
            match = pattern.match(raw, end)
            if match is not None:
                self._settle(found, match)
                return found - first
            at = found + 1
        found, match = self._search_lines(raw, at, stop, limit)
        self._settle(found, match)
        return _SLOWNESS * ((stop if match is None else found) - first)

    def _search_lines(self, raw: bytes, at: int, stop: int, limit: int) -> tuple[int, re.Match[bytes] | None]:
        """Like `search`, where false candidates abound: in C speed, but in strides, for a search holds the GIL."""
        line = re.compile(re.escape(self.needle) + _LINE_END.pattern)
        while at < stop:
            found = line.search(raw, at, min(at + STRIDE + MAX_BOUNDARY, len(raw)))
            if found is None:
                at += STRIDE
                continue
            at = found.start()
            match = _LINE_END.match(raw, at + len(self.needle)) if at <= limit else None
            if match is not None:
                return at, match
            at += 1
        return -1, None


def _find_line(raw: bytes, needle: bytes, at: int, stop: int) -> int:
    """`bytes.find` of a line feed, two dashes and a boundary. Base64 has no dashes: a file in it costs no more than the
    search for one octet, a fifth of the search for them all.
    """
    dash = find(raw, b"-", at, stop)
    window = _SHORT
    while dash >= 0:
        begin = max(dash - 1, at)
        found = find(raw, needle, begin, min(begin + window + len(needle), stop))
        if found >= 0:
            return found
        dash = find(raw, b"-", begin + window, stop)
        window *= 2  # it is a text: the search for the whole is quick in long stretches only
    return -1
