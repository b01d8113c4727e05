"""Logging: structlog and the standard library's loggers in one stream on stderr, with nothing in it that is mail.

Law 11: no mail text in logs. A mail address is a keyed hash unless `log.addresses` says otherwise; values under keys
that could hold mail text or a secret are hidden; an exception is logged by its type and its places, for its own text
may quote a mail (Postgres and codecs do). This is a net below the callers, who should not log such things at all.
"""

import base64
import hashlib
import hmac
import json
import logging
import secrets
import sys
import traceback
from collections.abc import Callable, MutableMapping
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO
from uuid import UUID

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from ingester.settings import Settings

TEXT_LIMIT = 300
"""Characters of a logged string: what a stranger says (HELO) must not flood the log."""
_FRAMES = 12

ADDRESS_KEYS = frozenset(
    {"address", "mail_from", "envelope_from", "rcpt", "rcpt_to", "recipient", "sender", "to", "from_"}
)
HIDDEN_KEYS = frozenset(
    {"body", "content", "data", "database_url", "filename", "headers", "html", "line", "message", "password", "raw"}
    | {"secret", "subject", "text", "token", "url"}
)
_PLAIN = (UUID, Path, IPv4Address, IPv6Address)


class AddressHash:
    """Names a mail address without telling it: the same address has the same name for as long as the key lives."""

    def __init__(self, key: bytes) -> None:
        if len(key) < 16:
            raise ValueError("the key needs at least 16 bytes")
        self._key = key

    def __call__(self, address: str) -> str:
        """A hash of the lower-case address: 80 bits, enough to tell addresses apart in a log."""
        digest = hmac.digest(self._key, address.lower().encode("utf-8", "surrogatepass"), hashlib.sha256)
        return "addr-" + base64.b32encode(digest[:10]).decode("ascii").lower()


def configure(settings: Settings, *, stream: TextIO | None = None, key: bytes | None = None) -> None:
    """Set logging up for this process and the ones it forks. Without a `key` the hashes change with each start."""
    out = stream or sys.stderr
    as_json = settings.log.format == "json" or (settings.log.format == "auto" and settings.env == "production")
    level = getattr(logging, settings.log.level.upper())
    hide = None if settings.log.addresses else AddressHash(key or secrets.token_bytes(32))
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        places,
        Redaction(hide),
    ]
    renderer = _json() if as_json else structlog.dev.ConsoleRenderer(colors=out.isatty(), timestamp_key="time")
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=True,
    )
    _route_standard_library(out, level, shared, renderer)


def _json() -> Processor:
    return structlog.processors.JSONRenderer(serializer=json.dumps, default=_plain, ensure_ascii=True)


def _plain(value: object) -> str:
    """What json does not know: text of a few harmless types, else no more than the type, which cannot quote a mail."""
    return str(value) if isinstance(value, _PLAIN) else f"<{type(value).__name__}>"


def _route_standard_library(out: TextIO, level: int, shared: list[Processor], renderer: Processor) -> None:
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_first_line, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))  # what libraries say at INFO is not for our operator
    mail = logging.getLogger("mail.log")  # aiosmtpd's, which writes addresses and commands
    mail.setLevel(logging.CRITICAL + 1)
    mail.propagate = False
    logging.captureWarnings(capture=True)


def _first_line(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """asyncio tells of a task with its repr, which quotes the exception, in the lines after the first."""
    event["event"] = str(event["event"]).partition("\n")[0]
    return event


def places(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Put the exception's type and places, innermost last, where its text would be."""
    error = event.pop("exc_info", None)
    if error is True or (isinstance(error, tuple) and error[1] is None):
        error = sys.exc_info()
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event["exception"] = _chain(error)
    return event


def _chain(error: BaseException) -> str:
    told: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(told) < 4:
        seen.add(id(current))
        told.append(f"{type(current).__qualname__}{_where(current.__traceback__)}")
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return " from ".join(told)


def _where(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)[-_FRAMES:]
    names = (f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
    return f" ({' > '.join(names)})" if frames else ""


class Redaction:
    """The last processor before the renderer: addresses hashed, mail text and secrets hidden, strings bounded."""

    def __init__(self, hide: Callable[[str], str] | None) -> None:
        """`hide` names an address; None leaves addresses in clear."""
        self._hide = hide

    def __call__(self, _: WrappedLogger, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for key, value in event.items():
            if key in HIDDEN_KEYS:
                event[key] = "hidden"
            elif key in ADDRESS_KEYS and self._hide is not None:
                event[key] = self._address(value)
            elif isinstance(value, str) and key != "exception":
                event[key] = value if len(value) <= TEXT_LIMIT and value.isprintable() else _bounded(value)
            elif isinstance(value, bytes | bytearray | memoryview):
                event[key] = f"<{len(value)} bytes>"
        return event

    def _address(self, value: object) -> object:
        if isinstance(value, list | tuple | set | frozenset):
            return [self._address(one) for one in value]
        return self._hide(str(value)) if value and self._hide is not None else ""


def _bounded(text: str) -> str:
    """At most TEXT_LIMIT characters, and none that moves the cursor of the terminal that shows them."""
    cut = text[:TEXT_LIMIT] + ("..." if len(text) > TEXT_LIMIT else "")
    return "".join(char if char.isprintable() else "\ufffd" for char in cut)
