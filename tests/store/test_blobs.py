"""Raw mails in an object store: read wherever they lie, thrown away with their rows, swept where they have none."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
import pytest
from pydantic import SecretStr

from ingester.clock import new_id, now
from ingester.core.ids import SYSTEM_TENANT, uuid7
from ingester.settings import Settings, load
from ingester.store import sweeping, trash
from ingester.store.blobs import Blobs
from ingester.store.db import Database
from ingester.store.objects import ObjectsUnavailable
from ingester.store.raws import Raws
from ingester.store.sweeping import NotOurs, Swept, alone, last_sweep, note_sweep, sweep
from ingester.store.trash import discard, empty, trashed
from ingester.tidying import Tidying
from tests.blobs import Bucket
from tests.daemon import Town, settle

LATER = timedelta(days=2)
"""Beyond the age at which an object without a mail is swept."""

NEXT_WEEK = uuid7(unix_ms=int((now() + timedelta(days=7)).timestamp() * 1000), entropy=bytes(10))
"""The id of a mail that came after all others of a test: an object newer than all mail is left alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A database, a bucket, and a tenant."""

    settings: Settings
    database: Database
    blobs: Blobs
    town: Town
    bucket: Bucket
    tenant_id: UUID

    async def add(self, data: bytes | None, url: str | None = None, raw_id: UUID | None = None) -> UUID:
        """A row in `raws`, as the write makes it."""
        raw_id = raw_id or new_id()
        size = len(data or b"")
        statement = "INSERT INTO raws (tenant_id, id, sha256, size, data, blob_key) VALUES ($1, $2, '', $3, $4, $5)"
        await self.town.fetch(statement, self.tenant_id, raw_id, size, data if url is None else None, url)
        return raw_id

    async def upload(self, data: bytes = b"mail", tenant_id: UUID | None = None, raw_id: UUID | None = None) -> str:
        """An object without a row."""
        url = self.blobs.url(tenant_id or self.tenant_id, raw_id or new_id())
        await self.blobs.write(url, data)
        return url

    async def store(self, data: bytes = b"mail") -> tuple[UUID, str]:
        """An object with its row."""
        raw_id = new_id()
        url = await self.upload(data, raw_id=raw_id)
        return await self.add(data, url, raw_id), url

    async def swept(self, *, after: timedelta = LATER, apply: bool = True, force: bool = False) -> Swept:
        return await sweep(self.database, self.blobs, before=now() + after, apply=apply, force=force)


@pytest.fixture
async def place(database_url: str, bucket: Bucket) -> AsyncIterator[Place]:
    town = await settle(database_url, {"acme.test": ("support",)})
    settings = load(bucket.settings).model_copy(update={"database_url": SecretStr(database_url)})
    database, blobs = Database(settings), Blobs(settings)
    await database.open()
    (row,) = await town.fetch("SELECT id FROM tenants WHERE slug = 'acme'")
    one = Place(settings=settings, database=database, blobs=blobs, town=town, bucket=bucket, tenant_id=row["id"])
    await one.add(b"what came later", raw_id=NEXT_WEEK)
    yield one
    await blobs.close()
    await database.close()


# -- reading --------------------------------------------------------------------------------------------------------


async def test_mails_are_read_wherever_they_lie(place: Place) -> None:
    """Whole and by ranges, from Postgres and from an object, whatever INGESTER_BLOBS says today."""
    data = os.urandom(1000)
    raw_ids = [await place.add(data), (await place.store(data))[0]]
    for blobs in ("postgres", place.bucket.url, "s3://another/place", "gs://elsewhere"):
        raws = Raws(Blobs(place.settings.model_copy(update={"blobs": blobs})))
        async with place.database.connection() as connection:
            for raw_id in raw_ids:
                assert await raws.read(connection, place.tenant_id, raw_id) == data
                for offset, length in ((0, 1000), (0, 0), (17, 100), (999, 1)):
                    wanted = data[offset : offset + length]
                    assert await raws.read_range(connection, place.tenant_id, raw_id, offset, length) == wanted


async def test_what_is_gone_is_said_to_be_gone(place: Place) -> None:
    raws = Raws(place.blobs)
    lost, url = await place.store(b"0123456789")
    await place.blobs.delete(url)
    short, url = await place.store(b"0123456789")
    await place.blobs.write(url, b"01234")
    longer, url = await place.store(b"0123456789")
    await place.blobs.write(url, b"0123456789ab")
    kept = await place.add(b"0123456789")
    async with place.database.connection() as connection:
        for raw_id in (new_id(), lost, longer, short):
            with pytest.raises(LookupError):
                await raws.read(connection, place.tenant_id, raw_id)
        for raw_id in (new_id(), lost, short):
            with pytest.raises(LookupError):
                await raws.read_range(connection, place.tenant_id, raw_id, 5, 5)
        with pytest.raises(LookupError):
            await raws.read_range(connection, place.tenant_id, kept, 5, 6)
        with pytest.raises(LookupError):  # of another tenant
            await raws.read(connection, SYSTEM_TENANT, kept)


async def test_an_object_store_that_is_away_is_not_a_loss(place: Place) -> None:
    raw_id, _ = await place.store()
    wrong = place.settings.s3.model_copy(update={"secret_access_key": SecretStr("wrong")})
    raws = Raws(Blobs(place.settings.model_copy(update={"s3": wrong})))
    async with place.database.connection() as connection:
        with pytest.raises(ObjectsUnavailable):
            await raws.read(connection, place.tenant_id, raw_id)


async def test_uploads_are_bounded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than the setting allows are under way at once, and all of them are done."""
    running = most = 0

    async def put(*_: object) -> None:
        nonlocal running, most
        running, most = running + 1, max(most, running + 1)
        await asyncio.sleep(0)
        running -= 1

    store = place.settings.store.model_copy(update={"uploads": 3})
    blobs = Blobs(place.settings.model_copy(update={"store": store}))
    monkeypatch.setattr("ingester.store.objects.Objects.put", put)
    await asyncio.gather(*(blobs.write(blobs.url(place.tenant_id, new_id()), b"") for _ in range(20)))
    assert (running, most) == (0, 3)


# -- the trash ------------------------------------------------------------------------------------------------------


async def test_whatever_deletes_a_row_leaves_no_object(place: Place) -> None:
    """By hand too; rows with their bytes in them are nobody's business."""
    await place.add(b"in Postgres")
    _, kept = await place.store()
    gone = [await place.store() for _ in range(3)]
    await place.town.fetch("DELETE FROM raws WHERE id = ANY ($1)", [raw_id for raw_id, _ in gone])
    await place.town.fetch("DELETE FROM raws WHERE data IS NOT NULL")
    assert place.bucket.urls() == {kept, *(url for _, url in gone)}
    done = await empty(place.database, place.blobs)
    assert (done.deleted, done.left) == (3, 0)
    assert place.bucket.urls() == {kept}
    assert await place.town.fetch("SELECT FROM blob_trash") == []


async def test_a_rolled_back_deletion_deletes_nothing(place: Place) -> None:
    raw_id, url = await place.store()
    async with place.database.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("DELETE FROM raws WHERE id = $1", raw_id)
        await empty(place.database, place.blobs)
        await transaction.rollback()
    await empty(place.database, place.blobs)
    assert place.bucket.urls() == {url}


async def test_what_has_a_row_is_not_discarded(place: Place) -> None:
    """A commit whose answer was lost has written the row: the second attempt must not throw its object away."""
    raw_id, url = await place.store()
    lost_id = new_id()
    lost = await place.upload(raw_id=lost_id)
    async with place.database.connection() as connection:
        await discard(connection, place.tenant_id, [(raw_id, url), (lost_id, lost)])
        await discard(connection, place.tenant_id, [(raw_id, url), (lost_id, lost)])
        assert await trashed(connection) == 1
    await empty(place.database, place.blobs)
    assert place.bucket.urls() == {url}


async def test_what_has_a_row_again_is_not_deleted(place: Place) -> None:
    raw_id, url = await place.store()
    await place.town.fetch("DELETE FROM raws")
    await place.add(b"mail", url, raw_id)
    assert (await empty(place.database, place.blobs)).deleted == 0
    assert place.bucket.urls() == {url}


async def test_a_bucket_that_is_away_does_not_keep_another_from_being_emptied(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be deleted is tried again."""
    monkeypatch.setattr(trash, "PAGE", 2)
    urls = [url for _, url in [await place.store() for _ in range(3)]]
    for n in range(5):
        await place.add(b"", f"s3://no-such-bucket/{n}")
    await place.town.fetch("DELETE FROM raws")
    tried: list[str] = []
    delete = Blobs.delete

    async def noted(self: Blobs, url: str) -> None:
        tried.append(url)
        await delete(self, url)

    monkeypatch.setattr(Blobs, "delete", noted)
    done = await empty(place.database, place.blobs)
    assert (done.deleted, done.left) == (3, 5)
    assert sum(url.startswith("s3://no-such-bucket") for url in tried) <= 2, "only one page of it was tried"
    assert not place.bucket.urls() & set(urls)
    assert (await empty(place.database, place.blobs)).left == 5


# -- the sweep ------------------------------------------------------------------------------------------------------


async def test_objects_without_a_mail_are_swept(place: Place) -> None:
    """Counted first; then deleted, and only they."""
    _, kept = await place.store()
    orphans = {await place.upload(b"four") for _ in range(3)}
    assert await place.swept(apply=False) == Swept(objects=4, orphans=3, bytes=12)
    assert place.bucket.urls() == {kept, *orphans}
    assert await place.swept() == Swept(objects=4, orphans=3, bytes=12)
    assert place.bucket.urls() == {kept}


async def test_young_objects_are_left_alone(place: Place) -> None:
    """Their commit may be under way. Both clocks must agree: the store's, and that of the worker that made the id."""
    url = await place.upload()
    await place.swept(after=timedelta(seconds=-60))
    made_tomorrow = uuid7(unix_ms=int((now() + timedelta(days=1)).timestamp() * 1000), entropy=os.urandom(10))
    of_tomorrow = await place.upload(raw_id=made_tomorrow)
    made_long_ago = uuid7(unix_ms=1, entropy=os.urandom(10))
    of_long_ago = await place.upload(raw_id=made_long_ago)
    await place.swept(after=timedelta(seconds=-60))
    assert place.bucket.urls() == {url, of_tomorrow, of_long_ago}
    await place.swept(after=timedelta(hours=1))
    assert place.bucket.urls() == {of_tomorrow}


async def test_what_is_not_ours_is_left_alone(place: Place) -> None:
    """Other names, other tenants, other prefixes: a bucket may be shared."""
    others = ["mails/note", f"mails/{place.tenant_id}", f"mails/{new_id()}/x/{new_id()}"]
    others += [f"other/{new_id()}/{new_id()}", f"mails2/{place.tenant_id}/{new_id()}"]
    others += [f"mails/{place.tenant_id}/{str(new_id()).upper()}"]
    for key in others:
        place.bucket.server.write(place.bucket.name, key, b"")
    stranger = await place.upload(tenant_id=new_id())
    assert (await place.swept()).orphans == 0
    assert place.bucket.urls() == {stranger, *(f"s3://{place.bucket.name}/{key}" for key in others)}


async def test_what_is_newer_than_all_mail_is_left_alone(place: Place) -> None:
    """A copy of the database does not know what came since it was made. The operator may insist."""
    await place.town.fetch("DELETE FROM raws")
    before = await place.upload()
    _, kept = await place.store()
    since = await place.upload()
    assert (await place.swept()).orphans == 1
    assert place.bucket.urls() == {kept, since} != {kept, before, since}
    await place.swept(force=True)
    assert place.bucket.urls() == {kept}


async def test_most_of_it_without_a_mail_is_another_database_s(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old copy of the database must not delete what came since. The operator may insist."""
    monkeypatch.setattr(sweeping, "FEW", 2)
    await place.store()
    orphans = {await place.upload() for _ in range(4)}
    with pytest.raises(NotOurs):
        await place.swept()
    assert orphans < place.bucket.urls()
    await place.swept(force=True)
    assert not orphans & place.bucket.urls()


async def test_many_pages(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "PAGE", 3)
    kept = {(await place.store())[1] for _ in range(5)}
    orphans = {await place.upload() for _ in range(6)}
    seen: list[int] = []
    done = await sweep(place.database, place.blobs, before=now() + LATER, apply=True, watch=seen.append)
    assert (done.objects, done.orphans, seen) == (11, len(orphans), [3, 3, 3, 2])
    assert place.bucket.urls() == kept


async def test_a_whole_bucket_is_a_place_too(place: Place) -> None:
    blobs = Blobs(place.settings.model_copy(update={"blobs": f"s3://{place.bucket.name}"}))
    await blobs.write(blobs.url(place.tenant_id, new_id()), b"")
    await sweep(place.database, blobs, before=now() + LATER, apply=True)
    assert place.bucket.urls() == set()


# -- the chore ------------------------------------------------------------------------------------------------------


def chore(place: Place, clock: datetime) -> Tidying:
    return Tidying(settings=place.settings, database=place.database, blobs=place.blobs, now=lambda: clock)


async def test_the_chore_empties_at_once_and_sweeps_once_a_day(place: Place) -> None:
    """Whoever did it, and however often daemons are started: the database remembers."""
    start = now() + LATER
    _, url = await place.store()
    await place.upload()
    await chore(place, start).tidy()
    assert place.bucket.urls() == {url}
    orphan = await place.upload()
    await place.town.fetch("DELETE FROM raws WHERE blob_key IS NOT NULL")
    await chore(place, start + timedelta(hours=23)).tidy()
    assert place.bucket.urls() == {orphan}
    await chore(place, start + timedelta(hours=25)).tidy()
    assert place.bucket.urls() == set()


async def test_one_worker_at_a_time(place: Place) -> None:
    await place.upload()
    async with alone(place.database) as first, alone(place.database) as second:
        assert (first, second) == (True, False)
        await chore(place, now() + LATER).tidy()
        assert len(place.bucket.urls()) == 1
    await chore(place, now() + LATER).tidy()
    assert place.bucket.urls() == set()


async def test_a_place_of_another_database_is_not_tried_again_at_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "FEW", 0)
    start = now() + LATER
    await place.upload()
    await chore(place, start).tidy()
    assert len(place.bucket.urls()) == 1
    async with place.database.connection() as connection:
        assert await last_sweep(connection, place.bucket.url) == start


async def test_a_store_that_is_away_is_tried_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep does not count as done."""
    with missing_bucket(place) as lost, pytest.raises(ObjectsUnavailable):
        await chore(lost, now() + LATER).tidy()
    async with place.database.connection() as connection:
        assert await last_sweep(connection, "s3://no-such-bucket") is None


@contextmanager
def missing_bucket(place: Place) -> Iterator[Place]:
    settings = place.settings.model_copy(update={"blobs": "s3://no-such-bucket"})
    yield Place(
        settings=settings,
        database=place.database,
        blobs=Blobs(settings),
        town=place.town,
        bucket=place.bucket,
        tenant_id=place.tenant_id,
    )


@pytest.mark.parametrize("change", [{"blobs": "postgres"}, {"sweep_hours": 0}])
async def test_nothing_is_swept_where_it_is_not_wanted(place: Place, change: dict[str, object]) -> None:
    store = place.settings.store.model_copy(update=change)
    settings = place.settings.model_copy(update={"blobs": "postgres"} if "blobs" in change else {"store": store})
    await place.upload()
    blobs = Blobs(settings)
    await Tidying(settings=settings, database=place.database, blobs=blobs, now=lambda: now() + LATER).tidy()
    assert len(place.bucket.urls()) == 1


async def test_last_sweep_is_remembered_for_each_place(place: Place) -> None:
    async with place.database.connection() as connection:
        await note_sweep(connection, "s3://a", now())
        await note_sweep(connection, "s3://a", (later := now()))
        assert await last_sweep(connection, "s3://a") == later
        assert await last_sweep(connection, "s3://b") is None


async def test_the_row_has_either_bytes_or_an_object(place: Place) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await place.add(None)
