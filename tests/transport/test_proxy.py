"""PROXY headers."""

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingester.transport.proxy import Networks, Proxied, Unusable, normalise_ip, parse_proxy

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def v2(command: int, family: int, body: bytes, version: int = 2) -> bytes:
    return SIGNATURE + bytes([version << 4 | command, family]) + struct.pack("!H", len(body)) + body


TCP4 = socket.inet_aton("192.0.2.7") + socket.inet_aton("198.51.100.1") + struct.pack("!HH", 40000, 25)
TCP6 = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::7")
    + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + struct.pack("!HH", 40000, 25)
)


@pytest.mark.parametrize(
    ("header", "source"),
    [
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 25\r\n", "192.0.2.7"),
        (b"PROXY TCP6 2001:DB8::7 2001:db8::1 40000 25\r\n", "2001:db8::7"),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 40000 25\r\n", "192.0.2.7"),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
        (v2(1, 0x11, TCP4), "192.0.2.7"),
        (v2(1, 0x21, TCP6), "2001:db8::7"),
        (v2(1, 0x11, TCP4 + b"\x04\x00\x01x"), "192.0.2.7"),
        (v2(0, 0x00, b""), None),
        (v2(0, 0x11, TCP4), None),
        (v2(1, 0x31, b"\0" * 216), None),
    ],
)
def test_good_headers_whole_and_octet_by_octet(header: bytes, source: str | None) -> None:
    for length in range(len(header)):
        assert parse_proxy(header[:length]) is Unusable.INCOMPLETE
    assert parse_proxy(header + b"EHLO") == Proxied(length=len(header), source=source)


@pytest.mark.parametrize("line", [b"EHLO client.test\r\n", b"P\r\n", b"PROXYTCP4 192.0.2.7\r\n", b"\r\nQUIT"])
def test_what_does_not_even_begin_as_a_header(line: bytes) -> None:
    assert parse_proxy(line) is Unusable.ABSENT


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP4 192.0.2.7 198.51.100.1 40000\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 40000 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 70000 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 -1 25\r\n",
        b"PROXY TCP4 192.0.2.7  198.51.100.1 40000 25\r\n",
        b"PROXY TCP5 192.0.2.7 198.51.100.1 40000 25\r\n",
        b"PROXY \r\n",
        b"PROXY " + b"x" * 101,
        v2(1, 0x11, TCP4, version=1),
        v2(2, 0x11, TCP4),
        v2(1, 0x11, TCP4[:11]),
        v2(1, 0x21, TCP4),
        v2(1, 0x11, b"\0" * 3000),
    ],
)
def test_bad_headers(header: bytes) -> None:
    assert parse_proxy(header) is Unusable.MALFORMED


@given(
    st.binary(max_size=60), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11\x00"])
)
def test_no_bytes_raise(data: bytes, start: bytes) -> None:
    header = parse_proxy(start + data)
    assert not isinstance(header, Proxied) or header.length <= len(start + data)


def test_trusted_networks() -> None:
    networks = Networks(["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"])
    assert [networks.trust(ip) for ip in ("10.1.2.3", "192.0.2.1", "2001:db8::9", "192.0.2.2", "::1", "unknown")] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]
    assert not Networks([]).trust("10.1.2.3")


@pytest.mark.parametrize(
    ("text", "spelled"),
    [("::ffff:192.0.2.1", "192.0.2.1"), ("fe80::1%eth0", "fe80::1"), ("2001:DB8:0::1", "2001:db8::1"), ("/x", "/x")],
)
def test_one_spelling_for_one_client(text: str, spelled: str) -> None:
    assert normalise_ip(text) == spelled
