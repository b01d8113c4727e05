"""What the service manager is told: sd_notify(3) in a few lines. It decides nothing, and a manager that is gone or deaf
is no fault of ours: nothing is raised.
"""

import socket
import time
from contextlib import suppress

_KILOBYTES = 4


class Notifier:
    """Tells one datagram at a time, or nobody anything where the name of its socket is empty."""

    def __init__(self, name: str) -> None:
        """`name`: a path, or a name in the abstract namespace with an @ in front."""
        self._name = f"\0{name[1:]}" if name.startswith("@") else name

    def ready(self, status: str) -> None:
        """All that was asked for runs; also the end of a reload."""
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """A reload begins. The time lets the manager tell this one from one that it has asked for since."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """The drain begins."""
        self._tell("STOPPING=1", "STATUS=finishing the mails in transfer")

    def alive(self) -> None:
        """The sign of life that its watchdog waits for."""
        self._tell("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._tell(f"STATUS={text}")

    def _tell(self, *assignments: str) -> None:
        if not self._name:
            return
        text = "\n".join(" ".join(one.split("\n")) for one in assignments)
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            # A manager that does not read must not hold up the workers' supervisor.
            sock.setblocking(False)
            sock.sendto(text.encode()[: _KILOBYTES << 10], self._name)
