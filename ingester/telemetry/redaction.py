"""The net below all who log: nothing of a mail and no secret gets through it, and no flood. They should not log such
things at all; where one does by mistake, it stays here.

Law 11: no mail text in logs; addresses, of mail and of clients, only as keyed hashes, unless `log.addresses` says so.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from structlog import DropEvent
from structlog.typing import EventDict, WrappedLogger

TEXT_LIMIT: Final = 300
"""Characters of a logged string: what a stranger says (HELO) must not flood the log."""
LIST_LIMIT: Final = 20
DEPTH_LIMIT: Final = 3
ADDRESS_KEYS: Final = frozenset(
    {"address", "client", "client_ip", "envelope_from", "from_", "helo", "mail_from", "rcpt", "rcpt_to", "recipient"}
    | {"sender", "to"}
)
HIDDEN_KEYS: Final = frozenset(
    {"authorization", "body", "content", "data", "database_url", "filename", "headers", "html", "line", "message"}
    | {"password", "query", "raw", "secret", "subject", "text", "token", "url"}
)
_SUSPECT_KEYS: Final = ADDRESS_KEYS | HIDDEN_KEYS
LINES: Final = 100
WINDOW_SECONDS: Final = 10.0
"""So many lines of one event in so many seconds; further ones are counted, and the next that is told says so."""
UNBOUNDED: Final = frozenset({"mail", "dead letter", "refused"})
"""Events that are bounded where they are made, or that stand for a mail each."""
_ADDRESS: Final = re.compile(r'(?:"[^"@]{1,64}"|[^\s@<>()\[\],;:"\']+)@[^\s@<>()\[\],;:"\']+')
_NUMBERS: Final = frozenset({int, float, bool, type(None)})
"""What is as it is, these very types."""
_PLAIN: Final = (UUID, Path, IPv4Address, IPv6Address)
_LOOKED_AT: Final = 4 * TEXT_LIMIT


class AddressHash:
    """Names an address without telling it: the same address has the same name for as long as the key lives."""

    def __init__(self, key: bytes) -> None:
        if not 16 <= len(key) <= hashlib.blake2b.MAX_KEY_SIZE:
            raise ValueError("the key needs at least 16 bytes, and at most 64")
        self._key = key
        self._known = lru_cache(maxsize=1024)(self._hash)  # most mails are for few recipients

    def __call__(self, address: str) -> str:
        """A hash of the lower-case address: 80 bits, enough to tell addresses apart in a log."""
        return self._known(address) if len(address) <= TEXT_LIMIT else self._hash(address)

    def _hash(self, address: str) -> str:
        words = address.lower().encode("utf-8", "surrogatepass")
        return "addr-" + hashlib.blake2b(words, key=self._key, digest_size=10).hexdigest()


class Redaction:
    """The last processor before the renderer: what is left is plain values, bounded, without addresses in clear."""

    def __init__(self, hide: Callable[[str], str] | None) -> None:
        """`hide` names an address; None leaves addresses in clear."""
        self._hide = hide

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        for key, value in event.items():
            if key not in _SUSPECT_KEYS:  # nearly all are numbers, or short and plain: no call for those
                kind = type(value)
                if kind in _NUMBERS:
                    continue
                if kind is str and len(value) <= TEXT_LIMIT and "@" not in value and value.isprintable():
                    continue
            event[key] = "hidden" if key in HIDDEN_KEYS else self._safe(key, value, DEPTH_LIMIT)
        return event

    def _safe(self, key: str, value: object, depth: int) -> object:
        """The value as text, numbers, lists and mappings of such; of anything else no more than its type."""
        if type(value) is str:  # nearly all are
            return self._text(key, value)
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, str):
            return self._text(key, value)
        if isinstance(value, bytes | bytearray | memoryview):
            return f"<{len(value)} bytes>"
        if depth and isinstance(value, list | tuple | set | frozenset):
            return [self._safe(key, one, depth - 1) for one in list(value)[:LIST_LIMIT]]
        if depth and isinstance(value, Mapping):
            return self._mapping(value, depth - 1)
        return self._text(key, str(value)) if isinstance(value, _PLAIN) else f"<{type(value).__name__}>"

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, object]:
        safe: dict[str, object] = {}
        for key, one in islice(value.items(), LIST_LIMIT):
            name = self._text("", str(key))
            if key in HIDDEN_KEYS:
                safe[name] = "hidden"
            else:
                safe[name] = one if type(one) in _NUMBERS else self._safe(str(key), one, depth)
        return safe

    def _text(self, key: str, text: str) -> str:
        hide = self._hide
        if hide is not None:
            if key in ADDRESS_KEYS:
                return hide(text) if text else ""
            if "@" in text:
                text = _ADDRESS.sub(lambda found: hide(found[0]), text[:_LOOKED_AT])
        return text if len(text) <= TEXT_LIMIT and text.isprintable() else _bounded(text)


class FloodGate:
    """The first processor: an event that comes too often is counted instead of told."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` is monotonic seconds."""
        self._clock = clock
        self._seen: dict[str, tuple[float, int]] = {}

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        name = event["event"]
        if name in UNBOUNDED:
            return event
        left_out = self.left_out(name)
        if left_out is None:
            raise DropEvent
        if left_out:
            event["left_out"] = left_out
        return event

    def left_out(self, name: str) -> int | None:
        """None where this one is not to be told, else how many were not told before it. Names are a closed set."""
        now = self._clock()
        began, count = self._seen.get(name, (now, 0))
        earlier = 0
        if now - began >= WINDOW_SECONDS:
            began, count, earlier = now, 0, max(count - LINES, 0)
        self._seen[name] = began, count + 1
        return earlier if count < LINES else None


def _bounded(text: str) -> str:
    """At most TEXT_LIMIT characters, and none that moves the cursor of the terminal that shows them."""
    cut = text[:TEXT_LIMIT] + ("..." if len(text) > TEXT_LIMIT else "")
    return "".join(char if char.isprintable() else "\ufffd" for char in cut)
