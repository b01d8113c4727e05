"""The content of DATA: finds its end in bulk, refuses an ambiguous one, undoes dot-stuffing. No sockets, no clock.

Only CRLF.CRLF ends the content (RFC 5321, 4.1.1.4). A dot between line ends of which one is a stray CR, a stray LF or
is broken by NUL is an end of data to some other server: such a mail is refused, or a second mail could hide in it
(SMTP smuggling). Other NUL, bare CR and, in mode `normalise`, bare LF are taken and flagged.

Work is done on whole chunks with C-speed searches; the slow, exact search runs only where a stray byte was seen. Memory
is the content kept, plus four bytes held back between chunks. Nothing here raises on any input.
"""

import re
from enum import Enum
from io import SEEK_END, BytesIO

from ingester.transport.line_ends import only_crlf

_END = b"\r\n.\r\n"
_DOT_LINE = re.compile(rb"\n\.")
_BARE_LF = re.compile(rb"\n(?<!\r\n)")
_BARE_CR = re.compile(rb"\r[^\n]")
_LONE_DOT_BY_DOT = re.compile(rb"\.(?<=[\r\n]\.)[\r\n]")
_LONE_DOT_BY_LINE = re.compile(rb"[\r\n]\.[\r\n]")
"""A dot alone on a line, if CR and LF are line ends each. Twice the same: it is started at what is rarer."""
_OPEN = re.compile(rb"(?:\r\n?|\n)(?:\.\r?)?\Z")
"""The tail that more bytes may make into an end, a CRLF or a stuffed dot: at most four bytes."""
_STRAY_BEFORE_END = b"\r\0"
_WINDOW = 4 << 10


class Verdict(Enum):
    """How the content ended."""

    COMPLETE = "complete"
    AMBIGUOUS = "ambiguous"


class DataReader:
    """Reads the content of one mail from chunks of any size.

    `verdict` is None until the end is found; then `rest` holds what came behind it. `max_bytes` bounds the content
    (octets after unstuffing), `max_line` is where a line earns the flag `long_line`. With `normalise` a bare LF is read
    as CRLF, without it `bare_lf` is set and the content dropped. Beyond a bound the content is dropped and read on.
    """

    __slots__ = (
        "_before",
        "_content",
        "_line",
        "_max_bytes",
        "_max_line",
        "_normalise",
        "_nul_context",
        "_started",
        "_tail",
        "dropped",
        "flags",
        "oversized",
        "rest",
        "seen",
        "size",
        "verdict",
    )

    def __init__(self, *, max_bytes: int, max_line: int, normalise: bool) -> None:
        self._max_bytes = max_bytes
        self._max_line = max_line
        self._normalise = normalise
        self._content: bytes | BytesIO | None = None
        self._tail = b"\r\n"  # the line end of the DATA command: the first line may start with a dot as any other
        self._nul_context = b""
        self._before = 0x20
        self._line = 0
        self._started = False
        self.verdict: Verdict | None = None
        self.rest = b""
        self.flags: set[str] = set()
        self.oversized = False
        self.dropped = False
        self.size = 0
        self.seen = 0

    @property
    def held(self) -> int:
        """Octets of content in memory."""
        return 0 if self.dropped else self.size

    def drop(self) -> None:
        """Forget the content and keep none from here on; the end is still looked for."""
        self.dropped = True
        self._content = None

    def take(self) -> bytes:
        """The content, handed over once."""
        content = self._content or b""
        self.drop()
        # Without a copy: the buffer is cut to size and shared.
        return content if isinstance(content, bytes) else content.getvalue()

    def feed(self, chunk: bytes) -> bool:
        """Take the next bytes from the wire. True when the end, true or ambiguous, has been found."""
        if not self.seen and not self.dropped and chunk[:1].isalpha():
            # A header begins, as in nearly every mail: before it stands nothing that could matter. Spares a copy.
            self._started, self._tail = True, b""
        self.seen += len(chunk)
        data = self._tail + chunk if self._tail else chunk
        end, dotted = _find_end(data)
        if self._note_strays(data, len(data) if end < 0 else end + 2) and self._ambiguous(data, end):
            return self._finish(Verdict.AMBIGUOUS, b"")
        if end < 0:
            self._hold_back(data, dotted=dotted)
            return False
        before = data[end - 1] if end else self._before
        if before in _STRAY_BEFORE_END:
            return self._finish(Verdict.AMBIGUOUS, b"")
        self._keep(data, end + 2, dotted=dotted)
        return self._finish(Verdict.COMPLETE, data[end + len(_END) :])

    def _note_strays(self, data: bytes, stop: int) -> bool:
        """Flag what is not plain CRLF text. True when the exact search must run. A CR at the very end is undecided."""
        nul = data.find(b"\0", 0, stop) >= 0
        if nul:
            self.flags.add("nul")
        if only_crlf(data, whole=False):
            return nul or bool(self._nul_context)
        bare_cr = _BARE_CR.search(data, 0, stop) is not None
        bare_lf = _BARE_LF.search(data, 0, stop) is not None
        if bare_cr:
            self.flags.add("bare_cr")
        if bare_lf:
            self.flags.add("bare_lf")
        return nul or bare_cr or bare_lf or bool(self._nul_context)

    def _ambiguous(self, data: bytes, end: int) -> bool:
        """Whether a dot before the true end (at `end`, or -1) could end the content for another server.

        Some servers drop NUL, so it is searched without them. What was seen before `data` and is parted from it by
        NUL alone is kept as a context of two bytes.
        """
        text = data if end < 0 else data[: end + 3]
        if self._nul_context or b"\0" in text:
            text = self._nul_context + text.translate(None, b"\0")
        found = _find_lone_dot(text)
        self._nul_context = b"" if end >= 0 else _open_end(text)
        if found is None or end >= 0:
            return found is not None
        undecided = found.end() == len(text) and data.endswith(b"\r\n.\r")
        return not undecided

    def _hold_back(self, data: bytes, *, dotted: bool) -> None:
        still_open = _OPEN.search(data, max(len(data) - 4, 0))
        cut = still_open.start() if still_open is not None else len(data)
        self._tail = data[cut:]
        if self._tail:
            self._nul_context = b""
        if cut:
            self._before = data[cut - 1]
            self._keep(data, cut, dotted=dotted)

    def _keep(self, data: bytes, stop: int, *, dotted: bool) -> None:
        """Add what stands before `stop`: whole pieces, never cut inside a CRLF or between a line end and a dot."""
        if self.dropped:
            self.size += stop
            self.oversized |= self.size > self._max_bytes
            return
        piece = self._as_meant(data, stop, dotted=dotted)
        self.size += len(piece)
        if "long_line" not in self.flags:
            self._measure_lines(piece)
        self.oversized = self.size > self._max_bytes
        if self.oversized or ("bare_lf" in self.flags and not self._normalise):
            self.drop()
        elif self._content is None:
            self._content = piece  # most mails come in one
        else:
            if isinstance(self._content, bytes):
                self._content = BytesIO(self._content)
                self._content.seek(0, SEEK_END)
            self._content.write(piece)

    def _as_meant(self, data: bytes, stop: int, *, dotted: bool) -> bytes:
        """What stands before `stop` without the stuffed dots, every line ended by CRLF."""
        begin = 0 if self._started else 2
        self._started = True
        bare_lf = "bare_lf" in self.flags
        if not (dotted or bare_lf):
            return data[begin:stop]
        piece = data[:stop]
        if bare_lf:
            # As if the client had sent CRLF, stuffed dots included: who ends lines with LF stuffs behind LF.
            piece = piece.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        if dotted:
            piece = piece.replace(b"\r\n.", b"\r\n")
        return piece[begin:]

    def _measure_lines(self, piece: bytes) -> None:
        """Jump from line end to line end, a limit's width at a time: a few searches a chunk, whatever its lines."""
        limit = self._max_line + 2
        first = piece.find(b"\n", 0, limit + 1)
        if first < 0:
            self._line += len(piece)
        elif self._line + first + 1 > limit:
            self._line = limit + 1
        else:
            at = first + 1
            while len(piece) - at > limit:
                last = piece.rfind(b"\n", at, at + limit)
                if last < 0:
                    break
                at = last + 1
            last = piece.rfind(b"\n", at, at + limit)
            self._line = len(piece) - (last + 1 if last >= 0 else at)
        if self._line > limit:
            self.flags.add("long_line")

    def _finish(self, verdict: Verdict, rest: bytes) -> bool:
        self.verdict = verdict
        self.rest = rest
        self._tail = b""
        if verdict is Verdict.AMBIGUOUS:
            self.drop()
        return True


def _find_end(data: bytes) -> tuple[int, bool]:
    """Where the true end begins, or -1, and whether a line before it begins with a dot.

    The dot of an end that nothing follows, as in nearly every mail, is not looked at again.
    """
    close = len(data) - len(_END) if data.endswith(_END) else -1
    line = _find_dot_line(data, close if close >= 0 else len(data))
    if line < 0:
        return close, False
    end = data.find(_END, max(line - 1, 0))
    return end, end < 0 or line != end + 1


def _find_dot_line(data: bytes, stop: int) -> int:
    """The line end before the first line that begins with a dot, or -1.

    Text is searched a window at a time; base64, which has no dots, costs no more than the search for one octet.
    """
    dot = data.find(b".", 0, stop)
    while dot >= 0:
        begin = max(dot - 1, 0)
        found = _DOT_LINE.search(data, begin, min(begin + _WINDOW, stop))
        if found is not None:
            return found.start()
        dot = data.find(b".", begin + _WINDOW, stop)
    return -1


def _find_lone_dot(text: bytes) -> re.Match[bytes] | None:
    """The first one. Starting at dots or at line ends, whichever are fewer, keeps crafted content linear and quick."""
    dots = text.count(b".")
    if not dots:
        return None
    by_dot = dots <= text.count(b"\n") + text.count(b"\r")
    return _LONE_DOT_BY_DOT.search(text) if by_dot else _LONE_DOT_BY_LINE.search(text)


def _open_end(text: bytes) -> bytes:
    """The line end, or the line end and dot, that `text` ends with."""
    if text[-1:] in (b"\r", b"\n"):
        return text[-1:]
    return text[-2:] if text[-1:] == b"." and text[-2:-1] in (b"\r", b"\n") else b""
