"""winmail.dat: what comes out, against tnefparse, and what hostile files cost."""

from random import Random
from struct import pack

import pytest
from tnefparse import TNEF

from ingester.core.message import digest
from ingester.core.mime import Bounds, decode
from ingester.core.tnef import MAX_BYTES, MAX_FILES, File, Unpacked, unpack
from tests.core.tnef_files import (
    BODY,
    IMESSAGE,
    MESSAGE_PROPS,
    attachment,
    attribute,
    codepage,
    prop,
    proplist,
    tnef,
)
from tests.cost import assert_cheap

MB = 1 << 20
WHOLE = tnef(
    codepage(1252),
    attribute(1, BODY, b"Gr\xfc\xdfe\0"),
    attribute(1, MESSAGE_PROPS, proplist(prop(0x102, 0x1013, b"<p>hi</p>"), prop(3, 0x3FDE, pack("<I", 65001)))),
    attachment(b"REPORT~1.PDF", b"%PDF-1.7", prop(0x1E, 0x3707, b"report of the year.pdf\0")),
    attachment(
        b"x.png",
        None,
        prop(0x1F, 0x8001, "v\0".encode("utf-16-le"), name="named".encode("utf-16-le")),
        prop(0x1003, 0x3F00, pack("<III", 2, 7, 8)),
        prop(0x1F, 0x3707, "Übersicht.png\0".encode("utf-16-le")),
        prop(0x1E, 0x370E, b"image/png\0"),
        prop(0x1E, 0x3712, b"<pic@x>\0"),
        prop(0x102, 0x3701, b"\x89PNG\r\n"),
    ),
    attachment(b"mail", None, prop(0x0D, 0x3701, IMESSAGE + tnef())),
    attachment("m\xfcll.txt".encode("cp1252"), b""),
)


def names(found: Unpacked) -> list[str | None]:
    return [file.name for file in found.files]


def test_all_that_a_file_holds_comes_out() -> None:
    found = unpack(WHOLE)
    assert found.faults == ()
    assert names(found) == ["body.txt", "body.html", "report of the year.pdf", "Übersicht.png", "mail", "müll.txt"]
    assert [file.data for file in found.files] == [
        b"Gr\xfc\xdfe", b"<p>hi</p>", b"%PDF-1.7", b"\x89PNG\r\n", tnef(), b"",
    ]  # fmt: skip
    assert found.files[3] == File(
        name="Übersicht.png", content_type="image/png", charset=None, content_id="<pic@x>", data=b"\x89PNG\r\n"
    )
    assert found.files[4].content_type == "application/ms-tnef"


def test_attachments_are_those_that_tnefparse_finds() -> None:
    rng = Random(1)
    pieces = [(b"file%d.bin" % n, rng.randbytes(rng.randrange(3000))) for n in range(50)]
    data = tnef(codepage(1252), *(attachment(name, content) for name, content in pieces))
    assert [(file.name, file.data) for file in unpack(data).files] == [(n.decode(), d) for n, d in pieces]
    assert [(one.name, one.data) for one in TNEF(data).attachments] == [(n.decode(), d) for n, d in pieces]


def test_parts_of_a_winmail_stand_beside_it() -> None:
    raw = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhello\r\n--b\r\n"
        b'Content-Type: application/ms-tnef; name="winmail.dat"\r\nContent-Transfer-Encoding: binary\r\n\r\n'
        + WHOLE
        + b"\r\n--b\r\n\r\nlast\r\n--b--\r\n"
    )
    parts = digest(raw, Bounds()).parts
    assert [part.ordinal for part in parts] == list(range(1, 10))
    assert [part.path for part in parts] == ["1", "2", *(f"2.t{n}" for n in range(1, 7)), "3"]
    assert [part.parent_ordinal for part in parts] == [None, None, 2, 2, 2, 2, 2, 2, None]
    assert [part.role for part in parts] == ["body", *["attachment"] * 7, "body"]
    assert parts[1].data is None
    assert raw[parts[1].offset : parts[1].offset + parts[1].length] == WHOLE
    assert (parts[4].offset, parts[4].length, parts[4].data, parts[4].decoded_size) == (0, 0, b"%PDF-1.7", 8)
    assert [decode(raw, part) for part in parts[2:8]] == [file.data for file in unpack(WHOLE).files]
    assert digest(raw, Bounds(max_parts=5)).parts[1].flags == ("parts_limit",)
    assert len(digest(raw, Bounds(max_parts=5)).parts) == 5


def test_what_is_no_tnef_stays_as_it_is() -> None:
    (part,) = digest(b"Content-Type: application/ms-tnef\r\n\r\nhello", Bounds()).parts
    assert part.flags == ("bad_tnef",)


def test_what_stands_before_a_break_comes_out() -> None:
    found = unpack(tnef(attachment(b"a", b"whole"), attachment(b"b", b"x" * 1000))[:-500])
    assert [file.data[:5] for file in found.files] == [b"whole", b"xxxxx"]
    assert found.faults == ("bad_tnef",)


def test_the_number_of_files_and_the_size_are_bounded() -> None:
    found = unpack(tnef(*[attachment(b"a", b"x")] * (MAX_FILES + 1)))
    assert (len(found.files), found.faults) == (MAX_FILES, ("tnef_limit",))
    assert unpack(bytes(MAX_BYTES + 1)) == Unpacked(files=(), faults=("tnef_limit",))


@pytest.mark.parametrize("seed", range(20))
def test_no_broken_file_raises_or_gives_more_than_it_holds(seed: int) -> None:
    rng = Random(seed)
    for _ in range(200):
        _check_broken_file(rng)


def _check_broken_file(rng: Random) -> None:
    data = bytearray(WHOLE)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(6, len(data))
        data[at : at + rng.choice((0, 1, 4))] = rng.choice((b"\0", b"\xff", b"\xff\xff\xff\xff", rng.randbytes(4)))
    found = unpack(bytes(data))
    assert sum(len(file.data) for file in found.files) <= 3 * len(data)


@pytest.mark.parametrize(
    "unit",
    [
        attribute(1, 0x00069001, b""),
        attribute(1, BODY, b"x"),
        attribute(2, 0x00018010, b"x"),
        attribute(1, MESSAGE_PROPS, pack("<I", 0xFFFFFFFF) + prop(1, 1, b"") * 1000),
        attribute(1, MESSAGE_PROPS, pack("<IHHI", 1, 0x1001, 1, 0xFFFFFFFF) + bytes(100)),
        attribute(2, 0x00069005, pack("<I", 0xFFFFFFFF) + prop(0x1E, 0x3707, b"x" * 40) * 1000),
        attachment(b"x", b""),
    ],
)
def test_a_hostile_file_of_25_megabytes_is_cheap(unit: bytes) -> None:
    data = tnef(unit * (MAX_BYTES // len(unit) - 10))
    assert_cheap(lambda: unpack(data), seconds=0.2)
