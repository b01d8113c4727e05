"""DNS from zone data: what a zone answers, and a Lookup made of it. Nothing here touches a socket.

The data is that of the RFC 7208 suite: a name to its entries, an entry being `{type: value}`, `(type, value)` or a
fault that holds for all types which the name does not list. A fault as the value holds for that type. `SPF` stands for
TXT where the name lists no TXT; `{TXT: NONE}` lists TXT without a record. Values are as in a zone file, except: an MX
is `[preference, host]`, a TXT is one string (or bytes) or a list of those that make one record.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Any, TypeVar

from ingester.auth.dns_name import canonical
from ingester.auth.lookup import Answer, Exchange, Status

MAX_ALIASES = 10
ANY = "*"
NONE = "NONE"

Data = Mapping[str, Sequence[Any]]
T = TypeVar("T")


class Fault(StrEnum):
    """What a server does instead of answering. A Lookup takes what it can neither see nor tell for an answer."""

    TIMEOUT = "TIMEOUT"
    SERVFAIL = "SERVFAIL"
    REFUSED = "REFUSED"
    REFERRAL = "REFERRAL"
    """Names other servers instead of asking them."""
    FORMERR = "FORMERR"
    TRUNCATE = "TRUNCATE"
    """Cut short over UDP: the whole answer comes over TCP."""
    SLOW = "SLOW"
    """Answered when the test says so."""
    SPOOFED = "SPOOFED"
    """Answered, but lies come first."""
    WRONG_ID = "WRONG_ID"
    WRONG_QUESTION = "WRONG_QUESTION"
    WRONG_PORT = "WRONG_PORT"
    """Answered from another port than was asked."""
    GARBAGE = "GARBAGE"
    """Bytes that are no message."""
    FLOOD = "FLOOD"
    """A hundred datagrams of garbage."""
    BROKEN = "BROKEN"
    """The header and the question are right, what follows is rubbish."""


MALFORMED = {Fault.FORMERR, Fault.BROKEN}
UNAVAILABLE = set(Fault) - MALFORMED - {Fault.TRUNCATE, Fault.SLOW, Fault.SPOOFED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a zone holds for a question. `owner` is the name at the end of the aliases."""

    status: Status
    owner: str = ""
    aliases: tuple[tuple[str, str], ...] = ()
    values: tuple[Any, ...] = ()
    fault: Fault | None = None


class Zone:
    """All names that are known; everything else does not exist. Names between known ones exist (RFC 8020)."""

    def __init__(self, data: Data) -> None:
        self._values: dict[str, dict[str, list[Any]]] = {}
        self._faults: dict[tuple[str, str], Fault] = {}
        for name, entries in data.items():
            self._add(_key(name), entries)
        parts = (name.split(".") for name in self._values)
        self._known = {".".join(labels[cut:]) for labels in parts for cut in range(len(labels))}

    def find(self, name: str, kind: str) -> Found:
        """The answer to a question, aliases followed within bounds: a loop is malformed (RFC 1034, 3.6.2)."""
        found = Found(status=Status.MALFORMED, owner=_key(name))
        for _ in range(MAX_ALIASES + 1):
            found = replace(found, **self._at(found.owner, kind))
            alias = self._values.get(found.owner, {}).get("CNAME")
            if found.fault or found.status is Status.FOUND or not alias:
                return found
            target = _key(alias[0])
            found = replace(found, owner=target, aliases=(*found.aliases, (found.owner, target)))
        return replace(found, status=Status.MALFORMED)

    def _at(self, owner: str, kind: str) -> dict[str, Any]:
        values = self._values.get(owner, {}).get(kind)
        fault = self._faults.get((owner, kind)) or (None if values else self._faults.get((owner, ANY)))
        if fault in UNAVAILABLE or fault in MALFORMED:
            return {"fault": fault, "status": Status.UNAVAILABLE if fault in UNAVAILABLE else Status.MALFORMED}
        if values:
            return {"fault": fault, "status": Status.FOUND, "values": tuple(values)}
        return {"fault": fault, "status": Status.NO_DATA if owner in self._known else Status.NO_NAME}

    def _add(self, name: str, entries: Sequence[Any]) -> None:
        pairs: list[tuple[str, Any]] = []
        for entry in entries:
            if isinstance(entry, str):
                self._faults[name, ANY] = Fault(entry)
            else:
                pairs += entry.items() if isinstance(entry, Mapping) else [tuple(entry)]
        listed = self._values.setdefault(name, {})
        if any(kind == "TXT" for kind, _ in pairs):
            pairs = [pair for pair in pairs if pair[0] != "SPF"]
        for kind, value in pairs:
            asked = "TXT" if kind == "SPF" else kind
            if value == NONE:
                continue
            if isinstance(value, str) and value in set(Fault):
                self._faults[name, asked] = Fault(value)
            else:
                listed.setdefault(asked, []).append(value)


class ZoneLookup:
    """A Lookup made of zone data, as one mail sees it. `asked` holds the questions in their order."""

    def __init__(self, zone: Zone | Data, *, max_queries: int | None = None) -> None:
        self._zone = zone if isinstance(zone, Zone) else Zone(zone)
        self._max_queries = max_queries
        self.asked: list[tuple[str, str]] = []

    @property
    def queries(self) -> int:
        """Questions so far; those that nobody can ask do not count."""
        return len(self.asked)

    async def txt(self, name: str) -> Answer[bytes]:
        found = self._ask(name, "TXT")
        return _answer(found, [b"".join(strings(value)) for value in found.values])

    async def a(self, name: str) -> Answer[IPv4Address]:
        found = self._ask(name, "A")
        return _answer(found, [IPv4Address(value) for value in found.values])

    async def aaaa(self, name: str) -> Answer[IPv6Address]:
        found = self._ask(name, "AAAA")
        return _answer(found, [IPv6Address(value) for value in found.values])

    async def mx(self, name: str) -> Answer[Exchange]:
        found = self._ask(name, "MX")
        exchanges = [Exchange(int(preference), host.removesuffix(".")) for preference, host in found.values]
        return _answer(found, sorted(exchanges, key=lambda one: one.preference))

    async def ptr(self, ip: IPv4Address | IPv6Address) -> Answer[str]:
        found = self._ask(ip.reverse_pointer, "PTR")
        return _answer(found, [value.removesuffix(".") for value in found.values])

    def _ask(self, name: str, kind: str) -> Found:
        key = canonical(name)
        if key is None:
            return Found(status=Status.MALFORMED)
        if self._max_queries is not None and self.queries >= self._max_queries:
            return Found(status=Status.UNAVAILABLE)
        self.asked.append((key, kind))
        return self._zone.find(key, kind)


def strings(value: str | bytes | Sequence[str | bytes]) -> list[bytes]:
    """The strings of a TXT value."""
    pieces = [value] if isinstance(value, str | bytes) else value
    return [piece if isinstance(piece, bytes) else piece.encode() for piece in pieces]


def _key(name: str) -> str:
    return name.removesuffix(".").lower()


def _answer(found: Found, records: Sequence[T]) -> Answer[T]:
    return Answer(found.status, tuple(records))
