"""What systemd is to a daemon: it holds listening sockets, and hears how the daemon is (sd_notify)."""

import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

SECONDS = 30.0
"""A safety net."""


@contextmanager
def listening(*names: str) -> Iterator[dict[str, socket.socket]]:
    """A listening socket on 127.0.0.1 for each name, which no restart of a daemon closes."""
    sockets = {name: socket.create_server(("127.0.0.1", 0), backlog=4096) for name in names}
    try:
        yield sockets
    finally:
        for sock in sockets.values():
            sock.close()


def port_of(sock: socket.socket) -> int:
    """Where it listens."""
    return int(sock.getsockname()[1])


@dataclass(slots=True)
class Manager:
    """The listener at NOTIFY_SOCKET. `told` is every assignment in the order in which it came."""

    name: str
    told: list[str] = field(default_factory=list)
    news: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, begin: str, *, times: int = 1, seconds: float = SECONDS) -> str:
        """Wait for so many assignments that begin so; gives the last."""
        end = time.monotonic() + seconds
        with self.news:
            while True:
                found = [one for one in self.told if one.startswith(begin)]
                if len(found) >= times:
                    return found[times - 1]
                assert self.news.wait(end - time.monotonic()), f"no {begin!r} in {self.told}"

    def count(self, begin: str) -> int:
        """How many came that begin so."""
        with self.news:
            return sum(one.startswith(begin) for one in self.told)

    def hear(self, sock: socket.socket) -> None:
        """Take datagrams until an empty one comes."""
        while data := sock.recv(65536):
            with self.news:
                self.told += data.decode().split("\n")
                self.news.notify_all()


@contextmanager
def managing() -> Iterator[Manager]:
    """A manager with a socket in the abstract namespace. `name` is for NOTIFY_SOCKET."""
    name = f"@ingester-tests-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name[1:])
        manager = Manager(name)
        thread = threading.Thread(target=manager.hear, args=(sock,), name="manager")
        thread.start()
        try:
            yield manager
        finally:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
                last.sendto(b"", "\0" + name[1:])
            thread.join()
