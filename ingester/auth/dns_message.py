"""One question to DNS and its answer, as bytes (RFC 1035, 4). Pure, and never raises on what a server says.

Only what a question needs is read: the answer section, and the SOA of a negative answer. The rest of a message is not
looked at, so that a hostile one costs little.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from dns import name as dns_names
from dns.exception import DNSException

from ingester.auth.dns_name import canonical, text, wire
from ingester.auth.lookup import Answer, Exchange, Status

HEADER = struct.Struct(">HHHHHH")
RECORD = struct.Struct(">HHIH")
ASKED_NAME = b"\xc0\x0c"
"""A pointer to the name in the question: the owner of most records (RFC 1035, 4.1.4)."""
EDNS = b"\0" + struct.pack(">HHIH", 41, 1232, 0, 0)
"""An OPT record that offers 1,232 bytes over UDP: what no path fragments (RFC 6891, 6.1)."""
IN = 1
AUTHORITATIVE = 0x0400
RECURSION_DESIRED = 0x0100
TRUNCATED = 0x0200
RESPONSE_AND_OPCODE = 0xF800
RESPONSE = 0x8000
MAX_ALIASES = 10
MAX_RECORDS = 256
"""Records of an answer. A longer one is malformed: a part of it would be a wrong answer."""
MAX_LABELS = 2048
"""Labels of all names of a message together, compressed ones counted where they are used: a few ms of work."""
MAX_AUTHORITY = 32
MAX_SECONDS = 24 * 3600
NEGATIVE_SECONDS = 60
"""How long an absence is believed whose SOA is missing."""
MAX_NEGATIVE_SECONDS = 3600
"""RFC 2308, 5, recommends one to three hours."""
MALFORMED_SECONDS = 60
UNAVAILABLE_SECONDS = 3
"""A dead zone shall not cost every mail its time-out; whoever was told to come again comes in minutes."""
ENTRY_BYTES, RECORD_BYTES = 500, 150
"""What Python needs to hold an answer, and a record, beyond its bytes; roughly."""


class Kind(IntEnum):
    """Types of records (RFC 1035, 3.2.2; RFC 3596, 2.1)."""

    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    MX = 15
    TXT = 16
    AAAA = 28


class Rcode(IntEnum):
    """What a server says of the question itself (RFC 1035, 4.1.1)."""

    NOERROR = 0
    FORMERR = 1
    NXDOMAIN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An answer and how long it holds. With an `alias`, that name has to be asked instead."""

    answer: Answer[Any]
    seconds: float
    alias: str = ""
    size: int = ENTRY_BYTES


UNAVAILABLE = Entry(answer=Answer(Status.UNAVAILABLE), seconds=UNAVAILABLE_SECONDS)
MALFORMED = Entry(answer=Answer(Status.MALFORMED), seconds=MALFORMED_SECONDS)


@dataclass(frozen=True, slots=True)
class Question:
    """A canonical name and a type."""

    name: str
    kind: Kind
    section: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "section", wire(self.name) + struct.pack(">HH", self.kind, IN))

    def query(self, number: int, *, edns: bool = True) -> bytes:
        """The message to send, under this id."""
        header = HEADER.pack(number, RECURSION_DESIRED, 1, 0, 0, int(edns))
        return header + self.section + (EDNS if edns else b"")

    def answered_by(self, message: bytes, number: int) -> bool:
        """Whether a message answers this very question. One that reports an error may leave the question out."""
        if len(message) < HEADER.size:
            return False
        its_number, flags, questions, *_ = HEADER.unpack_from(message)
        if its_number != number or flags & RESPONSE_AND_OPCODE != RESPONSE:
            return False
        if questions == 0:
            return rcode(message) not in (Rcode.NOERROR, Rcode.NXDOMAIN)
        return questions == 1 and message[HEADER.size :][: len(self.section)].lower() == self.section


def rcode(message: bytes) -> int:
    """What the server says of the question. The message has a header."""
    return message[3] & 0x0F


def truncated(message: bytes) -> bool:
    """Whether the rest has to be fetched over TCP (RFC 1035, 4.2.1). The message has a header."""
    return bool(HEADER.unpack_from(message)[1] & TRUNCATED)


def authoritative(message: bytes) -> bool:
    """Whether the server answers for its own zone (RFC 1035, 4.1.1), not from a cache. The message has a header."""
    return bool(HEADER.unpack_from(message)[1] & AUTHORITATIVE)


def read(message: bytes, question: Question) -> Entry | None:
    """What a message says that answers the question; None when this server cannot tell (SERVFAIL, a referral)."""
    if rcode(message) == Rcode.FORMERR:
        return MALFORMED
    if rcode(message) not in (Rcode.NOERROR, Rcode.NXDOMAIN):
        return None
    try:
        return _Reader(message, question).entry()
    except (DNSException, ValueError, struct.error):
        return MALFORMED


class _Reader:
    """The sections of one message. Raises ValueError, struct.error or DNSException where it cannot be read."""

    def __init__(self, message: bytes, question: Question) -> None:
        self._question = question
        self._exists = rcode(message) != Rcode.NXDOMAIN
        self._answers, self._authorities = HEADER.unpack_from(message)[3:5]
        self._message = message
        self._names = _Names(message)
        self._at = HEADER.size + len(question.section)
        self._seconds: float = MAX_SECONDS
        self._size = ENTRY_BYTES + len(question.name)

    def entry(self) -> Entry | None:
        """Follow the aliases to the records, or to where they lead out of this answer."""
        records, aliases = self._answer_section()
        owner = self._question.name
        for hops in range(MAX_ALIASES + 1):
            if owner in records:
                return self._found(records[owner])
            if owner not in aliases:
                return self._absent(owner, aliased=hops > 0)
            owner, seconds = aliases[owner]
            self._seconds = min(self._seconds, seconds)
        return MALFORMED

    def _found(self, records: list[tuple[Any, int]]) -> Entry:
        seconds = min(self._seconds, *(seconds for _, seconds in records))
        values = [value for value, _ in records if value is not None]
        if self._question.kind is Kind.MX:
            values.sort(key=lambda exchange: exchange.preference)
        if not values:  # names that no text can say
            return MALFORMED
        return Entry(answer=Answer(Status.FOUND, tuple(values)), seconds=seconds, size=self._size)

    def _absent(self, owner: str, *, aliased: bool) -> Entry | None:
        """RFC 2308, 2: an SOA or NXDOMAIN make an absence sure; name servers without an SOA are a referral (2.2)."""
        minimum, referral = self._authority_section()
        if self._exists and minimum is None:
            if aliased:
                return replace(UNAVAILABLE, seconds=self._seconds, alias=owner, size=self._size)
            if referral:
                return None
        status = Status.NO_DATA if self._exists else Status.NO_NAME
        negative = NEGATIVE_SECONDS if minimum is None else min(minimum, MAX_NEGATIVE_SECONDS)
        return Entry(answer=Answer(status), seconds=min(self._seconds, negative), size=self._size)

    def _answer_section(self) -> tuple[dict[str, list[tuple[Any, int]]], dict[str, tuple[str, int]]]:
        """Records of the type asked for, and aliases, by owner and with their seconds."""
        if self._answers > MAX_RECORDS:
            raise ValueError("too many records")
        records: dict[str, list[tuple[Any, int]]] = {}
        aliases: dict[str, tuple[str, int]] = {}
        for _ in range(self._answers):
            owner, kind, seconds, end = self._record_head()
            if owner is not None and kind == self._question.kind:
                value = READERS[self._question.kind](self._names, self._at, end)
                records.setdefault(owner, []).append((value, seconds))
            elif owner is not None and kind == Kind.CNAME:
                target = canonical(_name(self._names, self._at, end) or "")
                if target is None:
                    raise ValueError("an alias of nothing")
                aliases.setdefault(owner, (target, seconds))
            self._at = end
        return records, aliases

    def _authority_section(self) -> tuple[int | None, bool]:
        """For how many seconds the absence holds (RFC 2308, 5), and whether name servers are named."""
        referral = False
        for _ in range(min(self._authorities, MAX_AUTHORITY)):
            _, kind, seconds, end = self._record_head()
            if kind == Kind.SOA:
                minimum = int.from_bytes(self._message[end - 4 : end], "big")
                return min(seconds, _seconds(minimum)), referral
            referral = referral or kind == Kind.NS
            self._at = end
        return None, referral

    def _record_head(self) -> tuple[str | None, int, int, int]:
        """Owner (None if it is none that anybody asks for), type, seconds, and where the data ends."""
        if self._message.startswith(ASKED_NAME, self._at):
            owner: str | None = self._question.name
            self._at += len(ASKED_NAME)
        else:
            name, self._at = self._names.read(self._at)
            owner = canonical(name or "")
        kind, category, ttl, length = RECORD.unpack_from(self._message, self._at)
        self._at += RECORD.size
        end = self._at + length
        if end > len(self._message):
            raise ValueError("the data of a record ends beyond the message")
        self._size += RECORD_BYTES + length
        return owner if category == IN else None, kind, _seconds(ttl), end


class _Names:
    """The names of one message."""

    def __init__(self, message: bytes) -> None:
        self.message = message
        self._labels = 0

    def read(self, start: int) -> tuple[str | None, int]:
        """The name that begins here, None if no text can say it, and where it ends. Raises as `_Reader` does."""
        name, length = dns_names.from_wire(self.message, start)
        self._labels += len(name.labels)
        if self._labels > MAX_LABELS:
            raise ValueError("too many labels")
        return text(name.labels), start + length


def _seconds(ttl: int) -> int:
    """RFC 2181, 8: what has the first bit set is zero."""
    return 0 if ttl >> 31 else ttl


def _address(names: _Names, start: int, end: int) -> IPv4Address:
    return IPv4Address(names.message[start:end])


def _address6(names: _Names, start: int, end: int) -> IPv6Address:
    return IPv6Address(names.message[start:end])


def _text(names: _Names, start: int, end: int) -> bytes:
    """The strings, joined (RFC 7208, 3.3)."""
    strings = []
    while start < end:
        following = start + 1 + names.message[start]
        strings.append(names.message[start + 1 : following])
        start = following
    if start != end:
        raise ValueError("a string ends beyond its record")
    return b"".join(strings)


def _exchange(names: _Names, start: int, end: int) -> Exchange | None:
    host = _name(names, start + 2, end)
    return None if host is None else Exchange(int.from_bytes(names.message[start : start + 2], "big"), host)


def _pointer(names: _Names, start: int, end: int) -> str | None:
    return _name(names, start, end) or None


def _name(names: _Names, start: int, end: int) -> str | None:
    name, stop = names.read(start)
    if stop != end:
        raise ValueError("a name does not fill its record")
    return name


READERS: dict[Kind, Callable[[_Names, int, int], Any]] = {
    Kind.A: _address,
    Kind.NS: _pointer,
    Kind.CNAME: _pointer,
    Kind.AAAA: _address6,
    Kind.TXT: _text,
    Kind.MX: _exchange,
    Kind.PTR: _pointer,
}
