"""mime-zbateson: what was attached to its 75 mails comes back byte for byte: every named part is one of the files."""

from pathlib import Path

from ingester.core.message import digest
from tests.oracle.differences import ZBATESON
from tests.oracle.reading import BOUNDS, content_of

NOT_SENT = "wolfandlamb.txt"
"""A file that no mail of the corpus holds."""


def test_every_attachment_is_a_file_and_every_file_an_attachment(corpora: Path) -> None:
    folder = corpora / "mime-zbateson" / "emails"
    files = {path.read_bytes(): path.name for path in (folder / "files").iterdir()}
    others: set[tuple[str, str]] = set()
    seen: set[str] = set()
    mails = sorted(folder.glob("*.txt"))
    assert len(mails) == 75
    for path in mails:
        raw = path.read_bytes()
        for part in digest(raw, BOUNDS).parts:
            content = content_of(raw, part)
            if content in files:
                seen.add(files[content])
            elif part.original_filename:
                others.add((path.name, part.original_filename))
    assert others == set(ZBATESON)
    same = {name for content, name in files.items() if name in seen}
    not_whole = {name for _, name in ZBATESON}
    assert set(files.values()) - same - not_whole == {NOT_SENT}


def test_the_files_in_binhex_differ_by_line_ends_at_most(corpora: Path) -> None:
    folder = corpora / "mime-zbateson" / "emails"
    raw = (folder / "m2011.txt").read_bytes()
    _, picture, story = digest(raw, BOUNDS).parts
    assert (picture.encoding, picture.flags, story.encoding, story.flags) == ("binhex", (), "binhex", ())
    assert content_of(raw, picture) == (folder / "files" / "blueball.png").read_bytes()
    text = content_of(raw, story).replace(b"\r", b"\r\n")
    assert text == (folder / "files" / "HasenundFrosche.txt").read_bytes()
