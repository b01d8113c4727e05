"""fast-mail-parser as a second reader of mails that we broke: what it finds whole, we find too, or a rule says why not.

Mails that it does not read at all are left out: one bad base64 part is enough for it to refuse the mail.
"""

from collections import Counter

import fast_mail_parser

from ingester.core.mime import decode, scan
from tests.core.mime_trees import make_tree, mutate
from tests.oracle.reading import BOUNDS

MAILS = 4000
_SHORT = 8
"""Content of fewer bytes may be found by chance."""


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


def test_what_it_finds_whole_we_find_too() -> None:
    """Its reading is laxer at one place: any line that begins with the boundary ends a part, whatever follows.

    We hold that line for text when it could be the boundary of another multipart, and where a header is damaged we
    keep what stands there as text. Then the part is not whole in ours, but every byte of it is in a leaf.
    """
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
        count["theirs alone"] += len((genuine & found) - mine)
        views = b"\0".join(raw[part.offset : part.offset + part.length] for part in structure.parts)
        for content in (genuine & found) - mine:
            count["outside of our parts"] += content in raw and content not in views
    assert count["refused"] < MAILS // 5, count
    assert count["theirs alone"] * 15 < count["both"], count
    assert count["ours alone"] > 10 * count["theirs alone"], count
    assert count["outside of our parts"] <= 1, count  # an epilogue: what follows the end of a multipart is no part
