"""ingester.store.registry and mailboxes on a real Postgres: what the constraints promise, under concurrency too."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import pytest

from ingester.clock import new_id, now
from ingester.core.address import Address
from ingester.core.envelope import Route
from ingester.store import mailboxes, registry
from ingester.store.directory import CHANNEL, lookup
from ingester.store.mailboxes import NewMailbox
from ingester.store.registry import Domain, Tenant


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    one = await asyncpg.connect(database_url)
    yield one
    await one.close()


async def _tenant(connection: asyncpg.Connection, slug: str) -> Tenant:
    made = await registry.add_tenant(connection, tenant_id=new_id(), slug=slug, name=slug.title())
    assert made is not None
    return made


async def _domain(connection: asyncpg.Connection, tenant_id: UUID, name: str, *, verified: bool) -> Domain | None:
    ids = (new_id(), new_id())
    return await registry.add_domain(connection, tenant_id=tenant_id, name=name, verified=verified, system_ids=ids)


async def _mailbox(connection: asyncpg.Connection, tenant_id: UUID, local: str, domain: str) -> mailboxes.Mailbox:
    new = NewMailbox(tenant_id=tenant_id, id=new_id(), address=Address(local=local, domain=domain))
    made = await mailboxes.add_mailbox(connection, new, route_id=new_id())
    assert made is not None
    return made


async def test_a_taken_slug_gives_none_and_changes_nothing(connection: asyncpg.Connection) -> None:
    first = await _tenant(connection, "acme")
    assert await registry.add_tenant(connection, tenant_id=new_id(), slug="acme", name="Other") is None
    assert await registry.tenant(connection, "acme") == first
    assert await registry.tenant(connection, "nobody") is None


async def test_of_many_who_want_a_verified_name_one_has_it(database_url: str) -> None:
    connections = [await asyncpg.connect(database_url) for _ in range(6)]
    tenants = [await _tenant(one, f"t{n}") for n, one in enumerate(connections)]
    made = await asyncio.gather(
        *(_domain(c, t.id, "wanted.test", verified=True) for c, t in zip(connections, tenants, strict=True))
    )
    winners = [domain for domain in made if domain is not None]
    assert len(winners) == 1
    assert await registry.owners(connections[0], "wanted.test") == winners
    systems = await mailboxes.mailboxes(connections[0], [tenant.id for tenant in tenants])
    assert [(box.tenant, box.system) for box in systems] == [
        (winners[0].tenant, "postmaster"),
        (winners[0].tenant, "reply"),
    ], "who does not get the domain gets no mailboxes either"
    for connection in connections:
        await connection.close()


async def test_verifying_is_refused_while_another_has_the_name(connection: asyncpg.Connection) -> None:
    first, second = await _tenant(connection, "first"), await _tenant(connection, "second")
    await _domain(connection, first.id, "x.test", verified=True)
    await _domain(connection, second.id, "x.test", verified=False)
    assert await registry.verify_domain(connection, second.id, "x.test") is None
    assert await registry.verify_domain(connection, second.id, "absent.test") is None
    assert await registry.remove_domain(connection, first.id, "x.test")
    verified = await registry.verify_domain(connection, second.id, "x.test")
    assert verified is not None
    assert (verified.tenant, verified.status) == ("second", "verified")


async def test_lists_are_of_the_tenants_that_are_asked_for(connection: asyncpg.Connection) -> None:
    both = [await _tenant(connection, slug) for slug in ("one", "two")]
    for tenant in both:
        await _domain(connection, tenant.id, f"{tenant.slug}.test", verified=True)
        await _mailbox(connection, tenant.id, "box", f"{tenant.slug}.test")
    only = [both[0].id]
    assert {one.tenant for one in await registry.domains(connection, only)} == {"one"}
    assert {one.tenant for one in await mailboxes.mailboxes(connection, only)} == {"one"}
    assert {one.tenant for one in await mailboxes.routes(connection, only)} == {"one"}
    assert len(await mailboxes.routes(connection, [tenant.id for tenant in both])) == 2
    assert await mailboxes.mailbox(connection, both[0].id, Address(local="box", domain="two.test")) is None
    assert await mailboxes.routes(connection, []) == []


async def test_an_address_is_quoted_where_it_must_be(connection: asyncpg.Connection) -> None:
    tenant = await _tenant(connection, "acme")
    await _domain(connection, tenant.id, "acme.test", verified=True)
    assert (await _mailbox(connection, tenant.id, "John Doe", "acme.test")).address == '"john doe"@acme.test'
    assert [one.to for one in await mailboxes.routes(connection, [tenant.id])] == ['"john doe"@acme.test']


async def test_removing_what_is_not_there_says_so(connection: asyncpg.Connection) -> None:
    tenant = await _tenant(connection, "acme")
    address = Address(local="a", domain="acme.test")
    assert not await registry.remove_domain(connection, tenant.id, "acme.test")
    assert not await mailboxes.remove_route(connection, tenant_id=tenant.id, kind="exact", address=address)
    assert not await mailboxes.set_mailbox_status(connection, tenant.id, new_id(), "active")
    assert await registry.set_tenant_status(connection, new_id(), "active") is None


async def test_every_change_is_told_to_the_daemons(connection: asyncpg.Connection, database_url: str) -> None:
    listener = await asyncpg.connect(database_url)
    heard: asyncio.Queue[str] = asyncio.Queue()
    await listener.add_listener(CHANNEL, lambda *_: heard.put_nowait("changed"))

    async def told() -> None:
        await asyncio.wait_for(heard.get(), 10)
        while not heard.empty():
            heard.get_nowait()

    tenant = await _tenant(connection, "acme")
    await told()
    await _domain(connection, tenant.id, "acme.test", verified=True)
    await told()
    box = await _mailbox(connection, tenant.id, "a", "acme.test")
    await told()
    await mailboxes.set_mailbox_status(connection, tenant.id, box.id, "suspended")
    await told()
    address = Address(local="a", domain="acme.test")
    await mailboxes.remove_route(connection, tenant_id=tenant.id, kind="exact", address=address)
    await told()
    await listener.close()


async def test_a_seed_is_whole_and_may_be_repeated(connection: asyncpg.Connection) -> None:
    for names in (("support", "sales"), ("support", "sales"), ("support", "sales", "more")):
        async with connection.transaction():
            await registry.seed(connection, tenant="demo", domain="demo.test", mailboxes=names, new_id=new_id)
    tenant = await registry.tenant(connection, "demo")
    assert tenant is not None
    found = await mailboxes.mailboxes(connection, [tenant.id])
    assert [box.address.partition("@")[0] for box in found] == ["more", "sales", "support", "postmaster", "reply"]
    for name in ("support", "sales", "more"):
        answer = (await lookup(connection, Address(local=name, domain="demo.test"), now()))[1]
        assert isinstance(answer, Route)
