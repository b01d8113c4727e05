"""The address of a client, as a door writes it, read for those who ask DNS about it. Pure; never raises."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

_LONGEST = len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255")


def client_address(text: str) -> IPv4Address | IPv6Address | None:
    """The address without its zone; IPv4 mapped into IPv6 is IPv4 (RFC 7208, 5). None for what is no address."""
    bare = text.partition("%")[0]
    return _read(bare) if len(bare) <= _LONGEST else None


@lru_cache(maxsize=4096)  # reading one is as dear as three questions to a warm cache, and a mail has it read thrice
def _read(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
