"""The guard against real DNS: every way there is closed, and swallowing the refusal does not help."""

import socket
from collections.abc import Callable
from pathlib import Path

import dns.asyncresolver
import dns.exception
import dns.resolver
import pytest

from ingester.auth.dns import Resolver
from tests import dns_guard
from tests.dns_guard import RealDns


def send_to() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.sendto(b"", ("192.0.2.1", 53))


def connect() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as link:
        link.connect(("2001:db8::1", 53))


def system_forwarder() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.connect(("127.0.0.53", 53))


@pytest.mark.parametrize(
    "attempt",
    [
        send_to,
        connect,
        system_forwarder,
        dns.resolver.Resolver,
        dns.asyncresolver.Resolver,
        Resolver,
        lambda: socket.getaddrinfo("example.com", 25),
        lambda: socket.gethostbyname("example.com"),
    ],
)
def test_real_dns_is_refused(attempt: Callable[[], object]) -> None:
    with pytest.raises(RealDns):
        attempt()
    with pytest.raises(pytest.fail.Exception, match="real DNS is forbidden in tests"):
        dns_guard.complain()
    dns_guard.complain()


async def test_the_loopback_and_files_are_free(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 127.0.0.1\n")
    Resolver(system_file=file)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.sendto(b"", ("127.0.0.1", 9))
    socket.getaddrinfo("localhost", 25)
    socket.getaddrinfo("192.0.2.1", 25)
    assert dns_guard.attempts == []
