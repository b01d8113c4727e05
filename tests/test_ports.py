"""Tests that run side by side must not be given the same port."""

import socket
import subprocess
import sys
from contextlib import closing

from tests.daemon import ROOT
from tests.ports import RANGE, Ports

TAKEN = 3 * RANGE.step // 2
"""More than one stretch."""


def test_side_by_side_nobody_gets_a_port_twice() -> None:
    words = f"from tests.ports import free_port\nfor _ in range({TAKEN}): print(free_port(), flush=True)\ninput()"
    others = [
        subprocess.Popen([sys.executable, "-c", words], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    with closing(Ports()) as ours:
        taken = [ours.take() for _ in range(TAKEN)]
        for other in others:
            assert other.stdout is not None
            taken += [int(other.stdout.readline()) for _ in range(TAKEN)]
    for other in others:
        other.communicate(b"\n")
        assert other.returncode == 0
    assert len(set(taken)) == 3 * TAKEN


def test_a_port_on_which_somebody_listens_is_not_given() -> None:
    with closing(Ports()) as ours, socket.create_server(("127.0.0.1", ours.take() + 1)) as somebody:
        assert ours.take() == somebody.getsockname()[1] + 1
