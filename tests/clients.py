"""Real SMTP clients: the commands of swaks and of Postfix's smtp-source, installed or fetched from Debian.

Fetched packages are unpacked into the user's cache and never installed: no daemon is configured, no right is needed
beyond a network and a machine with apt. `python -m tests.clients` fetches both and prints the commands.
"""

import fcntl
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

_SWAKS = ("swaks", "libnet-ssleay-perl", "libio-socket-inet6-perl")
"""swaks alone speaks neither TLS nor IPv6."""
_SECONDS = 300
_NAME = re.compile(r"^'[^']+' ([a-z0-9.+-]+)_", re.MULTILINE)


def swaks() -> list[str]:
    """The command that runs swaks. Skips the test where it cannot be had."""
    if shutil.which("swaks"):
        modules = subprocess.run(["perl", "-MNet::SSLeay", "-MIO::Socket::INET6", "-e1"], capture_output=True)
        if modules.returncode == 0:
            return ["swaks"]
    root = unpack(_SWAKS)
    libraries = [*root.glob("usr/share/perl5"), *root.glob("usr/lib/*/perl5/*")]
    return ["env", f"PERL5LIB={joined(libraries)}", "perl", str(root / "usr/bin/swaks")]


def smtp_source() -> list[str]:
    """The command that runs smtp-source. Skips the test where it cannot be had."""
    for place in (shutil.which("smtp-source"), "/usr/sbin/smtp-source"):
        if place and Path(place).exists():
            return [place]
    root = unpack(("postfix",))
    libraries = [root / "usr/lib/postfix", *root.glob("usr/lib/*-linux-gnu*"), *root.glob("lib/*-linux-gnu*")]
    return ["env", f"LD_LIBRARY_PATH={joined(libraries)}", str(root / "usr/sbin/smtp-source")]


def joined(paths: list[Path]) -> str:
    return ":".join(str(path) for path in paths)


def unpack(packages: tuple[str, ...]) -> Path:
    """Fetch packages and what they need and this machine lacks. Gives the directory that stands for `/`."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ingester-tests"
    root = base / packages[0]
    try:
        base.mkdir(parents=True, exist_ok=True)
        with (base / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not root.is_dir():
                _fetch(packages, root)
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or b""
        last = detail.decode(errors="replace").strip().splitlines()[-1:]
        pytest.skip(f"{packages[0]} is not installed and cannot be fetched: {error} {' '.join(last)}")
    return root


def _fetch(packages: tuple[str, ...], root: Path) -> None:
    new = root.with_name(f"{root.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    archives = new / "packages"
    (archives / "partial").mkdir(parents=True)
    try:
        needed = _needed(packages, archives)
    except subprocess.CalledProcessError:
        _run(["apt-get", "update"], new)  # a container's image has no package lists
        needed = _needed(packages, archives)
    _run(["apt-get", "download", *needed], archives)
    for package in archives.glob("*.deb"):
        _run(["dpkg", "-x", str(package), str(new)], new)
    new.rename(root)


def _needed(packages: tuple[str, ...], archives: Path) -> list[str]:
    """The packages themselves and what they need here. apt leaves out what lies in `archives` already."""
    command = ["apt-get", "install", "--print-uris", "--yes", "--quiet=2", "--no-install-recommends", "--reinstall"]
    answer = _run([*command, "-o", f"Dir::Cache::archives={archives}", *packages], archives)
    return sorted(set(_NAME.findall(answer)))


def _run(command: list[str], cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, timeout=_SECONDS, check=True)
    return done.stdout.decode(errors="replace")


if __name__ == "__main__":
    print(*swaks())
    print(*smtp_source())
