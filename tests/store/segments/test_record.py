"""ingester.store.segments.record and segment: what is written is read again, and no damage passes for a mail."""

import os
import random
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingester.clock import new_id
from ingester.store.objects import ObjectMissing, ObjectTooLarge
from ingester.store.segments import record as form
from ingester.store.segments import segment as files
from ingester.store.segments.record import DEAD, HEAD_BYTES, HEADER_BYTES, LIVE, Piece, Record
from ingester.store.segments.segment import Gap
from ingester.store.segments.shelf import DEED, Shelf, Spot, spot_of, url_of
from ingester.store.segments.tending import tend


def piece(data: bytes) -> Piece:
    return Piece(tenant_id=new_id(), raw_id=new_id(), sha256=sha256(data).digest(), data=data)


def written(directory: Path, pieces: Sequence[Piece], segment: UUID | None = None) -> tuple[UUID, list[Spot]]:
    """A segment that nobody has sealed, and where its records are."""
    directory.mkdir(exist_ok=True)
    (directory / DEED).touch()
    segment = segment or new_id()
    end, spots, buffers = HEAD_BYTES, [], [form.head(segment, compacted=False)]
    for one in pieces:
        spots.append(Spot(segment=segment, offset=end, tenant_id=one.tenant_id, raw_id=one.raw_id))
        buffers += [form.header(segment, end, one), one.data]
        end += HEADER_BYTES + len(one.data)
    Shelf(directory).path(segment).write_bytes(b"".join(buffers))
    return segment, spots


def nothing(_: list[Record]) -> list[Record]:
    return []


def held(shelf: Shelf, spots: Sequence[Spot], pieces: Sequence[Piece]) -> list[bool]:
    """Which of the pieces can be read; what can is what was written."""
    found = []
    for spot, one in zip(spots, pieces, strict=True):
        try:
            data = shelf.read(spot, max_bytes=1 << 30)
        except ObjectMissing:
            found.append(False)
        else:
            assert data == one.data
            found.append(True)
    return found


@pytest.mark.parametrize("sizes", [(0,), (1, 0, 5), (3 << 20, 1), tuple(range(300))])
def test_what_is_written_is_read(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    """Whole and by ranges, of any size, mails without a byte too."""
    pieces = [piece(os.urandom(size)) for size in sizes]
    segment, spots = written(tmp_path, pieces)
    shelf = Shelf(tmp_path)
    assert all(held(shelf, spots, pieces))
    found = list(shelf.walk(segment))
    assert [(one.raw_id, one.size, one.live) for one in found if isinstance(one, Record)] == [
        (one.raw_id, len(one.data), True) for one in pieces
    ]
    for spot, one in zip(spots, pieces, strict=True):
        for start, length in ((0, 0), (0, len(one.data)), (len(one.data) // 2, len(one.data) // 3)):
            assert shelf.read_range(spot, start, length) == one.data[start : start + length]


def test_a_range_ends_with_its_record(tmp_path: Path) -> None:
    """What follows is another's mail."""
    pieces = [piece(b"mine"), piece(b"somebody else's")]
    _, (spot, _) = written(tmp_path, pieces)
    for start, length in ((0, 5), (4, 1), (-1, 2), (0, -1), (1 << 40, 1)):
        with pytest.raises(ObjectMissing):
            Shelf(tmp_path).read_range(spot, start, length)


def test_a_record_is_shown_to_its_own_alone(tmp_path: Path) -> None:
    """A row that names another tenant's record, another mail's, or a place between two, is told that there is none."""
    one = piece(b"secret" * 100)
    segment, (spot,) = written(tmp_path, [one])
    shelf = Shelf(tmp_path)
    for tenant, raw, offset in (
        (new_id(), one.raw_id, spot.offset),
        (one.tenant_id, new_id(), spot.offset),
        (one.tenant_id, one.raw_id, spot.offset + 1),
        (one.tenant_id, one.raw_id, 1 << 50),
    ):
        wrong = Spot(segment=segment, offset=offset, tenant_id=tenant, raw_id=raw)
        with pytest.raises(ObjectMissing):
            shelf.read(wrong, max_bytes=1000)
        with pytest.raises(ObjectMissing):
            shelf.read_range(wrong, 0, 1)
        shelf.erase([wrong])
    with pytest.raises(ObjectTooLarge):
        shelf.read(spot, max_bytes=599)
    assert shelf.read(spot, max_bytes=600) == one.data


def test_a_mail_cannot_pass_for_a_record(tmp_path: Path) -> None:
    """Headers in a mail's bytes, of another segment or of another place in this one, are mail text and no more."""
    victim = piece(b"forged")
    segment = new_id()
    forged = b"".join(
        form.header(segment, offset, victim) + victim.data for offset in (0, HEAD_BYTES, HEAD_BYTES + HEADER_BYTES)
    ) + form.header(new_id(), HEAD_BYTES + HEADER_BYTES, victim)
    pieces = [piece(forged), piece(b"next")]
    _, spots = written(tmp_path, pieces, segment)
    path = Shelf(tmp_path).path(segment)
    content = path.read_bytes()
    damaged = content[: HEAD_BYTES + 10] + b"\0" + content[HEAD_BYTES + 11 :]
    assert damaged != content
    path.write_bytes(damaged)
    gap, found = Shelf(tmp_path).walk(segment)
    assert isinstance(gap, Gap)
    assert isinstance(found, Record)
    assert found.raw_id == pieces[1].raw_id
    assert held(Shelf(tmp_path), spots, pieces) == [False, True]


@pytest.mark.parametrize(
    "url",
    ["", "file://", "file:///", "file:///d/x/64", "s3://b/k", "file:///d/{0}/-1", "file:///d/{0}/٦٤", "file:///d/{0}/",
     "file:///d/{0}/63", "file:///d/{0}/" + "9" * 19, "file:///{0}/64x", "file:///d/{1}/64", "file:///d/{0}/64/"],
)  # fmt: skip
def test_what_is_no_name_of_a_record_is_none(url: str) -> None:
    one = new_id()
    with pytest.raises(ObjectMissing):
        spot_of(url.format(one, one.hex), one, one)


def test_names_of_records() -> None:
    one = new_id()
    directory, spot = spot_of(url_of(Path("/a b/c"), one, 64), one, one)
    assert (directory, spot.segment, spot.offset) == (Path("/a b/c"), one, 64)


# -- torn ends ------------------------------------------------------------------------------------------------------


def test_cut_anywhere(tmp_path: Path) -> None:
    """Wherever a crash has cut a segment: what was there whole is there, the rest is cut off, and then it is sealed."""
    pieces = [piece(bytes([n]) * n) for n in (30, 0, 17, 64)]
    segment, spots = written(tmp_path, pieces)
    content = Shelf(tmp_path).path(segment).read_bytes()
    ends = [spot.offset + HEADER_BYTES + len(one.data) for spot, one in zip(spots, pieces, strict=True)]
    for length in range(len(content) + 1):
        shelf = Shelf(tmp_path / str(length))
        shelf.directory.mkdir()
        (shelf.directory / DEED).touch()
        shelf.path(segment).write_bytes(content[:length])
        whole = [end <= length for end in ends]
        done = tend(shelf, segment, nothing)
        assert done is not None
        assert done.records == sum(whole)
        assert held(shelf, spots, pieces) == whole
        if any(whole):
            assert shelf.path(segment).stat().st_size == max(end for end in ends if end <= length)
            assert shelf.examine(segment).well
        else:
            assert [path.name for path in shelf.directory.iterdir()] == [DEED]


def test_zeros_after_a_crash(tmp_path: Path) -> None:
    """A file system may lengthen a file and not write what belongs there; what was committed before stays."""
    pieces = [piece(b"committed"), piece(b"not committed"), piece(b"nor this")]
    segment, spots = written(tmp_path, pieces)
    shelf = Shelf(tmp_path)
    content = shelf.path(segment).read_bytes()
    for lost in (slice(spots[1].offset, None), slice(spots[1].offset + HEADER_BYTES, None)):
        shelf.path(segment).write_bytes(content[: lost.start] + bytes(len(content) - lost.start))
        done = tend(shelf, segment, nothing)
        assert done is not None
        assert (done.records, held(shelf, spots, pieces)) == (1, [True, False, False])
        shelf.path(segment, ".seal").unlink()


def test_damage_in_the_middle_is_not_cut(tmp_path: Path) -> None:
    """What follows it was committed."""
    pieces = [piece(os.urandom(100)) for _ in range(4)]
    segment, spots = written(tmp_path, pieces)
    shelf = Shelf(tmp_path)
    content = bytearray(shelf.path(segment).read_bytes())
    content[spots[1].offset + 50] ^= 1  # a header
    content[spots[2].offset + HEADER_BYTES + 50] ^= 1  # bytes
    shelf.path(segment).write_bytes(content)
    done = tend(shelf, segment, nothing)
    assert done is not None
    assert (done.records, done.cut, done.gaps) == (3, 0, 100 + HEADER_BYTES)
    assert held(shelf, spots, pieces) == [True, False, False, True]
    health = shelf.examine(segment)
    assert (health.damaged, health.gaps, health.seal_fits, health.well) == (1, 180, True, False)


def test_a_segment_that_somebody_writes_is_not_tended(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    segment = new_id()
    descriptor = files.make(shelf.path(segment), segment, compacted=False)
    assert tend(shelf, segment, nothing) is None
    os.close(descriptor)
    done = tend(shelf, segment, nothing)
    assert done is not None
    assert list(tmp_path.iterdir()) == []


def test_a_segment_that_has_lost_its_head_is_left_alone(tmp_path: Path) -> None:
    segment, _ = written(tmp_path, [piece(b"x" * 100)])
    path = Shelf(tmp_path).path(segment)
    path.write_bytes(b"\0" + path.read_bytes()[1:])
    with pytest.raises(ObjectMissing):
        tend(Shelf(tmp_path), segment, nothing)
    assert path.exists()


# -- erasing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("can_punch", [True, False])
def test_erased_bytes_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, can_punch: bool) -> None:
    """From the file, with or without the help of the file system; the neighbours and the seal stay whole."""
    if not can_punch:
        monkeypatch.setattr(files, "_punch", lambda *_: 95)
    pieces = [piece(b"before" * 1000), piece(b"secret" * 500_000), piece(b"after" * 1000), piece(b"")]
    segment, spots = written(tmp_path, pieces)
    shelf = Shelf(tmp_path)
    tend(shelf, segment, nothing)
    assert shelf.examine(segment).well
    shelf.erase([spots[1], spots[3], spots[1]])
    content = shelf.path(segment).read_bytes()
    assert b"secret" not in content
    assert held(shelf, spots, pieces) == [True, False, True, False]
    health = shelf.examine(segment)
    assert (health.records, health.dead, health.well) == (4, 2, True)
    if can_punch:
        assert shelf.path(segment).stat().st_blocks * 512 < len(content) - 2_000_000, "its room is not given back"


def test_an_erasure_that_was_cut_short_is_done_again(tmp_path: Path) -> None:
    """Killed between mark and bytes: nobody can read them, and the next time they go."""
    one = piece(b"secret" * 1000)
    segment, (spot,) = written(tmp_path, [one])
    shelf = Shelf(tmp_path)
    content = bytearray(shelf.path(segment).read_bytes())
    content[spot.offset : spot.offset + len(DEAD)] = DEAD
    shelf.path(segment).write_bytes(content)
    assert held(shelf, [spot], [one]) == [False]
    assert shelf.examine(segment).damaged == 1
    shelf.erase([spot])
    assert b"secret" not in shelf.path(segment).read_bytes()


# -- any bytes at all -----------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(0, 200), min_size=1, max_size=8),
    changes=st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=40)), max_size=6),
    cut=st.integers(0, 3000),
    seed=st.integers(0, 1 << 30),
)
def test_whatever_a_disk_does(
    tmp_path: Path, sizes: list[int], changes: list[tuple[int, bytes]], cut: int, seed: int
) -> None:
    """Bytes changed anywhere: nothing raises what it may not, and nobody's bytes are given to anybody else."""
    draw = random.Random(seed)
    pieces = [piece(draw.randbytes(size)) for size in sizes]
    directory = tmp_path / str(new_id())
    segment, spots = written(directory, pieces)
    shelf = Shelf(directory)
    content = bytearray(shelf.path(segment).read_bytes())
    for at, text in changes:
        content[at : at + len(text)] = text
    shelf.path(segment).write_bytes(content[: max(cut, HEAD_BYTES)])
    held(shelf, spots, pieces)
    offset = HEAD_BYTES
    for one in shelf.walk(segment):
        assert one.offset == offset, "what is walked over leaves nothing out"
        offset = one.end
    assert shelf.examine(segment).records <= len(pieces) + len(changes)
    try:
        tend(shelf, segment, nothing)
    except ObjectMissing:
        assert not form.is_head(bytes(content[:HEAD_BYTES]), segment)
    else:
        held(shelf, spots, pieces)


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200), offset=st.integers(0, 1 << 62))
def test_any_bytes_are_a_header_or_none(data: bytes, offset: int) -> None:
    for start in (b"", LIVE, DEAD):
        text = (start + data)[:HEADER_BYTES]
        assert form.parse(text, new_id(), offset) is None


def test_looking_for_the_next_record_is_linear(tmp_path: Path) -> None:
    """A damaged segment full of marks: each is looked at once. Counted, not timed."""
    segment, _ = written(tmp_path, [piece(LIVE * 100_000), piece(b"last")])
    path = Shelf(tmp_path).path(segment)
    content = bytearray(path.read_bytes())
    content[HEAD_BYTES + 8] ^= 1
    path.write_bytes(content)
    looked = 0
    parse = form.parse

    def counting(data: bytes, segment: UUID, offset: int) -> Record | None:
        nonlocal looked
        looked += 1
        return parse(data, segment, offset)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(form, "parse", counting)
        gap, last = Shelf(tmp_path).walk(segment)
    assert isinstance(gap, Gap)
    assert isinstance(last, Record)
    assert looked < 100_010
