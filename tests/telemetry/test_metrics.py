"""The list of metrics: its sets are those of the code, nothing else makes a series, counting costs little."""

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ingester.arrival import Ending
from ingester.auth.lookup import Status
from ingester.auth.report import Result
from ingester.core.envelope import Door
from ingester.core.outcome import Reason
from ingester.core.resolve import Method
from ingester.spam import SpamAction
from ingester.store.db import Trouble
from ingester.telemetry import Stage, Telemetry
from ingester.telemetry import metrics as names
from ingester.telemetry.kinds import OTHER, Kind, Label, Metric
from ingester.telemetry.metrics import ALL, Metrics
from ingester.telemetry.shared import Shared
from tests.cost import assert_cheap
from tests.telemetry.test_shared import Worker


def label(metric: Metric, name: str) -> Label:
    return next(one for one in metric.labels if one.name == name)


def series(metrics: Metrics) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    """Name and labels of every sample."""
    text = metrics.exposition().decode()
    families = text_string_to_metric_families(text)
    return {(one.name, tuple(sorted(one.labels.items()))) for family in families for one in family.samples}


def test_the_sets_are_those_of_the_code() -> None:
    assert set(label(names.MAILS, "outcome").values) == set(Ending)
    assert set(label(names.MAILS, "reason").values) == set(Reason)
    assert set(label(names.MAILS, "door").values) == set(Door)
    assert set(label(names.MESSAGES, "method").values) == {*Method, "none"}
    assert set(label(names.VERDICTS, "result").values) == set(Result)
    assert set(label(names.DNS_QUESTIONS, "result").values) == set(Status)
    assert set(label(names.SPAM_CHECKS, "result").values) == set(SpamAction)
    assert set(label(names.STORE_TROUBLES, "kind").values) == {one.name.lower() for one in Trouble}
    assert set(label(names.STAGE_SECONDS, "stage").values) == set(Stage)


def test_names_are_whole_and_say_what_they_count() -> None:
    assert len({one.name for one in ALL}) == len(ALL) >= 36
    for one in ALL:
        assert re.fullmatch(r"ingester_[a-z_]+", one.name), one.name
        assert one.name.endswith("_total") == (one.kind is Kind.COUNTER), one.name
        assert bool(one.buckets) == (one.kind is Kind.HISTOGRAM), one.name
        assert one.buckets == tuple(sorted(one.buckets))
        assert one.help
        assert "|" not in one.help
        assert all(label.values or label.said for label in one.labels), one.name


def test_what_a_stranger_says_makes_no_series() -> None:
    metrics = Metrics()
    before = series(metrics)
    for number in range(1000):
        metrics.count(names.MAILS, f"door-{number}", f"outcome-{number}", f"reason-{number}")
        metrics.count(names.TLS, "smtp", f"TLSv{number}")
        metrics.observe(names.ACCEPTANCE_SECONDS, 1, f"door-{number}")
    added = series(metrics) - before
    assert {labels for name, labels in added if name == "ingester_mails_total"} == {
        (("door", OTHER), ("outcome", OTHER), ("reason", OTHER))
    }
    assert len(added) == 1 + len(names.SECONDS) + 3


def test_series_are_there_before_anything_was_counted() -> None:
    """Of a series that is born with its first count, Prometheus sees no increase."""
    there = series(Metrics())
    deferred = (("door", "ses"), ("outcome", "deferred"), ("reason", "store_unavailable"))
    assert ("ingester_mails_total", deferred) in there
    assert ("ingester_dead_letters_total", (("reason", "scan_failed"),)) in there
    assert not [name for name, _ in there if name == "ingester_certificate_expiry_timestamp_seconds"], "it would be 0"


def test_a_counter_and_a_gauge_may_share_a_name_but_for_its_end() -> None:
    metrics = Metrics()
    metrics.count(names.CONNECTIONS, "smtp", "taken", by=3)
    metrics.set(names.OPEN_CONNECTIONS, 2, "smtp")
    lines = metrics.exposition().decode().splitlines()
    assert 'ingester_connections_total{door="smtp",result="taken"} 3.0' in lines
    assert 'ingester_connections{door="smtp"} 2.0' in lines
    assert "# TYPE ingester_connections_total counter" in lines
    assert "# TYPE ingester_connections gauge" in lines


def test_a_stage_is_timed_whatever_way_it_ends() -> None:
    telemetry = Telemetry(Metrics())
    with pytest.raises(ValueError, match="on purpose"), telemetry.stage(Stage.PARSE):
        raise ValueError("on purpose")
    waiting = telemetry.stage(Stage.QUEUE)
    waiting.end()
    lines = telemetry.metrics.exposition().decode().splitlines()
    assert 'ingester_stage_seconds_count{stage="parse"} 1.0' in lines
    assert 'ingester_stage_seconds_count{stage="queue"} 1.0' in lines


def count_a_mail(telemetry: Telemetry) -> None:
    """What a usual mail costs: more questions and connections than most have."""
    metrics = telemetry.metrics
    metrics.count(names.CONNECTIONS, "smtp", "taken")
    metrics.count(names.TLS, "smtp", "TLSv1.3")
    for _ in range(6):
        metrics.count(names.DNS_CACHE, "hit")
    for stage in (Stage.READ, Stage.AUTH, Stage.DNS, Stage.PARSE, Stage.QUEUE, Stage.FIND, Stage.COMMIT):
        with telemetry.stage(stage):
            pass
    for _ in range(2):
        metrics.observe(names.DATABASE_WAIT, 0.0001)
    metrics.observe(names.COMMIT_MAILS, 1)
    metrics.count(names.MESSAGES, "matched", "in_reply_to")
    metrics.count(names.MAILS, "smtp", "accepted", "accepted")
    metrics.observe(names.ACCEPTANCE_SECONDS, 0.02, "smtp")
    metrics.observe(names.MAIL_BYTES, 30_000, "smtp")
    metrics.observe(names.MAIL_PARTS, 3)
    for check in ("spf", "dkim", "dmarc", "arc"):
        metrics.count(names.VERDICTS, check, "pass")


def count_mails(metrics: Metrics) -> None:
    telemetry = Telemetry(metrics)
    for _ in range(1000):
        count_a_mail(telemetry)


def test_counting_a_mail_costs_little() -> None:
    metrics = Metrics()
    assert_cheap(lambda: count_mails(metrics), seconds=1000 * 60e-6)


def test_counting_a_mail_in_shared_files_costs_little() -> None:
    shared = Shared.make(1)
    Worker(shared, 0, lambda metrics: assert_cheap(lambda: count_mails(metrics), seconds=1000 * 60e-6))
    shared.remove()
