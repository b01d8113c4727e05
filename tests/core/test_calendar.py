"""Invitations and answers: what the usual clients write, what nobody should, and what it may cost."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingester.core.calendar import MAX_ATTENDEES, MAX_BYTES, MAX_TEXT, Calendar, read_calendar
from ingester.core.kind import Kind, classify
from ingester.core.message import Message, digest
from ingester.core.mime import Bounds
from tests.cost import assert_cheap

MB = 1 << 20


def event(*lines: str, method: str | None = "REQUEST", name: str = "VEVENT") -> bytes:
    head = ["BEGIN:VCALENDAR", "VERSION:2.0", *([f"METHOD:{method}"] if method else []), f"BEGIN:{name}"]
    return "\r\n".join([*head, *lines, f"END:{name}", "END:VCALENDAR", ""]).encode()


def read(*lines: str, method: str | None = "REQUEST", name: str = "VEVENT") -> Calendar:
    found = read_calendar(event(*lines, method=method, name=name), "utf-8")
    assert found is not None
    return found


def mail(
    calendar: bytes, content_type: str = "text/calendar; method=REQUEST; charset=utf-8", more: str = ""
) -> Message:
    head = f"From: a@b.test\r\nMessage-ID: <i@b.test>\r\nContent-Type: {content_type}\r\n{more}\r\n"
    return digest(head.encode() + calendar, Bounds())


def test_an_invitation_of_google() -> None:
    found = read(
        "DTSTART;TZID=Europe/Berlin:20250310T140000",
        "DTEND;TZID=Europe/Berlin:20250310T150000",
        "DTSTAMP:20250301T080000Z",
        "ORGANIZER;CN=Ada Byron:mailto:ada@demo.test",
        "UID:77@google.com",
        "ATTENDEE;CUTYPE=INDIVIDUAL;ROLE=REQ-PARTICIPANT;PARTSTAT=ACCEPTED;RSVP=TRUE",
        " ;CN=Ada Byron;X-NUM-GUESTS=0:mailto:ada@demo.test",
        "ATTENDEE;ROLE=OPT-PARTICIPANT;PARTSTAT=NEEDS-ACTION;CN=bob@demo.test:mailto:bob@demo.test",
        "SEQUENCE:2",
        "STATUS:CONFIRMED",
        "SUMMARY:Plan\\, part 2\\; notes\\nand more",
        "LOCATION:Room 5",
        "BEGIN:VALARM",
        "SUMMARY:of the alarm",
        "ATTENDEE:mailto:alarm@demo.test",
        "END:VALARM",
    )
    assert (found.method, found.component, found.uid, found.sequence) == ("REQUEST", "VEVENT", "77@google.com", 2)
    assert (found.start, found.start_zone) == ("2025-03-10T14:00:00", "Europe/Berlin")
    assert (found.end, found.end_zone) == ("2025-03-10T15:00:00", "Europe/Berlin")
    assert (found.summary, found.location) == ("Plan, part 2; notes\nand more", "Room 5")
    assert (found.organizer, found.organizer_name, found.status) == ("ada@demo.test", "Ada Byron", "CONFIRMED")
    assert [(one.address, one.answer, one.role) for one in found.attendees] == [
        ("ada@demo.test", "ACCEPTED", "REQ-PARTICIPANT"),
        ("bob@demo.test", "NEEDS-ACTION", "OPT-PARTICIPANT"),
    ]
    assert (found.answer, found.delivered, found.cut) == (None, True, False)


@pytest.mark.parametrize("answer", ["ACCEPTED", "DECLINED", "TENTATIVE", "DELEGATED"])
def test_the_answer_of_exchange(answer: str) -> None:
    found = read(
        f'ATTENDEE;PARTSTAT={answer};CN="Roe, Jane: sales":MAILTO:Jane@demo.test',
        "COMMENT;LANGUAGE=en-GB:See you\\n",
        "UID:040000008200E00074C5B7101A82E008",
        "SUMMARY;LANGUAGE=en-GB:Accepted: Plan",
        "DTSTART;TZID=GMT Standard Time:20250310T140000",
        "DTEND;TZID=GMT Standard Time:20250310T143000",
        method="REPLY",
    )
    assert (found.method, found.answer) == ("REPLY", answer)
    assert found.attendees[0].address == "Jane@demo.test"
    assert found.attendees[0].name == "Roe, Jane: sales"
    assert (found.start_zone, found.comment) == ("GMT Standard Time", "See you\n")


def test_a_series_is_read_from_the_component_that_stands_for_all_of_it() -> None:
    data = event(
        "UID:s", "RECURRENCE-ID:20250102T100000Z", "SUMMARY:moved", "END:VEVENT", "BEGIN:VEVENT", "SUMMARY:all"
    )
    found = read_calendar(data, None)
    assert found is not None
    assert (found.summary, found.components) == ("all", 2)
    alone = read("UID:s", "RECURRENCE-ID;VALUE=DATE:20250102", method="CANCEL")
    assert (alone.method, alone.recurrence_id) == ("CANCEL", "2025-01-02")


@pytest.mark.parametrize(
    ("lines", "start", "end"),
    [
        (["DTSTART;VALUE=DATE:20250101", "DTEND;VALUE=DATE:20250103"], "2025-01-01", "2025-01-03"),
        (["DTSTART;VALUE=DATE:20250101", "DURATION:P2D"], "2025-01-01", "2025-01-03"),
        (["DTSTART:20250101T235960Z", "DURATION:PT1H30M"], "2025-01-02T00:00:00Z", "2025-01-02T01:30:00Z"),
        (["DTSTART:20250101T090000", "DURATION:P1W"], "2025-01-01T09:00:00", "2025-01-08T09:00:00"),
        (["DTSTART:20250101T090000"], "2025-01-01T09:00:00", None),
        (["DTSTART:20250101T090000", "DURATION:P"], "2025-01-01T09:00:00", None),
        (["DTSTART:99991231", "DURATION:P9W"], "9999-12-31", None),
        (["DTSTART:20251399T250000", "DTEND:tomorrow"], None, None),
        (["DTSTART:\uff12\uff10250101"], None, None),
    ],
)
def test_moments(lines: list[str], start: str | None, end: str | None) -> None:
    found = read(*lines)
    assert (found.start, found.end) == (start, end)


def test_a_task_has_a_due_date() -> None:
    found = read("DUE:20250101T090000Z", name="VTODO")
    assert (found.component, found.end) == ("VTODO", "2025-01-01T09:00:00Z")


@pytest.mark.parametrize(
    ("line", "address"),
    [
        ("ATTENDEE:MAILTO:a@b.test", "a@b.test"),
        ("ATTENDEE;EMAIL=a@b.test:urn:uuid:1", "a@b.test"),
        ("ATTENDEE:invalid:nomail", None),
        ("ATTENDEE:/o=Exchange/cn=Recipients/cn=jane", None),
        ("ATTENDEE;PARTSTAT=maybe:a@b.test", "a@b.test"),
    ],
)
def test_addresses_of_calendar_users(line: str, address: str | None) -> None:
    (attendee,) = read(line).attendees
    assert (attendee.address, attendee.answer) == (address, "NEEDS-ACTION")


def test_what_is_wrong_loses_only_its_line() -> None:
    found = read('ATTENDEE;CN="open:mailto:a@b.test', "no colon", ":", "SEQUENCE:many", "SUMMARY:kept")
    assert (found.summary, found.attendees, found.sequence) == ("kept", (), None)


def test_folding_inside_a_character_and_bare_line_feeds() -> None:
    word = "Grüße".encode()
    data = event("X:Y", "SUMMARY:@").replace(b"@", word[:3] + b"\r\n " + word[3:])
    for form in (data, data.replace(b"\r\n", b"\n")):
        found = read_calendar(form, None)
        assert found is not None
        assert found.summary == "Grüße"


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"BEGIN:VCALENDAR", b"hello", b"BEGIN:VCALENDAR\nMETHOD:REQUEST\nEND:VCALENDAR"]
)
def test_what_is_no_calendar(data: bytes) -> None:
    assert read_calendar(data, None) is None


@pytest.mark.parametrize(
    ("content_type", "more", "method", "kind"),
    [
        ("text/calendar; method=REQUEST", "", "REQUEST", Kind.CALENDAR),
        ("text/calendar", "", "CANCEL", Kind.CALENDAR),
        ("text/calendar; method=reply", "", None, Kind.CALENDAR),
        ("application/ics; name=invite.ics", "", "REQUEST", Kind.CALENDAR),
        ("text/calendar; method=REQUEST", "Content-Disposition: attachment\r\n", "REQUEST", Kind.CALENDAR),
        ("text/calendar; name=x.ics", "Content-Disposition: attachment\r\n", "REQUEST", Kind.NEW),
        ("text/calendar; method=PUBLISH", "Content-Disposition: attachment\r\n", "PUBLISH", Kind.NEW),
        ("text/calendar", "", None, Kind.NEW),
    ],
)
def test_what_makes_a_mail_an_invitation(content_type: str, more: str, method: str | None, kind: Kind) -> None:
    message = mail(event("UID:1", "SUMMARY:x", method=method), content_type, more)
    assert message.calendar is not None
    assert message.calendar.summary == "x"
    assert classify(message.nature, mail_from="a@b.test", cites=False, answers=False).kind == kind


def test_the_text_part_comes_before_its_copy_as_a_file() -> None:
    body = (
        "--b\r\nContent-Type: application/ics\r\n\r\n{}\r\n--b\r\nContent-Type: text/calendar; method=REQUEST\r\n"
        "Content-Transfer-Encoding: base64\r\n\r\nQkVHSU46VkNBTEVOREFSCkJFR0lOOlZFVkVOVApT"
        "VU1NQVJZOnRleHQKRU5EOlZFVkVOVApFTkQ6VkNBTEVOREFSCg==\r\n--b--\r\n"
    )
    message = mail(body.replace("{}", event("SUMMARY:file").decode()).encode(), "multipart/mixed; boundary=b")
    assert message.calendar is not None
    assert (message.calendar.summary, message.calendar.method) == ("text", "REQUEST")


def test_the_invitation_of_the_corpora(corpora: Path) -> None:
    message = digest((corpora / "mime-postalmime/fixtures/calendar-event.eml").read_bytes(), Bounds())
    found = message.calendar
    assert found is not None
    assert (found.method, found.start, found.start_zone) == ("REQUEST", "2024-04-11T11:00:00", "Europe/Tallinn")
    assert (found.uid, found.summary) == ("1utaf3eftt1agbnisfcc3a5ps0@google.com", "Test event \u23f0")
    assert [one.answer for one in found.attendees] == ["ACCEPTED", "NEEDS-ACTION"]
    assert classify(message.nature, mail_from="a@b", cites=False, answers=False).kind == Kind.CALENDAR


_LINES = st.lists(
    st.one_of(
        st.sampled_from([
            "BEGIN:VCALENDAR", "BEGIN:VEVENT", "END:VEVENT", "END:VCALENDAR", "METHOD:REPLY",
            "DTSTART:20250101T000000Z", "DURATION:PT5M", 'ATTENDEE;CN="a;b":mailto:a@b',
            "ATTENDEE;=:", " folded", "\t", "SUMMARY:\\",
            "RECURRENCE-ID:x",
        ]),
        st.text(max_size=40),
    )
)  # fmt: skip


@given(_LINES, st.sampled_from([None, "utf-8", "utf-16", "nonsense"]), st.one_of(st.none(), st.text(max_size=10)))
@settings(max_examples=200)
def test_any_lines_give_bounded_text(lines: list[str], charset: str | None, method: str | None) -> None:
    found = read_calendar("\r\n".join(["BEGIN:VCALENDAR", *lines]).encode("utf-8", "replace"), charset, method)
    if found is not None:
        texts = (found.uid, found.summary, found.location, found.organizer, found.start_zone, found.comment)
        assert all(text is None or (len(text) <= MAX_TEXT and "\0" not in text) for text in texts)
        assert len(found.attendees) <= MAX_ATTENDEES


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    read_calendar(data, None)


_UNITS = [
    b"BEGIN:VEVENT\r\n", b"BEGIN:VEVENT\r\nEND:VEVENT\r\n", b"ATTENDEE;CN=a:mailto:a@b\r\n", b"\r\n x", b"\r\n", b"A",
    b":", b";", b";A=b", b';A="', b'"', b"\\n", b"X;A=b:c\r\n", b'ATTENDEE;A="b"', b"SUMMARY:", b"\xff",
    b"RRULE:FREQ=SECONDLY\r\n",
]  # fmt: skip


@pytest.mark.parametrize("unit", _UNITS)
@pytest.mark.parametrize("start", [b"", b"SUMMARY:", b"ATTENDEE", b"ATTENDEE;CN=", b"DTSTART:"])
def test_a_megabyte_takes_less_than_a_fifth_of_a_second(unit: bytes, start: bytes) -> None:
    data = b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\n" + start + (unit * (MB // len(unit) + 1))[:MB]
    found = assert_cheap(lambda: read_calendar(data, None), seconds=0.2)
    assert found is None or found.cut
    assert len(data) > MAX_BYTES
