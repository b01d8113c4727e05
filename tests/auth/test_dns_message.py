"""What strangers send as answers: nothing raises, nothing is invented, nothing costs much."""

import struct
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingester.auth.dns_message import READERS, Kind, Question, read
from ingester.auth.lookup import Exchange, Status
from tests.cost import assert_cheap

QUESTION = Question("a.test", Kind.TXT)
KINDS = st.sampled_from(sorted(READERS))
CPU_SECONDS = 0.02
"""For one hostile message. Each takes a third of it or less; the issue allows a mail 50 ms."""


def head(number: int = 7, flags: int = 0x8180, *, questions: int = 1, answers: int = 0, authorities: int = 0) -> bytes:
    return struct.pack(">HHHHHH", number, flags, questions, answers, authorities, 0)


def record(kind: int, data: bytes, *, owner: bytes = b"\xc0\x0c", category: int = 1, seconds: int = 60) -> bytes:
    return owner + struct.pack(">HHIH", kind, category, seconds, len(data)) + data


def answer(*records: bytes, question: Question = QUESTION) -> Any:
    return read(head(answers=len(records)) + question.section + b"".join(records), question)


@given(message=st.binary(max_size=600), kind=KINDS)
def test_random_bytes_are_no_answer(message: bytes, kind: Kind) -> None:
    question = Question("a.test", kind)
    if question.answered_by(message, 7):
        assert read(message, question) is None or read(message, question)


@given(
    body=st.binary(max_size=600), kind=KINDS, answers=st.integers(0, 65535), rcode=st.sampled_from([0, 0, 0, 1, 2, 3])
)
def test_random_bytes_behind_the_question_find_nothing(body: bytes, kind: Kind, answers: int, rcode: int) -> None:
    """The owner of a record is the name that was asked for, and random bytes hardly say that."""
    question = Question("a-long-name-that-is-not-guessed.test", kind)
    message = head(flags=0x8180 | rcode, answers=answers, authorities=answers) + question.section
    entry = read(message + body.replace(b"\xc0\x0c", b""), question)
    assert entry is None or entry.answer.status is not Status.FOUND


@given(data=st.data(), kind=KINDS)
def test_a_damaged_answer_never_raises(data: st.DataObject, kind: Kind) -> None:
    question = Question("a.test", kind)
    good = {
        Kind.A: b"\xc0\0\2\1",
        Kind.AAAA: b"\0" * 16,
        Kind.TXT: b"\5hello\0",
        Kind.MX: b"\0\1\2mx\xc0\x0c",
        Kind.PTR: b"\1b\xc0\x0c",
        Kind.NS: b"\3ns1\xc0\x0c",
        Kind.CNAME: b"\1b\xc0\x0c",
    }[kind]
    alias = record(Kind.CNAME, b"\1c\xc0\x0c")
    target = record(kind, good, owner=b"\1c\1a\4test\0")
    soa = record(Kind.SOA, b"\0\0" + b"\0" * 20)
    message = bytearray(head(answers=2, authorities=1) + question.section + alias + target + soa)
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(message) - 1), st.integers(0, 255)), max_size=6)):
        message[at] = value
    cut = data.draw(st.integers(12, len(message)))
    for damaged in (bytes(message), bytes(message[:cut])):
        if question.answered_by(damaged, 7):
            read(damaged, question)


@given(st.text(alphabet="abcXYZ019-_", min_size=1, max_size=63), st.integers(0, 65535))
def test_dnspython_reads_our_query(label: str, number: int) -> None:
    query = dns.message.from_wire(Question(f"{label.lower()}.test", Kind.MX).query(number))
    assert (query.id, query.opcode(), query.edns, query.payload) == (number, 0, 0, 1232)
    assert query.flags == dns.flags.RD
    assert str(query.question[0]) == f"{label.lower()}.test. IN MX"


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\0" * 11,
        head(8) + QUESTION.section,
        head(flags=0x0180) + QUESTION.section,
        head(flags=0x8980) + QUESTION.section,
        head(questions=0) + QUESTION.section,
        head(questions=2) + QUESTION.section * 2,
        head() + QUESTION.section[:-1],
        head() + Question("a.test", Kind.A).section,
        head() + Question("b.test", Kind.TXT).section,
        head(flags=0x8183, questions=0),
    ],
    ids=["empty", "short", "id", "query", "opcode", "none", "two", "cut", "type", "name", "nxdomain without question"],
)
def test_what_does_not_answer_the_question_is_not_its_answer(message: bytes) -> None:
    assert not QUESTION.answered_by(message, 7)


def test_the_question_may_come_back_in_another_case_or_not_at_all_with_an_error() -> None:
    assert QUESTION.answered_by(head() + QUESTION.section.upper(), 7)
    assert QUESTION.answered_by(head(flags=0x8182, questions=0), 7)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (Kind.A, b"\1\2\3"),
        (Kind.A, b"\1\2\3\4\5"),
        (Kind.AAAA, b"\1\2\3\4"),
        (Kind.TXT, b"\5four"),
        (Kind.MX, b"\0"),
        (Kind.MX, b"\0\1"),
        (Kind.MX, b"\0\1\1a\0more"),
        (Kind.PTR, b"\xc0\xff"),
        (Kind.PTR, b"\0"),
        (Kind.PTR, b"\3a.b\0"),
        (Kind.CNAME, b"\0"),
        (Kind.CNAME, b"\1\xff\0"),
    ],
)
def test_a_record_that_cannot_be_read_makes_the_answer_malformed(kind: Kind, data: bytes) -> None:
    question = Question("a.test", kind if kind in READERS else Kind.A)
    assert answer(record(kind, data), question=question).answer.status is Status.MALFORMED


def test_a_name_that_no_text_can_say_is_left_out() -> None:
    question = Question("a.test", Kind.MX)
    entry = answer(record(Kind.MX, b"\0\1\3a.b\0"), record(Kind.MX, b"\0\2\1c\0"), question=question)
    assert entry.answer.records == (Exchange(2, "c"),)


def test_records_of_other_owners_types_and_classes_do_not_count() -> None:
    foreign = record(Kind.TXT, b"\1x", owner=b"\5other\0")
    chaos = record(Kind.TXT, b"\1x", category=3)
    entry = answer(foreign, chaos, record(Kind.A, b"\1\2\3\4"), record(Kind.TXT, b"\1y"))
    assert entry.answer.records == (b"y",)
    assert answer(foreign, chaos).answer.status is Status.NO_DATA


def test_an_answer_holds_as_long_as_its_least_record() -> None:
    assert answer(record(Kind.TXT, b"", seconds=50), record(Kind.TXT, b"", seconds=9)).seconds == 9
    alias = record(Kind.CNAME, b"\1c\0", seconds=8)
    assert answer(alias, record(Kind.TXT, b"", owner=b"\1c\0", seconds=50)).seconds == 8


def test_what_stands_in_the_other_sections_is_no_record() -> None:
    """A record in the additional section is not one of the answer (RFC 2181, 5.4.1)."""
    message = head(authorities=1) + QUESTION.section + record(Kind.TXT, b"\4evil")
    entry = read(message, QUESTION)
    assert entry
    assert entry.answer.status is Status.NO_DATA


@pytest.mark.parametrize(
    "body",
    [
        record(Kind.TXT, b"") * 65535,
        record(Kind.TXT, b"\0" * 240) * 250,
        record(Kind.CNAME, b"\1b\xc0\x0c") * 250,
        (b"\1a" * 125 + b"\0" + struct.pack(">HHIH", Kind.TXT, 1, 0, 0)) * 250,
        b"\0" + struct.pack(">HHIH", 99, 1, 0, 16000)
        + b"".join(struct.pack(">H", 0xC000 + max(12, 40 + 2 * n)) for n in range(8000))
        + record(Kind.TXT, b"", owner=b"\xfe\0") * 250,
    ],
    ids=["many", "strings", "aliases", "labels", "pointers"],
)  # fmt: skip
def test_a_hostile_message_costs_little(body: bytes) -> None:
    message = (head(answers=251) + QUESTION.section + body)[:65535]
    assert_cheap(lambda: read(message, QUESTION), seconds=CPU_SECONDS)


def test_the_writer_of_the_tests_and_our_reader_agree_with_dnspython() -> None:
    """A message written by dnspython, with all names compressed."""
    query = dns.message.make_query("x.example.test.", "MX", use_edns=0, payload=1232)
    response = dns.message.make_response(query)
    response.answer.append(dns.rrset.from_text("x.example.test.", 9, "IN", "CNAME", "y.example.test."))
    response.answer.append(dns.rrset.from_text("Y.example.test.", 8, "IN", "MX", "5 mx.example.test."))
    question = Question("x.example.test", Kind.MX)
    entry = read(response.to_wire(), question)
    assert entry
    assert entry.answer.records == (Exchange(5, "mx.example.test"),)
    assert entry.seconds == 8
    response.set_rcode(dns.rcode.REFUSED)
    assert read(response.to_wire(), question) is None
