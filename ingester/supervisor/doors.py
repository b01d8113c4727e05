"""The sockets of the doors: bound here, or handed over by a service manager; one set for each place of a worker.

A worker's place has sockets of its own (SO_REUSEPORT), so that the kernel spreads connections and nobody is woken for
nothing. Sockets that were handed over, and unix sockets, are shared by all.
"""

import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from ingester.settings import Listen, Settings, UnixListen
from ingester.transport.sockets import SocketFile, address, adopt, bind, bind_unix

DOORS: Final = ("smtp", "lmtp", "http", "metrics")

Handed = Mapping[str, Sequence[socket.socket]]
"""Listening sockets that a service manager has handed over, by door."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sockets:
    """Bound sockets, by door, and the files of unix sockets that this process has made."""

    smtp: Sequence[socket.socket]
    http: Sequence[socket.socket]
    lmtp: Sequence[socket.socket]
    metrics: Sequence[socket.socket]
    files: Sequence[SocketFile] = ()

    @property
    def every(self) -> tuple[socket.socket, ...]:
        """All of them."""
        return tuple(sock for door in DOORS for sock in self.of(door))

    @property
    def addresses(self) -> dict[str, list[str]]:
        """Where each door listens, for the log."""
        return {door: [str(address(sock)) for sock in self.of(door)] for door in DOORS if self.of(door)}

    def of(self, door: str) -> Sequence[socket.socket]:
        """Those of one door."""
        return {"smtp": self.smtp, "lmtp": self.lmtp, "http": self.http, "metrics": self.metrics}[door]

    def remove_files(self) -> None:
        """Let nobody find the unix sockets any more."""
        for file in self.files:
            file.remove()


def hand_over(descriptors: Iterable[tuple[int, str]]) -> dict[str, list[socket.socket]]:
    """Take what a service manager hands over. Raises OSError with a sentence for each that cannot be used."""
    handed: dict[str, list[socket.socket]] = {}
    faults = []
    for number, name in descriptors:
        if name not in DOORS:
            faults.append(f"descriptor {number} is named {name}: FileDescriptorName= must be one of {', '.join(DOORS)}")
            continue
        try:
            sock = adopt(number, unix=name == "lmtp")
        except OSError as error:
            faults.append(f"descriptor {number} ({name}) {error.strerror}")
        else:
            handed.setdefault(name, []).append(sock)
    if faults:
        raise OSError(0, "; ".join(faults))
    return handed


def bind_all(settings: Settings, *, handed: Handed | None = None, reuse_port: bool = False) -> Sockets:
    """Bind what the settings name, but for the doors whose sockets were handed over.

    Raises OSError when an address cannot be had; then nothing stays bound.
    """
    handed, files = handed or {}, []
    with ExitStack() as undo:

        def tcp(door: str, listen: Sequence[Listen]) -> list[socket.socket]:
            if door in handed:
                return list(handed[door])
            return [undo.enter_context(one) for one in bind(listen, reuse_port=reuse_port, alone=True)]

        lmtp = tcp("lmtp", [where for where in settings.lmtp.listen if isinstance(where, Listen)])
        for where in () if "lmtp" in handed else settings.lmtp.listen:
            if isinstance(where, UnixListen):
                sock = bind_unix(where, mode=int(settings.lmtp.socket_mode, 8), group=settings.lmtp.socket_group)
                lmtp.append(undo.enter_context(sock))
                files.append(SocketFile.of(sock))
                undo.callback(files[-1].remove)
        made = Sockets(
            smtp=tcp("smtp", settings.smtp.listen),
            http=tcp("http", settings.http.listen),
            lmtp=lmtp,
            metrics=tcp("metrics", settings.metrics.listen),
            files=files,
        )
        undo.pop_all()
    return made


def bind_places(settings: Settings, *, handed: Handed | None = None) -> list[Sockets]:
    """The sockets of each worker's place. Raises OSError when an address cannot be had; then nothing stays bound."""
    handed = handed or {}
    first = bind_all(settings, handed=handed, reuse_port=settings.workers > 1)
    places = [first]
    try:
        places.extend(_beside(first, handed) for _ in range(1, settings.workers))
    except OSError:
        first.remove_files()
        for sock in {sock for place in places for sock in place.every}:
            sock.close()
        raise
    return places


def _beside(first: Sockets, handed: Handed) -> Sockets:
    """The sockets of another worker at the same addresses, with the ports that the kernel chose for the first."""

    def another(door: str) -> list[socket.socket]:
        shared = [sock for sock in first.of(door) if door in handed or sock.family == socket.AF_UNIX]
        own = [address(sock) for sock in first.of(door) if sock not in shared]
        return bind([where for where in own if isinstance(where, Listen)], reuse_port=True) + shared

    return Sockets(smtp=another("smtp"), http=another("http"), lmtp=another("lmtp"), metrics=another("metrics"))
