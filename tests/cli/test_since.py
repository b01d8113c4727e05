"""ingester.cli.since: ages and dates, and what is neither."""

from datetime import UTC, datetime

import pytest

from ingester.cli.since import moment

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("90s", "2026-11-21T11:58:30"),
        ("30m", "2026-11-21T11:30:00"),
        ("1h", "2026-11-21T11:00:00"),
        ("7d", "2026-11-14T12:00:00"),
        ("2w", "2026-11-07T12:00:00"),
        ("0h", "2026-11-21T12:00:00"),
        ("2026-11-20", "2026-11-20T00:00:00"),
        ("2026-11-20T10:30", "2026-11-20T10:30:00"),
        ("2026-11-20T10:30:00+02:00", "2026-11-20T08:30:00"),
        ("2026-11-20T10:30:00Z", "2026-11-20T10:30:00"),
    ],
)
def test_an_age_or_a_date_is_a_moment_in_utc(text: str, wanted: str) -> None:
    found = moment(text, NOW)
    assert found == datetime.fromisoformat(wanted).replace(tzinfo=UTC)
    assert found.utcoffset() is not None


@pytest.mark.parametrize(
    "text",
    ["", "1", "h", "-1h", "1y", "1h ", "yesterday", "2026-13-01", "999999w", "0001-01-01T00:00+14:00", "\u0661h"],
)
def test_anything_else_is_none(text: str) -> None:
    assert moment(text, NOW) is None
