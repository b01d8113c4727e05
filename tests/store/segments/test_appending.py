"""ingester.store.segments.appending: what has landed is on the disk, in order; what failed is nowhere."""

import asyncio
import errno
import os
import resource
import stat
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ingester.clock import new_id
from ingester.faults import Faults
from ingester.store.objects import ObjectsUnavailable
from ingester.store.segments import appending
from ingester.store.segments import segment as files
from ingester.store.segments.appending import Appender, Landing
from ingester.store.segments.record import Piece
from ingester.store.segments.shelf import Shelf, spot_of
from ingester.store.segments.tending import tend
from tests.store.segments.test_record import nothing, piece

MIB = 1 << 20


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.fixture
async def appender(shelf: Shelf) -> AsyncIterator[Appender]:
    one = made(shelf)
    yield one
    await one.close()


def made(shelf: Shelf, *, limit: int = MIB, faults: str = "") -> Appender:
    return Appender(shelf, limit=limit, new_id=new_id, faults=Faults.parse(faults))


def assert_there(pieces: list[Piece], urls: tuple[str, ...]) -> None:
    for one, url in zip(pieces, urls, strict=True):
        directory, spot = spot_of(url, one.tenant_id, one.raw_id)
        assert Shelf(directory).read(spot, max_bytes=len(one.data)) == one.data


async def store(appender: Appender, *sizes: int) -> tuple[list[Piece], Landing]:
    pieces = [piece(os.urandom(size)) for size in sizes]
    landing = appender.append(pieces)
    await landing.done
    return pieces, landing


async def test_what_has_landed_can_be_read_by_anybody(appender: Appender, shelf: Shelf) -> None:
    """While the segment is open; and the names were known before."""
    pieces = [piece(os.urandom(size)) for size in (5, 0, 3 * MIB)]
    landing = appender.append(pieces)
    assert len(landing.urls) == 3
    await landing.done
    assert_there(pieces, landing.urls)
    assert tend(shelf, shelf.segments()[0], nothing) is None, "its writer lives"


async def test_files_are_nobody_elses_business(appender: Appender, shelf: Shelf) -> None:
    await store(appender, 10)
    await appender.close()
    assert [path.stat().st_mode & 0o777 for path in shelf.directory.iterdir()] == [0o600] * 2


async def test_what_root_writes_belongs_to_the_daemon(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that root runs, such as `ingester reconcile s3`, has the directory's owner own its files."""
    given: list[tuple[int, int]] = []
    fstat = os.fstat

    def made_by_another(descriptor: int) -> os.stat_result:
        found = list(fstat(descriptor)[:10])
        found[stat.ST_UID] += 1
        return os.stat_result(found)

    monkeypatch.setattr(os, "fstat", made_by_another)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", lambda _, owner, group: given.append((owner, group)))
    appender = made(shelf)
    await store(appender, 10)
    await appender.close()
    owner = shelf.directory.stat()
    assert given == [(owner.st_uid, owner.st_gid)] * 2, "the segment and its seal"


async def test_nothing_is_given_away_that_belongs_to_the_owner(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """A confined daemon that is root may not call chown at all."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", lambda *_: pytest.fail("asked"))
    appender = made(shelf)
    await store(appender, 10)
    await appender.close()


async def test_many_at_once_share_a_sync(appender: Appender, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes while the disk is at work goes together the next time; and nobody before its bytes are there."""
    synced: list[int] = []
    let = threading.Event()

    def slow(descriptor: int) -> None:
        let.wait(10)
        synced.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fdatasync", slow)
    landings = [appender.append([piece(bytes(100)), piece(bytes(10))]) for _ in range(50)]
    await asyncio.sleep(0)
    assert not any(landing.done.done() for landing in landings)
    let.set()
    await asyncio.gather(*(landing.done for landing in landings))
    assert len(synced) <= 2
    assert len({url for landing in landings for url in landing.urls}) == 100
    assert synced[-1] == shelf.path(shelf.segments()[0]).stat().st_size


async def test_a_full_segment_is_sealed_and_another_begun(shelf: Shelf) -> None:
    """A mail that is larger than a segment may be has one of its own; all are whole."""
    appender = made(shelf, limit=10_000)
    landed = [await store(appender, size) for size in (6000, 3000, 3000, 50_000, 1)]
    await appender.close()
    for pieces, landing in landed:
        assert_there(pieces, landing.urls)
    health = [shelf.examine(one) for one in shelf.segments()]
    assert [one.records for one in health] == [2, 1, 1, 1]
    assert all(one.well and one.sealed for one in health)


async def test_waiting_for_two_segments_at_once(shelf: Shelf) -> None:
    appender = made(shelf, limit=5000)
    batches = [[piece(os.urandom(2000))] for _ in range(20)]
    landings = [appender.append(pieces) for pieces in batches]
    await asyncio.gather(*(landing.done for landing in landings))
    await appender.close()
    for pieces, landing in zip(batches, landings, strict=True):
        assert_there(pieces, landing.urls)
    assert len(shelf.segments()) == 10
    assert all(shelf.examine(one).well for one in shelf.segments())


async def test_nothing_is_left_of_nothing(appender: Appender, shelf: Shelf) -> None:
    await appender.close()
    assert list(shelf.directory.iterdir()) == []


async def test_old_segments_are_sealed(shelf: Shelf) -> None:
    now = 0.0
    appender = Appender(shelf, limit=MIB, new_id=new_id, faults=Faults(), clock=lambda: now)
    await store(appender, 10)
    await appender.seal_old()
    assert not shelf.is_sealed(shelf.segments()[0])
    now = appending.AGE_SECONDS + 1
    await appender.seal_old()
    assert shelf.is_sealed(shelf.segments()[0])
    await store(appender, 10)
    await appender.close()
    assert len(shelf.segments()) == 2


# -- the disk fails -------------------------------------------------------------------------------------------------


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """A disk that is full from this size of a file on, really: the kernel writes a part, and then says EFBIG."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_full_disk(appender: Appender, shelf: Shelf) -> None:
    """What did not fit is not there, not in part either; when there is room again, the same segment goes on."""
    kept = await store(appender, 1000)
    with largest_file(4096):
        for _ in range(3):
            with pytest.raises(ObjectsUnavailable, match="INGESTER_BLOBS"):
                await store(appender, 10_000)
        assert appender.trouble
        fits = await store(appender, 1000)
    assert appender.trouble == ""
    later = await store(appender, 10_000)
    for pieces, landing in (kept, fits, later):
        assert_there(pieces, landing.urls)
    await appender.close()
    (segment,) = shelf.segments()
    assert shelf.examine(segment).well


async def test_what_did_not_fit_leaves_no_trace(appender: Appender, shelf: Shelf) -> None:
    """Nor the part of it that did."""
    await store(appender, 1000)
    with largest_file(4096), pytest.raises(ObjectsUnavailable):
        await store(appender, 10_000)
    await appender.close()
    (segment,) = shelf.segments()
    assert shelf.examine(segment).well
    assert shelf.path(segment).stat().st_size < 2000


async def test_all_that_waited_for_a_full_disk_fail(appender: Appender, shelf: Shelf) -> None:
    """Their places lie behind the one that failed: nobody may commit one of them."""
    with largest_file(4096):
        landings = [appender.append([piece(os.urandom(3000))]) for _ in range(4)]
        results = await asyncio.gather(*(landing.done for landing in landings), return_exceptions=True)
    assert results[0] is None or isinstance(results[0], ObjectsUnavailable)
    assert all(isinstance(one, ObjectsUnavailable) for one in results[1:])
    pieces, landing = await store(appender, 100)
    assert_there(pieces, landing.urls)


async def test_a_sync_that_fails_is_never_trusted_again(
    appender: Appender, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel would say yes the next time. What was synced before is kept, and the rest is cut off."""
    kept = await store(appender, 100)
    first = shelf.segments()

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        with pytest.raises(ObjectsUnavailable):
            await store(appender, 100)
    later = await store(appender, 100)
    assert spot_of(later[1].urls[0], new_id(), new_id())[1].segment != first[0]
    done = tend(shelf, first[0], nothing)
    assert done is not None
    assert done.records == 1
    for pieces, landing in (kept, later):
        assert_there(pieces, landing.urls)


async def test_a_directory_that_goes_and_comes_back(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "segments")
    appender = made(shelf)
    for _ in range(2):
        with pytest.raises(ObjectsUnavailable):
            await store(appender, 10)
    shelf.directory.mkdir()
    pieces, landing = await store(appender, 10)
    assert_there(pieces, landing.urls)
    await appender.close()


async def test_a_file_that_cannot_be_begun_is_begun_again(
    appender: Appender, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the first attempt stands in the way."""

    def broken(_: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(files, "sync_directory", broken)
        with pytest.raises(ObjectsUnavailable):
            await store(appender, 10)
    pieces, landing = await store(appender, 10)
    assert_there(pieces, landing.urls)


@pytest.mark.parametrize("point", ["append", "torn", "unsynced", "sync"])
async def test_a_surprise_of_our_own(shelf: Shelf, point: str) -> None:
    """Whatever is raised in the thread: who waits is told, and what comes next lands."""
    appender = made(shelf, faults=f"{point}:raise@2")
    kept = await store(appender, 1000)
    with pytest.raises(ObjectsUnavailable):
        await store(appender, 1000)
    later = await store(appender, 1000)
    await appender.close()
    for segment in shelf.segments():
        tend(shelf, segment, nothing)
        assert shelf.examine(segment).well
    for pieces, landing in (kept, later):
        assert_there(pieces, landing.urls)


async def test_a_seal_that_fails_is_made_later(shelf: Shelf) -> None:
    appender = made(shelf, faults="before_seal:raise")
    pieces, landing = await store(appender, 1000)
    await appender.close()
    (segment,) = shelf.segments()
    assert not shelf.is_sealed(segment)
    assert tend(shelf, segment, nothing) is not None
    assert shelf.examine(segment).well
    assert_there(pieces, landing.urls)


async def test_a_disk_that_hangs_does_not_hold_the_loop_or_the_end(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    let = threading.Event()
    monkeypatch.setattr(os, "fdatasync", lambda _: let.wait(30))
    monkeypatch.setattr(appending, "CLOSE_SECONDS", 0.05)
    appender = made(shelf)
    landing = appender.append([piece(b"x")])
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(landing.done), 0.05)
    await appender.close()
    let.set()
    await landing.done
