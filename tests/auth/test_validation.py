"""What a resolver is worth: honest ones, liars, the deaf, and those that cannot see the world."""

from dataclasses import dataclass
from typing import Any

import dns.flags
import dns.message
import pytest

from ingester.auth.dns_exchange import server
from ingester.auth.validation import Seen, look_at
from tests.nameserver import NameServer
from tests.zones import Fault, Found

WORLD: dict[str, list[Any]] = {
    "org": [{"SOA": "ns.org. root.org. 1 1 1 1 1"}],
    "dnssec-failed.org": [Fault.SERVFAIL],
}


@dataclass(slots=True, kw_only=True)
class Resolver(NameServer):
    """Sets AD where it is asked to."""

    authentic: bool = True

    def _write(self, asked: dns.message.Message, found: Found, by: str) -> bytes:
        written = bytearray(NameServer._write(self, asked, found, by))
        if self.authentic and asked.flags & dns.flags.AD:
            written[3] |= dns.flags.AD
        return bytes(written)


async def seen(zone: dict[str, list[Any]], *, authentic: bool = True) -> Seen:
    async with Resolver(zone=zone, authentic=authentic) as resolver:
        host, port = resolver.address
        return await look_at(server(host, port), seconds=0.3, random_label="xq7")


@pytest.mark.parametrize(
    ("changes", "authentic", "validates", "invents"),
    [
        ({}, True, True, False),
        ({}, False, True, False),  # it keeps AD to itself, and refuses what is bogus
        ({"dnssec-failed.org": [{"A": "192.0.2.1"}]}, True, False, False),
        ({"dnssec-failed.org": [{"A": "192.0.2.1"}]}, False, False, False),
        ({"dnssec-failed.org": [Fault.TIMEOUT]}, True, True, False),
        ({"dnssec-failed.org": [Fault.TIMEOUT]}, False, None, False),
        ({"org": [Fault.SERVFAIL]}, True, None, False),
        ({"org": []}, True, None, False),
        ({"invalid": [{"A": "192.0.2.80"}]}, True, True, True),
        ({"xq7.com": [{"A": "192.0.2.80"}]}, True, True, True),
    ],
)
async def test_resolvers(changes: dict[str, list[Any]], authentic: bool, validates: bool | None, invents: bool) -> None:
    found = await seen(WORLD | changes, authentic=authentic)
    assert (found.validates, found.invents) == (validates, invents)
    assert found.seconds is not None
    assert 0 < found.seconds < 0.3


async def test_one_that_is_silent() -> None:
    found = await seen({"invalid": [Fault.TIMEOUT]})
    assert (found.seconds, found.validates, found.invents) == (None, None, False)


async def test_garbage_is_no_answer() -> None:
    async with NameServer(zone={}, forge=lambda query: query[:2] + b"\x81\x80" + b"\xff" * 40) as liar:
        host, port = liar.address
        found = await look_at(server(host, port), seconds=0.2, random_label="xq7")
    assert found.seconds is None
