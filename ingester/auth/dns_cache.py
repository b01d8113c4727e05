"""The answers that are still true. Bounded by entries and by bytes: the least recently used goes first."""

from collections import OrderedDict

from ingester.auth.dns_message import Entry, Kind

Key = tuple[str, Kind]


class Cache:
    """Entries by canonical name and type. The time is an argument, in seconds of any steady clock."""

    def __init__(self, *, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Key, tuple[float, Entry]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key, now: float) -> Entry | None:
        """The entry, unless its time is over."""
        held = self._entries.get(key)
        if held is None:
            return None
        ends, entry = held
        if ends <= now:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry

    def put(self, key: Key, entry: Entry, now: float) -> None:
        """Keep the entry for its seconds."""
        self._drop(key)
        if entry.seconds <= 0:
            return
        self._entries[key] = (now + entry.seconds, entry)
        self.bytes += entry.size
        while len(self._entries) > self._max_entries or self.bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: Key) -> None:
        held = self._entries.pop(key, None)
        if held is not None:
            self.bytes -= held[1].size
