"""Boundary lines of an open multipart (RFC 2046, 5.1.1): where the next one is. Copies nothing; bounded."""

import re
from dataclasses import dataclass

NOWHERE = 1 << 62
MAX_BOUNDARY = 1000
"""Bytes of a boundary. RFC 2046, 5.1.1 allows 70; some senders write more."""
_MISSES = 64
"""False candidates after which a compiled search takes over from the plain one."""
_LINE_END = re.compile(rb"(--)?[ \t]*+(?:\r?\n|\Z)")
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

    def _settle(self, found: int, match: re.Match[bytes] | None) -> None:
        """Keep what a search brought: a boundary line, or none before the outer frames' next."""
        if match is None:
            self.next = NOWHERE
            self.closing = False
            return
        self.next = found
        self.next_end = match.end()
        self.closing = match.group(1) is not None

    def search(self, raw: bytes, pos: int, limit: int) -> int:
        """Find the next boundary line from `pos` on, not after the outer frames' at `limit`. Gives the bytes read."""
        needle = self.needle
        pattern = _REST_OF_LINE if self.loose else _LINE_END
        first = at = max(pos - 1, 0)
        stop = min(limit + len(needle), len(raw))
        self.seen = limit
        for _ in range(_MISSES):
            found = raw.find(needle, at, stop)
            match = pattern.match(raw, found + len(needle)) if found >= 0 else None
            if found < 0 or match is not None:
                self._settle(found, match)
                return (stop if match is None else found) - first
            at = found + 1
        line = re.compile(re.escape(needle) + _LINE_END.pattern).search(raw, at, min(stop + MAX_BOUNDARY, len(raw)))
        found = line.start() if line is not None and line.start() <= limit else -1
        self._settle(found, pattern.match(raw, found + len(needle)) if found >= 0 else None)
        return (stop if found < 0 else found) - first
