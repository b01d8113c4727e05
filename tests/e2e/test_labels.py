"""What strangers say makes no series, whichever door they say it at."""

import socket

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from ingester.telemetry.metrics import ALL
from tests.daemon import Town, serving
from tests.inbound import TOKEN
from tests.ports import free_port

pytestmark = pytest.mark.thorough


def test_strangers_make_no_series(acme: Town) -> None:
    """Hostile values in everything that a stranger says, at every door: each label keeps to its closed set."""
    operators, http, lmtp = free_port(), free_port(), free_port()
    settings = {
        "INGESTER_METRICS__LISTEN": f"127.0.0.1:{operators}",
        "INGESTER_HTTP__LISTEN": f"127.0.0.1:{http}",
        "INGESTER_LMTP__LISTEN": f"127.0.0.1:{lmtp}",
        "INGESTER_LMTP__TRUSTED_NETWORKS": "127.0.0.0/8",
        "INGESTER_INBOUND_TOKEN": TOKEN,
    }
    with serving(acme.url, settings=settings) as daemon:
        speak_strangely(daemon.port, "EHLO")
        speak_strangely(lmtp, "LHLO")
        ask_strangely(http)
        ask_strangely(operators)
        text = requests.get(f"http://127.0.0.1:{operators}/metrics", timeout=10).text
        routes = set(requests.get(f"http://127.0.0.1:{http}/openapi.json", timeout=10).json()["paths"])
    assert "STRANGE" not in text.upper()
    sets = {"route": routes | {"none"}, "code": {"200", *map(str, range(400, 600))}, "chore": set(), "le": set()}
    for family in text_string_to_metric_families(text):
        listed = [label for one in ALL if one.name.startswith(family.name) for label in one.labels]
        closed = sets | {label.name: set(label.values) for label in listed if label.values}
        for sample in family.samples:
            assert not [name for name, value in sample.labels.items() if value not in (closed.get(name) or {value})]
    assert 'ingester_mails_total{door="smtp",outcome="accepted",reason="accepted"} 1.0' in text
    assert 'ingester_connections_total{door="lmtp",result="taken"}' in text
    assert 'ingester_http_requests_total{code="404",route="none"}' in text
    assert text.count("\n") < 1500


def speak_strangely(port: int, greeting: str) -> None:
    """A session that gives a hostile value wherever it may, and delivers a mail that is full of them."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as peer:
        lines = [
            'XCLIENT NAME=strange{}" ADDR=192.0.2.1 PROTO=STRANGE HELO=strange',
            f'{greeting} strange"}}\\x',
            "STRANGE strange",
            'MAIL FROM:<"strange"@strange.test> BODY=STRANGE',
            "MAIL FROM:<strange@strange.test>",
            "RCPT TO:<strange@acme.test>",
            "RCPT TO:<support@acme.test>",
            "DATA",
        ]
        header = "Strange: strange\r\nContent-Type: strange/strange; charset=strange\r\nSubject: strange"
        for line in lines:
            peer.sendall(line.encode() + b"\r\n")
        peer.sendall(f"{header}\r\n\r\nx\r\n.\r\nQUIT\r\n".encode())
        while peer.recv(65536):
            pass


def ask_strangely(port: int) -> None:
    """Requests with hostile methods, paths, versions and headers."""
    requests_ = [
        b"STRANGE /strange HTTP/1.1\r\nHost: strange\r\n\r\n",
        b"GET /strange?strange=strange HTTP/1.1\r\nHost: strange\r\n\r\n",
        b"GET /metrics/strange HTTP/1.1\r\nHost: strange\r\n\r\n",
        b"POST /v1/messages/strange/sent HTTP/1.1\r\nHost: strange\r\nContent-Length: 0\r\n\r\n",
        b"PATCH /events/inbound HTTP/1.1\r\nHost: strange\r\nContent-Length: 0\r\n\r\n",
        b"strange\r\n\r\n",
        b"GET /strange HTTP/9.9\r\n\r\n",
    ]
    for one in requests_:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as peer:
            peer.sendall(one)
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(65536):
                pass
