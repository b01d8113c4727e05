"""Ports for the servers that tests start: no two test processes of this machine are given the same one."""

import socket

RANGE = range(10_000, 20_000, 100)
"""The first port of each stretch: below the ephemeral range, where a client's socket may take one meanwhile, and who
tries a closed port again and again may connect to himself."""


class Ports:
    """What one test process gives out: stretches that are its own until it ends or closes, each port once."""

    def __init__(self) -> None:
        self._claims: list[socket.socket] = []
        self._ports = iter(range(0))

    def take(self) -> int:
        """A port that nothing listens on, and nobody else is given."""
        while True:
            for port in self._ports:
                if _is_free(port):
                    return port
            self._ports = iter(self._claim())

    def close(self) -> None:
        """Let others have the stretches."""
        for claim in self._claims:
            claim.close()

    def _claim(self) -> range:
        """The next stretch that nobody has. The kernel knows the claim by its name, and ends it with the process."""
        for first in RANGE:
            claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                claim.bind(f"\0ingester-tests-{first}")
            except OSError:
                claim.close()
                continue
            self._claims.append(claim)
            return range(first, first + RANGE.step)
        raise AssertionError("no free port")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("::", port))
        except OSError:
            return False
    return True


_OURS = Ports()


def free_port() -> int:
    """A port for this test alone."""
    return _OURS.take()
