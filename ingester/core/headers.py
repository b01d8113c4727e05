"""Header values with a meaning of their own: dates and message-ids, as mail really writes them.

Structure of a block lives in `fields`, text in `words`, address lists in `addresses`. Linear; nothing raises.
"""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_tz

MAX_ID = 998
"""Characters of one message-id: a line's length (RFC 5322, 2.1.1)."""
MAX_IDS = 200
"""Ids kept of one field. The oldest one is kept, then the newest."""
_MAX_DATE = 200
_DAY = 86_400

_BRACKETED = re.compile(r"<([^<>]*+)>")
_USUAL_ID = re.compile(r"<([^<>\s]++)>")
_BLANKS = re.compile(r"\s+")
_ZONE_TWICE = re.compile(r"\b(?:GMT|UTC?)\s?([+-]\d{4})\b")
_MONTHS = {
    name: number
    for number, name in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)  # noqa: SIM905
}
_USUAL_DATE = re.compile(
    rf"(?:[A-Z][a-z][a-z], )?([0-9]{{1,2}}) ({'|'.join(_MONTHS)}) ([12][0-9]{{3}})"
    r" ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-][0-9]{2})([0-9]{2})(?: \([A-Za-z]{1,5}\))?"
)
"""RFC 5322, 3.3 as nearly all mail has it: read directly, for the library's reader of all forms is slow."""
_ISO = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d:?\d\d)?")


def message_ids(text: str) -> tuple[list[str], bool]:
    """The ids of Message-ID, In-Reply-To or References, without brackets, in order, each once; and whether some fell.

    Blanks within an id are a folding that went wrong. Where nothing is in brackets, words with an `@` count.
    """
    if len(text) <= MAX_ID:
        usual = _USUAL_ID.findall(text)
        if text.count("<") == len(usual) == text.count(">") and 0 < len(usual) <= MAX_IDS:
            return list(dict.fromkeys(usual)), False
    found = _BRACKETED.findall(text)
    if not found:
        found = [word.strip("<>,;\"'") for word in text.split() if "@" in word]
    ids = dict.fromkeys(filter(None, ("".join(piece.split()) for piece in found)))
    kept = [one for one in ids if len(one) <= MAX_ID]
    cut = len(kept) < len(ids)
    if len(kept) > MAX_IDS:
        return [kept[0], *kept[1 - MAX_IDS :]], True
    return kept, cut


def message_id(text: str) -> str | None:
    """The one id of a Message-ID field. Without brackets the whole value counts, if it has no blanks."""
    ids, _ = message_ids(text[: 4 * MAX_ID])
    if ids:
        return ids[0]
    bare = text.strip("<> \t")
    return bare if bare and len(bare) <= MAX_ID and not _BLANKS.search(bare) else None


def parse_date(text: str) -> datetime | None:
    """The moment a Date field names (RFC 5322, 3.3; obsolete and ISO 8601 forms), in UTC; None for nonsense.

    No zone, and zones that nobody knows, count as UTC (RFC 5322, 4.3). Years outside 1901 to 2100 are nonsense.
    """
    text = text[:_MAX_DATE].strip()
    usual = _USUAL_DATE.fullmatch(text)
    found = _ISO.match(text) if usual is None else None
    try:
        if usual is not None:
            moment = _usual_moment(*usual.groups())
        elif found is not None:
            moment = datetime.fromisoformat(found.group())
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        else:
            parsed = parsedate_tz(_ZONE_TWICE.sub(r" \1", text))
            if parsed is None:
                return None
            year, month, day, hour, minute, second = parsed[:6]
            zone = parsed[9] or 0
            moment = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)
            moment -= timedelta(seconds=zone if abs(zone) < _DAY else 0)
        moment = moment.astimezone(UTC)
    except (ValueError, OverflowError, TypeError, IndexError, AttributeError):
        return None  # parsedate_tz slices before it checks
    return moment if 1900 < moment.year <= 2100 else None


def _usual_moment(
    day: str, month: str, year: str, hour: str, minute: str, second: str, zone_hours: str, zone_minutes: str
) -> datetime:
    """Raises ValueError on a moment that the calendar or the clock does not have; second 60 is a leap second."""
    moment = datetime(int(year), _MONTHS[month], int(day), int(hour), int(minute), min(int(second), 59), tzinfo=UTC)
    zone = 3600 * int(zone_hours[1:]) + 60 * int(zone_minutes)
    if not 0 < zone < _DAY:
        return moment
    return moment - timedelta(seconds=zone if zone_hours[0] == "+" else -zone)
