"""The words of a service manager: what it says to us, hands us, and hears of us."""

import os
import socket
from pathlib import Path

import pytest

from ingester.settings import Service
from ingester.supervisor import hand_over
from ingester.supervisor.notify import Notifier
from tests.service_manager import listening, managing

# -- what it says -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "service"),
    [
        ({}, Service()),
        ({"NOTIFY_SOCKET": "/run/x"}, Service(notify_socket="/run/x")),
        ({"WATCHDOG_USEC": "2500000"}, Service(watchdog_seconds=2.5)),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "7"}, Service(watchdog_seconds=2.5)),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "8"}, Service()),
        ({"WATCHDOG_USEC": "0"}, Service()),
        ({"WATCHDOG_USEC": "-1"}, Service()),
        ({"WATCHDOG_USEC": "9" * 30}, Service()),
        ({"LISTEN_FDS": "1", "LISTEN_PID": "7"}, Service(descriptors=((3, "unknown"),))),
        ({"LISTEN_FDS": "1"}, Service()),
        ({"LISTEN_FDS": "1", "LISTEN_PID": "8", "LISTEN_FDNAMES": "smtp"}, Service()),
        ({"LISTEN_FDS": "many", "LISTEN_PID": "7"}, Service()),
        ({"LISTEN_FDS": "1000", "LISTEN_PID": "7"}, Service()),
        (
            {"LISTEN_FDS": "3", "LISTEN_PID": "7", "LISTEN_FDNAMES": "smtp::http:more"},
            Service(descriptors=((3, "smtp"), (4, "unknown"), (5, "http"))),
        ),
        (
            {"LISTEN_FDS": "2", "LISTEN_PID": "7", "LISTEN_FDNAMES": "smtp"},
            Service(descriptors=((3, "smtp"), (4, "unknown"))),
        ),
    ],
)
def test_what_it_says_is_read(environ: dict[str, str], service: Service) -> None:
    assert Service.of(environ, pid=7) == service


# -- what it hands over -----------------------------------------------------------------------------------------------


def copy_of(sock: socket.socket) -> int:
    """A descriptor as an exec leaves it."""
    number = os.dup(sock.fileno())
    os.set_inheritable(number, True)
    return number


def test_sockets_are_taken_by_their_names() -> None:
    with listening("smtp", "http") as given:
        taken = hand_over([(copy_of(given[name]), name) for name in ("smtp", "http", "smtp")])
        assert {door: len(sockets) for door, sockets in taken.items()} == {"smtp": 2, "http": 1}
        for sock in [sock for sockets in taken.values() for sock in sockets]:
            assert not sock.get_inheritable(), "a program that is started has no use for it"
            assert not sock.getblocking()
            sock.close()


def test_what_is_no_listener_of_a_door_is_told_and_left_open(tmp_path: Path) -> None:
    """All faults in one sentence."""
    with (
        socket.socket() as deaf,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        socket.socket(socket.AF_UNIX) as local,
        (tmp_path / "file").open("wb") as file,
    ):
        local.bind(str(tmp_path / "socket"))
        local.listen()
        given = [(deaf.fileno(), "smtp"), (datagrams.fileno(), "http"), (file.fileno(), "metrics")]
        given += [(local.fileno(), "smtp"), (local.fileno(), "imap")]
        with pytest.raises(OSError, match="descriptor") as error:
            hand_over(given)
        said = str(error.value)
        assert said.count(";") == 4
        for number, name in given:
            assert f"descriptor {number} (" in said or f"is named {name}" in said
            os.fstat(number)
        (taken,) = hand_over([(local.fileno(), "lmtp")])["lmtp"]
        assert taken.family == socket.AF_UNIX
        taken.detach()


# -- what it hears ----------------------------------------------------------------------------------------------------


def test_it_hears_at_an_abstract_name_and_at_a_path(tmp_path: Path) -> None:
    with managing() as manager:
        Notifier(manager.name).ready("two\nlines")
        assert manager.wait_for("STATUS=") == "STATUS=two lines"
        assert manager.told == ["READY=1", "STATUS=two lines"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        Notifier(str(tmp_path / "notify")).reloading()
        first, second = sock.recv(4096).decode().split("\n")
    assert first == "RELOADING=1"
    assert second.removeprefix("MONOTONIC_USEC=").isdigit()


def test_one_that_is_gone_or_full_holds_nobody_up(tmp_path: Path) -> None:
    Notifier("").alive()
    Notifier(str(tmp_path / "nobody")).alive()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "deaf"))
        for _ in range(2000):
            Notifier(str(tmp_path / "deaf")).status("x" * 1000)
