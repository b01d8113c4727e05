"""ingester top: the numbers of a frame, with and without daemons to ask, on any terminal; and how it ends."""

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from subprocess import PIPE, Popen
from threading import Thread
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from rich.cells import cell_len
from rich.console import Console

from ingester.cli.frame import Frame
from ingester.cli.overview import Daemons, Latency, Overview, Waiting, addresses
from ingester.settings import load
from ingester.store.watching import Arrived
from tests.cli.conftest import Cli
from tests.cli.test_tail import mail
from tests.conftest import ROOT
from tests.daemon import clean_environment

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SECONDS = 30

METRICS = """\
# TYPE ingester_acceptance_seconds histogram
ingester_acceptance_seconds_bucket{door="smtp",le="0.01"} 50.0
ingester_acceptance_seconds_bucket{door="smtp",le="0.1"} 90.0
ingester_acceptance_seconds_bucket{door="smtp",le="+Inf"} 100.0
ingester_acceptance_seconds_count{door="smtp"} 100.0
ingester_acceptance_seconds_sum{door="smtp"} 4.0
# TYPE ingester_connections gauge
ingester_connections{door="smtp"} 7.0
# TYPE ingester_bytes_in_flight gauge
ingester_bytes_in_flight 1048576.0
# TYPE ingester_bytes_in_flight_limit gauge
ingester_bytes_in_flight_limit 2097152.0
# TYPE ingester_workers gauge
ingester_workers 2.0
"""


@contextmanager
def listener(text: str) -> Iterator[str]:
    """Something that answers like a daemon, or unlike one."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/metrics"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_frame_tells_what_the_rows_say(cli: Cli) -> None:
    cli.town()
    cli.accept(mail(1))
    cli.accept(mail(2, cites=1))
    cli.accept(mail(2, cites=1))
    cli.accept(mail(3), "support@acme.test", "sales@acme.test")
    cli.accept(mail(4), faults="scan:raise")
    cli.accept(mail(5), "nobody@acme.test")
    shown = cli.json("top", "--once")
    assert shown["mails"] == 5
    assert shown["outcomes"] == {"unmatched": 3, "matched": 1, "duplicate": 1, "dead letter": 1, "refused": 1}
    assert shown["match_rate"] == 0.25
    assert (shown["methods"], shown["doors"]) == ({"in_reply_to": 1}, {"smtp": 6})
    assert shown["refusals"] == {"unknown_mailbox": 1}
    assert (shown["dead_letters"]["count"], shown["dead_letters"]["reasons"]) == (1, {"scan_failed": 1})
    assert 0 <= shown["dead_letters"]["oldest_seconds"] < 60
    assert (shown["latency"]["source"], shown["daemons"]) == ("database", None)
    assert 0 <= shown["latency"]["p50"] <= shown["latency"]["p99"] < 30
    assert sum(shown["history"]) == 5
    assert shown["rate"] == pytest.approx(5 / 60)
    assert [one["subject"] for one in shown["last"]] == [None, "mail 3", "mail 3", "mail 2", "mail 2", "mail 1"]
    lines = cli.ok("top", "--once").splitlines()
    assert len(lines) <= 24
    assert max(map(cell_len, lines)) <= 80
    assert "unknown_mailbox 1" in "\n".join(lines)
    with listener(METRICS) as url, listener("nothing like it {") as other:
        shown = cli.json("top", "--once", "--metrics", url, "--metrics", other, "--metrics", "http://127.0.0.1:1/")
    assert shown["latency"] == pytest.approx({"source": "metrics", "p50": 0.01, "p95": 0.1, "p99": 0.1}, abs=1e-9)
    told = {"answering": 1, "asked": 3, "workers": 2, "connections": {"smtp": 7}, "bytes_in_flight": 1048576}
    assert told.items() <= shown["daemons"].items()


def test_a_database_without_a_mail_has_a_frame_too(cli: Cli) -> None:
    assert "No mail has arrived yet." in cli.ok("top", "--once")


def test_where_the_daemon_of_this_machine_would_answer() -> None:
    told = load(metrics__listen="[::]:9090,127.0.0.1:9091,[2001:db8::1]:9092")
    assert addresses(told) == [
        "http://localhost:9090/metrics",
        "http://127.0.0.1:9091/metrics",
        "http://[2001:db8::1]:9092/metrics",
    ]


# -- the frame ---------------------------------------------------------------------------------------------------------


def arrived(subject: str) -> Arrived:
    return Arrived(
        tenant="acme",
        tenant_id=uuid4(),
        receipt_id=uuid4(),
        arrival_id=uuid4(),
        message_id=uuid4(),
        dead_letter_id=None,
        received_at=NOW,
        door="smtp",
        mailbox="support@acme.test",
        envelope_from="ada@customer.test",
        envelope_to=["support@acme.test"],
        client_ip="192.0.2.1",
        duplicate=False,
        from_address="ada@customer.test",
        subject=subject,
        status="matched",
        method="in_reply_to",
        reason="attached",
        quarantined=False,
        spf="pass",
        dkim="pass",
        dmarc="pass",
        size=1234,
        seconds=0.01,
    )


FULL = Overview(
    time=NOW,
    window_seconds=60,
    mails=123_456,
    rate=2057.6,
    rate_now=2500.0,
    outcomes={"matched": 100_000, "unmatched": 23_000, "duplicate": 400, "dead letter": 56, "refused": 99_999},
    match_rate=0.81,
    methods={"in_reply_to": 60_000, "references": 30_000, "token_recipient": 10_000, "late_join": 7},
    doors={"smtp": 100_000, "http": 20_000, "ses": 3000, "lmtp": 456},
    refusals={"unknown_mailbox": 90_000, "authentication_unavailable": 9000, "mail_loop": 999},
    latency=Latency(source="metrics", p50=0.0123, p95=0.2, p99=12.5),
    dead_letters=Waiting(count=1234, oldest_seconds=200_000, reasons={"scan_failed": 1000, "commit_failed": 234}),
    daemons=Daemons(
        answering=2,
        asked=3,
        workers=4,
        connections={"smtp": 800, "http": 20},
        bytes_in_flight=100e6,
        bytes_in_flight_limit=268435456,
        loop_delay_p99=0.012,
        database_used=7,
        database_limit=32,
    ),
    history=[n * 100 for n in range(30)],
    last=[arrived("\u4f60\u597d \x1b[2J " * 20)] * 100,
)
EMPTY = Overview(
    time=NOW,
    window_seconds=60,
    mails=0,
    rate=0,
    rate_now=0,
    outcomes={},
    match_rate=None,
    methods={},
    doors={},
    refusals={},
    latency=Latency(source="database", p50=None, p95=None, p99=None),
    dead_letters=Waiting(count=0, oldest_seconds=0, reasons={}),
    daemons=None,
    history=[0] * 30,
)


@pytest.mark.parametrize("overview", [FULL, EMPTY, None])
@pytest.mark.parametrize("away", [None, NOW - timedelta(minutes=1)])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 60), (40, 10), (20, 5), (5, 2)])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_frame_fits_every_terminal(
    overview: Overview | None, away: datetime | None, width: int, height: int, encoding: str
) -> None:
    class Screen(StringIO):
        @property
        def encoding(self) -> str:  # type: ignore[override]
            return encoding

    screen = Screen()
    console = Console(file=screen, width=width, height=height, force_terminal=False, legacy_windows=False)
    console.print(Frame(overview=overview, away=away))
    lines = screen.getvalue().removesuffix("\n").split("\n")
    assert len(lines) <= height
    assert max(map(cell_len, lines)) <= width
    assert "\x1b" not in screen.getvalue()
    if width >= 40 and away is not None:
        assert lines[0].startswith("The database is away")
    if overview is FULL and (width, height, away) == (80, 24, None):
        assert len(lines) == 24
        assert "2,500.0/s" in lines[2]
        assert "p50 12 ms  p95 200 ms  p99 12.5 s" in lines[5]
        assert "1,234 waiting, the oldest 2 d" in lines[8]


# -- the terminal ------------------------------------------------------------------------------------------------------


class Terminal:
    """`ingester top` on a terminal of its own."""

    def __init__(self, url: str, *options: str, term: str = "xterm-256color") -> None:
        self.master, inner = pty.openpty()
        self.resize(24, 80)
        self.before = termios.tcgetattr(inner)
        environment = clean_environment() | {"INGESTER_DATABASE_URL": url, "TERM": term}
        words = [sys.executable, "-m", "ingester", "top", "--interval", "0.5", *options]
        self.process = Popen(words, cwd=ROOT, env=environment, stdin=inner, stdout=inner, stderr=inner)
        self.inner = inner
        self.seen = ""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait(self, text: str) -> None:
        """Wait until this was written since the last time one waited."""
        end = time.monotonic() + SECONDS
        while text not in self.seen:
            ready, _, _ = select.select([self.master], [], [], max(0.0, end - time.monotonic()))
            assert ready, self.seen[-2000:]
            self.seen += os.read(self.master, 65536).decode(errors="replace")
        self.seen = self.seen.partition(text)[2]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.inner)
        os.close(self.master)


@pytest.fixture
def terminal(cli: Cli) -> Iterator[Any]:
    cli.town()
    cli.accept(mail(1))
    opened: list[Terminal] = []

    def make(*options: str, term: str = "xterm-256color") -> Terminal:
        opened.append(Terminal(cli.url, *options, term=term))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def test_it_is_live_takes_every_size_and_leaves_the_terminal_as_it_was(terminal: Any, cli: Cli) -> None:
    live = terminal()
    live.wait("\x1b[?1049h")
    live.wait("mail 1")
    cli.accept(mail(2, subject="second"))
    live.wait("second")
    live.resize(10, 40)
    live.process.send_signal(signal.SIGWINCH)
    live.wait("Mails")
    os.write(live.master, b"q")
    live.wait("\x1b[?1049l")
    assert live.process.wait(SECONDS) == 0
    assert termios.tcgetattr(live.inner) == live.before


def test_ctrl_c_ends_it_silently(terminal: Any) -> None:
    live = terminal()
    live.wait("mail 1")
    live.process.send_signal(signal.SIGINT)
    live.wait("\x1b[?1049l")
    assert live.process.wait(SECONDS) == 0
    assert "Abort" not in live.seen
    assert termios.tcgetattr(live.inner) == live.before


def test_a_dumb_terminal_gets_frame_after_frame_and_no_escape(terminal: Any) -> None:
    dumb = terminal(term="dumb")
    dumb.wait("ingester top")
    dumb.wait("mail 1")
    dumb.wait("ingester top")
    assert "\x1b" not in dumb.seen
    dumb.process.send_signal(signal.SIGINT)
    assert dumb.process.wait(SECONDS) == 0


def test_in_a_pipe_it_is_an_object_a_line_until_the_reader_has_seen_enough(cli: Cli) -> None:
    environment = clean_environment() | {"INGESTER_DATABASE_URL": cli.url}
    words = [sys.executable, "-m", "ingester", "top", "--json", "--interval", "0.5"]
    with Popen(words, cwd=ROOT, env=environment, stdout=PIPE, stderr=PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert [msgspec.json.decode(process.stdout.readline())["mails"] for _ in range(2)] == [0, 0]
        process.stdout.close()
        assert process.wait(SECONDS) == 1
        assert process.stderr.read() == b""
