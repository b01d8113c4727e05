"""What a worker keeps of the memory that its mails have used, and what the kernel gets back.

Of the C libraries only glibc is told; another has no such calls and needs none.
"""

import asyncio
import ctypes
import gc
import sys
from typing import Final

GIVE_BACK_SECONDS: Final = 60.0
"""Between two times that free memory goes back: often enough that a day's mail does not add up, and seldom enough that
fetching it anew costs nothing (10 MiB a minute are 2 ms of CPU)."""
LARGE_BUFFER: Final = 1 << 20
"""Bytes from which a buffer has a mapping of its own, which grows without a copy and is gone as soon as it is freed."""
SPARE_BYTES: Final = 16 << 20
"""How much free memory of smaller ones a worker keeps for the next mails."""
YOUNG_OBJECTS: Final = 10_000
"""How many more objects there may be before the garbage collector looks at the new ones, instead of Python's 700."""
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3


def spare_the_collector() -> None:
    """Let the garbage collector pass over all that is there for good: walking it holds the loop for 40 ms (law 9), and
    takes the memory that the workers share apart. And let it come less often: a mail leaves nothing that only the
    collector could find.
    """
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)


def keep_some() -> None:
    """Fix what glibc gives back by itself. Left alone the first bound grows to 32 MiB with the first large mail, so
    that what a few mails have used is never given back; with it fixed, the second is so small that each mail's memory
    is given back and faulted in again, page by page.
    """
    library = _glibc()
    if library is not None:
        library.mallopt(_M_MMAP_THRESHOLD, LARGE_BUFFER)
        library.mallopt(_M_TRIM_THRESHOLD, SPARE_BYTES)


async def give_back() -> None:
    """Give free memory back every so often. By itself glibc gives only what lies above the last thing in use: a few
    that stay, each between the memory of mails that are gone, and a worker under load grows on and on.

    It holds the loop for 1 to 2 ms; for 40 ms at worst, once, when 256 MiB of small mails were held and are gone.
    """
    library = _glibc()
    while library is not None:
        await asyncio.sleep(GIVE_BACK_SECONDS)
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if hasattr(library, "malloc_trim") else None
