"""The files of unix sockets. TCP is tested with the listener."""

import errno
import os
import socket
import threading
from pathlib import Path

import pytest

from ingester.settings import Listen, UnixListen
from ingester.transport.sockets import SocketFile, address, bind, bind_unix


def at(directory: Path) -> UnixListen:
    return UnixListen(path=str(directory / "door"))


def test_it_listens_at_once_with_the_mode_that_is_set(tmp_path: Path) -> None:
    where = at(tmp_path)
    with bind_unix(where, mode=0o640) as sock, socket.socket(socket.AF_UNIX) as client:
        assert address(sock) == where
        assert os.lstat(where.path).st_mode & 0o777 == 0o640
        client.connect(where.path)


def test_a_socket_of_nobody_is_replaced(tmp_path: Path) -> None:
    where = at(tmp_path)
    bind_unix(where, mode=0o600).close()
    with bind_unix(where, mode=0o600), socket.socket(socket.AF_UNIX) as client:
        client.connect(where.path)


def test_a_served_socket_is_not_replaced_also_where_it_takes_no_more(tmp_path: Path) -> None:
    where = at(tmp_path)
    with bind_unix(where, mode=0o600) as served:
        served.listen(0)  # the first look fills its queue
        for _ in range(3):
            with pytest.raises(OSError, match=f"cannot listen on {where}: Address already in use"):
                bind_unix(where, mode=0o600)
        served.accept()[0].close()


@pytest.mark.parametrize("kind", ["file", "directory", "link", "datagram"])
def test_nothing_else_is_removed(tmp_path: Path, kind: str) -> None:
    where, path = at(tmp_path), tmp_path / "door"
    other = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    match kind:
        case "file":
            path.write_text("precious")
        case "directory":
            path.mkdir()
        case "link":
            bind_unix(UnixListen(path=str(tmp_path / "elsewhere")), mode=0o600).close()
            path.symlink_to(tmp_path / "elsewhere")
        case "datagram":
            other.bind(where.path)
    with pytest.raises(OSError, match="cannot listen on unix:"):
        bind_unix(where, mode=0o600)
    assert os.path.lexists(path)
    other.close()


def test_what_cannot_be_done_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="there is no group of-nobody") as caught:
        bind_unix(at(tmp_path), mode=0o600, group="of-nobody")
    assert caught.value.errno == errno.EINVAL
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        bind_unix(UnixListen(path=str(tmp_path / "missing" / "door")), mode=0o600)


def test_only_the_own_file_is_removed(tmp_path: Path) -> None:
    where, path = at(tmp_path), tmp_path / "door"
    with bind_unix(where, mode=0o600) as first:
        file = SocketFile.of(first)
        path.rename(tmp_path / "moved")
        with bind_unix(where, mode=0o600) as second:
            file.remove()
            assert path.exists()
            for _ in range(2):
                SocketFile.of(second).remove() if path.exists() else file.remove()
                assert not path.exists()


def test_of_many_that_start_at_once_over_a_stale_file_one_serves(tmp_path: Path) -> None:
    where = at(tmp_path)
    for _ in range(20):
        bind_unix(where, mode=0o600).close()
        begin, bound, refused = threading.Barrier(4), [], []

        def start() -> None:
            begin.wait()  # noqa: B023
            try:
                bound.append(bind_unix(where, mode=0o600))  # noqa: B023
            except OSError:
                refused.append(1)  # noqa: B023

        threads = [threading.Thread(target=start) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(bound), len(refused)) == (1, 3)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(where.path)
            bound[0].accept()[0].close()
        bound[0].close()


def test_tcp_addresses_have_their_port() -> None:
    (sock,) = bind((Listen(host="127.0.0.1", port=0),), reuse_port=False)
    with sock:
        assert address(sock) == Listen(host="127.0.0.1", port=sock.getsockname()[1])
