"""A Postgres server seen from outside: its state, the processes that live in its data directory, signals to it."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path


def read_status(path: Path) -> tuple[int, str]:
    """Process id and state out of postmaster.pid (lines 1 and 8), which is what `pg_ctl -w` goes by."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return 0, ""
    return (int(lines[0]), lines[7].strip()) if len(lines) > 7 and lines[0].isdigit() else (0, "")


def owners(data: Path) -> list[int]:
    """The processes that live in a data directory: those that have it for their working directory, as every Postgres
    process does, and the postmaster by its command line, where the system does not show the former (root in a
    container without CAP_SYS_PTRACE; not Linux).
    """
    where = data.resolve()
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink() == where:
                found.append(int(entry.name))
        except OSError:
            continue  # gone, or not for us to see
    pid = pid_of(data)
    if pid is not None and pid not in found and f"-D {data} " in command_of(pid):
        found.append(pid)
    return found


def pid_of(data: Path) -> int | None:
    """The living process that postmaster.pid names, whatever it is by now."""
    try:
        pid = int((data / "postmaster.pid").read_text(encoding="utf-8").split("\n", 1)[0])
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    return pid


def command_of(pid: int) -> str:
    """The command line of a process, "" when it has ended."""
    if not Path("/proc/self").exists():
        told = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return told.stdout
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace").replace("\0", " ")
    except OSError:
        return ""


def send(data: Path, sign: signal.Signals) -> None:
    """Signal the postmaster of a data directory, if it is one that lives."""
    pid = pid_of(data)
    if pid is not None and pid in owners(data):
        os.kill(pid, sign)


def wait(done: Callable[[], bool], seconds: float) -> bool:
    """Ask every 20 ms: Postgres has no event to wait on for what is asked here."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
