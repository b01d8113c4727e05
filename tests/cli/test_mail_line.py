"""The line of a mail: it fits, leaves out the least first, and tells the date where it must."""

from datetime import UTC, datetime, timedelta

import pytest
from rich.cells import cell_len

from ingester.cli.mail_line import MailLine, size

AT = datetime(2026, 11, 21, 12, 30, 15, tzinfo=UTC)
LINE = MailLine(
    at=AT,
    sender="ada@customer.test",
    recipients="support@acme.test, sales@acme.test",
    subject="\u4f60\u597d" * 30,
    word="unmatched",
    notes=("smtp", size(1234)),
    aside="01a1fdd2-a7cc-7232-be6a-ad5570b21131",
)


@pytest.mark.parametrize(
    ("width", "notes", "aside"), [(60, False, False), (80, False, False), (150, True, False), (200, True, True)]
)
def test_it_fits(width: int, notes: bool, aside: bool) -> None:
    text = LINE.text(width=width).plain
    assert cell_len(text) <= width
    assert "unmatched" in text
    assert ("smtp" in text, LINE.aside in text) == (notes, aside)
    assert cell_len(LINE.text(width=width, tenant="globex").plain) <= width
    assert "globex" in LINE.text(width=width, tenant="globex").plain


def test_a_time_of_another_day_has_its_date() -> None:
    assert LINE.text(now=AT).plain.startswith(f"{AT.astimezone():%H:%M:%S}  ")
    assert LINE.text(now=AT + timedelta(days=2)).plain.startswith(f"{AT.astimezone():%m-%d %H:%M:%S}  ")


@pytest.mark.parametrize(
    ("count", "told"),
    [(None, "-"), (0, "0 B"), (9999, "9,999 B"), (10_000, "10 KB"), (9_999_999, "9,999 KB"), (10**10, "10,000 MB")],
)
def test_sizes(count: int | None, told: str) -> None:
    assert size(count).strip().replace("  ", " ") == told
