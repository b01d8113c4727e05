"""What an invitation or its answer says (RFC 5545, 5546, 6047): method, moments, organizer, attendees. Never raises.

Our own reader of lines, not a library's: what is wanted are a dozen properties of one component. Measured at our cap of
256 KiB, icalendar 7 is linear but takes up to 0.35 s of CPU (a long BYDAY; 0.2 s for many events or parameters), raises
ValueError on nesting and on bytes that are not text, and costs 67 ms and a time zone database to import. This reader
takes a tenth and loses only the line that is wrong. It knows no recurrence and no time zone rules, so nothing in the
text can ask it for work: a moment is kept as written, with the name of its zone, and only UTC is called UTC. Pure.
"""

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from ingester.core.charset import clean, decode_label
from ingester.core.content import decode_start
from ingester.core.mime import Scan

MAX_BYTES = 256 << 10
"""Decoded bytes read of a calendar part; the rest (attachments inside) is not looked at."""
MAX_PARTS = 4
"""Calendar parts that are tried."""
MAX_LINES = 20_000
MAX_COMPONENTS = 1000
MAX_ATTENDEES = 500
MAX_TEXT = 1000
"""Characters kept of one value."""

METHODS = frozenset({"PUBLISH", "REQUEST", "REPLY", "ADD", "CANCEL", "REFRESH", "COUNTER", "DECLINECOUNTER"})
"""RFC 5546, 1.4."""
ANSWERS = frozenset({"NEEDS-ACTION", "ACCEPTED", "DECLINED", "TENTATIVE", "DELEGATED", "COMPLETED", "IN-PROCESS"})
"""RFC 5545, 3.2.12."""

_LINE = re.compile(r"([A-Za-z0-9-]++)((?:;[^\":;]*+(?:\"[^\"]*+\"[^\":;]*+)*)*):(.*+)", re.DOTALL)
_PARAM = re.compile(r";([A-Za-z0-9-]++)=([^\";]*+(?:\"[^\"]*+\"[^\";]*+)*)")
_MOMENT = re.compile(r"([0-9]{8})(?:T([0-9]{6})(Z?))?")
_DURATION = re.compile(
    r"\+?P(?:(\d{1,4})W)?(?:(\d{1,5})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,7})M)?(?:(\d{1,8})S)?)?", re.ASCII
)
_ESCAPED = re.compile(r"\\([\\;,nN])")
_TOKEN = re.compile(r"[A-Z0-9-]{1,40}")
_MEDIA = ("text/calendar", "application/ics")
_KINDS = frozenset({"VEVENT", "VTODO", "VJOURNAL", "VFREEBUSY"})
_KEPT = frozenset({
    "UID", "SEQUENCE", "RECURRENCE-ID", "STATUS", "SUMMARY", "LOCATION", "DTSTART", "DTEND", "DUE", "DURATION",
    "ORGANIZER", "COMMENT",
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Attendee:
    """A calendar user; `answer` is the PARTSTAT in upper case, NEEDS-ACTION where none is said (RFC 5545, 3.2.12)."""

    address: str | None
    name: str | None
    role: str | None
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """The first component of a calendar object (of a series, the one that stands for all of it).

    Moments are ISO 8601 texts: "2024-04-11" for a whole day, with a Z in UTC, else local to the `_zone` beside it.
    `answer` is what the one attendee of a REPLY answers. `components` counts all; `cut` tells that a bound was met.
    `delivered`: the part brings the method to us (RFC 6047, 2.4), it is not merely a file that somebody attached.
    """

    method: str | None
    component: str
    uid: str | None
    sequence: int | None
    recurrence_id: str | None
    status: str | None
    summary: str | None
    location: str | None
    comment: str | None
    start: str | None
    start_zone: str | None
    end: str | None
    end_zone: str | None
    organizer: str | None
    organizer_name: str | None
    attendees: tuple[Attendee, ...]
    answer: str | None
    components: int
    delivered: bool
    cut: bool


@dataclass(slots=True)
class _Property:
    """One content line: raw parameters and value."""

    params: str
    value: str

    def param(self, name: str) -> str | None:
        for key, value in _PARAM.findall(self.params):
            if key.upper() == name:
                return str(value).replace('"', "").strip()[:MAX_TEXT] or None
        return None


@dataclass(slots=True)
class _Component:
    """One component under construction."""

    name: str
    properties: dict[str, _Property]
    attendees: list[_Property]


@dataclass(slots=True)
class _Found:
    """What the lines hold."""

    method: str | None
    components: list[_Component]
    count: int
    cut: bool


def find_calendar(raw: bytes, structure: Scan) -> Calendar | None:
    """What the first readable calendar part of a mail says; text/calendar before the copies called application/ics."""
    if structure.types.isdisjoint(_MEDIA):
        return None
    tries = [(node, structure.parts[node.part]) for node in structure.nodes if node.part is not None]
    wanted = [one for media in _MEDIA for one in tries if one[1].content_type == media]
    for node, part in wanted[:MAX_PARTS]:
        data = decode_start(raw, part.offset, part.length, part.encoding, MAX_BYTES + 1)
        method = node.params.token("method")
        found = read_calendar(data, part.charset, method, attached=part.disposition == "attachment")
        if found is not None:
            return found
    return None


def read_calendar(
    data: bytes, charset: str | None, method: str | None = None, *, attached: bool = False
) -> Calendar | None:
    """The calendar object in the decoded bytes of a part, or None where there is none.

    `method` is the parameter of the part's Content-Type; the object's own METHOD counts first (RFC 6047, 2.4).
    `attached`: the part's disposition is attachment. Then only a method in the Content-Type makes it a message, and
    PUBLISH, which asks nobody anything, does not.
    """
    cut = len(data) > MAX_BYTES
    # Folding may split a character (RFC 5545, 3.1): bytes are unfolded, then decoded.
    data = data[:MAX_BYTES].replace(b"\r\n", b"\n").replace(b"\n ", b"").replace(b"\n\t", b"")
    lines = clean(decode_label(data, charset), set()).split("\n", MAX_LINES)
    found = _read_lines(lines[:MAX_LINES])
    main = next((one for one in found.components if "RECURRENCE-ID" not in one.properties), None)
    if main is None and not found.components:
        return None
    own = found.method or _token(method, METHODS)
    delivered = own is not None and (not attached or (bool(_token(method, METHODS)) and own != "PUBLISH"))
    cut = cut or found.cut or len(lines) > MAX_LINES
    return _calendar(main or found.components[0], own, found, delivered=delivered, cut=cut)


def _read_lines(lines: list[str]) -> _Found:
    """Walk the lines. Only properties of the object itself and of its direct components count: an alarm has its own."""
    found = _Found(None, [], 0, False)
    depth = 0
    current: _Component | None = None
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            continue
        name, params, value = match.group(1).upper(), match.group(2), match.group(3).strip()
        if name == "BEGIN":
            depth += 1
            kind = value.upper()
            if depth == 2 and kind in _KINDS:
                found.count += 1
                current = _Component(kind, {}, [])
                if len(found.components) < MAX_COMPONENTS:
                    found.components.append(current)
                else:
                    found.cut = True
        elif name == "END":
            depth = max(depth - 1, 0)
        elif depth == 1 and name == "METHOD":
            found.method = found.method or _token(value, METHODS)
        elif depth == 2 and current is not None:
            _keep(current, name, _Property(params, value), found)
        if depth < 2:
            current = None
    return found


def _keep(component: _Component, name: str, one: _Property, found: _Found) -> None:
    if name == "ATTENDEE":
        if len(component.attendees) < MAX_ATTENDEES:
            component.attendees.append(one)
        else:
            found.cut = True
    elif name in _KEPT:
        component.properties.setdefault(name, one)


def _calendar(main: _Component, method: str | None, found: _Found, *, delivered: bool, cut: bool) -> Calendar:
    get = main.properties.get
    attendees = tuple(_attendee(one) for one in main.attendees)
    start, start_zone = _moment(get("DTSTART"))
    end, end_zone = _moment(get("DTEND") or get("DUE"))
    if end is None and start is not None and (lasting := get("DURATION")) is not None:
        end, end_zone = _after(start, lasting.value), start_zone
    organizer = get("ORGANIZER")
    sequence = get("SEQUENCE")
    number = sequence.value[:9] if sequence else ""
    return Calendar(
        method=method,
        component=main.name,
        uid=_text(get("UID")),
        sequence=int(number) if number.isascii() and number.isdigit() else None,
        recurrence_id=_moment(get("RECURRENCE-ID"))[0],
        status=_token(status.value) if (status := get("STATUS")) else None,
        summary=_text(get("SUMMARY")),
        location=_text(get("LOCATION")),
        comment=_text(get("COMMENT")),
        start=start,
        start_zone=start_zone,
        end=end,
        end_zone=end_zone,
        organizer=_address(organizer) if organizer else None,
        organizer_name=organizer.param("CN") if organizer else None,
        attendees=attendees,
        answer=attendees[0].answer if method == "REPLY" and len(attendees) == 1 else None,
        components=found.count,
        delivered=delivered,
        cut=cut,
    )


def _attendee(one: _Property) -> Attendee:
    return Attendee(
        address=_address(one),
        name=one.param("CN"),
        role=_token(one.param("ROLE")),
        answer=_token(one.param("PARTSTAT"), ANSWERS) or "NEEDS-ACTION",
    )


def _address(one: _Property) -> str | None:
    """RFC 5545, 3.3.3: a mailto URI; else the EMAIL parameter (RFC 7986, 6.2); what is no address is none."""
    value = one.value[:MAX_TEXT]
    if value[:7].lower() == "mailto:":
        value = value[7:].strip()
    if "@" not in value or ":" in value:
        value = one.param("EMAIL") or ""
    return value if "@" in value else None


def _text(one: _Property | None) -> str | None:
    """RFC 5545, 3.3.11."""
    if one is None:
        return None
    text = _ESCAPED.sub(lambda found: "\n" if found.group(1) in "nN" else found.group(1), one.value[: 2 * MAX_TEXT])
    return text[:MAX_TEXT] or None


def _token(text: str | None, known: frozenset[str] | None = None) -> str | None:
    """A word of a closed set, or one that looks like a word, in upper case; else None."""
    word = (text or "")[:60].strip().upper()
    found = word in known if known is not None else _TOKEN.fullmatch(word)
    return word if found else None


def _moment(one: _Property | None) -> tuple[str | None, str | None]:
    """RFC 5545, 3.3.4 and 3.3.5 in ISO 8601, and the zone it is local to."""
    found = _MOMENT.match(one.value) if one is not None else None
    if one is None or found is None:
        return None, None
    day, time, utc = found.groups()
    try:
        if time is None:
            return date(int(day[:4]), int(day[4:6]), int(day[6:])).isoformat(), None
        # RFC 5545, 3.3.12: second 60 is a leap second.
        moment = datetime.strptime(day + time[:4], "%Y%m%d%H%M") + timedelta(seconds=int(time[4:]))  # noqa: DTZ007
    except (ValueError, OverflowError):
        return None, None
    return moment.isoformat() + ("Z" if utc else ""), None if utc else one.param("TZID")


def _after(start: str, lasting: str) -> str | None:
    """RFC 5545, 3.3.6: the end by a duration, on the clock of the start (a change of the clock within is not known)."""
    found = _DURATION.fullmatch(lasting[:60].strip().upper())
    if found is None or not any(found.groups()):
        return None
    weeks, days, hours, minutes, seconds = (int(number or 0) for number in found.groups())
    length = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    try:
        if len(start) == 10:
            return (date.fromisoformat(start) + length).isoformat()
        return (datetime.fromisoformat(start.removesuffix("Z")) + length).isoformat() + (
            "Z" if start[-1] == "Z" else ""
        )
    except OverflowError:
        return None
