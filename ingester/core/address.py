"""Envelope addresses (RFC 5321, 4.1.2; RFC 6531): parse, normalise, compare.

Header addresses are another grammar and live in `headers`. Any text parses or gives None; nothing raises.
"""

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

import idna

LOCAL_LIMIT = 128
"""Octets of a local part. RFC 5321 says 64; the design page accepts 128, because real senders exceed it."""
DOMAIN_LIMIT = 255
"""Octets of a domain (RFC 5321, 4.5.3.1.2)."""

_USUAL = 128
"""Characters of a path up to which it is remembered: what strangers may make us keep is bounded."""

_ATEXT = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~.")
_LABEL = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One address: `local` unquoted and as given, `domain` a lower-case A-label name ("" when absent)."""

    local: str
    domain: str

    def __str__(self) -> str:
        local = self.local if _is_dot_atom(self.local) else _quote(self.local)
        return f"{local}@{self.domain}" if self.domain else local

    @property
    def key(self) -> str:
        """What local parts are compared by: lower case."""
        return self.local.lower()

    def split_tag(self) -> tuple[str, str | None]:
        """The base key and the plus-tag (RFC 5233) as given: `Support+Foo` gives ("support", "Foo")."""
        base, plus, tag = self.local.partition("+")
        if not plus or not base:
            return self.key, None
        return base.lower(), tag


def parse_path(text: str) -> Address | None:
    """Parse what stands between `<` and `>` in RCPT or MAIL (not the null path), or None.

    A source route (`@a,@b:user@c`, RFC 5321 appendix C) is dropped. The bare `postmaster` has domain "".
    """
    if len(text) > 4 * (LOCAL_LIMIT + DOMAIN_LIMIT):
        return None
    return _remembered(text) if len(text) <= _USUAL else _parse(text)


@lru_cache(maxsize=2048)  # the same few recipients come again and again, and a door asks twice of each
def _remembered(text: str) -> Address | None:
    return _parse(text)


def _parse(text: str) -> Address | None:
    if text.startswith("@"):
        _, colon, text = text.partition(":")
        if not colon:
            return None
    if text.lower() == "postmaster":
        return Address(local="postmaster", domain="")
    local, domain = _split(text)
    if local is None or not local or len(local.encode("utf-8", "surrogatepass")) > LOCAL_LIMIT:
        return None
    if not local.isprintable() and any(ord(c) < 32 or ord(c) == 127 or "\ud800" <= c <= "\udfff" for c in local):
        return None
    name = normalise_domain(domain)
    return None if name is None else Address(local=local, domain=name)


def normalise(text: str) -> str:
    """The one spelling that a person's address is known by; what is none by our grammar stays, in lower case."""
    address = parse_path(text)
    return text.lower() if address is None else str(Address(local=address.key, domain=address.domain))


def _split(text: str) -> tuple[str | None, str]:
    if not text.startswith('"'):
        local, at, domain = text.rpartition("@")
        ok = bool(at) and _is_dot_atom(local)
        return (local if ok else None), domain
    out: list[str] = []
    i = 1
    while i < len(text):
        char = text[i]
        if char == "\\" and i + 1 < len(text):
            out.append(text[i + 1])
            i += 2
        elif char == '"':
            rest = text[i + 1 :]
            return ("".join(out), rest[1:]) if rest.startswith("@") else (None, "")
        else:
            out.append(char)
            i += 1
    return None, ""


def _is_dot_atom(local: str) -> bool:
    """Dots are taken leniently (Japanese carriers used `a..b@` for years); everything else is RFC 5321 plus 6531."""
    return bool(local) and (_ATEXT.issuperset(local) or all(c in _ATEXT or ord(c) > 127 for c in local))


def _quote(local: str) -> str:
    return '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'


@lru_cache(maxsize=4096)
def normalise_domain(text: str) -> str | None:
    """Lower-case A-label form of a domain name, a kept address literal, or None when it is neither."""
    if text.startswith("["):
        return _literal(text)
    name = text.rstrip(".").lower() if text.endswith(".") and not text.endswith("..") else text.lower()
    if not name.isascii() or "xn--" in name:
        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            return None
    if not name or len(name) > DOMAIN_LIMIT:
        return None
    labels = name.split(".")
    fine = all(0 < len(label) <= 63 and _LABEL.issuperset(label) for label in labels)
    return name if fine else None


def _literal(text: str) -> str | None:
    """`[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321, 4.1.3)."""
    inner = text[1:-1] if text.endswith("]") else ""
    tagged = inner[:5].lower() == "ipv6:"
    try:
        address: IPv4Address | IPv6Address = ip_address(inner[5:] if tagged else inner)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) != tagged:
        return None
    return f"[IPv6:{address}]".lower() if tagged else f"[{address}]"
