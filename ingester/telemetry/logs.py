"""Logging: structlog and the standard library's loggers in one stream on stderr, with nothing in it that is mail.

An exception is logged by its type and its places, for its own text may quote a mail (Postgres and codecs do). A library
is heard from warnings on, and only in its own words: what it puts into them may be a stranger's.
"""

import hmac
import logging
import re
import secrets
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from ingester.settings import Settings
from ingester.telemetry.outlet import Outlet
from ingester.telemetry.redaction import AddressHash, FloodGate, Redaction

FINISH_SECONDS: Final = 1.0
"""How long lines that wait for a slow reader are waited for at the end."""
_FRAMES: Final = 12
_OPENING: Final = re.compile(r"""[(<{\["'\n]""")
_CORRESPONDENTS: Final = ("client", "mail_from", "rcpt_to")
_SUSPECT: Final = (b"@", b"\\", b"\x7f")
"""JSON escapes what moves a cursor, all but DEL."""
_MAIL_LINE_BYTES: Final = 2000
"""Of the line of a mail to five recipients, with room to spare."""
_ENCODER: Final = msgspec.json.Encoder()
_KEY_PURPOSE: Final = b"ingester: names of addresses in logs"

_log = structlog.get_logger(__name__)


def configure(settings: Settings, *, stream: TextIO | None = None) -> None:
    """Set logging up for this process and the ones it forks."""
    out = Outlet(stream or sys.stderr, _tell_loss)
    level = getattr(logging, settings.log.level.upper())
    gate = FloodGate(time.monotonic)
    redaction = Redaction(None if settings.log.addresses else address_hash(settings))
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        places,
        redaction,
    ]
    as_json = settings.log.format == "json" or (settings.log.format == "auto" and settings.env == "production")
    colours = (stream or sys.stderr).isatty()
    renderer = as_line if as_json else structlog.dev.ConsoleRenderer(colors=colours, timestamp_key="time")
    structlog.configure(
        processors=[gate, *shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Lines(out),
        cache_logger_on_first_use=False,
    )
    _route_standard_library(_Handler(out, gate), level, shared, renderer)
    global _mail_lines  # noqa: PLW0603  (of the process, as structlog's own configuration is)
    _mail_lines = MailLines(out, redaction) if as_json and level <= logging.INFO else log_mail


def keep_loggers() -> None:
    """Make each logger once from now on: in a process that does not configure again, as the supervisor does."""
    structlog.configure(cache_logger_on_first_use=True)


def mail_lines() -> Callable[[Mapping[str, object]], None]:
    """What writes the line of each mail from now on, in a process that does not configure again."""
    return _mail_lines


def address_hash(settings: Settings) -> AddressHash:
    """The names of addresses. Where there is a secret they are the same after a restart and in every worker.

    It is the oldest secret of reply tokens, so that a new one in front of it changes no name, else the token of HTTP.
    """
    secret = settings.token_secrets[-1] if settings.token_secrets else None
    if secret is None and settings.inbound_token is not None:
        secret = settings.inbound_token.get_secret_value().encode()
    return AddressHash(hmac.digest(secret, _KEY_PURPOSE, "sha256") if secret else secrets.token_bytes(32))


def finish() -> None:
    """Before a process ends without the interpreter's own end: the last lines get FINISH_SECONDS to get out."""
    logging.shutdown()


def speak_of_crashes() -> None:
    """Tell of what nobody has caught like of every exception: Python's own words would quote it."""
    log = structlog.get_logger(__name__)

    def in_main(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        del kind, trace
        if not isinstance(error, KeyboardInterrupt):
            log.critical("crashed", exc_info=error)

    def in_thread(told: threading.ExceptHookArgs) -> None:
        log.error("a thread crashed", exc_info=told.exc_value)

    def in_passing(told: "sys.UnraisableHookArgs") -> None:
        log.error("an exception nobody could catch", exc_info=told.exc_value)

    sys.excepthook, threading.excepthook, sys.unraisablehook = in_main, in_thread, in_passing


def as_line(_: WrappedLogger, __: str, event: EventDict) -> str:
    """One JSON object. `Redaction` has left nothing in it that JSON does not know."""
    first = {name: event.pop(name, None) for name in ("time", "level", "event")}
    return _ENCODER.encode({**first, **event}).decode()


def log_mail(facts: Mapping[str, object]) -> None:
    """The line of a mail, written like every other."""
    _log.info("mail", **facts)


class MailLines:
    """The line of a mail, written past structlog: it is the one that each mail needs, and by far the most frequent.

    Its facts are numbers, ids and words of our own, but for the correspondents. The net below is there as for all
    others, only that it is drawn once, around the whole line: what may hold an address, a character that moves a
    cursor, or a flood, goes the long way.
    """

    def __init__(self, out: Outlet, redaction: Redaction) -> None:
        self._out = out
        self._redaction = redaction

    def __call__(self, facts: Mapping[str, object]) -> None:
        """Write the line of these facts."""
        who = self._redaction(None, "", {key: facts[key] for key in _CORRESPONDENTS})
        first = {"time": datetime.now(UTC), "level": "info", "event": "mail"}
        line = _ENCODER.encode({**first, **facts, **who})
        if any(map(line.__contains__, _SUSPECT)) or len(line) > _MAIL_LINE_BYTES or not line.isascii():
            log_mail(facts)
        else:
            self._out.put(line + b"\n")


class _Lines:
    """What structlog writes to: every level is a line."""

    def __init__(self, out: Outlet) -> None:
        self._out = out

    def msg(self, line: str) -> None:
        self._out.write(line + "\n")

    debug = info = warning = error = critical = msg


class _Handler(logging.StreamHandler[Outlet]):
    """The standard library's way to the same lines. It closes all handlers at the end of the process."""

    def __init__(self, out: Outlet, gate: FloodGate) -> None:
        super().__init__(out)
        self._gate = gate

    def emit(self, record: logging.LogRecord) -> None:
        if self._gate.left_out(record.name) is not None:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (the library's name)
        """A line that cannot be written is lost: the library would print it with all its arguments."""

    def close(self) -> None:
        self.stream.finish(FINISH_SECONDS)
        super().close()


def _tell_loss(lines: int) -> None:
    structlog.get_logger(__name__).warning("log.lines_lost", lines=lines)


def _route_standard_library(handler: _Handler, level: int, shared: list[Processor], renderer: Processor) -> None:
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[library_words, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            use_get_message=False,
            pass_foreign_args=True,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))  # what libraries say at INFO is not for our operator
    mail = logging.getLogger("mail.log")  # aiosmtpd's, which writes addresses and commands
    mail.setLevel(logging.CRITICAL + 1)
    mail.propagate = False
    logging.captureWarnings(capture=True)


def library_words(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """What a library says, without what it quotes: of its arguments only the numbers, of its text only what stands
    before a bracket, a quote or a line end (asyncio tells of tasks and callbacks by their repr).
    """
    record, given = event["_record"], event.pop("positional_args", None)
    text = record.msg if isinstance(record.msg, str) else ""
    if given:
        known = given if isinstance(given, tuple) else ()
        try:
            text = text % tuple(one if isinstance(one, int | float) else "..." for one in known)
        except (TypeError, ValueError):
            text = text.partition("%")[0]
    event["event"] = _OPENING.split(text, maxsplit=1)[0].strip()
    event["logger"] = record.name
    event.pop("stack_info", None)
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


_mail_lines: Callable[[Mapping[str, object]], None] = log_mail
