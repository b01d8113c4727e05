"""ingester.erasure against what happens at the same time: arriving mail, redrives, searches of buckets, a kill."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from ingester.app import App
from ingester.clock import new_id, now
from ingester.core.address import parse_path
from ingester.core.ids import SYSTEM_TENANT
from ingester.core.outcome import Outcome, Reason
from ingester.core.person import Person
from ingester.erasure import Receipt, erase_person, erase_tenant
from ingester.retaining import Retaining
from ingester.store import dissolving
from ingester.store.registry import Tenant, add_domain, tenant
from ingester.store.sources import attempts, note_refused
from ingester.store.sweeping import sweep
from tests.blobs import current
from tests.daemon import Town, settle
from tests.roles import Walled
from tests.test_pipeline import envelope, mail, send, settings

pytestmark = [pytest.mark.usefixtures("blobs"), pytest.mark.thorough]


@pytest.fixture
async def town(database_url: str) -> Town:
    return await settle(database_url, {"acme.test": ("support", "sales"), "globex.test": ("support",)})


@pytest.fixture
async def app(town: Town) -> AsyncIterator[App]:
    one = App(settings(town.url))
    await one.open()
    yield one
    await one.close()


async def named(app: App, slug: str) -> Tenant:
    async with app.database.connection() as connection:
        found = await tenant(connection, slug)
    assert found is not None
    return found


async def dissolve(app: App, whom: Tenant, watch: Callable[[str, int], object] = lambda *_: None) -> Receipt:
    return await erase_tenant(app.database, app.blobs, whom, apply=True, new_id=new_id, now=now, watch=watch)


async def forget(app: App, whom: Tenant, address: str = "ada@customer.test") -> Receipt:
    path = parse_path(address)
    assert path is not None
    return await erase_person(app.database, app.blobs, Person(path), [whom], apply=True, new_id=new_id, now=now)


async def rows_of(town: Town, tenant_id: UUID) -> dict[str, int]:
    """Rows of a tenant by table, whatever tables there are."""
    tables = await town.fetch(
        "SELECT DISTINCT table_name FROM information_schema.columns WHERE column_name = 'tenant_id'"
    )
    counts = {
        name: int((await town.fetch(f"SELECT count(*) FROM {name} WHERE tenant_id = $1", tenant_id))[0][0])
        for (name,) in tables
    }
    return {name: many for name, many in counts.items() if many}


# -- a tenant ----------------------------------------------------------------------------------------------------------


@pytest.mark.s3
async def test_mail_that_is_on_its_way_leaves_nothing(app: App, town: Town) -> None:
    """Senders who go on all the time, and a mail that was judged before and is written after."""
    acme = await named(app, "acme")
    said: asyncio.Queue[Reason] = asyncio.Queue()
    done = False

    async def going_on(number: int) -> None:
        count = 0
        while not done:
            count += 1
            outcome = await send(app, mail(f"m{number}.{count}", reply=f"m{number}.{count - 1}"), "support@acme.test")
            said.put_nowait(outcome.reason)

    senders = [asyncio.create_task(going_on(number)) for number in range(6)]
    before = {await said.get() for _ in range(20)}
    receipt = await dissolve(app, acme)
    while not said.empty():
        said.get_nowait()
    after = [await said.get() for _ in range(20)]
    done = True
    await asyncio.gather(*senders)
    assert receipt.complete
    assert receipt.removed["messages"] >= 20
    assert before == {Reason.ACCEPTED}
    assert after[-1] is Reason.UNKNOWN_DOMAIN
    assert await rows_of(town, acme.id) == {"erased_tenants": 1}
    if (bucket := current()) is not None:
        await sweep(app.database, app.blobs, before=now(), apply=True)
        assert acme.id not in bucket.tenants(), "what was uploaded for nothing is found later"


async def test_whoever_writes_is_waited_for_and_whoever_comes_later_is_told(app: App, town: Town) -> None:
    """The lock of the tenant: shared by those who write, taken alone by the one who erases."""
    acme = await named(app, "acme")
    async with app.database.connection() as connection, connection.transaction():
        await connection.execute("SELECT enter_tenant($1)", acme.id)
        erasing = asyncio.create_task(dissolve(app, acme))
        while not await town.fetch("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
            assert not erasing.done()
        await connection.execute(
            "INSERT INTO claims (tenant_id, key, message_id, created_at, expires_at) VALUES ($1, '', $1, now(), now())",
            acme.id,
        )
        assert not erasing.done()
    assert (await erasing).removed["claims"] == 1
    async with app.database.connection() as connection:
        with pytest.raises(asyncpg.SerializationError):
            await connection.execute("SELECT enter_tenant($1)", acme.id)
        await connection.execute("SELECT enter_tenant($1)", SYSTEM_TENANT)


async def test_refusals_that_were_counted_before_are_not_written_after(app: App, town: Town) -> None:
    acme = await named(app, "acme")
    one = envelope(mail("one"))
    app.refusals.note(
        tenant_id=acme.id,
        door=one.door,
        reason=Reason.UNKNOWN_MAILBOX,
        client=one.client,
        mail_from="",
        recipients=(),
        detail="",
        now=now(),
    )
    await dissolve(app, acme)
    await app.refusals.flush()
    async with app.database.connection() as connection:
        await note_refused(connection, acme.id, new_id(), replace(one, source="s3://b/k"), Reason.OVERSIZED, "")
    assert await rows_of(town, acme.id) == {"erased_tenants": 1}


async def test_of_the_refusals_of_nobody_only_those_at_its_own_domain_go(app: App, town: Town) -> None:
    """Neither a longer name nor a domain that it has only laid claim to."""
    acme = await named(app, "acme")
    async with app.database.connection() as connection:
        ids = (new_id(), new_id())
        assert await add_domain(connection, tenant_id=acme.id, name="claimed.example", verified=False, system_ids=ids)
    one = envelope(mail("one"))
    for prefix, recipient in enumerate(
        ("a@acme.test", "a@acme.test.example", "a@acme.testing", "a@not-acme.test", "a@claimed.example", "a@acmestest")
    ):
        app.refusals.note(
            tenant_id=SYSTEM_TENANT,
            door=one.door,
            reason=Reason.UNKNOWN_DOMAIN,
            client=replace(one.client, ip=f"192.0.2.{prefix}"),
            mail_from="",
            recipients=(recipient,),
            detail="",
            now=now(),
        )
    await app.refusals.flush()
    would = await erase_tenant(app.database, app.blobs, acme, apply=False, new_id=new_id, now=now)
    done = await dissolve(app, acme)
    assert would.removed["refusals"] == done.removed["refusals"] == 1
    left = await town.fetch("SELECT samples->0->'recipients'->>0 AS it FROM refusals ORDER BY 1")
    assert [row["it"] for row in left] == [
        *("a@acme.test.example", "a@acme.testing", "a@acmestest", "a@claimed.example", "a@not-acme.test"),
    ]


class Killed(Exception):
    """Stands for a kill -9."""


@pytest.mark.parametrize("steps", [0, 1, 5, 9, 14])
async def test_killed_in_the_middle_it_goes_on(app: App, town: Town, steps: int) -> None:
    acme, globex = await named(app, "acme"), await named(app, "globex")
    for name in range(3):
        await send(app, mail(f"m{name}"), "support@acme.test", "sales@acme.test", "support@globex.test")
    before = await rows_of(town, globex.id)
    count = 0

    def dying(_table: str, _rows: int) -> None:
        nonlocal count
        if count == steps:
            raise Killed
        count += 1

    with pytest.raises(Killed):
        await dissolve(app, acme, dying)
    assert (await named(app, "acme")).status == "erasing"
    assert not (await send(app, mail("late"))).stored
    assert (await dissolve(app, acme)).complete
    assert await rows_of(town, acme.id) == {"erased_tenants": 1}
    assert await rows_of(town, globex.id) == before


async def test_what_an_operator_adds_meanwhile_goes_too(app: App, town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tenant goes when nothing is left of it, and not before."""
    acme = await named(app, "acme")
    original = dissolving.dissolve
    late = iter([True, False])

    async def dissolve_later(connection: asyncpg.Connection, tenant_id: UUID) -> bool:
        if next(late):
            await connection.execute("INSERT INTO domains (tenant_id, name) VALUES ($1, 'late.test')", tenant_id)
        return await original(connection, tenant_id)

    monkeypatch.setattr(dissolving, "dissolve", dissolve_later)
    assert (await dissolve(app, acme)).removed["domains"] == 2
    assert await rows_of(town, acme.id) == {"erased_tenants": 1}


# -- a person ----------------------------------------------------------------------------------------------------------


async def test_a_person_who_goes_on_writing(app: App, town: Town) -> None:
    """Counts are right, no mail is half there, and what came meanwhile is there whole or not at all."""
    acme = await named(app, "acme")
    for name in range(10):
        await send(app, mail(f"m{name}", reply="m0" if name % 2 else None))
    arriving = [send(app, mail(f"n{n}", reply=f"m{n % 10}")) for n in range(30)]
    *outcomes, receipt = await asyncio.gather(*arriving, forget(app, acme))
    assert [one.reason for one in outcomes if isinstance(one, Outcome)] == [Reason.ACCEPTED] * 30
    assert isinstance(receipt, Receipt)
    assert receipt.removed["messages"] >= 10
    again = await forget(app, acme)
    assert again.complete
    assert again.mentions == ()
    for table in ("messages", "threads", "raws", "parts", "participants", "contacts"):
        assert not await town.fetch(f"SELECT FROM {table}"), table
    assert receipt.removed["messages"] + again.removed.get("messages", 0) == 40


@pytest.mark.parametrize("door", ["receipt", "letter"])
async def test_an_erased_mail_in_a_bucket_does_not_come_back(app: App, town: Town, door: str) -> None:
    """The search of the buckets knows by the receipt that it has been here."""
    acme = await named(app, "acme")
    source = "s3://bucket/inbound/abc"
    one = replace(envelope(mail("one")), source=source)
    if door == "letter":
        dying = App(settings(town.url, test__faults="scan:raise"))
        await dying.open()
        await dying.pipeline.accept(one)
        await dying.close()
    else:
        await app.pipeline.accept(one)
    await forget(app, acme)
    async with app.database.connection() as connection:
        assert set(await attempts(connection, acme.id, [source])) == {source}
    again = await app.pipeline.accept(replace(one, arrival_id=new_id()))
    assert again.reason is Reason.DUPLICATE
    rows = await town.fetch("SELECT envelope_from, client_ip FROM receipts")
    assert {(row["envelope_from"], row["client_ip"]) for row in rows} == {("", None)}


# -- rights -----------------------------------------------------------------------------------------------------------


async def test_the_daemons_role_has_the_rights_for_all_of_it(walled: Walled) -> None:
    """Retention is the daemon's, and nobody should need the owner to erase."""
    town = await settle(walled.owner, {"acme.test": ("support",), "globex.test": ("support",)})
    app = App(settings(walled.runtime, retention__days=30))
    await app.open()
    try:
        for name in range(4):
            await send(app, mail(f"m{name}"), "support@acme.test", "support@globex.test")
        acme, globex = await named(app, "acme"), await named(app, "globex")
        assert (await forget(app, globex)).complete
        await town.fetch(
            "INSERT INTO contacts (tenant_id, id, address, address_hash, created_at) VALUES ($1, $2, '', '', now())",
            acme.id,
            UUID(int=1),
        )
        later = now() + timedelta(days=31)
        rows = await Retaining(settings=app.settings, database=app.database, now=lambda: later).finish()
        assert rows is not None
        assert (rows["messages"], rows["contacts"]) == (4, 1)
        assert (await dissolve(app, acme)).complete
        assert await rows_of(town, acme.id) == {"erased_tenants": 1}
    finally:
        await app.close()
