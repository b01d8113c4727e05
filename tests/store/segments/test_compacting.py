"""Segments with a database: erased, swept, compacted, killed at every step, and read by others meanwhile."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import SecretStr

from ingester.clock import new_id, now
from ingester.core.ids import SYSTEM_TENANT
from ingester.faults import Faults, Planned
from ingester.settings import Settings, load
from ingester.store.blobs import Blobs
from ingester.store.db import Database
from ingester.store.objects import ObjectsUnavailable
from ingester.store.raws import Raws
from ingester.store.segments import compacting
from ingester.store.segments.compacting import Compacted, compact, tend_all
from ingester.store.segments.record import Record
from ingester.store.segments.relinking import relink
from ingester.store.segments.segment import Gap
from ingester.store.segments.shelf import Shelf, spot_of
from ingester.store.sweeping import NotOurs, Swept, sweep
from ingester.store.trash import Emptied, empty, trashed
from ingester.tidying import COMPACT_EVERY, Tidying
from tests.blobs import Directory
from tests.daemon import Town, settle
from tests.store.segments.test_record import piece

MIB = 1 << 20
LATER = timedelta(days=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A database, a directory, and a tenant whose newest mail lies in Postgres."""

    settings: Settings
    database: Database
    blobs: Blobs
    town: Town
    directory: Directory
    tenant_id: UUID

    async def store(self, *many: bytes, rows: bool = True, tenant_id: UUID | None = None) -> list[UUID]:
        """Mails with their rows, in one commit."""
        pieces = [piece(data) for data in many]
        if tenant_id is None:
            pieces = [
                type(one)(tenant_id=self.tenant_id, raw_id=one.raw_id, sha256=one.sha256, data=one.data)
                for one in pieces
            ]
        async with self.database.connection() as connection:
            await self.blobs.segments.claim(connection)
            landing = self.blobs.segments.append(pieces)
            await landing.done
            if rows:
                await connection.executemany(
                    "INSERT INTO raws (tenant_id, id, sha256, size, blob_key) VALUES ($1, $2, $3, $4, $5)",
                    [
                        (one.tenant_id, one.raw_id, one.sha256, len(one.data), url)
                        for one, url in zip(pieces, landing.urls, strict=True)
                    ],
                )
        return [one.raw_id for one in pieces]

    async def seal(self) -> None:
        """End the open segment, as the end of a daemon does."""
        await self.blobs.segments.close()

    async def delete(self, *raw_ids: UUID) -> Emptied:
        await self.town.fetch("DELETE FROM raws WHERE id = ANY ($1)", raw_ids)
        return await empty(self.database, self.blobs)

    async def read(self, raw_id: UUID) -> bytes:
        async with self.database.connection() as connection:
            return await Raws(self.blobs).read(connection, self.tenant_id, raw_id)

    async def compacted(self, *, limit: int = 100 * MIB, faults: str = "") -> Compacted:
        shelf = self.blobs.segments.shelf
        return await compact(
            self.database, shelf, limit=limit, before=now() + LATER, new_id=new_id, faults=Faults.parse(faults)
        )

    async def swept(self, *, force: bool = False) -> Swept:
        return await sweep(self.database, self.blobs, before=now() + LATER, apply=True, force=force)

    async def tended(self) -> int:
        return await tend_all(self.database, self.blobs.segments.shelf)


@pytest.fixture
async def place(database_url: str, tmp_path: Path) -> AsyncIterator[Place]:
    town = await settle(database_url, {"acme.test": ("support",)})
    directory = Directory(path=tmp_path / "segments")
    settings = load(directory.settings).model_copy(update={"database_url": SecretStr(database_url)})
    database, blobs = Database(settings), Blobs(settings)
    await database.open()
    (row,) = await town.fetch("SELECT id FROM tenants WHERE slug = 'acme'")
    await town.fetch(
        "INSERT INTO raws (tenant_id, id, sha256, size, data) VALUES ($1, $2, '', 0, '')", row["id"], UUID(int=2**127)
    )
    yield Place(settings=settings, database=database, blobs=blobs, town=town, directory=directory, tenant_id=row["id"])
    await blobs.close()
    await database.close()


def mails(count: int, size: int = 5000) -> list[bytes]:
    return [b"mail %04d " % number * (size // 10) for number in range(count)]


# -- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
async def test_another_process_reads_while_one_writes(place: Place) -> None:
    data = mails(3)
    raw_ids = await place.store(*data)
    code = (
        "import asyncio, sys; from uuid import UUID\n"
        "from ingester.settings import load; from ingester.store.blobs import Blobs, Named\n"
        "url, tenant, raw = sys.argv[1:]\n"
        "one = Named(tenant_id=UUID(tenant), raw_id=UUID(raw), url=url)\n"
        "sys.stdout.buffer.write(asyncio.run(Blobs(load({})).read(one, max_bytes=1000000)))"
    )
    for raw_id, text in zip(raw_ids, data, strict=True):
        (row,) = await place.town.fetch("SELECT blob_key FROM raws WHERE id = $1", raw_id)
        words = [sys.executable, "-c", code, row["blob_key"], str(place.tenant_id), str(raw_id)]
        done = await asyncio.to_thread(subprocess.run, words, capture_output=True, check=True)
        assert done.stdout == text


async def test_a_row_cannot_show_another_tenants_mail(place: Place) -> None:
    """Whoever writes a wrong name into a row reads nothing."""
    mine, other = await place.store(b"mine", b"other")
    (row,) = await place.town.fetch("SELECT blob_key FROM raws WHERE id = $1", other)
    await place.town.fetch("UPDATE raws SET blob_key = $1, size = 5 WHERE id = $2", row["blob_key"], mine)
    with pytest.raises(LookupError):
        await place.read(mine)
    async with place.database.connection() as connection:
        with pytest.raises(LookupError):
            await Raws(place.blobs).read_range(connection, place.tenant_id, mine, 0, 1)


async def test_a_mail_that_is_moved_while_it_is_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row was read, then the segment went: it is read where the row says then."""
    data = mails(4)
    raw_ids = await place.store(*data)
    await place.seal()
    await place.delete(*raw_ids[1:])
    read = type(place.blobs.segments).read
    moved: list[Compacted] = []

    async def late(self: object, *words: object, **more: object) -> bytes:
        if not moved:
            moved.append(await place.compacted())
        return await read(self, *words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(type(place.blobs.segments), "read", late)
    assert await place.read(raw_ids[0]) == data[0]
    assert moved[0].removed == 1


# -- erasing --------------------------------------------------------------------------------------------------------


async def test_whatever_deletes_a_row_removes_the_bytes(place: Place) -> None:
    """From the open segment too, which another process could not seal."""
    kept, gone = await place.store(b"to be kept", b"a secret that goes " * 1000)
    assert place.directory.holds(b"a secret that goes")
    done = await place.delete(gone)
    assert (done.deleted, done.left) == (1, 0)
    assert not place.directory.holds(b"a secret that goes")
    assert await place.read(kept) == b"to be kept"
    await place.store(b"later")
    await place.seal()
    (segment,) = place.directory.shelf.segments()
    assert place.directory.shelf.examine(segment).well


async def test_what_lies_on_a_disk_that_is_away_is_not_gone(place: Place) -> None:
    """An empty mount point: the name stays in the trash until the disk is back."""
    (gone,) = await place.store(b"secret" * 1000)
    await place.seal()
    away = place.directory.path.rename(place.directory.path.with_name("away"))
    for _ in range(2):
        assert (await place.delete(gone)).left == 1
        place.directory.path.mkdir(exist_ok=True)
    place.directory.path.rmdir()
    away.rename(place.directory.path)
    assert (await empty(place.database, place.blobs)).left == 0
    assert not place.directory.holds(b"secret")


async def test_a_name_that_is_none_is_no_obstacle(place: Place) -> None:
    raw_ids = await place.store(b"1", b"2")
    await place.town.fetch("UPDATE raws SET blob_key = 'file:///nonsense' WHERE id = $1", raw_ids[0])
    assert (await place.delete(*raw_ids)).left == 0


# -- the sweep ------------------------------------------------------------------------------------------------------


async def test_records_without_a_mail_are_swept(place: Place) -> None:
    (kept,) = await place.store(b"kept")
    await place.store(b"a secret without a mail", rows=False)
    assert await place.swept() == Swept(objects=2, orphans=1, bytes=23)
    assert not place.directory.holds(b"a secret without")
    assert await place.read(kept) == b"kept"
    assert await place.swept() == Swept(objects=1, orphans=0, bytes=0)


async def test_what_another_database_has_there_is_left_alone(place: Place) -> None:
    """A tenant that is not known, or most of what lies there: nothing is erased, nothing is compacted away."""
    await place.store(*mails(5), rows=False, tenant_id=SYSTEM_TENANT)
    await place.seal()
    assert (await place.swept()).orphans == 0
    assert await place.compacted() == Compacted()
    await place.store(*mails(30), rows=False)
    with pytest.raises(NotOurs):
        await place.swept()
    assert len(place.directory.urls()) == 35


async def test_a_directory_of_another_name_is_the_same(place: Place) -> None:
    """Rows that name it otherwise: their mails are not without one."""
    raw_ids = await place.store(*mails(3))
    await place.town.fetch("UPDATE raws SET blob_key = replace(blob_key, 'file://', 'file:///another/name')")
    assert (await place.swept()).orphans == 0
    await place.seal()
    await place.town.fetch("DELETE FROM raws WHERE id = ANY ($1)", raw_ids[1:])
    await place.town.fetch("UPDATE blob_trash SET blob_key = replace(blob_key, '/another/name', '')")
    await empty(place.database, place.blobs)
    assert (await place.compacted()).made == 1
    assert await place.read(raw_ids[0]) == mails(3)[0], "it is named anew by the way"


# -- compacting -----------------------------------------------------------------------------------------------------


async def test_a_worn_segment_is_written_anew(place: Place) -> None:
    data = mails(10)
    raw_ids = await place.store(*data)
    await place.seal()
    size = place.directory.shelf.path(place.directory.shelf.segments()[0]).stat().st_size
    assert await place.compacted() == Compacted()
    await place.delete(*raw_ids[3:])
    done = await place.compacted()
    assert (done.removed, done.made) == (1, 1)
    assert done.freed > size / 2
    assert [await place.read(raw_id) for raw_id in raw_ids[:3]] == data[:3]
    (segment,) = place.directory.shelf.segments()
    health = place.directory.shelf.examine(segment)
    assert (health.records, health.dead, health.well, health.sealed) == (3, 0, True, True)
    assert await place.compacted() == Compacted()
    assert (await place.swept()).orphans == 0


async def test_an_empty_segment_goes(place: Place) -> None:
    await place.delete(*await place.store(*mails(3)))
    await place.seal()
    assert (await place.compacted()).removed == 1
    assert [path.name for path in place.directory.path.iterdir()] == ["STORE"]


async def test_small_segments_are_put_together(place: Place) -> None:
    """Each start of a daemon leaves one."""
    raw_ids = []
    for number in range(compacting.MANY):
        raw_ids += await place.store(b"mail %d" % number)
        await place.seal()
    assert (await place.compacted()).removed == compacting.MANY
    assert len(place.directory.shelf.segments()) == 1
    assert [await place.read(raw_id) for raw_id in raw_ids] == [b"mail %d" % n for n in range(compacting.MANY)]


async def test_what_is_open_or_just_sealed_is_not_compacted(place: Place) -> None:
    """Commits of what lies there may be under way."""
    await place.delete(*await place.store(*mails(3)))
    assert await place.compacted() == Compacted()
    await place.seal()
    done = await compact(
        place.database,
        place.blobs.segments.shelf,
        limit=MIB,
        before=now() - timedelta(minutes=1),
        new_id=new_id,
        faults=Faults(),
    )
    assert done == Compacted()


async def test_a_mail_on_its_way_is_not_compacted_away(place: Place) -> None:
    """Its row is not there yet; it comes when the compaction has been."""
    gone = await place.store(*mails(5))
    (raw_id,) = await place.store(b"on its way", rows=False)
    await place.seal()
    await place.delete(*gone)
    assert await place.compacted() == Compacted()
    (url,) = place.directory.urls()
    await place.town.fetch(
        "INSERT INTO raws (tenant_id, id, sha256, size, blob_key) VALUES ($1, $2, '', 10, $3)",
        place.tenant_id,
        raw_id,
        url,
    )
    assert await place.read(raw_id) == b"on its way"


async def test_a_damaged_segment_is_left_alone(place: Place) -> None:
    raw_ids = await place.store(*mails(5))
    await place.seal()
    await place.delete(*raw_ids[:3])
    (segment,) = place.directory.shelf.segments()
    record = [one for one in place.directory.shelf.walk(segment) if isinstance(one, Record)][4]
    with place.directory.shelf.path(segment).open("r+b") as file:
        file.seek(record.start)
        file.write(b"XXXX")
    assert await place.compacted() == Compacted()
    assert await place.read(raw_ids[3]) == mails(5)[3]
    assert place.directory.shelf.segments() == [segment]
    assert not list(place.directory.path.glob("*.new"))


async def test_a_mail_that_is_erased_while_it_is_moved(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the copy and the row: nothing of it is left, in no file."""
    raw_ids = await place.store(*mails(4), b"a secret that goes " * 100)
    await place.seal()
    await place.delete(*raw_ids[:3])
    move = compacting._move

    async def late(*words: object) -> object:
        assert place.directory.holds(b"a secret that goes")
        await place.town.fetch("DELETE FROM raws WHERE id = $1", raw_ids[4])
        return await move(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(compacting, "_move", late)
    assert (await place.compacted()).removed == 1
    assert not place.directory.holds(b"a secret that goes")
    assert (await empty(place.database, place.blobs)).left == 0
    assert await place.read(raw_ids[3]) == mails(4)[3]


@pytest.mark.parametrize("point", ["copied", "named", "moving", "moved", "before_seal", "drop"])
@pytest.mark.parametrize("erased_then", [False, True])
async def test_a_compaction_that_dies(
    place: Place, monkeypatch: pytest.MonkeyPatch, point: str, *, erased_then: bool
) -> None:
    """At every step, and a mail is erased afterwards: all others are read, nothing of that one is left."""
    monkeypatch.setattr(compacting, "PAGE", 2)
    data = [*mails(9), b"a secret that goes " * 100]
    raw_ids = await place.store(*data)
    await place.seal()
    await place.delete(*raw_ids[:5])
    with pytest.raises(Planned):
        await place.compacted(faults=f"{point}:raise@1")
    for raw_id, text in zip(raw_ids[5:], data[5:], strict=True):
        assert await place.read(raw_id) == text
    if erased_then:
        await place.town.fetch("DELETE FROM raws WHERE id = $1", raw_ids[9])
    await place.tended()
    assert (await empty(place.database, place.blobs)).left == 0
    await place.compacted()
    for raw_id, text in zip(raw_ids[5:9], data[5:9], strict=True):
        assert await place.read(raw_id) == text
    assert place.directory.holds(b"a secret that goes") != erased_then
    assert len(place.directory.urls()) == 5 - erased_then, "one copy of each"
    assert all(place.directory.shelf.examine(one).well for one in place.directory.shelf.segments())
    assert not [*place.directory.path.glob("*.new"), *place.directory.path.glob("*.from")]
    assert (await place.swept()).orphans == 0


_DIE = """
import asyncio, sys
from ingester.clock import new_id, now
from ingester.faults import Faults
from ingester.settings import load
from ingester.store.blobs import Blobs
from ingester.store.db import Database
from ingester.store.segments.compacting import compact

async def main():
    settings = load({"INGESTER_DATABASE_URL": sys.argv[1], "INGESTER_BLOBS": sys.argv[2]})
    database = Database(settings)
    await database.open()
    shelf = Blobs(settings).segments.shelf
    await compact(database, shelf, limit=1 << 30, before=now().replace(year=2100), new_id=new_id,
                  faults=Faults.parse(sys.argv[3] + ":kill"))

asyncio.run(main())
"""


@pytest.mark.thorough
@pytest.mark.parametrize("point", ["copied", "named", "moved", "drop"])
async def test_a_process_that_is_killed_while_it_compacts(place: Place, point: str) -> None:
    """By kill -9, really: its locks go with it."""
    data = mails(10)
    raw_ids = await place.store(*data)
    await place.seal()
    await place.delete(*raw_ids[:6])
    url = place.settings.database_url.get_secret_value()
    words = [sys.executable, "-c", _DIE, url, place.settings.blobs, point]
    done = await asyncio.to_thread(subprocess.run, words, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    await place.tended()
    await place.compacted()
    assert [await place.read(raw_id) for raw_id in raw_ids[6:]] == data[6:]
    assert len(place.directory.urls()) == 4
    assert not list(place.directory.path.glob("*.new"))


async def test_a_segment_that_cannot_be_tended_keeps_no_other_from_it(place: Place) -> None:
    raw_ids = [(await place.store(b"mail"))[0] for _ in range(1)]
    broken = place.directory.shelf.path(new_id())
    broken.write_bytes(b"no segment at all" * 10)
    lost = place.directory.shelf.path(new_id())
    lost.write_bytes(b"torn")
    assert await place.tended() == 1
    assert (broken.exists(), lost.exists()) == (True, False)
    assert await place.read(raw_ids[0]) == b"mail"


# -- the chore ------------------------------------------------------------------------------------------------------


async def test_the_chore_does_all_of_it(place: Place) -> None:
    """Says that it is here, tends, empties the trash, sweeps, compacts; and does what is not due no second time."""
    clock = now() + LATER
    chore = Tidying(settings=place.settings, database=place.database, blobs=place.blobs, now=lambda: clock)
    raw_ids = await place.store(*mails(6))
    await place.store(b"a secret without a mail", rows=False)
    await place.seal()
    await place.town.fetch("DELETE FROM raws WHERE id = ANY ($1)", raw_ids[:4])
    await chore.tidy()
    assert [await place.read(raw_id) for raw_id in raw_ids[4:]] == mails(6)[4:]
    (segment,) = place.directory.shelf.segments()
    assert place.directory.shelf.examine(segment).records == 2, "written anew"
    assert not place.directory.holds(b"a secret without")
    rows = await place.town.fetch("SELECT place, store, seen_at > now() - interval '1 minute' AS fresh FROM blob_hosts")
    assert [(row["place"], row["store"] is not None, row["fresh"]) for row in rows] == [
        (place.settings.blobs, True, True)
    ]
    await place.town.fetch("DELETE FROM raws WHERE id = $1", raw_ids[4])
    before = place.directory.shelf.segments()
    await chore.tidy()
    assert len(place.directory.urls()) == 1
    assert place.directory.shelf.segments() == before, "compacted once an hour only"
    clock += COMPACT_EVERY
    await chore.tidy()
    assert place.directory.shelf.segments() != before
    await chore.leave()
    assert [
        row["fresh"]
        for row in await place.town.fetch("SELECT seen_at > now() - interval '1 minute' AS fresh FROM blob_hosts")
    ] == [False]


async def test_what_was_swept_is_not_swept_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once all records of a sealed segment were held against the rows, deletions tell of themselves."""
    await place.store(*mails(3))
    await place.seal()
    (segment,) = place.directory.shelf.segments()
    os.utime(place.directory.shelf.path(segment), (0, 0))  # nothing was erased since, whatever the clock's steps are
    clock = now() + LATER
    chore = Tidying(settings=place.settings, database=place.database, blobs=place.blobs, now=lambda: clock)
    walked: list[UUID] = []
    walk = Shelf.walk

    def noted(self: Shelf, segment: UUID) -> Iterator[Record | Gap]:
        walked.append(segment)
        return walk(self, segment)

    monkeypatch.setattr(Shelf, "walk", noted)
    await chore.tidy()
    assert walked
    clock += timedelta(days=30)
    await place.town.fetch("UPDATE blob_sweeps SET swept_at = $1", clock - timedelta(days=2))
    walked.clear()
    await chore.tidy()
    assert walked == []


# -- rows that are older than the segments --------------------------------------------------------------------------


async def test_rows_of_a_backup_find_their_mails_again(place: Place) -> None:
    """The database is of before a compaction, the directory of after it, and it has another name now."""
    data = mails(6)
    raw_ids = await place.store(*data)
    await place.seal()
    old = await place.town.fetch("SELECT id, blob_key FROM raws WHERE blob_key IS NOT NULL")
    await place.delete(*raw_ids[:4])
    await place.compacted()
    for row in old:
        await place.town.fetch("UPDATE raws SET blob_key = $1 WHERE id = $2", row["blob_key"], row["id"])
    moved = Shelf(place.directory.path.rename(place.directory.path.with_name("moved")))
    with pytest.raises(ObjectsUnavailable):
        await place.read(raw_ids[4])
    dry = await relink(place.database, moved, apply=False)
    assert (dry.records, dry.rows) == (2, 2)
    assert await relink(place.database, moved, apply=True) == dry
    assert [await place.read(raw_id) for raw_id in raw_ids[4:]] == data[4:]
    assert (await relink(place.database, moved, apply=True)).rows == 0


async def test_rows_that_mean_other_bytes_are_not_relinked(place: Place) -> None:
    """Nor those in Postgres, nor those of an object store."""
    raw_ids = await place.store(b"one", b"two", b"three")
    await place.town.fetch("UPDATE raws SET sha256 = 'x', blob_key = 'file:///gone/a/64' WHERE id = $1", raw_ids[0])
    await place.town.fetch("UPDATE raws SET blob_key = 's3://bucket/key' WHERE id = $1", raw_ids[1])
    await place.town.fetch("UPDATE raws SET blob_key = NULL, data = 'three' WHERE id = $1", raw_ids[2])
    assert (await relink(place.database, place.blobs.segments.shelf, apply=True)).rows == 0


# -- whose directory it is ------------------------------------------------------------------------------------------


async def test_two_processes_of_one_host_share_a_directory(place: Place) -> None:
    """Each has a segment of its own."""
    other = Blobs(place.settings)
    async with place.database.connection() as connection:
        await other.segments.claim(connection)
    mine, theirs = piece(b"mine"), piece(b"theirs")
    await place.store(b"x")
    landings = [place.blobs.segments.append([mine]), other.segments.append([theirs])]
    await asyncio.gather(*(landing.done for landing in landings))
    segments = {spot_of(landing.urls[0], new_id(), new_id())[1].segment for landing in landings}
    assert len(segments) == 2
    assert await place.tended() == 0, "both live"
    await other.close()


async def test_a_directory_belongs_to_one_database(place: Place, database_url: str) -> None:
    """Of another database nothing is taken, whether or not a daemon of the first is there."""
    await place.store(b"x")
    rows = await place.town.fetch("DELETE FROM blob_hosts RETURNING store")
    assert rows[0]["store"] is not None
    other = Blobs(place.settings)
    async with place.database.connection() as connection:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ingester.store.hosts.database_identity", _another)
            for _ in range(2):
                with pytest.raises(ObjectsUnavailable, match="belongs to another database"):
                    await other.segments.claim(connection)
                await place.seal()
        await other.segments.claim(connection)
    await other.close()


async def test_a_copy_of_the_database_is_told_while_the_original_lives(place: Place) -> None:
    """It knows the directory as well; the original's lock tells them apart. Without one it was moved, or upgraded."""
    await place.store(b"x")
    copy = Blobs(place.settings)
    async with place.database.connection() as connection:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ingester.store.hosts.database_identity", _another)
            with pytest.raises(ObjectsUnavailable, match="in use by a daemon of another database"):
                await copy.segments.claim(connection)
            await place.seal()
            await copy.segments.claim(connection)
        with pytest.raises(ObjectsUnavailable, match="in use"):
            await place.blobs.segments.claim(connection)
    await copy.close()


async def _another(_: object) -> str:
    return "1/1"


async def test_an_empty_mount_point_is_not_written_to(place: Place) -> None:
    await place.store(b"x")
    await place.seal()
    away = place.directory.path.rename(place.directory.path.with_name("away"))
    with pytest.raises(ObjectsUnavailable, match="is its disk mounted"):
        await place.store(b"y")
    assert not list(place.directory.path.glob("*.seg"))
    (place.directory.path / "STORE").unlink(missing_ok=True)
    place.directory.path.rmdir()
    away.rename(place.directory.path)
    await place.store(b"y")


async def test_a_second_host_is_refused(place: Place) -> None:
    """For as long as the first was there a moment ago."""
    await place.store(b"x")
    await place.seal()
    await place.town.fetch("UPDATE blob_hosts SET host = 'another', boot = 'another', name = 'mx1'")
    async with place.database.connection() as connection:
        with pytest.raises(ObjectsUnavailable, match="host mx1 keeps segments"):
            await place.blobs.segments.claim(connection)
        await place.town.fetch("UPDATE blob_hosts SET seen_at = now() - interval '1 hour'")
        await place.blobs.segments.claim(connection)
    assert await trashed_none(place)


async def trashed_none(place: Place) -> bool:
    async with place.database.connection() as connection:
        return await trashed(connection) == 0
