"""mime-stalwart: every mail of rfc/ and malformed/, with LF and with CRLF, against its expected JSON."""

from pathlib import Path

from tests.oracle import stalwart
from tests.oracle.differences import STALWART
from tests.oracle.reading import Leaf, Reading, differing, ours, same_parts


def cases(corpora: Path) -> list[tuple[str, Reading, Reading]]:
    """Name of the mail, ours, theirs."""
    paths = sorted((corpora / "mime-stalwart" / "eml").glob("*/*.json"))
    return [
        (
            f"{path.parent.name}/{path.name.partition('.')[0]}",
            ours(stalwart.mail_of(path)),
            stalwart.expected(path),
        )
        for path in paths
    ]


def test_every_difference_is_in_the_table_and_every_entry_of_it_is_one(corpora: Path) -> None:
    found = cases(corpora)
    assert len(found) == 66
    assert {(name, aspect) for name, mine, theirs in found for aspect in differing(mine, theirs)} == set(STALWART)


def test_every_part_of_a_sound_mail_is_equal(corpora: Path) -> None:
    assert all(
        same_parts(mine.leaves, theirs.leaves) for name, mine, theirs in cases(corpora) if name.startswith("rfc")
    )


def test_no_content_that_it_finds_is_lost(corpora: Path) -> None:
    """Every line of every part of Stalwart's that is no boundary or header line is a line of a part of ours."""
    for name, mine, theirs in cases(corpora):
        have = {line for leaf in mine.leaves for line in lines(leaf)}
        lost = [line for leaf in theirs.leaves for line in lines(leaf) if line not in have]
        assert [line for line in lost if not line.startswith(("--", "Content-"))] == [], name


def lines(leaf: Leaf) -> list[str]:
    """Its lines that are plain ASCII: what a stray byte means is a matter of taste."""
    return [line for line in leaf.text().splitlines() if line.strip() and line.isprintable() and line.isascii()]
