"""JSON of somebody else, read without trusting what type a value has. Pure, bounded, nothing raises."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

MAX_WORD: Final = 64
MAX_TEXT: Final = 1000
"""Characters."""
MAX_LIST: Final = 1000
"""Objects of one list."""


@dataclass(frozen=True, slots=True)
class Part:
    """An object of the JSON. What is absent and what is of another type than expected are the same: nothing."""

    values: Mapping[str, Any]

    def part(self, name: str) -> "Part":
        return _part(self.values.get(name))

    def parts(self, names: Iterable[str]) -> Iterator["Part"]:
        """The objects of the first of these lists that there is."""
        for name in names:
            found = self.values.get(name)
            if isinstance(found, list):
                yield from (_part(one) for one in found[:MAX_LIST])
                return

    def text(self, name: str, limit: int = MAX_TEXT) -> str | None:
        return _text(self.values.get(name), limit)

    def word(self, name: str) -> str:
        """A word of SES's own, "" where it says none."""
        return self.text(name, MAX_WORD) or ""

    def texts(self, name: str, most: int) -> Iterator[str]:
        found = self.values.get(name)
        for one in found[:most] if isinstance(found, list) else ():
            text = _text(one, MAX_TEXT)
            if text:
                yield text

    def moment(self, name: str) -> datetime | None:
        """A time in UTC (ISO 8601), None where there is none that a database takes."""
        try:
            found = datetime.fromisoformat(self.word(name))
            return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
        except (ValueError, OverflowError):
            return None


def _part(value: object) -> Part:
    return Part(value if isinstance(value, dict) else {})


def _text(value: object, limit: int) -> str | None:
    """Text that Postgres takes, cut at the limit. The JSON reader lets no lone surrogate through, but NUL."""
    return value[:limit].replace("\0", "\ufffd") if isinstance(value, str) else None
