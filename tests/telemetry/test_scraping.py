"""A daemon's metrics read back: what Metrics exposes, and the arithmetic of histograms."""

import pytest

from ingester.telemetry.metrics import ACCEPTANCE_SECONDS, OPEN_CONNECTIONS, Metrics
from ingester.telemetry.scraping import joined, quantile, read, scrape, since

INF = float("inf")


def test_what_the_daemon_exposes_is_read_back() -> None:
    metrics = Metrics()
    for seconds in (0.004, 0.006, 0.02, 3.0):
        metrics.observe(ACCEPTANCE_SECONDS, seconds, "smtp")
    metrics.observe(ACCEPTANCE_SECONDS, 0.004, "http")
    metrics.set(OPEN_CONNECTIONS, 7, "smtp")
    metrics.set(OPEN_CONNECTIONS, 2, "http")
    told = read(metrics.exposition().decode())
    assert {"smtp": 7, "http": 2}.items() <= told.by(OPEN_CONNECTIONS.name, "door").items()
    assert told.total(OPEN_CONNECTIONS.name, door="smtp") == 7
    assert told.total("nothing_like_it") is None
    buckets = told.buckets(ACCEPTANCE_SECONDS.name)
    bound, count = buckets[-1]
    assert (bound == INF, count) == (True, 5)
    counts = [value for _, value in buckets]
    assert counts == sorted(counts)
    both = joined([told, told])
    assert both.total(OPEN_CONNECTIONS.name) == 18
    assert both.buckets(ACCEPTANCE_SECONDS.name)[-1] == (INF, 10)


@pytest.mark.parametrize(("part", "seconds"), [(0.25, 0.05), (0.5, 0.1), (0.75, 0.55), (1.0, 1.0)])
def test_a_quantile_is_linear_within_its_bucket(part: float, seconds: float) -> None:
    assert quantile(((0.1, 50), (1.0, 100), (INF, 100)), part) == pytest.approx(seconds)


def test_a_quantile_beyond_the_last_bound_is_that_bound_and_of_nothing_there_is_none() -> None:
    assert quantile(((0.1, 1), (1.0, 2), (INF, 10)), 0.99) == 1.0
    assert quantile(((0.1, 0), (INF, 0)), 0.5) is None
    assert quantile((), 0.5) is None


def test_what_a_histogram_has_gained_and_a_daemon_that_began_anew() -> None:
    assert since(((0.1, 5), (INF, 9)), ((0.1, 2), (INF, 4))) == ((0.1, 3), (INF, 5))
    assert since(((0.1, 1), (INF, 1)), ((0.1, 2), (INF, 4))) == ((0.1, 1), (INF, 1))


def test_what_does_not_answer_or_not_like_a_daemon_is_none() -> None:
    assert scrape("http://127.0.0.1:1/metrics") is None
    assert scrape("nonsense") is None
