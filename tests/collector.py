"""A collector of OpenTelemetry for tests: takes OTLP over HTTP as the real one does, and keeps the spans it is sent."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

SECONDS = 30.0


@dataclass(slots=True)
class Collector:
    """`spans` in the order of their arrival; `bodies` as they came; `status` is what it answers."""

    url: str = ""
    status: int = 200
    spans: list[Span] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    resources: list[dict[str, str]] = field(default_factory=list)
    news: threading.Condition = field(default_factory=threading.Condition)
    held: threading.Event = field(default_factory=threading.Event)
    """Clear it, and nobody is answered until it is set."""

    def wait_for(self, holds: Callable[[list[Span]], bool]) -> list[Span]:
        """Wait for spans; gives all that came."""
        with self.news:
            assert self.news.wait_for(lambda: holds(self.spans), SECONDS), [one.name for one in self.spans]
            return list(self.spans)

    def take(self, body: bytes, headers: dict[str, str]) -> None:
        """One request."""
        asked = ExportTraceServiceRequest.FromString(body)
        with self.news:
            self.bodies.append(body)
            self.headers.append(headers)
            for group in asked.resource_spans:
                self.resources.append({one.key: one.value.string_value for one in group.resource.attributes})
                for scope in group.scope_spans:
                    self.spans.extend(scope.spans)
            self.news.notify_all()


@contextmanager
def collecting(status: int = 200) -> Iterator[Collector]:
    """A collector on a free port of 127.0.0.1."""
    collector = Collector(status=status)
    collector.held.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.held.wait(SECONDS)
            if collector.status == 200:
                assert self.path == "/v1/traces"
                collector.take(body, {name.lower(): value for name, value in self.headers.items()})
            self.send_response(collector.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    collector.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield collector
    finally:
        collector.held.set()
        server.shutdown()
        server.server_close()
        thread.join(SECONDS)


def attributes(span: Span) -> dict[str, str | int]:
    """What a span says of itself."""
    return {
        one.key: one.value.string_value if one.value.HasField("string_value") else one.value.int_value
        for one in span.attributes
    }
