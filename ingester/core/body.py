"""Which leaves are the body (RFC 8621, 4.1.4; RFC 2046, 5.1.4; RFC 2387), what they say, and the role of every part."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape, unescape
from itertools import islice
from urllib.parse import unquote

from ingester.core.charset import Ladder, clean
from ingester.core.content import Measure, decode_and_measure, decode_start, pieces
from ingester.core.flowed import is_flowed, join_flowed
from ingester.core.html import TextMaker
from ingester.core.mime import Node, Scan
from ingester.core.part import Part
from ingester.core.patience import check_html

_MAX_CID = 998
_CID = re.compile(r"cid:([^\s\"'<>)]{1,998})", re.IGNORECASE)
_CID_SIGNS = (b"cid:", "c\u0130d:".encode(), "c\u0131d:".encode())
"""One of them stands, in lower case, in what _CID finds: a search for these is 20 times as fast as one for any case."""
_STEP = 256 << 10
"""Characters searched at a time, and bytes of a leaf above which it is decoded anew for each charset that is tried."""
_MAX_CITED = 5000
_META_WINDOW = 4096
_CHARSET_IN_HTML = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]{1,40})", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """The text columns of a mail; the ordinals of its body leaves; the Content-IDs that its HTML cites.

    `measures` tells what leaves measure that were decoded as a whole, by ordinal: so that nobody decodes them again.
    """

    text: str
    html: str | None
    leaves: frozenset[int]
    cited: frozenset[str]
    measures: dict[int, Measure]


@dataclass(slots=True)
class _Choice:
    """What a subtree offers for reading as text, and for reading as HTML: indices of leaves, in order."""

    text: list[int]
    html: list[int]


def read_body(raw: bytes, scan: Scan, flags: set[str], *, hasty: bool = False) -> Body:
    """Choose the body leaves and decode them. Each leaf is decoded once. Raises CostlyError only in haste."""
    choice = _choose(scan)
    ladder = Ladder(flags=flags)
    texts: dict[int, str] = {}
    measures: dict[int, Measure] = {}
    flowed = {
        node.part: node.params for node in scan.nodes if node.params.raw and is_flowed(node.content_type, node.params)
    }
    for index in choice.text if choice.text == choice.html else dict.fromkeys([*choice.text, *choice.html]):
        text = _leaf_text(raw, scan.parts[index], ladder, measures)
        texts[index] = join_flowed(text, flowed[index]) if index in flowed else text
    html = {index: text for index, text in texts.items() if scan.parts[index].content_type == "text/html"}
    if hasty and html:
        check_html(html[index] for index in choice.text if index in html)
    maker = TextMaker()
    plain = [clean(maker.text(html[i]), flags) if i in html else texts[i] for i in choice.text]
    if maker.cut:
        flags.add("body_text_cut")
    return Body(
        text=_join(plain),
        html=_as_html(choice.html, texts, html) if html else None,
        leaves=frozenset([scan.parts[index].ordinal for index in texts]),
        cited=_cited(html.values()),
        measures=measures,
    )


def _as_html(indices: list[int], texts: dict[int, str], html: dict[int, str]) -> str | None:
    """The leaves to be read as HTML; None where none of them is."""
    if html.keys().isdisjoint(indices):
        return None
    return "\n".join([html[i] if i in html else f"<pre>{escape(texts[i])}</pre>" for i in indices])


def _join(texts: list[str]) -> str:
    """One text of several: each begins on a line of its own, nothing is added to a single one."""
    if len(texts) == 1:
        return texts[0]
    filled = [text for text in texts if text]
    return "".join(
        text if text.endswith("\n") or number == len(filled) else text + "\n" for number, text in enumerate(filled, 1)
    )


def _leaf_text(raw: bytes, part: Part, ladder: Ladder, measures: dict[int, Measure]) -> str:
    view = (raw, part.offset, part.length, part.encoding)
    silent = part.charset is None and part.content_type == "text/html"
    if part.length > _STEP:
        label = _charset_in(decode_start(*view, _META_WINDOW)) if silent else part.charset
        return ladder.read(lambda: pieces(*view, set()), label)
    data, measures[part.ordinal] = decode_and_measure(*view)
    return ladder.read_whole(data, _charset_in(data) if silent else part.charset)


def _charset_in(html: bytes) -> str | None:
    """What HTML says of itself at its beginning."""
    found = _CHARSET_IN_HTML.search(html, 0, _META_WINDOW)
    return found.group(1).decode("ascii") if found else None


def _choose(scan: Scan) -> _Choice:
    """Fold the tree from its end: children come after their parent, so every subtree is ready when it is asked for."""
    offers: dict[int, list[tuple[int, _Choice]]] = {}
    choice = _Choice([], [])
    for number in range(len(scan.nodes) - 1, -1, -1):
        node = scan.nodes[number]
        if node.part is not None:
            choice = _leaf_choice(scan, node, number)
        else:
            children = offers.pop(number, [])
            children.reverse()
            choice = _of_multipart(scan, node, children)
        offers.setdefault(node.parent, []).append((number, choice))
    return choice


def _of_multipart(scan: Scan, node: Node, children: list[tuple[int, _Choice]]) -> _Choice:
    if node.content_type == "multipart/related":
        return _related(scan, node, children)
    choices = [child for _, child in children]
    return _alternative(scan, choices) if node.content_type == "multipart/alternative" else _concat(choices)


def _leaf_choice(scan: Scan, node: Node, number: int) -> _Choice:
    assert node.part is not None
    part = scan.parts[node.part]
    readable = part.content_type in ("text/plain", "text/html") or (number == 0 and "no_parts" in part.flags)
    if not readable or part.disposition == "attachment":
        return _Choice([], [])
    parent = scan.nodes[node.parent] if node.parent >= 0 else None
    if parent is not None and part.original_filename and parent.content_type != "multipart/alternative":
        first = scan.nodes[number - 1] is parent
        if not first:
            return _Choice([], [])
    return _Choice([node.part], [node.part])


def _alternative(scan: Scan, children: list[_Choice]) -> _Choice:
    """RFC 2046, 5.1.4: the last alternative that is understood, for each of the two ways of reading."""
    out = _Choice([], [])
    for child in children:
        if child.text and (_plain(scan, child.text) or not _plain(scan, out.text)):
            out.text = child.text
        if child.html and (_has(scan, child.html, "text/html") or not _has(scan, out.html, "text/html")):
            out.html = child.html
    return out


def _related(scan: Scan, node: Node, children: list[tuple[int, _Choice]]) -> _Choice:
    """RFC 2387, 3.2: the root is what `start` names, else the first. A root without text lets the others speak."""
    start = (node.params.token("start") or "").strip("<> ").lower()
    root = children[0][1] if children else _Choice([], [])
    for number, child in children if start else ():
        part = scan.nodes[number].part
        if part is not None and (scan.parts[part].content_id or "").lower() == start:
            root = child
    return root if root.text or root.html else _concat([child for _, child in children])


def _concat(children: list[_Choice]) -> _Choice:
    return _Choice([i for child in children for i in child.text], [i for child in children for i in child.html])


def _plain(scan: Scan, indices: list[int]) -> bool:
    """Whether it is plain throughout: a mixed of HTML and its footer in plain text is no plain alternative."""
    for index in indices:
        if scan.parts[index].content_type != "text/plain":
            return False
    return bool(indices)


def _has(scan: Scan, indices: list[int], media: str) -> bool:
    return media in [scan.parts[index].content_type for index in indices]


def _cited(texts: Iterable[str]) -> frozenset[str]:
    """The Content-IDs that HTML cites (RFC 2392), percent-decoded, in lower case."""
    found: dict[str, None] = {}
    for text in texts:
        for start in range(0, len(text), _STEP):
            stretch = text[start : start + _STEP + _MAX_CID]
            if _may_cite(stretch):
                found.update(dict.fromkeys(_CID.findall(stretch)))
    return frozenset([unquote(unescape(one)).strip("<>").lower() for one in islice(found, _MAX_CITED)])


def _may_cite(text: str) -> bool:
    if text.isascii():
        return "cid:" in text.lower()
    low = text.encode("utf-8", "surrogatepass").lower()
    return any(sign in low for sign in _CID_SIGNS)
