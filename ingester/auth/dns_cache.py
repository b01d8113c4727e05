"""The answers that are still true. Bounded by entries and by bytes: the least recently used goes first."""

from collections import OrderedDict
from collections.abc import Sequence

from ingester.auth.dns_message import Entry, Kind

Key = tuple[str, Kind]


class Held:
    """One answer in the cache, up to a time. Once it has been dropped, `entry` is None: who points here sees it."""

    __slots__ = ("ends", "entry", "key")

    def __init__(self, key: Key, entry: Entry, ends: float) -> None:
        self.key = key
        self.entry: Entry | None = entry
        self.ends = ends


class Cache:
    """Entries by canonical name and type. The time is an argument, in seconds of any steady clock."""

    def __init__(self, *, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Key, Held] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key, now: float) -> Entry | None:
        """The entry, unless its time is over."""
        held = self._entries.get(key)
        if held is None:
            return None
        if held.ends <= now:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return held.entry

    def held(self, key: Key, entry: Entry) -> Held | None:
        """Where this very entry is; None if it is not here, or another took its place."""
        held = self._entries.get(key)
        return held if held is not None and held.entry is entry else None

    def holds(self, answers: Sequence[Held], now: float) -> bool:
        """Whether all of these are still here and true. If so they count as used."""
        for held in answers:
            if held.entry is None or held.ends <= now:
                return False
        for held in answers:
            self._entries.move_to_end(held.key)
        return True

    def put(self, key: Key, entry: Entry, now: float) -> None:
        """Keep the entry for its seconds."""
        self._drop(key)
        if entry.seconds <= 0:
            return
        self._entries[key] = Held(key, entry, now + entry.seconds)
        self.bytes += entry.size
        while len(self._entries) > self._max_entries or self.bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: Key) -> None:
        held = self._entries.pop(key, None)
        if held is not None and held.entry is not None:
            self.bytes -= held.entry.size
            held.entry = None
