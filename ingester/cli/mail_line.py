"""One mail in one line for people: `ingester dev`, `tail` and `top` print it alike. Nothing is asked here."""

from dataclasses import dataclass
from datetime import datetime

from rich.cells import cell_len, set_cell_size
from rich.text import Text

COLOURS = {"matched": "green", "unmatched": "yellow", "duplicate": "blue", "erased": "dim"}
"""What is not named here was not taken, or could not be digested: red."""

WIDE = 137
"""Columns of a line with everything but what is said aside."""
UNBOUNDED = 10_000
_TENANT = 12
_FIXED = 27
"""Of them: time and word, and the gaps between the first five."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailLine:
    """What a line tells. `word` says what became of the mail, `notes` are the columns behind it."""

    at: datetime
    sender: str
    recipients: str
    subject: str
    word: str
    notes: tuple[str, ...] = ()
    aside: str = ""
    """Said last and quietly."""

    def text(self, *, now: datetime | None = None, tenant: str | None = None, width: int = UNBOUNDED) -> Text:
        """The line, coloured by what became of the mail. With `now`, a time of another day is told with its date.

        It fits the `width`: what is said aside is left out first, then the notes, then the columns shrink.
        """
        width -= 0 if tenant is None else _TENANT + 2
        share = min(width, WIDE) - _FIXED
        columns = (26, 28, 34) if width >= WIDE else (share * 3 // 10, share * 3 // 10, share - 2 * (share * 3 // 10))
        at = self.at.astimezone()
        another = now is not None and at.date() != now.astimezone().date()
        return Text("  ").join(
            [
                Text(f"{at:%m-%d %H:%M:%S}" if another else f"{at:%H:%M:%S}", "dim"),
                *([Text(fit(tenant, _TENANT))] if tenant is not None else []),
                Text(fit(self.sender or "<>", columns[0])),
                Text(fit(self.recipients, columns[1])),
                Text(fit(self.subject or "(no subject)", columns[2])),
                Text(f"{self.word:<11}", COLOURS.get(self.word, "red")),
                *(Text(note) for note in self.notes if width >= WIDE),
                *([Text(self.aside, "dim")] if self.aside and width >= WIDE + 2 + len(self.aside) else []),
            ]
        )


def fit(text: str, width: int) -> str:
    """Cut or pad to a column; control characters of a stranger's mail never reach the terminal."""
    plain = "".join(char if char.isprintable() else " " for char in text)
    if cell_len(plain) > width:
        plain = set_cell_size(plain, width - 1) + "\u2026"
    return set_cell_size(plain, width)


def size(count: int | None) -> str:
    """Bytes for people, in eight characters."""
    if count is None:
        return f"{'-':>8}"
    for unit in ("B", "KB", "MB"):
        if count < 10_000 or unit == "MB":
            return f"{count:>5,} {unit:<2}"
        count //= 1000
    raise AssertionError  # the last unit has been given
