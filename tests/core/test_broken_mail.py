"""Broken mail, one test for each way: nothing of it is lost, and what is odd is flagged.

Elsewhere already, and not repeated here. In test_mime: missing final boundary, blanks after a boundary, semicolons in
a boundary, a line that only begins with the boundary, part without header, header-only mail, leading mbox line and
multipart without boundary. In test_content: truncated and dirty base64, wrong and unknown transfer encodings. In
test_params: RFC 2231 in pieces, out of order and with charset, RFC 2047 in parameters. In test_words: words split
inside a character, raw 8-bit. In test_addresses: groups, quoted local parts, `"ceo@victim" <attacker@evil>`,
o'brien@, VERP, IDN and EAI, undisclosed recipients. In test_headers: dates in the wild forms, Message-IDs with
brackets and blanks. In test_message: null From, two From headers. In test_charset: charsets that are wrong. Here are
the same where a whole mail is needed, and what these leave out.
"""

import re
from datetime import UTC, datetime

import pytest

from ingester.core import fields
from ingester.core.addresses import parse_addresses
from ingester.core.headers import message_id, parse_date
from ingester.core.message import Message, digest
from ingester.core.mime import Bounds, scan, tiles_balance
from ingester.core.words import header_text
from tests.cost import assert_cheap
from tests.oracle.reading import content_of

BOUNDS = Bounds()
PNG = b"Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo="


def read(raw: bytes) -> Message:
    assert tiles_balance(scan(raw, BOUNDS), raw)
    return digest(raw, BOUNDS)


def leaves(raw: bytes) -> list[tuple[str, bytes]]:
    return [(part.content_type, content_of(raw, part)) for part in read(raw).parts]


def multipart(*pieces: bytes, boundary: bytes = b"b", subtype: bytes = b"mixed") -> bytes:
    return b"\r\n".join([b'Content-Type: multipart/%s; boundary="%s"' % (subtype, boundary), b"", *pieces])


def test_a_mail_with_bare_line_feeds_reads_like_one_with_crlf() -> None:
    raw = b"Subject: x\r\n" + multipart(b"--b", b"", b"one\r\ntwo", b"--b", PNG, b"--b--", b"")
    plain = raw.replace(b"\r\n", b"\n")
    assert leaves(plain) == [("text/plain", b"one\ntwo"), ("image/png", b"\x89PNG\r\n\x1a\n")]
    assert read(plain).body_text == read(raw).body_text == "one\ntwo"


@pytest.mark.parametrize("end", [b"\r\r\n", b"\x00\r\n", b'"\r\n', b"\xff\xfe\r\n", b"\x1b[0m\n", b" \t\r\r\n"])
def test_what_no_boundary_may_hold_does_not_hide_one(end: bytes) -> None:
    raw = multipart(b"--b" + end + b"\r\nx\r\n--b" + end + PNG, b"--b--", b"")
    assert leaves(raw) == [("text/plain", b"x"), ("image/png", b"\x89PNG\r\n\x1a\n")]


def test_a_boundary_line_without_its_end_gives_the_part_its_header() -> None:
    raw = multipart(b"--b", b"", b"x", b"--b" + PNG, b"--b--", b"")
    assert leaves(raw) == [("text/plain", b"x"), ("image/png", b"\x89PNG\r\n\x1a\n")]


@pytest.mark.parametrize(
    ("outer", "inner"), [(b"b", b"bb"), (b"bb", b"b"), (b"b", b"b-"), (b"x", b"x x"), (b"b", b"b")]
)
def test_a_boundary_may_be_the_prefix_of_another(outer: bytes, inner: bytes) -> None:
    nested = multipart(
        b"--" + inner,
        b"",
        b"1",
        b"--" + inner,
        b"",
        b"2",
        b"--" + inner + b"--",
        b"",
        boundary=inner,
        subtype=b"related",
    )
    raw = multipart(b"--" + outer, nested + b"--" + outer, b"", b"3", b"--" + outer + b"--", boundary=outer)
    assert [content for _, content in leaves(raw)] == [b"1", b"2", b"3"]


def test_a_multipart_that_a_stray_outer_boundary_ended_goes_on() -> None:
    inner = [b"--i", b"", b"1", b"--o", b"", b"astray", b"--i", PNG, b"--i", b"", b"2", b"--i--"]
    raw = multipart(b"--o", multipart(*inner, boundary=b"i"), b"--o", b"", b"3", b"--o--", boundary=b"o")
    assert leaves(raw) == [
        ("text/plain", b"1"),
        ("text/plain", b"astray"),
        ("image/png", b"\x89PNG\r\n\x1a\n"),
        ("text/plain", b"2"),
        ("text/plain", b"3"),
    ]
    message = read(raw)
    assert "multipart_resumed" in message.flags
    assert [part.path for part in message.parts] == ["1.1", "2", "3.1", "3.2", "4"]


def test_a_boundary_after_the_end_of_its_multipart_is_text() -> None:
    raw = multipart(
        b"--o", multipart(b"--i", b"", b"1", b"--i--", boundary=b"i"), b"--o", b"", b"--i", b"--o--", boundary=b"o"
    )
    assert leaves(raw) == [("text/plain", b"1"), ("text/plain", b"--i")]


def test_many_unclosed_multiparts_cost_no_more_than_a_few() -> None:
    pieces = [b"--o\r\n" + multipart(b"--i%d" % n, b"", b"%d" % n, boundary=b"i%d" % n) for n in range(300)]
    message = read(multipart(*pieces, b"--o--", boundary=b"o"))
    assert len(message.parts) == 300
    assert "depth_limit" not in message.flags


def test_a_first_boundary_line_that_is_lost_costs_no_part() -> None:
    inner = b"\r\n".join(
        [b"Content-Type: multipart/alternative; boundary=i", b"Content-Type: text/plain; charset=utf-8", b"", b"plain",
         b"--i", b"Content-Type: text/html", b"", b"<p>rich</p>", b"--i--"]
    )  # fmt: skip
    message = read(multipart(b"--b", inner, b"--b--"))
    assert [part.content_type for part in message.parts] == ["text/plain", "text/html"]
    assert (message.body_text, message.body_html) == ("plain", "<p>rich</p>")
    assert "boundary_lost" in message.flags


def test_a_part_behind_a_damaged_first_boundary_line_is_found() -> None:
    inner = multipart(b"--ix", PNG, b"--i", b"", b"x", b"--i--", boundary=b"i")
    raw = multipart(b"--b", inner, b"--b--")
    assert leaves(raw) == [("image/png", b"\x89PNG\r\n\x1a\n"), ("text/plain", b"x")]
    assert "boundary_lost" in read(raw).flags


def test_words_before_the_first_boundary_are_no_part() -> None:
    raw = multipart(b"This is a message in MIME format.", b"--not a boundary", b"--b", b"", b"x", b"--b--")
    assert leaves(raw) == [("text/plain", b"x")]


def test_a_second_content_type_counts_for_nothing() -> None:
    raw = multipart(b"notice", b"--b", b"Content-Type: text/html", b"Content-Type: image/png", b"", b"x", b"--b--")
    assert leaves(b"X: y\r\n" + raw.replace(b"\r\n\r\n", b"\r\nContent-Type: text/plain\r\n\r\n", 1)) == [
        ("text/html", b"x")
    ]


def test_only_the_part_with_bad_base64_is_flagged() -> None:
    dirty = PNG.replace(b"iVBORw0KGgo=", b"iVB*ORw0K-Ggo=")
    message = read(multipart(b"--b", dirty, b"--b", PNG, b"--b", PNG[:-2], b"--b", b"", b"x", b"--b--"))
    assert ["bad_base64" in part.flags for part in message.parts] == [True, False, True, False]
    assert message.parts[0].sha256 == message.parts[1].sha256
    assert message.body_text == "x"


@pytest.mark.parametrize(
    "subject",
    [
        "Grüße aus Köln".encode(),
        "Grüße aus Köln".encode("cp1252"),
        b"=?iso-8859-1?Q?Gr\xfc\xdfe_aus_K\xf6ln?=",
        "=?iso-8859-1?Q?Grüße_aus_Köln?=".encode(),
        "=?utf-8?Q?Grüße_aus_Köln?=".encode(),
    ],
)
def test_raw_8bit_in_a_header_is_read_within_words_and_without(subject: bytes) -> None:
    assert read(b"Subject: " + subject + b"\r\n\r\nx").subject == "Grüße aus Köln"


def test_a_word_in_a_stateful_charset_stays_as_it_is() -> None:
    assert header_text(b"=?utf-7?Q?Gr+APw-n?=") == "Grün"


def test_raw_legacy_bytes_in_a_header_are_of_the_charset_of_the_body() -> None:
    raw = b"Subject: " + "Привет".encode("koi8-r") + b"\r\nContent-Type: text/plain; charset=koi8-r\r\n\r\nx"
    assert read(raw).subject == "Привет"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", "pete@silly.test"),
        ("<pete(one (two) three)@silly(x).test>", "pete@silly.test"),
        ("<pete@silly.test(never closed>", "pete@silly.test"),
        ('"(x)y"@silly.test', '"(x)y"@silly.test'),
        ('N <"a(b"@silly.test>', '"a(b"@silly.test'),
        ("Ann\r\n <ann@silly.test>", "ann@silly.test"),
        ("Ann Smith ann@silly.test", "ann@silly.test"),
    ],
)
def test_comments_and_folding_in_odd_places(text: str, address: str) -> None:
    assert [one.address for one in parse_addresses(text)[0]] == [address]


@pytest.mark.parametrize("piece", ["(", "()", "(\\)", "(a)b", " (", "((a) "])
def test_a_megabyte_of_comments_in_an_address_takes_no_time(piece: str) -> None:
    text = f"<a@b{piece * (1_000_000 // len(piece))}>"
    assert assert_cheap(lambda: parse_addresses(text), seconds=0.2)[0]


def test_junk_before_the_end_of_a_header_costs_neither_subject_nor_body() -> None:
    raw = b"From: a@b.test\r\nno field at all\r\nSubject: x\r\nX-Odd : y\r\n\r\nbody\r\n"
    message = read(raw)
    assert (message.from_address, message.subject, message.body_text) == ("a@b.test", "x", "body\n")
    assert "bad_header_line" in message.flags


def test_junk_that_is_folded_costs_no_field() -> None:
    raw = b"From: a@b.test\r\njunk, and its second line\r\n\tand its third\r\nSubject: x\r\n\r\nbody\r\n"
    assert (read(raw).subject, read(raw).body_text) == ("x", "body\n")


def test_lines_that_continue_no_field_are_passed_over_in_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    pass_over = fields._pass_over

    def count(raw: bytes, pos: int, limit: int, *, first: bool, top: bool) -> int | None:
        steps.append(pos)
        return pass_over(raw, pos, limit, first=first, top=top)

    monkeypatch.setattr(fields, "_pass_over", count)
    message = read(b" \r\n\tx\r\n" * 1000 + b"Subject: x\r\njunk\r\n" + b" \n" * 1000 + b"To: a@b\r\n\r\nbody")
    assert (message.subject, message.to_addresses, message.body_text) == ("x", ("a@b",), "body")
    assert len(steps) <= 6  # three for each of two readings


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b"\xff\xfe", b"charset=x;", b":"])
def test_what_stands_before_a_field_of_a_part_costs_that_field_only(mark: bytes) -> None:
    part = mark + b"Content-ID: <a>\r\n" + PNG
    assert leaves(multipart(b"--b", part, b"--b--")) == [("image/png", b"\x89PNG\r\n\x1a\n")]


@pytest.mark.parametrize("text", ["电话:123\r\nfoo:bar", "Grüße, see content-type\r\nx", "a b\r\n c\r\n\r\nd: e"])
def test_the_text_of_a_part_without_header_is_no_junk(text: str) -> None:
    assert leaves(multipart(b"--b", text.encode(), b"--b--")) == [("text/plain", text.encode())]


def test_two_from_headers_are_kept_and_flagged() -> None:
    message = read(b"From: a@b.test\r\nFrom: c@d.test\r\n\r\nx")
    assert message.from_address == "a@b.test"
    assert "several_from" in message.flags


def test_of_several_dates_the_first_that_can_be_read_counts() -> None:
    dates = (
        b"Date: tomorrow, perhaps\r\nDate: Mon, 1 Jan 2024 10:00:00 +0000\r\nDate: Tue, 2 Jan 2024 10:00:00 +0000\r\n"
    )
    message = read(dates + b"\r\nx")
    assert message.sent_at == datetime(2024, 1, 1, 10, tzinfo=UTC)
    assert message.date_raw == "Mon, 1 Jan 2024 10:00:00 +0000"
    message = read(b"Date: tomorrow\r\nDate: never\r\n\r\nx")
    assert (message.sent_at, message.date_raw) == (None, "tomorrow")


def test_the_display_name_is_never_the_address() -> None:
    message = read(b'From: "ceo@victim.test" <attacker@evil.test>\r\nTo: undisclosed-recipients:;\r\n\r\nx')
    assert (message.from_address, message.from_name) == ("attacker@evil.test", "ceo@victim.test")
    assert message.to_addresses == ()


def test_international_addresses_come_as_they_are() -> None:
    raw = (
        "From: Jörg <jörg@münchen.example>\r\nTo: <用户@例子.example>, o'brien@xn--mnchen-3ya.example\r\n\r\nx".encode()
    )
    message = read(raw)
    assert message.from_address == "jörg@münchen.example"
    assert message.to_addresses == ("用户@例子.example", "o'brien@xn--mnchen-3ya.example")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("Thu,\r\n 13\r\n Feb\r\n 1969 23:32 -0330 (Newfoundland Time)", datetime(1969, 2, 14, 3, 2, tzinfo=UTC)),
        ("Fri, 21 Nov 1997 09(comment):   55  :  06 -0600", None),
        ("Tue, 7 Apr 2026 10:00:00", datetime(2026, 4, 7, 10, tzinfo=UTC)),
        ("Wed, 30 Jun 3609 09:33:50 +0000", None),
    ],
)
def test_dates_that_the_standard_or_nobody_allows(text: str, moment: datetime | None) -> None:
    assert parse_date(re.sub(r"\r\n", "", text)) == moment


def test_a_message_id_with_brackets_and_blanks() -> None:
    assert message_id("< a b@c.test >") == "ab@c.test"
    assert message_id("<<a@c.test>>") == "a@c.test"
