"""Which addresses are public: every range that is not, by its first and last address, and what hides another inside."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingester.web.public import is_public

PRIVATE = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "255.255.255.255/32",
    "::/128",
    "::1/128",
    "::/96",
    "::ffff:0:0/96",  # mapped IPv4, public ones too: no DNS has them
    "::ffff:10.0.0.0/104",
    "64:ff9b::10.0.0.0/104",
    "64:ff9b::127.0.0.1/128",
    "64:ff9b::169.254.169.254/128",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/32",  # Teredo
    "2001:2::/48",
    "2001:10::/28",
    "2001:db8::/32",
    "2002::/16",  # 6to4
    "2002:0a00:0001::/48",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fd00:ec2::254/128",  # a cloud's metadata
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
]
PUBLIC = [
    "1.1.1.1",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.1",
    "192.167.255.255",
    "192.169.0.0",
    "223.255.255.255",
    "2001:4860:4860::8888",
    "2600:1f00::1",
    "2a00::1",
    "64:ff9b::1.1.1.1",  # 1.1.1.1 as a network without IPv4 reaches it
]


@pytest.mark.parametrize("network", PRIVATE)
def test_a_range_is_not_public_from_its_first_address_to_its_last(network: str) -> None:
    whole = ip_network(network)
    assert not is_public(whole[0])
    assert not is_public(whole[-1])
    assert not is_public(whole[whole.num_addresses // 2])


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_beside_the_ranges_is_public(address: str) -> None:
    assert is_public(ip_address(address))


def test_an_address_with_a_zone_is_not_public() -> None:
    assert not is_public(IPv6Address("2a00::1%eth0"))


@given(st.ip_addresses())
def test_nothing_is_public_that_python_calls_private(address: IPv4Address | IPv6Address) -> None:
    inside = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    hidden = address if inside is None else inside
    if address not in IPv6Network("64:ff9b::/96") and (not hidden.is_global or hidden.is_multicast):
        assert not is_public(address)
