"""Where a host is: all its addresses. For those outside of this room who connect to a name and need our resolver."""

import asyncio
from ipaddress import IPv4Address, IPv6Address

from ingester.auth.lookup import Lookup


async def addresses_of(lookup: Lookup, host: str) -> tuple[IPv4Address | IPv6Address, ...]:
    """The addresses that DNS gives for a name, of both families; none where it has none, or does not answer now."""
    four, six = await asyncio.gather(lookup.a(host), lookup.aaaa(host))
    return (*four.records, *six.records)
