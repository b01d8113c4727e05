"""What is noted of the client itself: its names in DNS, its HELO, the lists that name it. It decides nothing."""

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from ingester.auth.client import client_address
from ingester.auth.header import readable
from ingester.auth.lookup import Lookup, Status
from ingester.auth.report import Listing, Peer, Result
from ingester.auth.side_by_side import side_by_side

MAX_NAMES = 5
"""Reverse names that are looked up again; most addresses have one."""
_LONGEST_NAME = 255
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?", re.IGNORECASE)


async def observe(lookup: Lookup, *, ip: str, helo: str, zones: Sequence[str], reverse_dns: bool) -> Peer:
    """Look at the client. `zones` are DNS lists (RFC 5782), of either colour."""
    address = client_address(ip)
    assert address is not None  # the caller has read it
    names, confirmed, reverse = await _reverse(lookup, address) if reverse_dns else ((), None, Result.UNKNOWN)
    listings = await side_by_side(*(_listed(lookup, address, zone) for zone in zones))
    return Peer(
        ip=ip,
        reverse_names=tuple(map(readable, names)),
        confirmed_name=None if confirmed is None else readable(confirmed),
        reverse=reverse,
        helo_problem=_recalled(helo, ip) if len(helo) <= _LONGEST_NAME else helo_problem(helo, ip),
        listings=listings,
    )


async def _reverse(lookup: Lookup, address: IPv4Address | IPv6Address) -> tuple[tuple[str, ...], str | None, Result]:
    """The names of the address, the first that points back to it, and `iprev` (RFC 8601, 3)."""
    answer = await lookup.ptr(address)
    if answer.status is not Status.FOUND:
        return (), None, Result.FAIL if answer.absent else _by_trouble(answer.status)
    names = answer.records[:MAX_NAMES]
    result = Result.FAIL
    for name in names:
        found = await (lookup.a(name) if address.version == 4 else lookup.aaaa(name))
        if address in found.records:
            return names, name, Result.PASS
        if found.status is Status.UNAVAILABLE:
            result = Result.TEMPERROR
    return names, None, result


def _by_trouble(status: Status) -> Result:
    return Result.TEMPERROR if status is Status.UNAVAILABLE else Result.PERMERROR


async def _listed(lookup: Lookup, address: IPv4Address | IPv6Address, zone: str) -> Listing:
    """Ask one list: any answer in 127.0.0.0/8 means listed (RFC 5782, 2.1; others are a dead or hijacked list)."""
    reverse = address.reverse_pointer.removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa")
    answer = await lookup.a(f"{reverse}.{zone}")
    if answer.absent:
        return Listing(zone=zone, listed=False)
    codes = tuple(str(record) for record in answer.records if record.is_loopback)
    return Listing(zone=zone, listed=bool(codes) or None, codes=codes)


def helo_problem(helo: str, ip: str) -> str | None:
    """What is wrong with a HELO name (RFC 5321, 2.3.5 and 4.1.1.1), in a few words, or None."""
    if not helo:
        return "no name was given"
    if helo.startswith("["):
        literal = helo[1:-1].lower().removeprefix("ipv6:") if helo.endswith("]") else ""
        try:
            return None if ip_address(literal) == ip_address(ip) else "another address than the client's"
        except ValueError:
            return "not an address literal"
    labels = helo.removesuffix(".").split(".")
    qualified = len(helo) <= _LONGEST_NAME and len(labels) > 1 and all(_LABEL.fullmatch(label) for label in labels)
    return None if qualified else "not a fully qualified name"


_recalled = lru_cache(maxsize=1024)(helo_problem)  # a host says the same each time
