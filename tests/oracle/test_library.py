"""Mails that come without expectations: the standard library reads them too, and what differs is in the table."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.oracle import library
from tests.oracle.differences import BY_VERSION, LIBRARY
from tests.oracle.reading import Leaf, Reading, differing, missing, ours

FOLDERS = ("mime-rubymail", "mime-cpython", "mime-nodemailer", "mime-postalmime", "mime-enmime", "mime-zbateson")


def mails(corpora: Path) -> Iterator[Path]:
    for folder in FOLDERS:
        for path in sorted((corpora / folder).rglob("*")):
            good = path.suffix in (".eml", ".raw", ".golden", ".txt") and path.is_file()
            if good and path.parent.name not in ("files", "attachments") and "LICENSE" not in path.name:
                yield path


def compare(raw: bytes) -> list[str]:
    """The aspects that differ. What the library cannot enter must all the same be somewhere in our parts."""
    theirs = library.expected(raw)
    mine = ours(raw)
    if library.cannot_enter(theirs) and not any(leaf.media.startswith("multipart/") for leaf in mine.leaves):
        known = [leaf for leaf in theirs.leaves if not leaf.media.startswith("multipart/")]
        theirs = replace(theirs, leaves=mine.leaves)
        return ["parts"] if missing(mine.leaves, known) else differing(mine, theirs)
    mine, theirs = _filled(mine), _filled(theirs)
    if len(mine.leaves) == len(theirs.leaves):
        loose = library.unclosed(raw)
        pairs = zip(mine.leaves, theirs.leaves, strict=True)
        theirs = replace(theirs, leaves=tuple(_settle(one, other, loose=loose) for one, other in pairs))
    return differing(mine, theirs)


def _filled(reading: Reading) -> Reading:
    return replace(reading, leaves=tuple(leaf for leaf in reading.leaves if leaf.content or leaf.media != "text/plain"))


def _settle(mine: Leaf, theirs: Leaf, *, loose: bool) -> Leaf:
    """Their leaf, with ours in the place of what the library does not know."""
    unknown = theirs.media.startswith("message/")
    trimmed = loose and mine.text().rstrip("\n") == theirs.text().rstrip("\n")
    name = mine.name if theirs.name is None else theirs.name
    return replace(theirs, name=name, content=mine.content if unknown or trimmed else theirs.content)


def test_the_library_finds_nothing_that_we_do_not(corpora: Path) -> None:
    found = {
        (str(path.relative_to(corpora)), aspect) for path in mails(corpora) for aspect in compare(path.read_bytes())
    }
    assert found <= set(LIBRARY)
    assert set(LIBRARY) - BY_VERSION <= found, "an entry of the table is stale"
