"""The name server of all tests that ask for nothing in particular: it knows no name, and says so at once."""

from collections.abc import Iterator

import pytest

from tests.nameserver import NameServer, in_thread

_addresses: list[str] = []


@pytest.fixture(scope="session", autouse=True)
def quiet_dns() -> Iterator[None]:
    """Run it for the whole session."""
    with in_thread(NameServer(zone={})) as server:
        host, port = server.address
        _addresses.append(f"{host}:{port}")
        yield
        _addresses.clear()


def nameservers() -> str:
    """What INGESTER_DNS__NAMESERVERS is in tests."""
    return _addresses[0]
