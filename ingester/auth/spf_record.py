"""SPF records (RFC 7208, 3 to 6): which TXT record is one, and its terms, parsed strictly before anything is evaluated.

Pure; asks no DNS. Any bytes give a Record or a Fault.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from ingester.auth.report import Result
from ingester.auth.spf_macro import MacroText, parse_domain, parse_text

MAX_RECORD = 8192
"""Bytes. RFC 7208, 3.4 wants records that fit a UDP answer; a longer one than this is a fault."""
MAX_TERMS = 10
"""Terms of one check that ask DNS (RFC 7208, 4.6.4)."""

_REMEMBERED = 1024
"""Bytes of a record that is worth remembering once parsed, so that what is kept is bounded."""
_VERSION = re.compile(rb"v=spf1(?: |\Z)", re.IGNORECASE)
_TERM = re.compile(r"([-+?~]?)([A-Za-z][A-Za-z0-9_.-]*)(.*)", re.DOTALL)
_CIDR = re.compile(r"(.*?)(?:/(0|[1-9][0-9]?))?(?://(0|[1-9][0-9]{0,2}))?", re.DOTALL)
_NETWORK = re.compile(r":([0-9A-Fa-f.:]{2,45})(?:/(0|[1-9][0-9]{0,2}))?")
_QUALIFIERS = {
    "": Result.PASS,
    "+": Result.PASS,
    "-": Result.FAIL,
    "~": Result.SOFTFAIL,
    "?": Result.NEUTRAL,
}


class Mechanism(StrEnum):
    """What a directive looks at (RFC 7208, 5)."""

    ALL = "all"
    INCLUDE = "include"
    A = "a"
    MX = "mx"
    PTR = "ptr"
    IP4 = "ip4"
    IP6 = "ip6"
    EXISTS = "exists"


@dataclass(frozen=True, slots=True)
class _Modifier:
    name: str
    text: MacroText


_MODIFIERS = frozenset({"redirect", "exp"})
_BAD_DOMAIN = "names no domain that could be asked for"
_KNOWN = frozenset(Mechanism)
_OFFLINE = frozenset({Mechanism.ALL, Mechanism.IP4, Mechanism.IP6})


@dataclass(frozen=True, slots=True)
class Network:
    """A network as the number that its addresses share once `shift` bits are dropped at the right."""

    version: int
    head: int
    shift: int

    def holds(self, version: int, number: int) -> bool:
        """Whether an address, as a number, is in it."""
        return version == self.version and number >> self.shift == self.head


@dataclass(frozen=True, slots=True, kw_only=True)
class Directive:
    """A mechanism and the result when it matches. `term` is how it stands in the record."""

    term: str
    result: Result
    mechanism: Mechanism
    target: MacroText | None = None
    """What it asks about; None for the domain of the record itself."""
    network: Network | None = None
    prefix4: int = 32
    prefix6: int = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A record without a syntax error. Directives that can never be reached are not kept."""

    directives: tuple[Directive, ...]
    redirect: MacroText | None
    explanation: MacroText | None


@dataclass(frozen=True, slots=True)
class Fault:
    """A syntax error: the number of the term, counted from 1 after the version, the term, and what is wrong with it."""

    place: int
    term: str
    what: str


def is_spf(record: bytes) -> bool:
    """Whether a TXT record claims to be an SPF record (RFC 7208, 4.5)."""
    return _VERSION.match(record) is not None


def parse(record: bytes) -> Record | Fault:
    """The terms of a record that `is_spf`; a syntax error anywhere is found (RFC 7208, 4.6)."""
    return _parse_and_remember(record) if len(record) <= _REMEMBERED else _parse(record)


@lru_cache(maxsize=1024)
def _parse_and_remember(record: bytes) -> Record | Fault:
    return _parse(record)


def _parse(record: bytes) -> Record | Fault:
    if len(record) > MAX_RECORD:
        return Fault(0, "", f"is longer than {MAX_RECORD} bytes")
    if not record.isascii():
        return Fault(0, "", "is not US-ASCII")
    directives: list[Directive] = []
    modifiers: dict[str, MacroText] = {}
    terms = (term for term in record.decode("ascii").split(" ")[1:] if term)
    for place, term in enumerate(terms, 1):
        read = _read(term)
        if isinstance(read, str):
            return Fault(place, term, read)
        if isinstance(read, Directive):
            directives.append(read)
        elif read.name in modifiers:
            return Fault(place, term, f"is a second {read.name}=")  # RFC 7208, 6
        elif read.name in _MODIFIERS:
            modifiers[read.name] = read.text
    return Record(
        directives=_reachable(directives), redirect=modifiers.get("redirect"), explanation=modifiers.get("exp")
    )


def _reachable(directives: list[Directive]) -> tuple[Directive, ...]:
    """Up to the first `all`, and up to the term that asks DNS once too often: the check has ended by then."""
    asking = 0
    for count, directive in enumerate(directives, 1):
        asking += directive.mechanism not in _OFFLINE
        if directive.mechanism is Mechanism.ALL or asking > MAX_TERMS:
            return tuple(directives[:count])
    return tuple(directives)


def _read(term: str) -> Directive | _Modifier | str:
    """A term, or what is wrong with it (RFC 7208, 4.6.1). Names are in any case (RFC 5234, 2.3)."""
    match = _TERM.fullmatch(term)
    if match is None:
        return "is neither a mechanism nor a modifier"
    qualifier, name, rest = match.groups()
    name = name.lower()
    if rest.startswith("=") and not qualifier:
        return _modifier(name, rest[1:])
    if name not in _KNOWN:
        return "is an unknown mechanism"
    mechanism = Mechanism(name)
    result = _QUALIFIERS[qualifier]
    if mechanism in (Mechanism.A, Mechanism.MX):
        return _with_addresses(term, result, mechanism, rest)
    if mechanism in (Mechanism.IP4, Mechanism.IP6):
        network = _network(rest, 4 if mechanism is Mechanism.IP4 else 6)
        if isinstance(network, str):
            return network
        return Directive(term=term, result=result, mechanism=mechanism, network=network)
    if not rest:
        bare = mechanism in (Mechanism.ALL, Mechanism.PTR)
        return Directive(term=term, result=result, mechanism=mechanism) if bare else "names no domain"
    target = parse_domain(rest[1:]) if rest[0] == ":" and mechanism is not Mechanism.ALL else None
    if target is None:
        return _BAD_DOMAIN if mechanism is not Mechanism.ALL else "has something after its name"
    return Directive(term=term, result=result, mechanism=mechanism, target=target)


def _modifier(name: str, value: str) -> _Modifier | str:
    """What is not `redirect` or `exp` needs sound macros only (RFC 7208, 6); those two are never read as unknown."""
    if name in _MODIFIERS:
        text = parse_domain(value)
        return _BAD_DOMAIN if text is None else _Modifier(name, text)
    text = parse_text(value)
    return "has a character or macro that cannot be there" if text is None else _Modifier(name, text)


def _with_addresses(term: str, result: Result, mechanism: Mechanism, rest: str) -> Directive | str:
    """`a` and `mx`, with their two prefix lengths (RFC 7208, 5.3, 5.4)."""
    match = _CIDR.fullmatch(rest)
    assert match is not None  # its first group takes anything
    domain, prefix4, prefix6 = match.groups()
    target = parse_domain(domain[1:]) if domain.startswith(":") else None
    if domain and target is None:
        return _BAD_DOMAIN
    lengths = int(prefix4 or 32), int(prefix6 or 128)
    if lengths[0] > 32 or lengths[1] > 128:
        return "has a prefix that is too long"
    return Directive(
        term=term, result=result, mechanism=mechanism, target=target, prefix4=lengths[0], prefix6=lengths[1]
    )


def _network(rest: str, version: int) -> Network | str:
    """What follows `ip4` or `ip6` (RFC 7208, 5.6): host bits are dropped."""
    match = _NETWORK.fullmatch(rest)
    if match is None:
        return "names no network"
    try:
        address = IPv4Address(match[1]) if version == 4 else IPv6Address(match[1])
    except ValueError:
        return "names no network"
    prefix = int(match[2] or address.max_prefixlen)
    if prefix > address.max_prefixlen:
        return "has a prefix that is too long"
    shift = address.max_prefixlen - prefix
    return Network(version, int(address) >> shift, shift)
