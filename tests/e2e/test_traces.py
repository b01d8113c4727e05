"""One id for one mail: in the reply, in the log, in the receipt, and as the id of its trace; with several workers."""

from uuid import UUID

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.collector import attributes, collecting
from tests.daemon import Town, arrival, serving
from tests.mta import letters, send

pytestmark = pytest.mark.thorough

MAILS = 60


def test_the_arrival_id_is_everywhere(acme: Town) -> None:
    """Each worker has its own spans, and those that wait are sent at the stop."""
    with collecting() as collector:
        settings = {"INGESTER_WORKERS": "2", "INGESTER_TRACES__ENDPOINT": collector.url}
        with serving(acme.url, settings=settings, wait=False) as daemon:
            daemon.wait_event("serving", times=2)
            mta = send(daemon.port, letters(MAILS, "support@acme.test", "sales@acme.test"), connections=20)
            assert daemon.terminate() == 0
            daemon.wait_silence()
        spans = list(collector.spans)
    told = {arrival(answer) for attempt in mta.attempts for answer in attempt.answers.values()}
    assert len(told) == MAILS
    lines = {UUID(line["arrival_id"]): line for line in daemon.lines if line.get("event") == "mail"}
    assert set(lines) == told
    assert {row["arrival_id"] for row in acme.ask("SELECT arrival_id FROM receipts")} == told
    mails = {UUID(bytes=one.trace_id): one for one in spans if one.name == "mail"}
    assert set(mails) == told
    stored = {str(row["id"]) for row in acme.ask("SELECT id FROM messages")}
    assert {one for line in lines.values() for one in line["message_ids"]} == stored
    for mail, line in lines.items():
        own = {one.name for one in spans if one.trace_id == mail.bytes}
        assert own >= {"mail", "parse", "auth", "find", "commit"}
        assert set(line["stage_ms"]) == own - {"mail"}
        assert line["worker"] in (0, 1)
        assert line["ms"] >= max(line["stage_ms"].values())
        assert (line["outcome"], line["recipients"], line["stored"], line["dmarc"]) == ("accepted", 2, 2, "none")
        said = attributes(mails[mail])
        assert said.keys() == {f"ingester.{key}" for key in line.keys() & {*_TOLD}}
        assert said["ingester.bytes"] == line["bytes"]
    assert not any(
        link for one in spans for link in one.links if UUID(bytes=link.trace_id) not in {*told, *_batches(spans)}
    )


_TOLD = (
    "door",
    "outcome",
    "reason",
    "bytes",
    "recipients",
    "stored",
    "matched",
    "tls",
    "parts",
    "spf",
    "dkim",
    "dmarc",
    "arc",
)


def _batches(spans: list[Span]) -> set[UUID]:
    return {UUID(bytes=one.trace_id) for one in spans if one.name.endswith(" of a batch")}


def test_a_dead_collector_costs_no_mail(acme: Town) -> None:
    settings = {"INGESTER_TRACES__ENDPOINT": "http://127.0.0.1:9"}
    with serving(acme.url, settings=settings) as daemon:
        mails = letters(50)
        mta = send(daemon.port, mails, connections=10)
        assert mta.count("2") == len(mails)
        assert daemon.terminate() == 0
        daemon.wait_silence()
    assert acme.count("messages") == len(mails)
    told = {line["event"] for line in daemon.lines if str(line.get("event")).startswith("traces.")}
    assert told
    assert told <= {"traces.not_sent", "traces.not_all_sent"}
