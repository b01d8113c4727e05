"""The address of a client as the checks see it."""

from ipaddress import IPv4Address, IPv6Address

import pytest

from ingester.auth.client import client_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", IPv4Address("192.0.2.1")),
        ("2001:DB8::1", IPv6Address("2001:db8::1")),
        ("fe80::1%eth0", IPv6Address("fe80::1")),
        ("::ffff:192.0.2.1", IPv4Address("192.0.2.1")),
        ("0000:0000:0000:0000:0000:ffff:192.000.2.1", None),
        ("0000:0000:0000:0000:0000:ffff:192.100.200.111", IPv4Address("192.100.200.111")),
        ("unknown", None),
        ("", None),
        ("1" * 10_000, None),
        ("192.0.2.1%" + "x" * 10_000, IPv4Address("192.0.2.1")),
    ],
)
def test_an_address_is_read(text: str, address: IPv4Address | IPv6Address | None) -> None:
    assert client_address(text) == address
    assert client_address(text) == address  # from memory
