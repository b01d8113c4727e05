"""What the daemon uses: memory as the kernel remembers its peak, and CPU seconds. Nothing is sampled."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

MIB = 1 << 20


@dataclass(slots=True)
class Usage:
    """What one stretch of work took. `peak` is resident memory at its highest, in octets."""

    peak: int = 0
    cpu: float = 0.0


@dataclass(frozen=True, slots=True)
class Meter:
    """One process. Linux only."""

    pid: int

    def resident(self) -> int:
        """Resident memory now."""
        return int(psutil.Process(self.pid).memory_info().rss)

    @contextmanager
    def measured(self) -> Iterator[Usage]:
        """Measure what is done in the block."""
        process, usage = psutil.Process(self.pid), Usage()
        (Path("/proc") / str(self.pid) / "clear_refs").write_text(
            "5"
        )  # forget the peak so far (proc_pid_clear_refs(5))
        before = process.cpu_times()
        yield usage
        after = process.cpu_times()
        usage.cpu = after.user + after.system - before.user - before.system
        usage.peak = self._peak()

    def _peak(self) -> int:
        status = (Path("/proc") / str(self.pid) / "status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
