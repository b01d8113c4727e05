"""What the pages show: every command of README.md and of the pages below deploy/, and the anchors of a page.

A command is a line of a fenced `sh` block, or a code span that begins with a program's name. What is done with each is
`ways`'; a page that is new is found by itself.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAMS = frozenset(
    """
    apt-get aws curl docker ingester install journalctl kubectl openssl pg_basebackup pg_dump pg_restore pip psql python
    sh sudo systemctl systemd-analyze useradd
    """.split()  # noqa: SIM905
)
_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_ASSIGNMENTS = re.compile(r"^(?:[A-Za-z_]+=\S* +)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One command as a page shows it; `block` where it stands in one, with those before it."""

    page: str
    line: int
    text: str
    block: bool

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def pages() -> list[Path]:
    """The README, and every page below deploy/."""
    return [ROOT / "README.md", *sorted(ROOT.glob("deploy/**/*.md"))]


def shown(page: Path) -> list[Shown]:
    """The commands of a page, in order."""
    text = page.read_text()
    name = str(page.relative_to(ROOT))
    found = [*_in_blocks(name, text), *_in_spans(name, text)]
    return sorted(found, key=lambda one: one.line)


def everything() -> Iterator[Shown]:
    """All commands of all pages. One that is shown again within a text is not given again."""
    known: set[str] = set()
    for page in pages():
        for one in shown(page):
            if one.block or one.text not in known:
                yield one
            known.add(one.text)


def _in_blocks(name: str, text: str) -> Iterator[Shown]:
    for block in _BLOCK.finditer(text):
        if block[2] != "sh":
            continue
        begun: list[str] = []
        number = first = text.count("\n", 0, block.start(3)) + 1
        for line in block[3].split("\n"):
            begun.append(line.strip().removesuffix("\\").strip())
            first = first if len(begun) > 1 else number
            number += 1
            if line.endswith("\\"):
                continue
            if any(begun):
                yield Shown(page=name, line=first, text=" ".join(begun), block=True)
            begun = []


def _in_spans(name: str, text: str) -> Iterator[Shown]:
    """Blocks are blanked out, line by line, so that the numbers of the lines stay."""
    rest = _BLOCK.sub(lambda block: "\n" * block[0].count("\n"), text)
    for span in _SPAN.finditer(rest):
        command = " ".join(span[1].split())
        words = _ASSIGNMENTS.sub("", command).split(" ")
        if words[0].removeprefix(".venv/bin/") in PROGRAMS and len(words) > 1:
            yield Shown(page=name, line=rest.count("\n", 0, span.start()) + 1, text=command, block=False)


def anchors(page: Path) -> set[str]:
    """What `#...` may name on a page, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.+)$", _BLOCK.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """What a page links to here: a file and an anchor, "" where none is named."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        yield (page.parent / file).resolve() if file else page, anchor
