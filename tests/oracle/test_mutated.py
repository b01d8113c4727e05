"""fast-mail-parser as a second reader of mails that we broke: what it finds whole, we find too, or a rule says why not.

Mails that it does not read at all are left out: one bad base64 part is enough for it to refuse the mail.
"""

import re
from binascii import a2b_qp
from collections import Counter
from collections.abc import Iterator

import fast_mail_parser

from ingester.core.content import decode_view
from ingester.core.mime import Scan, decode, scan
from tests.core.mime_trees import make_tree, mutate
from tests.oracle.reading import BOUNDS

MAILS = 4000
_SHORT = 8
"""Content of fewer bytes may be found by chance."""

REASONS = {
    "line ends": "The mail has lost its CRs: it writes decoded text with CRLF, we give the line ends that are there.",
    "no header": "A wound has ended the header early, or its first line is no field: all that follows is the text.",
    "foreign line": (
        "A line that only begins with a boundary, or whose multipart has lost its header, is text to us (RFC 2046, "
        "5.1.1): it could be another multipart's. The content stands in that text, whole."
    ),
    "after the end": "It follows the line that ends its multipart: an epilogue, which is no part (RFC 2046, 5.1.1).",
    "foreign bytes": "It drops NUL and 8-bit bytes from quoted-printable; by chance they were the wound. We keep them.",
}
"""Why a content that it finds whole is not a part of ours, by class. None of these is lost: see `explain`."""
_STARTS = re.compile(rb"\r?\n[ \t]*+\r?\n")
_ENDS = re.compile(rb"\r?\n--")
_DASHES = re.compile(rb"^--", re.MULTILINE)
_FOREIGN = b"\0" + bytes(range(128, 256))


def broken(seed: int) -> tuple[bytes, set[bytes]]:
    """A tree with one to four wounds, and what its leaves held before."""
    tree = make_tree(seed)
    raw = tree.raw
    for wound in range(1 + seed % 4):
        raw = mutate(raw, seed * 5 + wound)
    return raw, {leaf.content for leaf in tree.leaves if len(leaf.content) > _SHORT}


def theirs(raw: bytes) -> set[bytes] | None:
    try:
        mail = fast_mail_parser.parse_email(raw)
    except Exception:  # noqa: BLE001 - a Rust panic or whatever it raises: it has no reading of this mail
        return None
    texts = [*mail.text_plain, *mail.text_html]
    return {part.content for part in mail.attachments} | {text.encode("utf-8", "surrogatepass") for text in texts}


def explain(raw: bytes, structure: Scan, content: bytes) -> str | None:
    """The class of REASONS that a content belongs to which is none of our parts; None where no rule explains it."""
    wanted = plain(content)
    decoded = [plain(decode(raw, part)) for part in structure.parts]
    if wanted in decoded:
        return "line ends"
    for part, text in zip(structure.parts, decoded, strict=True):
        view = raw[part.offset : part.offset + part.length]
        if wanted not in text and not stands_in(view, wanted):
            continue
        if "no_header_end" in (*part.flags, *(structure.flags if len(structure.parts) == 1 else ())):
            return "no header"
        if _DASHES.search(view):
            return "foreign line"
    if any(stands_in(raw[at : at + size], wanted) for kind, at, size in structure.tiles if kind == "epilogue"):
        return "after the end"
    if any(stands_in(raw[at : at + size], wanted) for kind, at, size in structure.tiles if kind == "preamble"):
        return "foreign line"
    views = (raw[part.offset : part.offset + part.length].translate(None, _FOREIGN) for part in structure.parts)
    return "foreign bytes" if any(plain(a2b_qp(view)) == wanted for view in views) else None


def plain(data: bytes) -> bytes:
    return data.replace(b"\r\n", b"\n")


def stands_in(view: bytes, wanted: bytes) -> bool:
    """Whether a stretch between an empty line and a line of dashes is the content, in whatever transfer encoding."""
    return any(
        wanted in (plain(stretch), plain(a2b_qp(stretch)), plain(decode_view(stretch, 0, len(stretch), "base64")))
        for stretch in stretches(view)
    )


def stretches(view: bytes) -> Iterator[bytes]:
    ends = [match.start() for match in _ENDS.finditer(view)] + [len(view)]
    for start in (0, *(match.end() for match in _STARTS.finditer(view))):
        for end in [end for end in ends if end >= start][:6]:
            yield view[start:end]


def test_what_it_finds_whole_we_find_too_or_a_rule_says_why_not() -> None:
    """Every difference falls into a class of REASONS, and every class occurs; but for epilogues, no byte is outside."""
    count: Counter[str] = Counter()
    for seed in range(MAILS):
        raw, genuine = broken(seed)
        found = theirs(raw)
        if found is None:
            count["refused"] += 1
            continue
        structure = scan(raw, BOUNDS)
        mine = {decode(raw, part) for part in structure.parts}
        count["both"] += len(found & genuine & mine)
        count["ours alone"] += len((genuine & mine) - found)
        for content in (genuine & found) - mine:
            reason = explain(raw, structure, content)
            assert reason is not None, (seed, content)
            count["theirs alone"] += 1
            count[reason] += 1
    assert all(count[reason] for reason in REASONS), count
    assert count["refused"] < MAILS // 5, count
    assert count["theirs alone"] * 20 < count["both"], count
    assert count["ours alone"] > 20 * count["theirs alone"], count
    assert count["after the end"] <= 5, count
    assert count["foreign bytes"] <= 3, count


def test_a_part_that_we_would_lose_has_no_reason() -> None:
    raw = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhere it is\r\n--b--\r\n"
    assert explain(raw, scan(raw, BOUNDS), b"another content") is None
