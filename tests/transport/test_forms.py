"""Forms: exact bytes by both encodings and any cut, bounds, and that no value says what follows it."""

import tracemalloc
from collections.abc import Callable
from urllib.parse import parse_qsl

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingester.transport.forms import MAX_BESIDE, MAX_FIELDS, NO_FORM, NOT_A_FORM, Form, FormReader
from ingester.web.problem import OVERSIZED, Problem
from tests.cost import assert_cheap
from tests.transport.providers.bodies import BOUNDARY, MAIL, MULTIPART, URLENCODED, multipart, pieces, read, urlencoded

MIB = 1 << 20
NAMES = st.text(st.characters(codec="utf-8", exclude_characters='"\\\r\n'), min_size=1, max_size=20)
DELIMITER = f"\r\n--{BOUNDARY}".encode()
PIECES = st.lists(
    st.sampled_from(
        [
            b"\r",
            b"\n",
            b"\r\n",
            b"--",
            b"-",
            BOUNDARY.encode(),
            DELIMITER[:-1],
            b"x",
            b"%",
            b"+",
            b"&",
            b"=",
            b"\x00\xff",
        ]
    )
)
VALUES = st.one_of(st.binary(max_size=200), PIECES.map(b"".join)).filter(lambda value: DELIMITER not in b"\r\n" + value)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=8)


def fields_of(found: Form | Problem) -> dict[str, tuple[bytes, ...]]:
    assert isinstance(found, Form), found
    return dict(found.fields)


def grouped(fields: list[tuple[str, bytes]]) -> dict[str, tuple[bytes, ...]]:
    names = dict.fromkeys(name for name, _ in fields)
    return {name: tuple(value for other, value in fields if other == name) for name in names}


@given(FIELDS, st.integers(1, 100))
@example([("a", b"")], 1)
@example([("a", b"\r\n"), ("a", b"\r\n--")], 3)
def test_multipart_is_read_exactly_by_any_cut(fields: list[tuple[str, bytes]], size: int) -> None:
    assert fields_of(read(MULTIPART, pieces(multipart(fields), size))) == grouped(fields)


@given(FIELDS, st.integers(1, 100))
def test_urlencoded_is_read_exactly_by_any_cut(fields: list[tuple[str, bytes]], size: int) -> None:
    assert fields_of(read(URLENCODED, pieces(urlencoded(fields), size))) == grouped(fields)


@given(
    st.lists(
        st.sampled_from([b"%41", b"%0d", b"%0A", b"%3D", b"\r\n", b"=", b"==", b"_", b"+", b" ", b".", b"a%20"])
    ).map(b"".join)
)
def test_urlencoded_values_mean_what_the_standard_library_says(value: bytes) -> None:
    """It is read by way of quoted-printable, in which other characters mean something."""
    expected = parse_qsl(b"a=" + value, keep_blank_values=True)
    assert fields_of(read(URLENCODED, [b"a=" + value])) == {"a": (expected[0][1],)}


@pytest.mark.parametrize(
    "value", [b"%", b"%4", b"%zz", b"%%41", b"a%4=", b"%=41", b"%\n41", b"100%&b=1", b"%-1", b"% 1"]
)
@pytest.mark.parametrize("size", [1, 100])
def test_a_percent_sign_without_two_hex_digits_is_no_form(value: bytes, size: int) -> None:
    assert read(URLENCODED, pieces(b"a=" + value, size)) is NO_FORM


def test_urlencoded_fields_without_a_value_are_empty() -> None:
    assert fields_of(read(URLENCODED, [b"a&b=&c=1&d"])) == {"a": (b"",), "b": (b"",), "c": (b"1",), "d": (b"",)}


@pytest.mark.parametrize(
    "header",
    [
        b'Content-Disposition: form-data; name="a"; filename="mail.eml"\r\nContent-Type: message/rfc822',
        b"content-disposition:form-data;name=a",
        b'Content-Type: text/plain; charset=x\r\nContent-Disposition: form-data; filename="a; name=b"; name="a"',
        b'Content-Disposition: Form-Data; name="a"; filename="\\"; name=\\"b"',
        b'Content-Disposition: form-data; name="a"\r\nContent-Transfer-Encoding: binary',
    ],
)
def test_the_name_stands_in_the_header_of_a_part(header: bytes) -> None:
    body = b"--%b\r\n%b\r\n\r\n%b\r\n--%b--" % (BOUNDARY.encode(), header, MAIL, BOUNDARY.encode())
    assert fields_of(read(MULTIPART, [body])) == {"a": (MAIL,)}


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\r\nContent-Disposition: form-data; name=a",
        b"Content-Disposition: form-data",
        b"Content-Disposition: attachment; name=a",
        b"Content-Disposition: form-data; name=a; name=b",
        b'Content-Disposition: form-data; name="a',
        b"Content-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=b",
        b"Content-Disposition: form-data; name=a\r\n ; folded",
        b"Content-Disposition: form-data; name=a\r\nContent-Transfer-Encoding: base64",
        b"X: " + b"x" * 5000,
    ],
)
def test_a_part_that_does_not_say_one_name_is_no_form(header: bytes) -> None:
    body = b"--%b\r\n%b\r\n\r\n%b\r\n--%b--" % (BOUNDARY.encode(), header, MAIL, BOUNDARY.encode())
    for size in (7, len(body)):
        assert read(MULTIPART, pieces(body, size)) is NO_FORM


def test_a_mail_that_ends_the_form_early_is_refused() -> None:
    """A boundary that is always the same can be in a mail: what the provider says behind the mail would be lost."""
    mail = b"Subject: x\r\n\r\n\r\n" + multipart([("envelope", b"forged")], "xYzZY")
    body = multipart([("email", mail), ("envelope", b"true")], "xYzZY")
    for size in (1, 1000):
        assert read("multipart/form-data; boundary=xYzZY", pieces(body, size)) is NO_FORM


def test_a_line_that_only_begins_like_the_boundary_is_text() -> None:
    value = b"\r\n--xYzZYx\r\n--xYzZY-\r\n--xYzZY\n\r\n-- xYzZY--"
    body = multipart([("a", value), ("b", b"1")], "xYzZY")
    assert fields_of(read("multipart/form-data; boundary=xYzZY", [body])) == {"a": (value,), "b": (b"1",)}


@pytest.mark.parametrize("cut", [0, 1, 40, 60, 100, -3, -4, -5, -30])
def test_a_multipart_body_that_breaks_off_is_no_form(cut: int) -> None:
    assert read(MULTIPART, [multipart([("a", MAIL)])[:cut]]) is NO_FORM


def test_only_blanks_stand_around_the_parts() -> None:
    body = multipart([("a", b"1")])
    assert fields_of(read(MULTIPART, [b"\r\n" + body + b"\r\n\r\n"])) == {"a": (b"1",)}
    assert read(MULTIPART, [b"x\r\n" + body]) is NO_FORM
    assert read(MULTIPART, [body, b"x"]) is NO_FORM


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/json",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=a; boundary=b",
        'multipart/form-data; boundary="a b "',
        "multipart/form-data; boundary=" + "a" * 71,
        'multipart/form-data; boundary="a\r\nb"',
        "multipart/form-data; boundary=\xfc",
        "multipart/mixed; boundary=a",
    ],
)
def test_another_content_type_is_no_form(content_type: str) -> None:
    assert FormReader.start(content_type, max_bytes=100) is NOT_A_FORM


@pytest.mark.parametrize(
    "content_type",
    [f'Multipart/Form-Data; charset=utf-8; Boundary="{BOUNDARY}"', f"multipart/form-data;boundary={BOUNDARY};"],
)
def test_the_boundary_may_be_quoted(content_type: str) -> None:
    assert fields_of(read(content_type, [multipart([("a", b"1")])])) == {"a": (b"1",)}


@pytest.mark.parametrize(("content_type", "encode"), [(MULTIPART, multipart), (URLENCODED, urlencoded)])
def test_bounds(content_type: str, encode: Callable[[list[tuple[str, bytes]]], bytes]) -> None:
    def told(fields: list[tuple[str, bytes]]) -> Form | Problem:
        return read(content_type, pieces(encode(fields), 50_000), max_bytes=2 * MIB)

    assert isinstance(told([("a", b"x" * 2 * MIB), ("b", b"x" * MAX_BESIDE)]), Form)
    assert told([("a", b"x" * (2 * MIB + 1))]) is OVERSIZED
    assert told([("a", b"x" * 2 * MIB), ("b", b"x" * (MAX_BESIDE + 1))]) is OVERSIZED
    assert isinstance(told([("a", b"")] * MAX_FIELDS), Form)
    assert told([("a", b"")] * (MAX_FIELDS + 1)) is OVERSIZED
    assert isinstance(told([("a" * 256, b"")]), Form)
    assert told([("a" * 257, b"")]) is OVERSIZED


@pytest.mark.parametrize("body", [b"a" * 5000, b"%41" * 2000, b"&" * (MAX_FIELDS + 1)])
def test_names_and_empty_fields_are_bounded(body: bytes) -> None:
    assert read(URLENCODED, pieces(body, 100)) is OVERSIZED


@pytest.mark.parametrize(
    ("content_type", "begin", "expected"),
    [(MULTIPART, f"--{BOUNDARY}\r\nX: ".encode(), NO_FORM), (URLENCODED, b"", OVERSIZED)],
)
def test_what_does_not_end_is_not_gathered(content_type: str, begin: bytes, expected: Problem) -> None:
    reader = FormReader.start(content_type, max_bytes=MIB)
    assert isinstance(reader, FormReader)
    told = [reader.feed(chunk) for chunk in (begin, *[b"x" * 100] * 50)]
    assert told[0] is None
    assert told[-1] is expected


def test_a_problem_is_final() -> None:
    reader = FormReader.start(URLENCODED, max_bytes=10)
    assert isinstance(reader, FormReader)
    assert reader.feed(b"a=" + b"x" * 11) is OVERSIZED
    assert reader.feed(b"&b=1") is OVERSIZED
    assert reader.close() is OVERSIZED


@given(
    st.sampled_from([MULTIPART, URLENCODED, "multipart/form-data; boundary=x"]),
    st.lists(st.binary(max_size=60), max_size=10),
)
def test_any_bytes_give_a_form_or_a_problem(content_type: str, chunks: list[bytes]) -> None:
    assert isinstance(read(content_type, chunks), Form | Problem)


@given(
    st.lists(
        st.sampled_from(
            [b"--x", b"\r\n", b"--", b'Content-Disposition: form-data; name="a"', b"\r\n\r\n", b"v", b'"', b"\\"]
        )
    )
)
def test_any_arrangement_gives_a_form_or_a_problem(chunks: list[bytes]) -> None:
    found = read("multipart/form-data; boundary=x", chunks)
    assert isinstance(found, Form | Problem)
    assert found == read("multipart/form-data; boundary=x", [b"".join(chunks)])


@given(st.text(max_size=60) | st.builds("multipart/form-data{}".format, st.text('; ="\\ab', max_size=40)))
def test_any_content_type_gives_a_reader_or_a_problem(content_type: str) -> None:
    assert isinstance(FormReader.start(content_type, max_bytes=1), FormReader | Problem)


WORST: dict[str, tuple[str, Callable[[], bytes]]] = {
    "plain": (MULTIPART, lambda: multipart([("a", b"x" * 25 * MIB)])),
    "lines": (MULTIPART, lambda: multipart([("a", b"\r\n" * (12 * MIB))])),
    "nearly delimiters": (MULTIPART, lambda: multipart([("a", (DELIMITER[:-1] + b"\r\n--") * (25 * MIB // 40))])),
    "delimiters but for their end": (MULTIPART, lambda: multipart([("a", (DELIMITER + b"x") * (25 * MIB // 40))])),
    "escapes": (URLENCODED, lambda: b"a=" + b"%41" * (25 * MIB)),
    "pluses": (URLENCODED, lambda: b"a=" + b"+" * (25 * MIB)),
    "equals": (URLENCODED, lambda: b"a=" + b"=" * (25 * MIB)),
}


@pytest.mark.parametrize("name", WORST)
def test_the_worst_bodies_are_cheap(name: str) -> None:
    content_type, body = WORST[name]
    chunks = pieces(body(), 1 << 16)
    assert isinstance(assert_cheap(lambda: read(content_type, chunks, max_bytes=25 * MIB), seconds=1.0), Form)


def test_quotes_and_parameters_are_cheap() -> None:
    for header in (b'"' * 4000, b";a=" * 1000, b'; name="' + b"\\" * 3900, b'; a="b"' * 500):
        body = b"--%b\r\nContent-Disposition: form-data%b\r\n\r\n" % (BOUNDARY.encode(), header)
        assert assert_cheap(lambda body=body: read(MULTIPART, [body]), seconds=0.05) is NO_FORM  # type: ignore[misc]


@pytest.mark.parametrize("content_type", [MULTIPART, URLENCODED])
def test_memory_is_one_copy_of_the_mail(content_type: str) -> None:
    mail = b"0123456789abcdef" * (25 * MIB // 16)
    body = multipart([("a", mail)]) if content_type == MULTIPART else urlencoded([("a", mail)])
    view = memoryview(body)
    tracemalloc.start()
    try:
        reader = FormReader.start(content_type, max_bytes=25 * MIB)
        assert isinstance(reader, FormReader)
        for at in range(0, len(body), 1 << 16):
            assert reader.feed(bytes(view[at : at + (1 << 16)])) is None
        found = reader.close()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(found, Form)
    assert found.first("a") == mail
    assert peak < 1.2 * len(mail)
