"""What the machine spent: CPU time and memory of process trees, and what this machine is. Linux: it reads /proc."""

import os
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

MIB = 1 << 20
SAMPLE_SECONDS = 0.25
SAMPLE_SHARE = 0.01
"""Of one core, at most."""


def tree_cpu(pid: int) -> float:
    """CPU seconds that a process and all it started have used so far; what has ended is with its parent's children."""
    total = 0.0
    for process in _tree(pid):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


@dataclass(slots=True)
class Memory:
    """Memory of a process tree in MiB: proportional set size as sampled, and the kernel's own peak of resident size.

    PSS shares out what workers have in common; the peak of RSS counts it once for each of them, but misses no moment.
    """

    idle_pss: float = 0.0
    peak_pss: float = 0.0
    peak_rss: float = 0.0


@contextmanager
def watch_memory(pid: int, *, every: float | None = None) -> Iterator[Memory]:
    """Sample while the block runs. Beforehand counts as idle.

    By default as often as SAMPLE_SHARE allows: a look at Postfix's hundred processes takes 40 ms, and who is measured
    must not pay for being looked at.
    """
    memory = Memory(idle_pss=tree_pss(pid))
    memory.peak_pss = memory.idle_pss
    stop = threading.Event()

    def sample() -> None:
        pause = every or SAMPLE_SECONDS
        while not stop.wait(pause):
            begun = time.thread_time()
            memory.peak_pss = max(memory.peak_pss, tree_pss(pid))
            pause = every or max(SAMPLE_SECONDS, (time.thread_time() - begun) / SAMPLE_SHARE)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield memory
    finally:
        stop.set()
        thread.join()
        memory.peak_pss = max(memory.peak_pss, tree_pss(pid))
        memory.peak_rss = sum(_status_kib(process.pid, "VmHWM:") for process in _tree(pid)) / 1024


def tree_pss(pid: int) -> float:
    """Memory of a process tree now, in MiB: its proportional set size."""
    total = 0.0
    for process in _tree(pid):
        with suppress(OSError):
            text = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
            total += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1024
    return total


def tree_descriptors(pid: int) -> int:
    """Descriptors that a process tree has open now."""
    total = 0
    for process in _tree(pid):
        with suppress(psutil.NoSuchProcess):
            total += process.num_fds()
    return total


def _status_kib(pid: int, name: str) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    return 0


def describe_machine(directory: Path) -> dict[str, str | int | float]:
    """What figures depend on besides the code."""
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "cpu": _cpu_model(),
        "memory_mib": psutil.virtual_memory().total // MIB,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "filesystem": filesystem(directory),
        "fdatasync_ms": round(1000 * fdatasync_seconds(directory), 3),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _cpu_model() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def filesystem(directory: Path) -> str:
    """The type of the file system that holds a directory."""
    mounts = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    path = directory.resolve()
    return next((mounts[parent] for parent in (path, *path.parents) if parent in mounts), "unknown")


def fdatasync_seconds(directory: Path) -> float:
    """How long a small synchronous write takes, the median of 40: near zero means that the disk does not mean it."""
    took: list[float] = []
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        for _ in range(40):
            file.write(bytes(8192))
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - begun)
    return statistics.median(took)
