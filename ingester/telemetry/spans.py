"""OpenTelemetry spans of the mails' journeys, for those who want them (extra `traces`): one trace a mail.

The trace id is the arrival id, the id in `250 2.0.0 stored as ...`, in the log line and in the receipt. Spans are made
when a mail has come to its end, from the times that it has gathered on its way, and are sent by a thread: no mail waits
for a collector. Nothing of a mail is in them: counts, sizes and words of closed sets.
"""

import asyncio
import logging
import random
import socket
import threading
from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from ingester import __version__
from ingester.settings import Traces
from ingester.telemetry.journey import Journey, Step

WAITING: Final = 8192
"""Spans that wait to be sent; what comes while so many do takes the place of the oldest."""
BATCH: Final = 512
EXPORT_SECONDS: Final = 5.0
CLOSE_SECONDS: Final = 3.0
"""How long the last spans may take at the stop."""
_ALWAYS: Final = frozenset({"dead", "deferred"})
_RANDOM: Final = (1 << 56) - 1
"""What is random in a trace id (W3C Trace Context 2, 3.2.2.3): the front of a UUIDv7 is a clock."""
_SPAN_ID: Final = (1 << 64) - 1
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_UNSET: Final = Status(StatusCode.UNSET)
_ERROR: Final = Status(StatusCode.ERROR)
_SCOPE: Final = InstrumentationScope("ingester", __version__)

_log = structlog.get_logger(__name__)


class Spans:
    """The spans of one process."""

    def __init__(self, settings: Traces) -> None:
        self._least = round((1 - settings.share) * (_RANDOM + 1))
        self._resource = Resource(
            {"service.name": "ingester", "service.version": __version__, "host.name": socket.gethostname()}
        )
        # The library speaks of each batch that it cannot send, and of each span that finds no room.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        exporter = OTLPSpanExporter(settings.endpoint, headers=_headers(settings), timeout=EXPORT_SECONDS)
        self._sender = BatchSpanProcessor(
            _Told(exporter), max_queue_size=WAITING, max_export_batch_size=BATCH, schedule_delay_millis=1000
        )

    def tell(self, journey: Journey, told: Mapping[str, str | int]) -> None:
        """Make the spans of a mail that has come to its end. `told` describes it, without a word of the mail."""
        try:
            if told["outcome"] in _ALWAYS or journey.arrival_id.int & _RANDOM >= self._least:
                self._make(journey, told)
        except Exception as error:  # noqa: BLE001  (no mail is answered otherwise for the sake of its spans)
            _log.error("traces.failed", exc_info=error)

    def _make(self, journey: Journey, told: Mapping[str, str | int]) -> None:
        mail = _context_of(journey.arrival_id)
        for step in journey.steps:
            links = (Link(self._batch(journey, step)),) if len(step.mails) > 1 else ()
            itself = SpanContext(mail.trace_id, _span_id(), is_remote=False, trace_flags=_SAMPLED)
            self._send(step.stage.value, itself, journey, step.begun, step.ended, parent=mail, links=links)
        failed = told["outcome"] in _ALWAYS
        self._send(
            "mail",
            mail,
            journey,
            journey.begun,
            journey.begun + journey.seconds,
            attributes={f"ingester.{key}": value for key, value in told.items()},
            kind=SpanKind.SERVER,
            status=_ERROR if failed else _UNSET,
        )

    def _batch(self, journey: Journey, step: Step) -> SpanContext:
        """The span of work that was done for several mails at once: a trace of its own, linked with each of theirs.

        It is made with the first of the mails that has spans, whichever that is.
        """
        if step.batch_id is not None:
            return _context_of(step.batch_id)
        step.batch_id = UUID(int=random.getrandbits(128) | 1)
        itself = _context_of(step.batch_id)
        self._send(
            f"{step.stage.value} of a batch",
            itself,
            journey,
            step.begun,
            step.ended,
            attributes={"ingester.mails": len(step.mails)},
            links=tuple(Link(_context_of(one.arrival_id)) for one in step.mails),
        )
        return itself

    def _send(
        self,
        name: str,
        itself: SpanContext,
        journey: Journey,
        begun: float,
        ended: float,
        *,
        parent: SpanContext | None = None,
        attributes: Mapping[str, str | int] | None = None,
        links: Sequence[Link] = (),
        kind: SpanKind = SpanKind.INTERNAL,
        status: Status = _UNSET,
    ) -> None:
        """Hand one span to the thread. Made as it is: a tracer's costs six times as much and knows no ids of ours."""
        self._sender.on_end(
            ReadableSpan(
                name,
                itself,
                parent,
                self._resource,
                attributes,
                links=links,
                kind=kind,
                status=status,
                start_time=journey.at_ns(begun),
                end_time=journey.at_ns(ended),
                instrumentation_scope=_SCOPE,
            )
        )

    async def close(self) -> None:
        """Send what waits, within CLOSE_SECONDS; a collector that is away is not waited for any longer."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._sender.shutdown()
            try:
                loop.call_soon_threadsafe(done.set)
            except RuntimeError:  # nobody waits any more
                return

        threading.Thread(target=shut_down, name="last spans", daemon=True).start()
        try:
            await asyncio.wait_for(done.wait(), CLOSE_SECONDS)
        except TimeoutError:
            _log.warning("traces.not_all_sent")


class _Told(SpanExporter):
    """The exporter, with a line in the log when spans stop to arrive and when they arrive again. In its own thread."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._arriving = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        arriving = result is SpanExportResult.SUCCESS
        if arriving is not self._arriving:
            self._arriving = arriving
            _log.warning("traces.arrive_again" if arriving else "traces.not_sent")
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


def _context_of(trace: UUID) -> SpanContext:
    """The first span of a trace has the end of the trace's id: so it is known before it is made."""
    return SpanContext(trace.int, trace.int & _SPAN_ID, is_remote=False, trace_flags=_SAMPLED)


def _headers(settings: Traces) -> dict[str, str] | None:
    pieces = [one.strip().partition("=") for one in settings.headers.get_secret_value().split(",") if one.strip()]
    return {name.lower(): value for name, _, value in pieces} or None


def _span_id() -> int:
    return random.getrandbits(64) | 1
