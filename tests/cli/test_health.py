"""`ingester health` against a listener that answers as the operators' listener does."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from ingester.operators.routes import HEALTH, READY
from tests.cli.conftest import Cli
from tests.ports import free_port


class _Draining(BaseHTTPRequestHandler):
    """Alive, and not ready."""

    def do_GET(self) -> None:
        status, words = {HEALTH: (200, b"alive"), READY: (503, b"draining")}[self.path]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(words + b"\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def draining(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with HTTPServer(("127.0.0.1", 0), _Draining) as server:
        monkeypatch.setenv("INGESTER_METRICS__LISTEN", f"0.0.0.0:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield
        server.shutdown()
        thread.join()


def test_alive_and_not_ready(cli: Cli, draining: None) -> None:
    assert cli.ok("health") == "alive\n"
    assert cli.fails("health", "--ready") == "/readyz: 503 draining"


def test_nobody_answers(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the daemon would listen, `[::]` on a host without IPv6 included."""
    for host in ("127.0.0.1", "0.0.0.0", "[::]", "[::1]"):
        monkeypatch.setenv("INGESTER_METRICS__LISTEN", f"{host}:{free_port()}")
        assert cli.fails("health").startswith("No answer from the daemon (")


def test_without_a_listener_nobody_can_be_asked(cli: Cli) -> None:
    assert "INGESTER_METRICS__LISTEN is not set" in cli.fails("health")
