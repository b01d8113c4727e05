"""What a recursive resolver is worth: does it answer, how fast, does it validate DNSSEC, does it invent answers?

It asks each server four questions and judges none; what is to be done about it is its caller's.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from ingester.auth.dns_exchange import Server, ask
from ingester.auth.dns_message import HEADER, Kind, Question, Rcode, rcode

SERVFAIL: Final = 2
_AUTHENTIC: Final = 0x20
"""The AD bit, in the fourth byte of a message (RFC 4035, 3.2.3)."""
_SIGNED: Final = "org"
"""A name that is signed, has been for years, and always has an SOA."""
_BOGUS: Final = "dnssec-failed.org"
"""A name whose signatures are wrong on purpose, for tests like this one: who validates must not answer."""
_NEVER: Final = "invalid"
"""A name that never exists, as every resolver knows by itself (RFC 6761, 6.4)."""


class _Authenticated(Question):
    """A question that wants to be told whether the answer was validated: AD in a query (RFC 6840, 5.7)."""

    def query(self, number: int, *, edns: bool = True) -> bytes:
        message = bytearray(super().query(number, edns=edns))
        message[3] |= _AUTHENTIC
        return bytes(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One server. `seconds` is how long an easy question took, None where nothing came.

    `validates`: None when it cannot be seen, such as where the server reaches no root servers. `invents`: it had an
    address for a name that cannot exist.
    """

    host: str
    seconds: float | None
    validates: bool | None = None
    invents: bool = False


async def look_at(server: Server, *, seconds: float, random_label: str) -> Seen:
    """Ask one server. `random_label` makes a name that nobody has registered."""
    begin = time.monotonic()
    easy = await ask(server, Question(_NEVER, Kind.A), seconds)
    if easy is None:
        return Seen(host=server.host, seconds=None)
    took = time.monotonic() - begin
    signed, bogus, unregistered = await asyncio.gather(
        ask(server, _Authenticated(_SIGNED, Kind.SOA), seconds),
        ask(server, _Authenticated(_BOGUS, Kind.A), seconds),
        ask(server, Question(f"{random_label}.com", Kind.A), seconds),
    )
    return Seen(
        host=server.host,
        seconds=took,
        validates=_validates(signed, bogus),
        invents=_answers(easy) or _answers(unregistered),
    )


def _validates(signed: bytes | None, bogus: bytes | None) -> bool | None:
    if _answers(bogus):
        return False
    if not _answers(signed):
        return None
    authentic = bool(signed and signed[3] & _AUTHENTIC)
    return authentic or (bogus is not None and rcode(bogus) == SERVFAIL) or None


def _answers(message: bytes | None) -> bool:
    """Whether there is a record in the answer."""
    return message is not None and rcode(message) == Rcode.NOERROR and HEADER.unpack_from(message)[3] > 0
