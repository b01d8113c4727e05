"""The MIME walk (RFC 2045, 2046): one iterative pass over the raw mail that finds every leaf as a view on the bytes.

It decodes and copies no body. Every byte string gives a Scan; its tiles cover the mail without gap or overlap.
"""

import re
from dataclasses import dataclass, field

from ingester.core.boundary import MAX_BOUNDARY, NOWHERE, Frame
from ingester.core.content import decode_view
from ingester.core.false_base64 import as_it_stands
from ingester.core.fields import HeaderBlock, header_start, read_header, second_type
from ingester.core.params import EMPTY, Params, parse_params
from ingester.core.part import MAX_TEXT, Part, make_part

Tile = tuple[str, int, int]
"""What a stretch of the mail is (mbox, header, preamble, boundary, epilogue, body), its offset and its length."""

_GUESS = re.compile(rb"\n--([^\r\n]{1,200}+)\r?\n(?i:content-[a-z-]{2,40}:)")
_SHORTEST_GUESS = 15
"""Bytes that it takes, but for the line feed before it."""
_GUESS_WINDOW = 64 << 10
_SEARCHES = 8
"""How many times the size of the mail may be searched in all; nested boundaries could cost depth times size."""
_MAX_LOST = 4
"""Multiparts that an outer boundary ended unclosed and whose own lines are still looked for: the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Limits of the walk (design page, 9). Beyond one, the rest of the mail is one opaque leaf, flagged."""

    max_line_bytes: int = 64 << 10
    max_header_bytes: int = 256 << 10
    max_header_fields: int = 1000
    max_parts: int = 1000
    max_depth: int = 50
    max_address_tokens: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """An entity of the tree in depth-first order: a multipart, or a leaf (`part` is its index in Scan.parts)."""

    parent: int
    content_type: str
    params: Params
    part: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """The structure of one mail. `nodes[0]` is the root; a node's `parent` is an index in `nodes`, -1 for the root.

    `types` are the media types of all nodes: who looks for a part of a certain type asks here first.
    """

    header: HeaderBlock
    parts: tuple[Part, ...]
    nodes: tuple[Node, ...]
    tiles: tuple[Tile, ...]
    types: frozenset[str]
    flags: tuple[str, ...]


def scan(raw: bytes, bounds: Bounds) -> Scan:
    """Find the leaves of a mail. Time: linear in its size; memory: the parts."""
    return _Scanner(raw, bounds, len(raw)).run()


def decode(raw: bytes, part: Part) -> bytes:
    """The decoded bytes of a part. Memory: the result and one window of content.WINDOW."""
    if part.data is not None:
        return part.data
    return decode_view(raw, part.offset, part.length, part.encoding)


def tiles_balance(scan: Scan, raw: bytes) -> bool:
    """Whether the tiles cover the mail exactly, and the leaves are exactly its body tiles."""
    pos = 0
    bodies: list[tuple[int, int]] = []
    for kind, offset, length in scan.tiles:
        if offset != pos or length < 0:
            return False
        pos += length
        if kind == "body":
            bodies.append((offset, length))
    return pos == len(raw) and bodies == [(part.offset, part.length) for part in scan.parts]


@dataclass(slots=True)
class _Scanner:
    raw: bytes
    bounds: Bounds
    size: int
    pos: int = 0
    budget: int = 0
    frames: list[Frame] = field(default_factory=list)
    lost: list[Frame] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    tiles: list[Tile] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    last: tuple[int, int, int, str] = (0, 0, 0, "")
    """Where the last leaf's entity began, the tiles and nodes before it, its path: to go back to."""

    def run(self) -> Scan:
        raw = self.raw
        self.budget = _SEARCHES * self.size + (64 << 20)
        if start := header_start(raw):
            self.flags.add("mbox_line")
            self._tile("mbox", start)
        header = self._entity("", digest=False)
        self.flags.update(header.flags)
        while self.frames and self._step():
            pass
        self._tile("epilogue", self.size)
        if _has_long_line(raw, self.bounds.max_line_bytes):
            self.flags.add("long_line")
        return Scan(
            header=header,
            parts=tuple(self.parts),
            nodes=tuple(self.nodes),
            tiles=tuple(self.tiles),
            types=frozenset([node.content_type for node in self.nodes]),
            flags=tuple(sorted(self.flags)),
        )

    def _tile(self, kind: str, end: int, *, empty: bool = False) -> None:
        if end > self.pos or empty:
            self.tiles.append((kind, self.pos, end - self.pos))
            self.pos = end

    def _step(self) -> bool:
        """Go on to the next boundary line, whose ever it is, and open what follows. False at the end of the mail."""
        index, feed = self._nearest()
        frames = self.frames
        open_frames = len(frames)
        if index >= open_frames:
            if len(self.parts) >= self.bounds.max_parts:
                return self._give_up()
            frame = self._find_again(index - open_frames)
        else:
            if index + 1 < open_frames:
                self._leave(index + 1)
            if index < 0:
                return False
            frame = frames[index]
        before = self._before(feed)
        if before > self.pos:
            self._tile("epilogue", before)
        self._tile("boundary", frame.next_end)
        if frame.closing:
            frame.closed = True
            return True
        if self.pos == self.size:
            self.flags.add("unclosed_multipart")
            return False
        if frame.closed:
            self.flags.add("parts_after_close")
            frame.closed = False
        if len(self.parts) >= self.bounds.max_parts:
            return self._give_up()
        self._entity(frame.next_path(), digest=frame.digest)
        return True

    def _leave(self, index: int) -> None:
        """The frames from `index` on end here. Those that were not closed may have more parts further on."""
        for frame in self.frames[index:]:
            if frame.closed:
                continue
            self.flags.add("unclosed_multipart")
            if not frame.loose:
                self.lost.append(frame)
        del self.lost[:-_MAX_LOST], self.frames[index:]

    def _find_again(self, index: int) -> Frame:
        """A multipart that an outer boundary ended goes on: its parts are found, in the multipart that is open here.

        RFC 2046, 5.1.2 lets the outer boundary end it; a line of its own later on shows that this one was astray.
        """
        self.flags.add("multipart_resumed")
        frame = self.lost.pop(index)
        while self.frames[-1].closed:
            self.frames.pop()
        old = self.nodes[frame.node]
        frame.path, frame.node, frame.children = self.frames[-1].next_path(), len(self.nodes), 0
        self.nodes.append(Node(parent=self._parent(), content_type=old.content_type, params=old.params))
        self.frames.append(frame)
        return frame

    def _give_up(self) -> bool:
        """The last leaf that the bounds allow is taken back, to hold all the rest of the mail."""
        self.flags.add("parts_limit")
        self.pos, tiles, nodes, path = self.last
        del self.parts[-1:], self.tiles[tiles:], self.nodes[nodes:]
        nothing = HeaderBlock(offset=self.pos, end=self.pos, fields=())
        self._leaf(path, nothing, "application/octet-stream", EMPTY, self.size, ["parts_limit"])
        return False

    def _stop(self) -> int:
        """Where the entity that begins here ends: before the line end that belongs to the next boundary line."""
        index, feed = self._nearest() if self.frames else (-1, NOWHERE)
        return self.size if index < 0 else self._before(feed)

    def _before(self, feed: int) -> int:
        """RFC 2046, 5.1.1: the line end before a boundary belongs to the boundary."""
        pos = self.pos
        if feed <= pos:
            return pos
        return feed - 1 if self.raw[feed - 1] == 13 else feed

    def _entity(self, path: str, *, digest: bool) -> HeaderBlock:
        """Read the header that begins here; open a multipart, or make a leaf of what is under it."""
        stop = self._stop()
        bounds = self.bounds
        header = read_header(
            self.raw,
            self.pos,
            stop,
            max_bytes=bounds.max_header_bytes,
            max_fields=bounds.max_header_fields,
            top=not self.nodes,
        )
        params = EMPTY
        flags: list[str] = []
        said = "content-type" in header.by_name
        if said:
            params = parse_params(header.by_name["content-type"][0])
        kind, _, subtype = params.main.partition("/")
        if kind and subtype:
            media = params.main[:MAX_TEXT]
        else:  # RFC 2045, 5.2; RFC 2046, 5.1.5
            media = "message/rfc822" if digest and not said else "text/plain"
            if said:
                flags.append("bad_content_type")
        if kind != "multipart" or not subtype or not self._open(path, header, media, params, flags):
            self._leaf(path, header, media, params, stop, flags)
        return header

    def _open(self, path: str, header: HeaderBlock, media: str, params: Params, flags: list[str]) -> bool:
        """Open a multipart whose first boundary line is there; else say in `flags` why it is a leaf."""
        if len(self.frames) >= self.bounds.max_depth or self.budget < 0:
            self.flags.add("depth_limit")
            flags.append("depth_limit")
            return False
        here = self.pos
        self.pos = header.end
        boundary = (params.token("boundary") or "").rstrip(" \t").encode("latin-1", "replace")
        frame = self._find_first(boundary, path, media, guess=False) if 0 < len(boundary) <= MAX_BOUNDARY else None
        if frame is None:
            stop = self._stop()
            guess = _GUESS.search(self.raw, max(self.pos - 1, 0), min(stop, self.pos + _GUESS_WINDOW))
            frame = self._find_first(guess.group(1).rstrip(), path, media, guess=True) if guess else None
            flags.append("boundary_guessed" if frame else "no_parts")
            self.flags.add(flags[-1])
        self.pos = here
        if frame is None:
            return False
        split = self._lost_line(header, frame) if self.nodes else -1
        self.nodes.append(Node(parent=self._parent(), content_type=media, params=params))
        self.frames.append(frame)
        if self.lost:
            self.lost = [one for one in self.lost if one.needle != frame.needle]
        self._tile("header", header.end if split < 0 else split)
        if split >= 0 or self._preamble(frame):
            self.flags.add("boundary_lost")
            self._entity(frame.next_path(), digest=frame.digest)
        return True

    def _lost_line(self, header: HeaderBlock, frame: Frame) -> int:
        """Where the header of the first part begins when the boundary line before it was lost, or -1.

        Then the multipart's header runs on into the part's, which shows in a second Content-Type that is no multipart,
        and the part's text stands where a preamble would.
        """
        values = header.all("content-type")
        if len(values) < 2 or parse_params(values[1]).main.startswith("multipart/"):
            return -1
        text = self.raw[header.end : min(frame.next, header.end + _GUESS_WINDOW)]
        return second_type(self.raw, header) if text.strip() else -1

    def _preamble(self, frame: Frame) -> bool:
        """Pass over the preamble. True where it ends in a damaged boundary line: one that a field of MIME follows."""
        end = self._before(frame.next)
        if end - self.pos < _SHORTEST_GUESS:
            self._tile("preamble", end)
            return False
        found = _GUESS.search(self.raw, self.pos - 1, min(end, self.pos + _GUESS_WINDOW))
        self._tile("preamble", self._before(found.start()) if found else end)
        if found:
            self._tile("boundary", self.raw.index(b"\n", found.start() + 1) + 1)
        return found is not None

    def _find_first(self, boundary: bytes, path: str, media: str, *, guess: bool) -> Frame | None:
        """The frame of a multipart, if a boundary line of its own comes before any other's; else None.

        Where no line is exact, one that only begins with the boundary will do (RFC 2046, 5.1.1).
        """
        frame = Frame(needle=b"\n--" + boundary, node=len(self.nodes), path=path, digest=media == "multipart/digest")
        self.frames.append(frame)
        try:
            for loose in (False, True):
                frame.loose = loose
                frame.next = -1
                index, _ = self._nearest()
                if index == len(self.frames) - 1 and not frame.closing and frame.next_end < self.size:
                    if loose:
                        self.flags.add("loose_boundary")
                    return frame
                if guess:
                    break
        finally:
            self.frames.pop()
        return None

    def _parent(self) -> int:
        return self.frames[-1].node if self.frames else -1

    def _leaf(self, path: str, header: HeaderBlock, media: str, params: Params, stop: int, flags: list[str]) -> None:
        start = self.pos
        number = len(self.parts)
        self.last = (start, len(self.tiles), len(self.nodes), path)
        if self.nodes:
            flags += header.flags
        self._tile("header", header.end)
        parent = self.frames[-1].node if self.frames else -1
        self.nodes.append(Node(parent=parent, content_type=media, params=params, part=number))
        view = (self.pos, stop - self.pos)
        part = make_part(number + 1, path or "1", media, params, header, start, view, flags)
        self.parts.append(as_it_stands(self.raw, part) if part.encoding == "base64" else part)
        self._tile("body", stop, empty=True)

    def _nearest(self) -> tuple[int, int]:
        """The frame whose boundary line comes next, and the line feed before that line; (-1, ...) when none does.

        A number beyond the open frames is one of the lost.

        When one line fits two frames, the inner open one has it, but a loose fit yields to an exact one. The outer
        frames' lines bound the inner searches: the cost is the size of the mail times the depth, at most.
        """
        best = NOWHERE
        who = -1
        exact = False
        frames = self.frames
        known = self.pos - 1
        for index, frame in enumerate(frames):
            if frame.next < known or (frame.next == NOWHERE and frame.seen < best):
                self._search(frame, best)
            tie = frame.next == best < NOWHERE and not frame.closed and not (frame.loose and exact)
            if frame.next < best or tie:
                best = frame.next
                who = index
                exact = not frame.loose
        if self.lost and frames and not frames[0].closed and len(frames) < self.bounds.max_depth:
            for index, frame in enumerate(self.lost, len(frames)):
                if frame.next < known or (frame.next == NOWHERE and frame.seen < best):
                    self._search(frame, best)
                if frame.next < best and not frame.closing:
                    who, best = index, frame.next
        return who, best

    def _search(self, frame: Frame, limit: int) -> None:
        """Know the frame's next boundary line. With the budget spent there is none: the open leaf takes the rest."""
        if self.budget < 0:
            self.flags.add("depth_limit")
            frame.give_up()
        else:
            self.budget -= frame.search(self.raw, self.pos, limit)


def _has_long_line(raw: bytes, limit: int) -> bool:
    """Whether a line is longer than `limit` bytes, its CRLF not counted: one step a window, not one a line."""
    pos = 0
    last = len(raw) - limit
    while pos < last:
        feed = raw.rfind(b"\n", pos, pos + limit + 2)
        if feed < 0:
            return True
        pos = feed + 1
    return False
