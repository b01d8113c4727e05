"""Dates and message-ids in the forms that mail brings."""

from datetime import UTC, datetime

import pytest

from ingester.core.headers import MAX_ID, MAX_IDS, message_id, message_ids, parse_date


@pytest.mark.parametrize(
    "text",
    [
        "Mon, 01 Jan 2024 10:00:00 +0100",
        "Mon, 1 Jan 2024 10:00:00 +0100 (Mitteleuropäische Zeit)",
        "Mon,01 Jan 2024 10:00:00+0100",
        "1 Jan 24 09:00 GMT",
        "Mon, 01-Jan-2024 09:00:00 UT",
        "Mon Jan  1 09:00:00 2024",
        "Monday, January 1, 2024 09:00:00",
        "Mon, 1 Jan 2024 04:00:00 EST",
        "Mon, 1 Jan 2024 10:00:00 GMT+0100",
        "Mon, 1 Jan 2024 09:00:00 +9999",
        "2024-01-01 09:00:00",
        "2024-01-01T10:00:00+01:00",
        "2024-01-01T09:00:00Z",
        "Mon, 1 Jan 2024 09.00.00 -0000",
    ],
)
def test_one_moment_in_many_forms(text: str) -> None:
    assert parse_date(text) == datetime(2024, 1, 1, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "Thu, 31 Feb 2024 10:00:00 +0000",
        "1 Jan 9999 00:00:00 +0000",
        "1 Jan 1900 00:00 GMT",
        "0" * 500,
    ],
)
def test_nonsense_is_no_date(text: str) -> None:
    assert parse_date(text) is None


def test_a_leap_second_is_taken() -> None:
    assert parse_date("Sat, 31 Dec 2016 23:59:60 +0000") == datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("<a@b>", ["a@b"]),
        ("<a@b> <c@d>\t<a@b>", ["a@b", "c@d"]),
        ("<a@b><c@d>", ["a@b", "c@d"]),
        ("<a@\r\n b>", ["a@b"]),
        ('Your message of "Tue" <a@b>', ["a@b"]),
        ("a@b, c@d", ["a@b", "c@d"]),
        ("<<a@b>>", ["a@b"]),
        ("<>", []),
        ("", []),
        ("<" + "x" * (MAX_ID + 1) + ">", []),
    ],
)
def test_ids(text: str, ids: list[str]) -> None:
    assert message_ids(text)[0] == ids


def test_of_too_many_ids_the_oldest_and_the_newest_stay() -> None:
    ids, cut = message_ids(" ".join(f"<{number}@x>" for number in range(1000)))
    assert cut
    assert len(ids) == MAX_IDS
    assert (ids[0], ids[-1]) == ("0@x", "999@x")


@pytest.mark.parametrize(
    ("text", "one"), [("<a@b>", "a@b"), ("a@b", "a@b"), ("bare", "bare"), ("<>", None), ("", None), ("two words", None)]
)
def test_the_id_of_a_mail(text: str, one: str | None) -> None:
    assert message_id(text) == one
