"""Boundary lines of an open multipart (RFC 2046, 5.1.1): where the next one is. Nothing is copied; every search is bounded."""

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

    def settle(self, found: int, match: "re.Match[bytes] | None") -> None:
        """Keep what a search brought: a boundary line, or none before the outer frames' next."""
        if match is None:
            self.next = NOWHERE
            self.closing = False
            return
        self.next = found
        self.next_end = match.end()
        self.closing = match.group(1) is not None


    def _search(self, frame: _Frame, limit: int) -> None:
        raw = self.raw
        needle = frame.needle
        pattern = _REST_OF_LINE if frame.loose else _LINE_END
        at = max(self.pos - 1, 0)
        stop = min(limit + len(needle), len(raw))
        frame.seen = limit
        for _ in range(_MISSES):
            found = raw.find(needle, at, stop)
            self.budget -= (stop if found < 0 else found) - at
            match = pattern.match(raw, found + len(needle)) if found >= 0 else None
            if found < 0 or match is not None:
                frame.settle(found, match)
                return
            at = found + 1
        again = re.compile(re.escape(needle) + _LINE_END.pattern).search(raw, at, min(stop + _MAX_BOUNDARY, len(raw)))
        if again is not None and again.start() > limit:
            again = None
        self.budget -= (stop if again is None else again.start()) - at
        frame.settle(-1 if again is None else again.start(), again)


