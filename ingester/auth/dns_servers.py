"""Which name servers are asked, and in which order: those configured, or else those of the system's file."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ingester.auth.dns_exchange import Server, server

SETTING = "INGESTER_DNS__NAMESERVERS"
SYSTEM_FILE = Path("/etc/resolv.conf")
PORT = 53
MAX_SERVERS = 8
MAX_FILE_BYTES = 64 << 10
LOOK_SECONDS = 1.0
"""How often the system's file is looked at."""


class NoNameserver(ValueError):
    """There is nobody to ask; the text says what to set."""


class Nameservers:
    """The servers, the one to ask first at the front. Without given ones the file is read, and again when it changes.

    Raises NoNameserver at once when there is none. Later a file that cannot be used changes nothing.
    """

    def __init__(self, given: Sequence[tuple[str, int]], file: Path, clock: Callable[[], float]) -> None:
        self._file = None if given else file
        self._clock = clock
        self._looked = clock()
        self._version = None if given else _version(file)
        self._servers = _given(given) if given else _system(file)

    def current(self) -> tuple[Server, ...]:
        """The servers to ask now."""
        if self._file is not None and self._clock() - self._looked >= LOOK_SECONDS:
            self._looked = self._clock()
            self._look(self._file)
        return self._servers

    def prefer(self, one: Server) -> None:
        """Begin with this server from now on: the others were silent while it answered."""
        if one in self._servers:
            self._servers = (one, *(other for other in self._servers if other != one))

    def _look(self, file: Path) -> None:
        version = _version(file)
        if version == self._version:
            return
        self._version = version
        with suppress(NoNameserver):
            self._servers = _system(file)


def _given(given: Sequence[tuple[str, int]]) -> tuple[Server, ...]:
    try:
        return tuple(server(host, port) for host, port in given)
    except ValueError as error:
        raise NoNameserver(f"{SETTING} must name IP addresses: {error}") from None


def _system(file: Path) -> tuple[Server, ...]:
    """The `nameserver` lines of resolv.conf(5). Search domains are of no use to us: all names are complete."""
    try:
        with file.open("rb") as opened:
            lines = opened.read(MAX_FILE_BYTES).decode("utf-8", "replace").splitlines()
    except OSError as error:
        raise NoNameserver(f"{file} cannot be read ({error.strerror}): set {SETTING}") from None
    found: list[Server] = []
    for line in lines:
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            try:
                found.append(server(words[1], PORT))
            except ValueError:
                continue
    if not found:
        raise NoNameserver(f"{file} names no name server: set {SETTING}")
    return tuple(found[:MAX_SERVERS])


def _version(file: Path) -> tuple[int, int, int] | None:
    try:
        seen = os.stat(file)  # noqa: PTH116  (Path.stat costs twice as much)
    except OSError:
        return None
    return seen.st_ino, seen.st_mtime_ns, seen.st_size
