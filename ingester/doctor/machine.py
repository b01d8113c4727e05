"""The machine beneath: disk, memory, open files, clock, and whether it is a container. Reads what Linux tells."""

import asyncio
import ctypes
import resource
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from ingester.doctor.finding import Finding, Pen
from ingester.doctor.patient import NoDatabase, Patient
from ingester.store.db import Unavailable, classify
from ingester.store.hosts import FILES
from ingester.store.survey import server

GIB: Final = 1 << 30
LITTLE, TOO_LITTLE = 0.10, 0.03
"""Shares of a disk that are free."""
ENOUGH: Final = 20 * GIB
"""Free bytes with which no share is too small."""
SPARE_FILES: Final = 100
"""Open files beside the connections: database, logs, certificates."""
WORKER_MEMORY: Final = 150 << 20
"""What a worker needs beside the mails in flight, roughly."""
_UNSYNCHRONISED: Final = 0x40
"""STA_UNSYNC of adjtimex(2)."""

_disk = Pen("disk")
_limits = Pen("limits")
_system = Pen("system")


async def look_at_disk(patient: Patient) -> Sequence[Finding]:
    """Where Postgres lies, if that is here, and where logs go. Object stores have no end that could be seen."""
    places = {"logs and temporary files": patient.root / "var/log"}
    note: list[Finding] = []
    try:
        async with patient.connection() as connection:
            seen = await server(connection)
    except (NoDatabase, Unavailable):
        seen = None
    except Exception as error:
        if classify(error) is None:
            raise
        seen = None
    if seen is not None and seen.local and seen.directory and Path(seen.directory).is_dir():
        places["the database"] = Path(seen.directory)
    elif seen is not None:
        note = [_disk.ok("how much room the database's disk has cannot be seen from here")]
    if patient.settings.blobs.startswith(FILES):
        directory = Path(patient.settings.blobs.removeprefix(FILES))
        places["raw mails"] = directory if directory.is_dir() else directory.parent
    elif patient.settings.blobs == "postgres":
        note.append(_disk.ok("raw mails lie in the database"))
    return [*(await asyncio.to_thread(_spaces, places)), *note]


def _spaces(places: dict[str, Path]) -> list[Finding]:
    return [judge_space(name, *_space(path)) for name, path in places.items() if path.is_dir()]


def _space(path: Path) -> tuple[int, int]:
    usage = shutil.disk_usage(path)
    return usage.free, usage.total


def judge_space(name: str, free: int, total: int) -> Finding:
    """How much is left of a disk."""
    told = f"{free / GIB:,.1f} of {total / GIB:,.1f} GiB are free where {name} lie"
    if free < ENOUGH and free < TOO_LITTLE * total:
        return _disk.fault(told, "Make room or a larger disk now: when it is full, every mail is deferred.")
    if free < ENOUGH and free < LITTLE * total:
        return _disk.warning(told, "Make room or a larger disk; `ingester tenant set` shortens how long mail is kept.")
    return _disk.ok(told)


async def look_at_limits(patient: Patient) -> Sequence[Finding]:
    """What the daemon may need at most, beside what it may have."""
    settings = patient.settings
    files = settings.smtp.max_connections + settings.http.max_connections + settings.store.connections + SPARE_FILES
    needed = settings.workers * (settings.max_bytes_in_flight + WORKER_MEMORY)
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return [judge_files(files, allowed), judge_memory(needed, memory_limit(patient.root))]


def judge_files(needed: int, allowed: int) -> Finding:
    """Open files of a worker; -1 is no limit."""
    if 0 <= allowed < needed:
        return _limits.warning(
            f"a worker may need {needed:,} open files, and what is started from here may have {allowed:,}",
            "Raise it (LimitNOFILE= in systemd, --ulimit nofile in docker), or lower INGESTER_SMTP__MAX_CONNECTIONS.",
        )
    return _limits.ok(f"{allowed:,} open files are enough" if allowed >= 0 else "open files have no limit")


def judge_memory(needed: int, allowed: int | None) -> Finding:
    """Bytes of all workers, and those that they may have; None where nothing says so."""
    if allowed is None:
        return _limits.ok("memory has no limit but the machine's")
    if needed > allowed:
        return _limits.fault(
            f"the workers may need {needed >> 20:,} MiB and may have {allowed >> 20:,}: a burst of mail kills them",
            "Raise the limit of the container, or lower INGESTER_MAX_BYTES_IN_FLIGHT or INGESTER_WORKERS.",
        )
    return _limits.ok(f"{allowed >> 20:,} MiB of memory are enough")


def memory_limit(root: Path) -> int | None:
    """The limit of our control group, in either version of them; else the machine's memory."""
    for name in ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = _read(root / name).strip()
        if text.isascii() and text.isdigit() and int(text) < 1 << 50:
            return int(text)
    return next(
        (
            int(line.split()[1]) << 10
            for line in _read(root / "proc/meminfo").splitlines()
            if line.startswith("MemTotal:")
        ),
        None,
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


async def look_at_system(patient: Patient) -> Sequence[Finding]:
    """Under what it runs, and whether somebody sets the clock."""
    return [*surroundings(patient.root), *judge_synchronised(_clock_status())]


def surroundings(root: Path) -> Iterator[Finding]:
    """What runs us: Kubernetes, a container, systemd, or nothing that shows."""
    if (root / "var/run/secrets/kubernetes.io").is_dir():
        yield _system.ok("this is a pod of Kubernetes: the Service needs externalTrafficPolicy: Local")
    elif (root / ".dockerenv").exists() or (root / "run/.containerenv").exists():
        yield _system.ok("this is a container: its network decides whether clients' addresses are real")
    elif (root / "run/systemd/system").is_dir():
        yield _system.ok("systemd runs this host")


def judge_synchronised(status: int | None) -> Iterator[Finding]:
    """`status` is the kernel's word on its clock, as of adjtimex(2)."""
    if status is not None and status & _UNSYNCHRONISED:
        yield _system.warning(
            "nobody sets this host's clock: ids, claims and signatures depend on it",
            "Run chrony or systemd-timesyncd on the host (of the container).",
        )


class _Timex(ctypes.Structure):
    """The beginning of struct timex; the kernel writes more."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        *((name, ctypes.c_long) for name in ("offset", "frequency", "maximum_error", "estimated_error")),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def _clock_status() -> int | None:
    """Ask the kernel, changing nothing; None where it is not Linux, or does not say."""
    if sys.platform != "linux":
        return None
    told = _Timex()
    try:
        return int(told.status) if ctypes.CDLL(None).adjtimex(ctypes.byref(told)) >= 0 else None
    except (AttributeError, OSError):
        return None
