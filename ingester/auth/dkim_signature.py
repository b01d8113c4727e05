"""What a DKIM-Signature field says (RFC 6376, 3.5), and tag lists as such. Pure; never raises; linear.

It reads, and complains of what the RFC forbids; whether the signature holds is judged elsewhere.
"""

import re
from binascii import Error, a2b_base64
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from ingester.auth.header import HeaderField, readable
from ingester.core.address import normalise_domain

MAX_FIELD = 32 << 10
"""Bytes of a DKIM-Signature; the longest seen in real mail are about 4 KB."""
MAX_SIGNED_HEADERS = 100
"""Names of `h=` that the report keeps."""
_MAX_NAME = 253
_MAX_DIGITS = 18
"""Digits of `l=`: 64 bits hold them; the RFC allows 76, no mail has so many bytes."""
_MAX_TIME_DIGITS = 12

_REMEMBERED = 2048
"""Bytes of a field, up to which what its signer says alike in all his signatures is kept once read."""
_BLANKS = b" \t\r\n"
_FOLDING = re.compile(r"[ \t\r\n]+")
_TAG_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_FIELD_NAME = re.compile(r"[!-9;-~]+")
_VALUE = re.compile(r"[ -:<-~\t\r\n\x80-\U0010ffff]*")
_FORBIDDEN = bytes({*range(0x20), 0x7F} - set(b"\t\r\n"))
"""What no value has: where a whole list is without it, so is each value."""
_NEEDED = ("v", "a", "b", "bh", "d", "h", "s")
_ALL_NEEDED = frozenset(_NEEDED)
_HABITUAL = ("v", "a", "c", "d", "s", "i", "h")
_USUAL = frozenset((*_NEEDED, *_HABITUAL, "t", "x", "q", "l", "p", "k", "cv"))
ALGORITHMS = ("rsa-sha256", "ed25519-sha256")
"""RFC 8301, 3.1; RFC 8463, 3."""


def tags(text: bytes) -> dict[str, str] | str:
    """A tag list (RFC 6376, 3.2) in its order: names as they stand, values without the blanks around them.

    Folding inside a value is kept. A sentence on what is wrong, where it is no tag list.
    """
    out: dict[str, str] = {}
    clean = len(text.translate(None, _FORBIDDEN)) == len(text)
    specs = text.decode("utf-8", "surrogateescape").split(";")
    if not specs[-1].strip(" \t\r\n"):
        specs.pop()
    for spec in specs:
        name, equals, value = spec.partition("=")
        name, value = name.strip(" \t\r\n"), value.strip(" \t\r\n")
        if not equals or not (name in _USUAL or _TAG_NAME.fullmatch(name)):
            return "it is no list of tags"
        if name in out:
            return f"the tag {name[:20]}= stands twice"
        if not clean and not _VALUE.fullmatch(value):
            return f"the value of {name[:20]}= has forbidden characters"
        out[name] = value
    return out


def from_base64(text: str) -> bytes | None:
    """The bytes of a base64 value, folding passed over; None when it is none."""
    try:
        return a2b_base64(text.encode("ascii").translate(None, _BLANKS), strict_mode=True)
    except (Error, ValueError):  # of which the error of a character that is not ASCII is one
        return None


def listed(text: str) -> list[str]:
    """The items of a list with colons, without the blanks around each."""
    return [item.strip(" \t\r\n") for item in text.split(":")]


class Habits(NamedTuple):
    """What a signer says alike in one mail after another. `problem` names the first thing that the RFC forbids."""

    domain: str
    selector: str
    algorithm: str
    identity: str
    identity_domain: str
    header_relaxed: bool
    body_relaxed: bool
    signed_headers: tuple[str, ...]
    shown_headers: tuple[str, ...]
    shown_algorithm: str
    shown_identity: str
    """These three as a report has them."""
    key_name: str
    """Where the key is in DNS (RFC 6376, 3.6.2.1)."""
    problem: str | None


_NO_HABITS = Habits("", "", "", "", "", False, False, (), (), "", "", "", None)


class Claim(NamedTuple):
    """What a signature says of itself. `problem` names the first thing that the RFC forbids; then the rest is what
    could be read all the same."""

    field: HeaderField
    habits: Habits = _NO_HABITS
    body_length: int | None = None
    signed_at: int | None = None
    expires_at: int | None = None
    body_hash: bytes = b""
    signature: bytes = b""
    digest_prefix: str = ""
    problem: str | None = None


def read_claim(field: HeaderField) -> Claim:
    """Read one DKIM-Signature field."""
    if len(field.raw) > MAX_FIELD:
        return Claim(field=field, problem=f"the signature field is larger than {MAX_FIELD:,} bytes")
    found = tags(field.value)
    if isinstance(found, str):
        return Claim(field=field, problem=f"the signature cannot be read: {found}")
    return _Reading(found).claim(field)


class _Reading:
    """Reads the tags one by one and collects complaints."""

    def __init__(self, found: Mapping[str, str]) -> None:
        self._tags = found
        self._problems: list[str] = []
        if not found.keys() >= _ALL_NEEDED:
            self._problems = [f"the tag {name}= is missing" for name in _NEEDED if name not in found]

    def claim(self, field: HeaderField) -> Claim:
        texts = tuple([self._tags.get(name) for name in _HABITUAL])
        habits = _recalled(texts) if len(field.raw) <= _REMEMBERED else _Habitual(texts).habits()
        if habits.problem:
            self._problems.append(habits.problem)
        signed_at, expires_at = self._number("t", _MAX_TIME_DIGITS), self._number("x", _MAX_TIME_DIGITS)
        if signed_at is not None and expires_at is not None and expires_at < signed_at:
            self._problems.append("x= is before t=")
        self._query()
        return Claim(
            field=field,
            habits=habits,
            body_length=self._number("l", _MAX_DIGITS),
            signed_at=signed_at,
            expires_at=expires_at,
            body_hash=self._base64("bh"),
            signature=self._base64("b"),
            digest_prefix=_FOLDING.sub("", self._tags.get("b", "")[:64])[:8],
            problem=self._problems[0] if self._problems else None,
        )

    def _number(self, tag: str, digits: int) -> int | None:
        text = self._tags.get(tag)
        if text is None:
            return None
        if not (text.isascii() and text.isdecimal() and len(text) <= digits):
            self._problems.append(f"{tag}= is no number, or none that can be true")
            return None
        return int(text)

    def _query(self) -> None:
        """Methods that are not known are passed over (RFC 6376, 3.5)."""
        if "q" in self._tags and "dns/txt" not in listed(self._tags["q"]):
            self._problems.append("q= names no method that is known")

    def _base64(self, tag: str) -> bytes:
        data = from_base64(self._tags.get(tag, ""))
        if not data:
            self._problems.append(f"{tag}= is empty or no base64")
        return data or b""


_Texts = tuple[str | None, ...]
"""The values of the habitual tags, None for one that is missing."""


@lru_cache(maxsize=1024)  # each of a field of at most _REMEMBERED bytes
def _recalled(texts: _Texts) -> Habits:
    return _Habitual(texts).habits()


class _Habitual:
    """Reads what is the same in many signatures, and collects complaints, but not of what is missing."""

    def __init__(self, texts: _Texts) -> None:
        self._tags = {name: text for name, text in zip(_HABITUAL, texts, strict=True) if text is not None}
        self._problems: list[str] = []

    def habits(self) -> Habits:
        self._version()
        algorithm = self._algorithm()
        header_relaxed, body_relaxed = self._canonicalisation()
        domain = self._domain("d")
        selector = self._domain("s")
        if len(domain) + len(selector) > _MAX_NAME - len("._domainkey."):
            self._problems.append("d= and s= make a name that is too long")
        identity, identity_domain = self._identity(domain)
        signed_headers = self._signed_headers()
        return Habits(
            domain=domain,
            selector=selector,
            algorithm=algorithm,
            identity=identity,
            identity_domain=identity_domain,
            header_relaxed=header_relaxed,
            body_relaxed=body_relaxed,
            signed_headers=signed_headers,
            shown_headers=tuple(map(readable, signed_headers[:MAX_SIGNED_HEADERS])),
            shown_algorithm=readable(algorithm),
            shown_identity=readable(identity),
            key_name=f"{selector}._domainkey.{domain}",
            problem=self._problems[0] if self._problems else None,
        )

    def _version(self) -> None:
        if self._tags.get("v", "1") != "1":
            self._problems.append("v= is not 1")

    def _algorithm(self) -> str:
        algorithm = self._tags.get("a", "")
        if algorithm == "rsa-sha1":
            self._problems.append("rsa-sha1 is not accepted (RFC 8301, 3.1)")
        elif algorithm not in ALGORITHMS:
            self._problems.append("the algorithm of a= is unknown")
        return algorithm

    def _canonicalisation(self) -> tuple[bool, bool]:
        header, _, body = self._tags.get("c", "simple/simple").partition("/")
        body = body if "/" in self._tags.get("c", "") else "simple"
        if not {header, body} <= {"simple", "relaxed"}:
            self._problems.append("the canonicalisation of c= is unknown")
        return header == "relaxed", body == "relaxed"

    def _domain(self, tag: str) -> str:
        """A domain or selector as lower-case A-labels (RFC 8616, 4)."""
        text = self._tags.get(tag, "")
        name = normalise_domain(text) if len(text) <= _MAX_NAME and text[:1] != "[" and text[-1:] != "." else None
        if name is None:
            self._problems.append(f"{tag}= is no domain name")
        return name or ""

    def _identity(self, domain: str) -> tuple[str, str]:
        """`i=`, within `d=` (RFC 6376, 3.5). Its local part may be anything."""
        text = self._tags.get("i")
        if text is None:
            return f"@{domain}", domain
        _, at, written = text.rpartition("@")
        named = normalise_domain(written) if len(written) <= _MAX_NAME else None
        if not at or not named or not (named == domain or named.endswith(f".{domain}")):
            self._problems.append("the domain of i= is not within d=")
        return _FOLDING.sub("", text), named or ""

    def _signed_headers(self) -> tuple[str, ...]:
        names = tuple(name.lower() for name in listed(self._tags.get("h", "")))
        if not all(_FIELD_NAME.fullmatch(name) for name in names):
            self._problems.append("h= is empty or no list of field names")
        elif "from" not in names:
            self._problems.append("From is not signed (RFC 6376, 5.4)")
        return names
