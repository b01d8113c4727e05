"""XCLIENT and XFORWARD (Postfix, XCLIENT_README, XFORWARD_README): the real client as a relay of ours tells it. Pure.

What it says comes from strangers in the end: values are bounded and cleaned, and nothing raises.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Final

from ingester.transport.command import printable
from ingester.transport.proxy import normalise_ip

XCLIENT_NAMES: Final = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT")
XFORWARD_NAMES: Final = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE")
_VALUE_LIMIT: Final = 255
"""Characters of a decoded value."""
_NOT_TOLD: Final = frozenset({"[UNAVAILABLE]", "[TEMPUNAVAIL]"})
_XTEXT: Final = re.compile(rb"\+([0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The real client as far as it was told. `ip` is "" where it was not."""

    ip: str = ""
    helo: str | None = None


def add_told(told: Told, argument: str, names: tuple[str, ...]) -> Told | None:
    """What is known after one more command: attributes that it does not name stay. None where it is no such command.

    Only the address and the name of HELO are kept: the others decide nothing here.
    """
    values = _attributes(argument, names)
    if values is None:
        return None
    if "ADDR" in values:
        told = replace(told, ip=_ip(values["ADDR"]))
    if "HELO" in values:
        told = replace(told, helo=_name(values["HELO"]))
    return told


def _attributes(argument: str, names: tuple[str, ...]) -> Mapping[str, str | None] | None:
    """The values by name in upper case, None where one is said to be unknown. The last of two counts, as in Postfix."""
    values: dict[str, str | None] = {}
    for word in argument.split():
        name, equals, value = word.partition("=")
        if not equals or name.upper() not in names:
            return None
        values[name.upper()] = None if value.upper() in _NOT_TOLD else decode_xtext(value)
    return values or None


def decode_xtext(text: str) -> str:
    """RFC 3461, 4. A plus sign before no hexadecimal pair stands for itself: Postfix before 2.3 encodes nothing."""
    octets = _XTEXT.sub(lambda match: bytes.fromhex(match[1].decode()), text.encode("utf-8", "surrogateescape"))
    return octets.decode("utf-8", "replace")


def _ip(value: str | None) -> str:
    """The address in our one spelling; "" for what is none, as it may be for mail that did not come over a network."""
    text = value or ""
    if text[:5].upper() == "IPV6:":
        text = text[5:]
    try:
        ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    return normalise_ip(text)


def _name(value: str | None) -> str | None:
    return printable(value) if value and len(value) <= _VALUE_LIMIT else None
