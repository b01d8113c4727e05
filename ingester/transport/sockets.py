"""Listening sockets: bound here, served by doors. TCP, and unix sockets, whose files must be looked after."""

import errno
import fcntl
import os
import shutil
import socket
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ingester.settings import Listen, UnixListen

BACKLOG: Final = 1024
"""Connections that the kernel holds until they are accepted."""


def address(sock: socket.socket) -> Listen | UnixListen:
    """Where a bound socket listens, with the port that the kernel chose."""
    name = sock.getsockname()
    return UnixListen(path=name) if sock.family == socket.AF_UNIX else Listen(host=name[0], port=name[1])


def bind(listen: Sequence[Listen], *, reuse_port: bool, alone: bool = False) -> list[socket.socket]:
    """Listening sockets for these addresses; a host name may give several. `[::]` takes IPv4 as well.

    `reuse_port` lets them be bound again, by whatever else runs for this user: `alone` fails where somebody listens.
    Raises OSError when an address cannot be had; what was bound before is closed again.
    """
    sockets: list[socket.socket] = []
    try:
        for where in listen:
            also_v4 = any(other.host == "0.0.0.0" and other.port == where.port for other in listen)  # noqa: S104
            dual = where.host == "::" and not also_v4
            if reuse_port and alone and where.port:
                for probe in _bind_one(where, reuse_port=False, dual=dual):
                    probe.close()
            sockets += _bind_one(where, reuse_port=reuse_port, dual=dual)
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _bind_one(where: Listen, *, reuse_port: bool, dual: bool) -> list[socket.socket]:
    host = where.host
    if host == "::" and dual and not _has_ipv6():
        host = "0.0.0.0"  # noqa: S104  (the default must work on a machine without IPv6)
    found = socket.getaddrinfo(host, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets = []
    for family, kind, protocol, _, name in dict.fromkeys(found):
        sock = socket.socket(family, kind, protocol)
        sockets.append(sock)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
            sock.bind(name)
        except OSError as error:
            for each in sockets:
                each.close()
            raise OSError(error.errno, f"cannot listen on {where}: {error.strerror}") from None
    return sockets


def adopt(descriptor: int, *, unix: bool) -> socket.socket:
    """A listening socket that was handed over. Raises OSError, which goes on after "descriptor N ..."."""
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise OSError(error.errno, "is no socket") from None
    families = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX) if unix else (socket.AF_INET, socket.AF_INET6)
    if sock.family not in families or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        # It stays open: it is not ours.
        sock.detach()
        raise OSError(errno.EINVAL, f"is no listening {'stream' if unix else 'TCP'} socket")
    sock.setblocking(False)
    sock.set_inheritable(False)
    return sock


def _has_ipv6() -> bool:
    if not socket.has_ipv6:
        return False
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind(("::", 0))
    except OSError:
        return False
    return True


def bind_unix(where: UnixListen, *, mode: int, group: str = "") -> socket.socket:
    """A unix socket that listens at once, so that whoever looks meanwhile sees that it is in use.

    A file that is left of a dead process is replaced; a socket that somebody serves and any other file are not. Raises
    OSError.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made: SocketFile | None = None
    try:
        with _alone_in(Path(where.path).parent):
            _clear(where.path)
            sock.bind(where.path)
            made = SocketFile.of(sock)
            # Nobody can connect before `listen`, whatever the mode is until then.
            if group:
                shutil.chown(where.path, group=group)
            Path(where.path).chmod(mode)
            sock.listen(BACKLOG)
            sock.setblocking(False)
    except (OSError, LookupError) as error:
        sock.close()
        if made is not None:
            made.remove()
        reason = (error.strerror or error) if isinstance(error, OSError) else f"there is no group {group}"
        number = error.errno if isinstance(error, OSError) else errno.EINVAL
        raise OSError(number, f"cannot listen on {where}: {reason}") from None
    return sock


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketFile:
    """The file of a unix socket that this process has bound."""

    path: str
    device: int
    inode: int

    @classmethod
    def of(cls, sock: socket.socket) -> "SocketFile":
        """The file of a socket bound just now."""
        path = sock.getsockname()
        status = os.lstat(path)
        return cls(path=path, device=status.st_dev, inode=status.st_ino)

    def remove(self) -> None:
        """Remove it, unless another stands there by now."""
        with suppress(OSError):
            status = os.lstat(self.path)
            if (status.st_dev, status.st_ino) == (self.device, self.inode):
                Path(self.path).unlink()


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Of several that start at once, one looks and binds at a time: else the second removes what the first has made."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _clear(path: str) -> None:
    """Remove a socket that nobody serves. Raises OSError where anything else stands."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EEXIST, "a file that is no socket stands there")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                Path(path).unlink()
            except BlockingIOError:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from None
            else:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
