"""What is usual is read in one step: it must be read as the full readers of the same rooms read it."""

import re
from base64 import b64encode
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingester.core import addresses, content, fields, headers, params
from ingester.core.charset import Ladder

Read = TypeVar("Read")
NEVER = re.compile(r"(?!)")


def in_full(room: object, shortcut: str, instead: object, read: Callable[[], Read]) -> Read:
    """What `read` gives where a room has not its shortcut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, shortcut, instead)
        return read()


def texts(*pieces: str, most: int = 12) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(pieces), max_size=most).map("".join)


@given(
    texts("Anna", " ", "  ", "Müller", '"', "<", ">", "a@b.test", "@", ",", ", ", "=?utf-8?q?=2C_x?=", ".", "'", "(")
)
def test_addresses(text: str) -> None:
    def read() -> object:
        return addresses.parse_addresses(text)

    assert read() == in_full(addresses, "_usual_addresses", lambda _: None, read)


@pytest.mark.parametrize(
    "text", ["a@b.test", "<a@b.test>", 'A B <a@b.test>, "C, D" <c@d.test>,e@f.test', "=?utf-8?q?=C3=BC?= <a@b>"]
)
def test_addresses_that_are_usual(text: str) -> None:
    found = addresses._usual_addresses(text)
    assert found is not None
    assert (found, False) == in_full(
        addresses, "_usual_addresses", lambda _: None, lambda: addresses.parse_addresses(text)
    )


@given(
    st.sampled_from(["", "Mon, ", "mon, ", "Mon,"]),
    st.sampled_from(["1", "01", "31", "32", "0"]),
    st.sampled_from(["Jan", "Feb", "Dec", "dec", "Foo"]),
    st.sampled_from(["2024", "1900", "1901", "2100", "2101", "99", "02024"]),
    st.sampled_from(["00:00:00", "23:59:60", "24:00:00", "9:05:00", "12:30"]),
    st.sampled_from(
        ["+0000", "-0000", "+0530", "-1200", "+2359", "+2400", "-9999", "+0060", "GMT", "+0200 (CEST)", ""]
    ),
)
def test_dates(weekday: str, day: str, month: str, year: str, time: str, zone: str) -> None:
    def read() -> object:
        return headers.parse_date(f"{weekday}{day} {month} {year} {time} {zone}")

    assert read() == in_full(headers, "_USUAL_DATE", NEVER, read)


@given(texts("<", ">", "a@b.test", "c", " ", "\t", "\xa0", "<d@e>", "<d@e> <f@g>", "x" * 400), st.integers(1, 4))
def test_message_ids(text: str, most: int) -> None:
    def read() -> object:
        return headers.message_ids(text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(headers, "MAX_IDS", most)
        assert read() == in_full(headers, "_USUAL_ID", NEVER, read)


@given(
    st.sampled_from([" ", "", "(c) ", "\xa0"]),
    st.sampled_from(["text/plain", "Multipart/Mixed", "attachment", "text", "", "a/b/c", "=", "té/x"]),
    texts(";", "\r\n ", " ", "\t", "Name", "boundary*", "=", '"', '"a b"', '"a;c=d"', '"\\""', '"é\xa0"', "x", most=6),
)
def test_parameters(before: str, main: str, rest: str) -> None:
    value = f"{before}{main}{rest}".encode("latin-1")

    def read() -> object:
        return params._parse(value)

    assert read() == in_full(params, "_USUAL", NEVER, read)


@pytest.mark.parametrize("value", [b' text/plain; charset="UTF-8"\r', b' multipart/mixed;\r\n\tboundary="=_x y"\r'])
def test_parameters_that_are_usual(value: bytes) -> None:
    assert params._USUAL.fullmatch(value.decode("latin-1"))
    assert params._parse(value) == in_full(params, "_USUAL", NEVER, lambda: params._parse(value))


@given(
    texts("From", "X-Y", ":", " a", "\r\n", "\n", "\r\n ", "\t", "é", "b: c\r\n", "\r\n\r\n", "--", "content-type: x\n")
)
def test_header_blocks(text: str) -> None:
    raw = text.encode()

    def read() -> object:
        return [fields.read_header(raw, at, len(raw), max_bytes=40, max_fields=3, top=not at) for at in (0, 2)]

    assert read() == in_full(fields, "_usual_fields", lambda *_: ((), {}), read)


def read_base64(raw: bytes) -> tuple[bytes, set[str]]:
    faults: set[str] = set()
    return b"".join(content.pieces(raw, 0, len(raw), "base64", faults)), faults


@given(
    st.binary(max_size=400),
    st.integers(1, 80),
    st.sampled_from([b"\r\n", b"\n", b"\r"]),
    st.lists(st.tuples(st.integers(0, 600), st.sampled_from([b" ", b"\n", b"\r", b"\t", b"=", b"!", b"A", b"\r\n"]))),
    st.integers(4, 200),
)
def test_base64(data: bytes, width: int, line_end: bytes, damage: list[tuple[int, bytes]], window: int) -> None:
    letters = b64encode(data)
    raw = line_end.join(letters[at : at + width] for at in range(0, len(letters), width)) + line_end
    for at, sign in damage[:3]:
        raw = raw[:at] + sign + raw[at:]
    found = agree_on_base64(raw, window)
    assert damage or found == (data, set())


@pytest.mark.parametrize(
    ("raw", "window"),
    [
        (b"AAAAAAA\nAAAAAAA\nAA AAAAAAAA\n", 20),  # a blank in what is left for the next window
        (b"AAAA\nAAAA\nAAAAA", 99),  # the third line is longer
        (b"AAA\r\nAAA\r\nAAAA\nAAA\r\n", 99),  # a line without CR
        (b"=A\r\nA\r\nA\r\n=\r\n", 4),  # a padding in what is left for the next window
        (b"AB=\n=\n", 4),  # the same, and all is well
        (b"A!AAA=A\r\n", 6),  # a foreign character in what is left
    ],
)
def test_base64_that_only_looks_usual(raw: bytes, window: int) -> None:
    agree_on_base64(raw, window)


def agree_on_base64(raw: bytes, window: int) -> tuple[bytes, set[str]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(content, "WINDOW", window)
        found = read_base64(raw)
        assert found == in_full(content, "_decode_lines", lambda *_, **__: None, lambda: read_base64(raw))
        return found


@given(
    st.lists(st.sampled_from(["a", "\r", "\n", "\r\n", "é", "\0", "\ufeff", "日"]), max_size=12).map("".join),
    st.sampled_from(["utf-8", "cp1252", "utf-16", "shift_jis"]),
    st.sampled_from([None, "utf-8", "us-ascii", "iso-8859-1", "utf-16", "shift_jis", "x-none"]),
)
def test_texts(text: str, written: str, label: str | None) -> None:
    data = text.encode(written, "replace")
    short, full = Ladder(), Ladder()
    assert short.read_whole(data, label) == full.read(lambda: (data,), label)
    assert short == full
