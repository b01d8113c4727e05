"""What the verdicts ask of DNS, and the answers they get. The resolver is in `dns`; the tests have one of zone data.

Absent, unavailable and malformed are three different answers: the first is a fact about the sender, the second may
pass, the third is a fault of the sender's zone. Nothing here raises.
"""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Generic, Protocol, TypeVar

Record = TypeVar("Record")


class Status(StrEnum):
    """What became of a query."""

    FOUND = "found"
    NO_DATA = "no_data"
    """The name exists, but has no record of this type (RFC 2308, 2.2)."""
    NO_NAME = "no_name"
    """The name does not exist (NXDOMAIN; RFC 2308, 2.1)."""
    UNAVAILABLE = "unavailable"
    """No answer in time, SERVFAIL, REFUSED, or the budget of the mail is spent: ask again later."""
    MALFORMED = "malformed"
    """The answer cannot be read, or the name cannot be asked for (an empty or overlong label)."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[Record]):
    """The records of one name and type, aliases followed. `records` is empty unless the status is `found`."""

    status: Status
    records: tuple[Record, ...] = ()

    @property
    def absent(self) -> bool:
        """Whether DNS says, reliably, that there is no such record."""
        return self.status in (Status.NO_DATA, Status.NO_NAME)


@dataclass(frozen=True, slots=True)
class Exchange:
    """An MX record (RFC 5321, 5.1). A null MX has the host "" (RFC 7505)."""

    preference: int
    host: str


class Lookup(Protocol):
    """DNS as one mail sees it: with that mail's budget of queries and seconds. Beyond it all is unavailable.

    A name is labels with dots between, without escapes and in any case; what is not ASCII must be A-labels already. A
    dot at the end means nothing.
    """

    async def txt(self, name: str) -> Answer[bytes]:
        """TXT records, the strings of each joined (RFC 7208, 3.3)."""
        ...

    async def a(self, name: str) -> Answer[IPv4Address]:
        """IPv4 addresses."""
        ...

    async def aaaa(self, name: str) -> Answer[IPv6Address]:
        """IPv6 addresses."""
        ...

    async def mx(self, name: str) -> Answer[Exchange]:
        """Mail exchanges, the most preferred first."""
        ...

    async def ptr(self, ip: IPv4Address | IPv6Address) -> Answer[str]:
        """The names of an address (RFC 1035, 3.5; RFC 3596, 2.5)."""
        ...
