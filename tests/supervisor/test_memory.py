"""Memory that mails have used goes back to the kernel. In processes of their own: what glibc is told holds for good."""

import platform
import subprocess
import sys

import pytest

from tests.daemon import ROOT, serving

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what is free")

PIECES = """
import asyncio, re
from contextlib import suppress
from pathlib import Path
from ingester.supervisor import memory

def resident():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) >> 10

async def wait_a_little():
    with suppress(TimeoutError):
        async with asyncio.timeout(0.5):
            await memory.give_back()

memory.keep_some()
memory.GIVE_BACK_SECONDS = 0.01
idle = resident()
"""
TELLING = """
from types import SimpleNamespace
from ingester.cli import main
from ingester.supervisor import memory

memory.GIVE_BACK_SECONDS = 0.1
told = lambda *what: print("told", what, flush=True)
memory._glibc = lambda: SimpleNamespace(mallopt=told, malloc_trim=told)
main()
"""


def ran(work: str) -> list[int]:
    """What is printed, MiB above idle."""
    words = [sys.executable, "-c", PIECES + work]
    return [int(word) for word in subprocess.check_output(words, cwd=ROOT, timeout=60).split()]


def test_what_lies_between_things_that_stay_is_given_back() -> None:
    """200 MiB of mails, of which every hundredth stays."""
    held, freed, given = ran(
        """
mails = [b"x" * 100_000 for _ in range(2000)]
print(resident() - idle)
stay = mails[::100]
del mails
print(resident() - idle)
asyncio.run(wait_a_little())
print(resident() - idle)
"""
    )
    assert held > 180
    assert freed > 180, "glibc does it by itself now: all this is not needed any more"
    assert given < 30


def test_a_large_buffer_is_gone_at_once_and_small_ones_are_kept_for_the_next() -> None:
    large, small = ran(
        """
for _ in range(3):
    buffer = b"x" * (25 << 20)
    del buffer
print(resident() - idle)
buffers = [b"x" * 100_000 for _ in range(150)]
del buffers
print(resident() - idle)
"""
    )
    assert large < 5
    assert small > 10


def test_every_worker_does_it(database_url: str) -> None:
    with serving(database_url, command=(sys.executable, "-c", TELLING), settings={"INGESTER_WORKERS": "2"}) as daemon:
        daemon.wait_event("serving", times=2)
        at = daemon.wait_text("told (0,)", times=6)
        assert sum("told (-" in line for line in daemon.raw[:at]) == 4
        assert daemon.terminate() == 0
