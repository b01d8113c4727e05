"""The PROXY protocol, versions 1 and 2 (haproxy, proxy-protocol.txt): who the client behind a trusted proxy is. Pure.

Bounded to 107 octets for version 1 and to HEADER_LIMIT for version 2, its TLVs unread. Nothing here raises on any
input from the wire.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address, ip_network
from typing import Final

HEADER_LIMIT: Final = 2048
_V1: Final = b"PROXY "
_V1_LIMIT: Final = 107
_V2: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_ADDRESS: Final = {0x11: 4, 0x21: 16}
"""Octets of one address, by family and transport: TCP over IPv4, TCP over IPv6."""
_V2_ADDRESSES: Final = {0x11: 12, 0x21: 36}
"""Octets of both addresses and both ports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxied:
    """A header of `length` octets. `source` is None when the connection is the proxy's own (LOCAL, UNKNOWN)."""

    length: int
    source: str | None


class Unusable(Enum):
    """There is no header to use: not yet, or never. ABSENT: not even the beginning of one."""

    INCOMPLETE = "incomplete"
    ABSENT = "absent"
    MALFORMED = "malformed"


class Networks:
    """Networks whose word counts: proxies that tell the client of a connection, relays that tell that of a mail."""

    def __init__(self, names: Iterable[str]) -> None:
        """Raises ValueError on what is no network; the settings have said so before."""
        self._networks = [ip_network(name, strict=False) for name in names]

    def trust(self, ip: str) -> bool:
        """Whether this peer's address is in one of them."""
        if not self._networks:
            return False
        try:
            address = ip_address(ip)
        except ValueError:
            return False
        return any(address in network for network in self._networks)


def parse_proxy(data: bytes) -> Proxied | Unusable:
    """Read the header at the start of `data`."""
    if data.startswith(_V1[: len(data)]):
        return _parse_v1(data)
    if data.startswith(_V2[: len(data)]):
        return _parse_v2(data)
    return Unusable.ABSENT


def _parse_v1(data: bytes) -> Proxied | Unusable:
    end = data.find(b"\r\n", 0, _V1_LIMIT)
    if end < 0:
        return Unusable.INCOMPLETE if len(data) < _V1_LIMIT else Unusable.MALFORMED
    length = end + 2
    words = data[:end].decode("latin-1").split(" ")
    if words[1] == "UNKNOWN":
        return Proxied(length=length, source=None)
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        return Unusable.MALFORMED
    version = 4 if words[1] == "TCP4" else 6
    source, destination = _address(words[2], version), _address(words[3], version)
    if source is None or destination is None or not all(map(_is_port, words[4:])):
        return Unusable.MALFORMED
    return Proxied(length=length, source=source)


def _parse_v2(data: bytes) -> Proxied | Unusable:
    if len(data) < 16:
        return Unusable.INCOMPLETE
    version, command = data[12] >> 4, data[12] & 0x0F
    length = 16 + int.from_bytes(data[14:16], "big")
    if version != 2 or command > 1 or length > HEADER_LIMIT:
        return Unusable.MALFORMED
    if len(data) < length:
        return Unusable.INCOMPLETE
    width = _V2_ADDRESS.get(data[13])
    if command == 0 or width is None:
        return Proxied(length=length, source=None)
    if length < 16 + _V2_ADDRESSES[data[13]]:
        return Unusable.MALFORMED
    return Proxied(length=length, source=normalise_ip(str(ip_address(data[16 : 16 + width]))))


def normalise_ip(text: str) -> str:
    """One spelling for one client: without a scope, an IPv4 address inside IPv6 as IPv4. Other text is returned."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return text
    mapped = address.ipv4_mapped if address.version == 6 else None
    return str(mapped or address)


def _address(text: str, version: int) -> str | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return normalise_ip(text) if address.version == version else None


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535
