"""The certificate of the door: loaded once, and again when its files change, no restart. Touches no connection."""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from ingester.auth.server_certificate import read_shown

_LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the files."""


class CertificateError(Exception):
    """The certificate or its key cannot be used; the text says which file and why."""


class Certificate:
    """A TLS context for new connections. A broken new file keeps the old context and is logged once."""

    def __init__(self, *, cert: Path, key: Path, clock: Callable[[], float]) -> None:
        """Raises CertificateError when the files cannot be used now."""
        self._cert = cert
        self._key = key
        self._clock = clock
        self._log = structlog.get_logger()
        self._looked = clock()
        self._stamp = self._read_stamp()
        self._ends = _ends(cert)
        try:
            self._context = _load(cert, key)
        except (OSError, ssl.SSLError) as error:
            raise CertificateError(f"cannot use the certificate {cert} with the key {key}: {error}") from error

    def context(self) -> ssl.SSLContext:
        """The context for a connection that begins now."""
        now = self._clock()
        if now - self._looked >= _LOOK_EVERY:
            self._looked = now
            self._refresh()
        return self._context

    @property
    def ends(self) -> float | None:
        """When the certificate in use ends, in seconds since 1970; None where that cannot be read."""
        self.context()
        return self._ends

    def _refresh(self) -> None:
        stamp = self._read_stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._context = _load(self._cert, self._key)
        except (OSError, ssl.SSLError) as error:
            self._log.warning("certificate.unusable", cert=str(self._cert), error=type(error).__name__)
        else:
            self._ends = _ends(self._cert)
            self._log.info("certificate.loaded", cert=str(self._cert))

    def _read_stamp(self) -> tuple[object, ...]:
        """What tells that a file was written or replaced, by renaming included."""
        return tuple(_stamp(path) for path in (self._cert, self._key))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _ends(cert: Path) -> float | None:
    try:
        shown = read_shown(cert.read_bytes())
    except OSError:
        return None
    return None if shown is None else shown.ends.timestamp()


def _load(cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    # An empty pass phrase: a protected key must fail, not ask on the terminal.
    context.load_cert_chain(cert, key, password=lambda: b"")
    return context
