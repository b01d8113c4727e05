"""A person by one mail address: recognising it among addresses, and finding it in text and in bytes. Pure.

In text it may stand in several spellings: in any case, the domain in Unicode or as A-labels, `@` as forms, URLs, HTML
and quoted-printable write it, and `name=domain` or `domain=name` as bounce addresses of lists and forwarders do (VERP,
SRS). An address that merely ends or begins like it is another one's. What is encoded as a whole (base64) is not seen.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import idna

from ingester.core.address import Address, parse_path

ERASED: Final = "erased@erased.invalid"
"""What is put in the place of the address (RFC 2606)."""

_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-")
_AT: Final = r"(?:@|%40|=40|\\u0040|&#0{0,5}64;|&#x0{0,5}40;|&commat;)"
_BEFORE: Final = r"(?:(?<![\w.+\-])|(?<=%[0-9a-f]{2})|(?<==[0-9a-f]{2}))"
_AFTER: Final = r"(?![\w\-]|\.\w)"
_TAG: Final = r"(?:(?:\+|%2B|=2B)[^\s@<>\"]{0,128})?"


@dataclass(frozen=True)
class Person:
    """Whoever has the address; with `tags` also its plus-tags (RFC 5233)."""

    address: Address
    tags: bool = False

    def has(self, text: str | None) -> bool:
        """Whether this is an address of the person's."""
        found = parse_path(text.strip().strip("<>")) if text else None
        if found is None or found.domain != self.address.domain:
            return False
        return found.key == self.address.key or (self.tags and found.split_tag()[0] == self.address.key)

    def is_all(self, addresses: Iterable[str]) -> bool:
        """Whether these are the person's, all of them, and there are any."""
        found = [self.has(one) for one in addresses]
        return bool(found) and all(found)

    def in_text(self, text: str) -> bool:
        """Whether the text holds the address."""
        return self._may_be_in(text.lower()) and self._text.search(text) is not None

    def in_bytes(self, data: bytes) -> bool:
        """Whether the bytes hold it, as they are: nothing is decoded."""
        return self._may_be_in_bytes(data.lower()) and self._bytes.search(data) is not None

    def in_value(self, value: Any) -> bool:
        """Whether a column holds it: a text, a list of them, or a document."""
        if isinstance(value, str):
            return self.in_text(value)
        if isinstance(value, dict):
            return any(self.in_text(name) or self.in_value(one) for name, one in value.items())
        return isinstance(value, list | tuple) and any(self.in_value(one) for one in value)

    def without(self, value: Any) -> Any:
        """The value of a column with something else in the place of the address."""
        if isinstance(value, str):
            return self._text.sub(ERASED, value)
        if isinstance(value, dict):
            return {self.without(name): self.without(one) for name, one in value.items()}
        return [self.without(one) for one in value] if isinstance(value, list | tuple) else value

    @cached_property
    def domains(self) -> tuple[str, ...]:
        """The spellings of the domain, in lower case."""
        try:
            spoken = idna.decode(self.address.domain)
        except (idna.IDNAError, UnicodeError):
            spoken = self.address.domain
        return tuple(dict.fromkeys((self.address.domain, spoken)))

    @cached_property
    def pattern(self) -> str:
        """The regular expression for all spellings; linear on any text."""
        spellings = dict.fromkeys((self.address.local, *_quoted(self.address.local)))
        local = f"(?:{'|'.join(map(re.escape, spellings))})"
        domain = f"(?:{'|'.join(map(re.escape, self.domains))})"
        tag = _TAG if self.tags else ""
        plain = f"{_BEFORE}{local}{tag}{_AT}{domain}{_AFTER}"
        bounced = (
            rf"(?<![\w.]){local}{tag}(?:=|%3D|=3D){domain}{_AFTER}|(?<![\w.]){domain}(?:=|%3D|=3D){local}(?![\w.\-])"
        )
        return f"{plain}|{bounced}"

    @property
    def plain_local(self) -> str:
        """The local part in lower case, as it stands in every spelling; "" where an encoding may change it."""
        return self.address.key if _PLAIN.issuperset(self.address.key) else ""

    def _may_be_in(self, lower: str) -> bool:
        """Quickly: whether both parts are there, in any order."""
        return self.plain_local in lower and any(one in lower for one in self.domains)

    def _may_be_in_bytes(self, lower: bytes) -> bool:
        """The same; of bytes only ASCII is in lower case."""
        ascii_only = all(one.isascii() for one in self.domains)
        return self.plain_local.encode() in lower and (not ascii_only or self.domains[0].encode() in lower)

    @cached_property
    def _text(self) -> re.Pattern[str]:
        return re.compile(self.pattern, re.IGNORECASE)

    @cached_property
    def _bytes(self) -> re.Pattern[bytes]:
        return re.compile(self.pattern.encode(), re.IGNORECASE)


def _quoted(local: str) -> tuple[str, ...]:
    """A local part as a quoted string (RFC 5321, 4.1.2), and as that stands in JSON."""
    quoted = '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return quoted, quoted.replace("\\", "\\\\").replace('"', '\\"')
