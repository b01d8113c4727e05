"""Spans: what a real receiver of OTLP gets, and what it costs when there is none."""

import asyncio
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from pydantic import SecretStr
from structlog.testing import capture_logs

from ingester.clock import new_id
from ingester.preflight import traces
from ingester.settings import SettingsError, Traces, load
from ingester.telemetry import Stage, Telemetry, spans, tracing
from ingester.telemetry.journey import Journey
from ingester.telemetry.metrics import Metrics
from ingester.telemetry.spans import Spans
from ingester.telemetry.tracing import open_spans
from tests.collector import Collector, attributes, collecting

TOLD: dict[str, str | int] = {"door": "smtp", "outcome": "accepted", "reason": "accepted", "bytes": 158_000}


@asynccontextmanager
async def watching(collector: Collector, **settings: Any) -> AsyncIterator[Telemetry]:
    """A process's telemetry with spans that go to this collector; all are sent at the end."""
    telemetry = Telemetry(Metrics())
    telemetry.spans = Spans(Traces(endpoint=f"{collector.url}/v1/traces", **settings))
    yield telemetry
    await telemetry.spans.close()


def send(telemetry: Telemetry, arrival_id: UUID, **told: str | int) -> None:
    """A mail with its stages."""
    assert telemetry.spans is not None
    with telemetry.journey(arrival_id) as journey:
        for stage in (Stage.PARSE, Stage.AUTH, Stage.COMMIT):
            with telemetry.stage(stage, arrival_id):
                pass
        telemetry.spans.tell(journey, TOLD | told)


def trace_of(span: Span) -> UUID:
    return UUID(bytes=span.trace_id)


async def test_a_mail_is_one_trace_and_its_id_is_the_arrival_id() -> None:
    mail, before = new_id(), time.time_ns()
    with collecting() as collector:
        async with watching(collector) as telemetry:
            send(telemetry, mail)
        got = {one.name: one for one in collector.spans}
        resource = collector.resources[0]
    assert got.keys() == {"mail", "parse", "auth", "commit"}
    assert {trace_of(one) for one in got.values()} == {mail}
    root = got.pop("mail")
    assert root.parent_span_id == b""
    assert {one.parent_span_id for one in got.values()} == {root.span_id}
    assert len({root.span_id, *(one.span_id for one in got.values())}) == 4
    assert attributes(root) == {f"ingester.{key}": value for key, value in TOLD.items()}
    assert root.kind == Span.SPAN_KIND_SERVER
    assert root.status.code == Status.STATUS_CODE_UNSET
    assert before <= root.start_time_unix_nano <= got["parse"].start_time_unix_nano
    assert got["parse"].end_time_unix_nano <= got["auth"].start_time_unix_nano
    assert got["commit"].end_time_unix_nano <= root.end_time_unix_nano <= time.time_ns()
    assert resource["service.name"] == "ingester"


async def test_what_is_done_for_several_mails_is_one_span_with_links_to_each() -> None:
    mails = [new_id() for _ in range(3)]
    with collecting() as collector:
        async with watching(collector) as telemetry:
            assert telemetry.spans is not None
            journeys = [Journey(one) for one in mails]
            telemetry._journeys.update(zip(mails, journeys, strict=True))
            with telemetry.stage(Stage.COMMIT, *mails):
                pass
            for journey in journeys:
                telemetry.spans.tell(journey, TOLD)
        got = collector.spans
    (batch,) = [one for one in got if one.name == "commit of a batch"]
    assert attributes(batch) == {"ingester.mails": 3}
    roots = {(trace_of(one), one.span_id) for one in got if one.name == "mail"}
    assert {(UUID(bytes=one.trace_id), one.span_id) for one in batch.links} == roots
    commits = [one for one in got if one.name == "commit"]
    assert {trace_of(one) for one in commits} == set(mails)
    assert {(one.links[0].trace_id, one.links[0].span_id) for one in commits} == {(batch.trace_id, batch.span_id)}
    assert trace_of(batch) not in mails


async def test_a_share_of_the_mails_and_all_that_went_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids of one moment differ in their tails alone, and the share is kept all the same."""
    mails = [new_id() for _ in range(400)]
    dead, deferred = new_id(), new_id()
    with collecting() as collector:
        async with watching(collector, share=0.25) as telemetry:
            for one in mails:
                send(telemetry, one)
            send(telemetry, dead, outcome="dead")
            send(telemetry, deferred, outcome="deferred")
        roots = {trace_of(one): one for one in collector.spans if one.name == "mail"}
    assert {roots[dead].status.code, roots[deferred].status.code} == {Status.STATUS_CODE_ERROR}
    assert 50 <= len(roots) - 2 <= 160
    async with watching(Collector(url="http://127.0.0.1:9"), share=0) as telemetry:
        assert telemetry.spans is not None
        monkeypatch.setattr(telemetry.spans, "_make", pytest.fail)
        send(telemetry, new_id())


async def test_the_collector_may_ask_for_headers() -> None:
    with collecting() as collector:
        async with watching(collector, headers=SecretStr("authorization=Bearer hush,x-team=mail")) as telemetry:
            send(telemetry, new_id())
        assert collector.headers[0]["authorization"] == "Bearer hush"
        assert collector.headers[0]["x-team"] == "mail"


@pytest.mark.parametrize("status", [503, 400])
async def test_a_collector_that_takes_nothing_costs_a_line(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "CLOSE_SECONDS", 0.3)
    with collecting(status) as collector, capture_logs() as lines:
        async with watching(collector) as telemetry:
            for _ in range(50):
                send(telemetry, new_id())
    assert [line["event"] for line in lines] in (["traces.not_sent"], ["traces.not_all_sent"])


async def test_a_collector_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mails are told in microseconds, what does not fit is dropped, and the stop waits no longer than it may."""
    monkeypatch.setattr(spans, "CLOSE_SECONDS", 0.3)
    monkeypatch.setattr(spans, "WAITING", 600)
    with collecting() as collector, capture_logs() as lines:
        collector.held.clear()
        async with watching(collector) as telemetry:
            begun = time.perf_counter()
            for _ in range(1000):
                send(telemetry, new_id())
            assert time.perf_counter() - begun < 2, "4,000 spans"
            begun = time.perf_counter()
        assert time.perf_counter() - begun < 2
    assert "traces.not_all_sent" in [line["event"] for line in lines]


async def test_spans_that_fail_fail_no_mail(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        async with watching(collector) as telemetry:
            assert telemetry.spans is not None
            with monkeypatch.context() as broken, capture_logs() as lines:
                broken.setattr(telemetry.spans, "_sender", None)
                send(telemetry, new_id())
    assert [line["event"] for line in lines] == ["traces.failed"]


def test_off_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is imported, and a stage costs what it costs without spans."""
    assert open_spans(Traces()) is None
    monkeypatch.setitem(sys.modules, "ingester.telemetry.spans", None)
    assert open_spans(Traces()) is None
    with pytest.raises(tracing.MissingExtra, match=r"pip install 'ingester\[traces\]'"):
        open_spans(Traces(endpoint="http://127.0.0.1:4318"))
    (sentence,) = traces(load({"INGESTER_TRACES__ENDPOINT": "http://127.0.0.1:4318"}))
    assert sentence == "INGESTER_TRACES__ENDPOINT: OpenTelemetry is not installed: pip install 'ingester[traces]'"


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("https://otel.example.org/", "https://otel.example.org/v1/traces"),
        ("https://otel.example.org/otlp/v1/traces", "https://otel.example.org/otlp/v1/traces"),
    ],
)
def test_the_endpoint(given: str, read: str) -> None:
    assert load({"INGESTER_TRACES__ENDPOINT": given}).traces.endpoint == read


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("ENDPOINT", "otel.example.org"),
        ("ENDPOINT", "http://user:hush@otel.example.org"),
        ("ENDPOINT", "ftp://otel.example.org"),
        ("ENDPOINT", "http://otel.example.org/?key=hush"),
        ("HEADERS", "hush"),
        ("HEADERS", "a=b,hush"),
        ("SHARE", "2"),
    ],
)
def test_settings_that_are_none(name: str, given: str) -> None:
    with pytest.raises(SettingsError, match=f"INGESTER_TRACES__{name}") as caught:
        load({f"INGESTER_TRACES__{name}": given})
    assert "hush" not in str(caught.value)


async def test_many_mails_at_once_keep_their_stages_apart() -> None:
    """Each span is of the mail whose stage it was, whatever runs in between."""
    mails = [new_id() for _ in range(50)]
    rounds = random.Random(7)

    async def travel(telemetry: Telemetry, mail: UUID, stages: int) -> None:
        assert telemetry.spans is not None
        with telemetry.journey(mail) as journey:
            for _ in range(stages):
                with telemetry.stage(Stage.AUTH, mail):
                    await asyncio.sleep(0)
            telemetry.spans.tell(journey, TOLD)

    wanted = {mail: rounds.randrange(1, 5) for mail in mails}
    with collecting() as collector:
        async with watching(collector) as telemetry:
            await asyncio.gather(*(travel(telemetry, mail, count) for mail, count in wanted.items()))
            assert not telemetry._journeys
        got = Counter(trace_of(one) for one in collector.spans if one.name == "auth")
    assert got == wanted
    assert threading.active_count() < 20
