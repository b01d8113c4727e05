"""deploy/capacity.md says what its computation gives, and the computation is what it says it is."""

import pytest

from tests.deploy.capacity import (
    BUSY,
    DAY_SECONDS,
    FOUR_TO_ONE,
    MAIL_BYTES,
    MEASURED,
    NAMES,
    PAGE,
    PEAK,
    Cost,
    amount,
    begin,
    end,
    need,
    size,
    tables,
)


@pytest.mark.parametrize("name", NAMES)
def test_the_page_shows_what_is_computed(name: str) -> None:
    shown = PAGE.read_text(encoding="utf-8").partition(begin(name))[2].partition(end(name))[0].strip()
    assert shown == tables()[name], "run `python -m tests.deploy.capacity`"


def test_one_mail_a_second_all_day_needs_the_cores_of_its_busiest_hour() -> None:
    one = need(DAY_SECONDS, Cost(daemon_ms=100.0, postgres_ms=50.0, wal_bytes=1000))
    assert one.rate == PEAK
    assert one.daemon_cores == pytest.approx(0.1 * PEAK / BUSY)
    assert one.postgres_cores == pytest.approx(0.05 * PEAK / BUSY)
    assert one.wal_rate == pytest.approx(1000 * PEAK)
    assert one.bits_rate == pytest.approx(8 * MAIL_BYTES * PEAK)


def test_a_server_is_added_for_cores_or_for_what_lies_on_its_disk() -> None:
    busy = need(10**8, Cost(daemon_ms=1.0, postgres_ms=1000.0, wal_bytes=1))
    full = need(10**8, Cost(daemon_ms=1.0, postgres_ms=0.001, wal_bytes=1))
    fuller = need(10**8, Cost(daemon_ms=1.0, postgres_ms=0.001, wal_bytes=1), in_rows=True)
    assert busy.nodes > full.nodes > 1
    assert fuller.nodes > full.nodes


def test_the_bytes_cost_postgres_less_where_they_are_not() -> None:
    assert MEASURED["postgres"].wal_bytes > MAIL_BYTES > 5 * MEASURED["segments"].wal_bytes


def test_the_page_says_what_four_daemons_cost() -> None:
    assert f"needed {FOUR_TO_ONE} times the CPU of one" in PAGE.read_text(encoding="utf-8")


def test_quantities_are_said_as_a_person_would() -> None:
    assert [size(999), size(1500), size(2.5e13)] == ["999 bytes", "1.5 KB", "25 TB"]
    assert [amount(0.123), amount(1.26), amount(1234.5)] == ["0.12", "1.3", "1,234"]
