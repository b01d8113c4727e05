"""What a service manager says in the environment: sockets that it hands over, and where it wants to hear how we are.

systemd's words, which podman and others speak too: sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3). What is said
to another process (LISTEN_PID, WATCHDOG_PID) is not for us.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

FIRST_DESCRIPTOR: Final = 3
"""SD_LISTEN_FDS_START."""
UNNAMED: Final = "unknown"
"""The name of a descriptor that was given none, as sd_listen_fds_with_names(3) has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the service manager has said; nothing, where there is none."""

    notify_socket: str = ""
    """Path of a unix socket, or a name in the abstract namespace with an @ in front; empty is nobody."""
    watchdog_seconds: float | None = None
    """How long it waits for a sign of life before it kills us."""
    descriptors: tuple[tuple[int, str], ...] = ()
    """Listening sockets: number and name."""

    @classmethod
    def of(cls, environ: Mapping[str, str], *, pid: int) -> "Service":
        """Read it. What makes no sense counts as not said."""
        return cls(
            notify_socket=environ.get("NOTIFY_SOCKET", ""),
            watchdog_seconds=_watchdog(environ, pid),
            descriptors=_descriptors(environ, pid),
        )


def _watchdog(environ: Mapping[str, str], pid: int) -> float | None:
    microseconds = _number(environ.get("WATCHDOG_USEC", ""))
    if not microseconds or environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    return microseconds / 1_000_000


def _descriptors(environ: Mapping[str, str], pid: int) -> tuple[tuple[int, str], ...]:
    count = _number(environ.get("LISTEN_FDS", ""))
    if environ.get("LISTEN_PID") != str(pid) or not 0 < count < 1000:
        return ()
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    names += [UNNAMED] * (count - len(names))
    return tuple((FIRST_DESCRIPTOR + index, name or UNNAMED) for index, name in enumerate(names[:count]))


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
