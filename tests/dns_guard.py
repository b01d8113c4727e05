"""No test asks real DNS: an attempt is refused where it is made, and the test fails even if its code swallows that.

The guard sees what sockets and files of Python do in this process. A daemon that a test starts is given a name server
of `tests.nameserver`. No port 53 at all is allowed, since the loopback may hold the forwarder of the system.
"""

import socket
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

import pytest

PORT = 53
SYSTEM_FILE = "/etc/resolv.conf"
OWN_NAMES = {"", "localhost", socket.gethostname()}
attempts: list[str] = []
"""What was tried since the last test."""


class RealDns(AssertionError):
    """A test is about to ask real DNS."""


def complain() -> None:
    """Fail if there was an attempt, and forget it."""
    tried, attempts[:] = list(attempts), []
    if tried:
        pytest.fail(f"real DNS is forbidden in tests (see tests/dns_guard.py): {'; '.join(tried)}")


@pytest.fixture(autouse=True)
def no_real_dns() -> Iterator[None]:
    """Fail a test that tried."""
    attempts.clear()
    yield
    complain()


def install() -> None:
    """Watch this process from now on. An audit hook cannot be taken away again."""
    sys.addaudithook(_watch)


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    check = CHECKS.get(event)
    attempt = check(arguments) if check else None
    if attempt:
        attempts.append(attempt)
        raise RealDns(f"real DNS is forbidden in tests: {attempt}")


def _address(arguments: tuple[Any, ...]) -> str | None:
    address = arguments[1]
    if isinstance(address, tuple) and address[1] == PORT:
        return f"a socket to {address[0]} port {PORT}"
    return None


def _name(arguments: tuple[Any, ...]) -> str | None:
    host = arguments[0]
    name = host.decode("latin-1") if isinstance(host, bytes) else host or ""
    if name in OWN_NAMES:
        return None
    try:
        ip_address(name)
    except ValueError:
        return f"the system was asked for the address of {name}"
    return None


def _file(arguments: tuple[Any, ...]) -> str | None:
    return f"{SYSTEM_FILE} was read" if arguments[0] == SYSTEM_FILE else None


CHECKS: dict[str, Callable[[tuple[Any, ...]], str | None]] = {
    "open": _file,
    "socket.connect": _address,
    "socket.getaddrinfo": _name,
    "socket.gethostbyname": _name,
    "socket.sendto": _address,
}
