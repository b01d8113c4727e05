"""The account that runs Postgres, and programs run as it, tied to our own life. Knows nothing of data directories."""

import ctypes
import os
import pwd
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/bin:/bin"}
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user of this machine."""

    name: str
    uid: int
    gid: int


def unprivileged() -> Account:
    """The account that root drops to. initdb asks the system for its name, so that it must exist."""
    known = {entry.pw_name: entry.pw_uid for entry in pwd.getpwall() if entry.pw_uid != 0}
    uid = next((known[name] for name in ("postgres", "nobody") if name in known), None)
    found = account_of(min(known.values()) if uid is None else uid)
    if found is None:
        raise LookupError("this machine has no user but root")
    return found


def account_of(uid: int) -> Account | None:
    """The account with a number, or None when the machine does not know it."""
    try:
        found = pwd.getpwuid(uid)
    except KeyError:
        return None
    return Account(name=found.pw_name, uid=uid, gid=found.pw_gid)


def spawn(command: Sequence[str | Path], account: Account | None, output: IO[bytes] | int) -> subprocess.Popen[bytes]:
    """Start a program as the account (None: as we are), in a session of its own: Ctrl-C reaches us first.

    It gets SIGINT when the thread that calls this ends. Not uvloop's subprocess, which refuses `user`.
    """
    return subprocess.Popen(
        command,
        cwd="/",
        env=_ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
        preexec_fn=_dying_with(os.getpid()),  # noqa: PLW1509  (two system calls, found before the fork)
    )


def run(command: Sequence[str | Path], account: Account | None, seconds: float) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end. Raises OSError and subprocess.TimeoutExpired."""
    with tempfile.TemporaryFile() as output:
        process = spawn(command, account, output)
        try:
            code = process.wait(seconds)
        except BaseException:
            process.kill()
            process.wait()
            raise
        output.seek(0)
        return subprocess.CompletedProcess(command, code, output.read())


def can_enter(account: Account, directory: Path) -> bool:
    """Asked by trying: mode bits alone do not know of ACLs, nor of what a container forbids."""
    tried = run(["/bin/sh", "-c", 'cd -- "$1"', "sh", directory], account, 10)
    return tried.returncode == 0


def _dying_with(parent: int) -> Callable[[], None] | None:
    """What makes a child get a fast shutdown when its parent dies, kill -9 included. Linux only.

    It runs after the change of user, which would clear it. Its own check closes the window before it.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != parent:
            os._exit(1)

    return tie
