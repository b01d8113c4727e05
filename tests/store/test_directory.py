"""ingester.store.directory: routes in order of precedence, the cache and its invalidation."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from pydantic import SecretStr

from ingester.clock import new_id, now
from ingester.core.address import Address, parse_path
from ingester.core.envelope import Route, RouteKind
from ingester.core.ids import SYSTEM_TENANT
from ingester.core.outcome import Reason, Refusal
from ingester.settings import load
from ingester.store.db import Database, Unavailable
from ingester.store.directory import Directory, lookup
from tests.daemon import Town, settle
from tests.roles import Walled, passing


@pytest.fixture
async def town(database_url: str) -> Town:
    return await settle(database_url, {"acme.test": ("support", "sales"), "globex.test": ("support",)})


@pytest.fixture
async def database(town: Town) -> AsyncIterator[Database]:
    one = Database(load({}).model_copy(update={"database_url": SecretStr(town.url)}))
    await one.open()
    yield one
    await one.close()


def at(text: str) -> Address:
    address = parse_path(text)
    assert address is not None
    return address


async def ask(town: Town, text: str) -> Route | Refusal:
    connection = await asyncpg.connect(town.url)
    try:
        return (await lookup(connection, at(text), now()))[1]
    finally:
        await connection.close()


async def route(town: Town, kind: str, local: str, to: str) -> None:
    await town.fetch(
        """
        INSERT INTO routes (tenant_id, id, domain, kind, local_part, mailbox_id)
        SELECT tenant_id, $1, domain, $2, $3, id FROM mailboxes WHERE domain = 'acme.test' AND local_part = $4
        """,
        new_id(),
        kind,
        local,
        to,
    )


async def mailbox(town: Town, local: str, domain: str = "acme.test") -> object:
    found = await town.fetch("SELECT id FROM mailboxes WHERE domain = $1 AND local_part = $2", domain, local)
    return found[0]["id"]


async def test_order_of_precedence(town: Town) -> None:
    await route(town, "alias", "help", "support")
    await route(town, "exact", "help+vip", "sales")
    await route(town, "catch_all", "", "sales")
    support, sales = await mailbox(town, "support"), await mailbox(town, "sales")
    expected = {
        "support@acme.test": (support, RouteKind.EXACT, None),
        "SUPPORT@ACME.TEST": (support, RouteKind.EXACT, None),
        "support+Foo@acme.test": (support, RouteKind.EXACT, "Foo"),
        "help@acme.test": (support, RouteKind.ALIAS, None),
        "help+x@acme.test": (support, RouteKind.ALIAS, "x"),
        "help+vip@acme.test": (sales, RouteKind.EXACT, None),
        "anything@acme.test": (sales, RouteKind.CATCH_ALL, None),
        "any+thing@acme.test": (sales, RouteKind.CATCH_ALL, "thing"),
    }
    for text, (mailbox_id, kind, tag) in expected.items():
        found = await ask(town, text)
        assert isinstance(found, Route)
        assert (found.mailbox_id, found.kind, found.tag) == (mailbox_id, kind, tag), text


@pytest.mark.parametrize("text", ["postmaster@acme.test", "POSTMASTER@acme.test", "abuse@acme.test"])
async def test_postmaster_and_abuse_reach_the_system_mailbox_even_before_a_catch_all(town: Town, text: str) -> None:
    await route(town, "catch_all", "", "sales")
    found = await ask(town, text)
    assert isinstance(found, Route)
    system = await town.fetch("SELECT system, domain FROM mailboxes WHERE id = $1", found.mailbox_id)
    assert (system[0]["system"], system[0]["domain"]) == ("postmaster", "acme.test")


async def test_the_bare_postmaster_belongs_to_the_system_tenant(town: Town) -> None:
    found = await ask(town, "Postmaster")
    assert isinstance(found, Route)
    assert found.tenant_id == SYSTEM_TENANT


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x@nowhere.test", Reason.UNKNOWN_DOMAIN),
        ("x@acme.test", Reason.UNKNOWN_MAILBOX),
        ("reply@acme.test", Reason.UNKNOWN_MAILBOX),
        ("sales@globex.test", Reason.UNKNOWN_MAILBOX),
    ],
)
async def test_refusals(town: Town, text: str, reason: Reason) -> None:
    assert await ask(town, text) == Refusal(reason=reason)


async def test_a_pending_domain_is_deferred_and_a_verified_owner_goes_first(town: Town) -> None:
    await town.fetch("UPDATE domains SET status = 'pending' WHERE name = 'acme.test'")
    assert await ask(town, "support@acme.test") == Refusal(reason=Reason.DOMAIN_PENDING)
    assert await ask(town, "nobody@acme.test") == Refusal(reason=Reason.DOMAIN_PENDING)
    other = (await town.fetch("SELECT id FROM tenants WHERE slug = 'globex'"))[0]["id"]
    await town.fetch("INSERT INTO domains (tenant_id, name, status) VALUES ($1, 'acme.test', 'verified')", other)
    # The pending claimant's mailboxes count for nothing now.
    assert await ask(town, "support@acme.test") == Refusal(reason=Reason.UNKNOWN_MAILBOX)


async def test_a_no_is_never_cached_and_a_yes_ends_with_the_notification(town: Town, database: Database) -> None:
    directory = Directory(database)
    directory.start()
    try:
        address = at("new@acme.test")
        assert isinstance((await directory.resolve(address, now()))[1], Refusal)
        await route(town, "alias", "new", "sales")
        assert isinstance((await directory.resolve(address, now()))[1], Route), "added a moment ago"
        async with asyncio.timeout(10):
            while directory.known(address) is None:  # it is cached once the notifications are followed
                await directory.resolve(address, now())
            forgotten = asyncio.Event()
            forget = directory._forget

            def tell() -> None:
                forget()
                forgotten.set()

            directory._forget = tell  # type: ignore[method-assign]
            await town.fetch("DELETE FROM routes WHERE local_part = 'new'")
            await forgotten.wait()
        assert directory.known(address) is None
        assert isinstance((await directory.resolve(address, now()))[1], Refusal)
    finally:
        await directory.stop()


async def test_nothing_is_cached_while_notifications_are_not_followed(town: Town, database: Database) -> None:
    directory = Directory(database)  # not started
    assert isinstance((await directory.resolve(at("support@acme.test"), now()))[1], Route)
    assert directory.known(at("support@acme.test")) is None


async def test_many_who_wait_for_one_answer_ask_once(town: Town, database: Database) -> None:
    directory = Directory(database)
    asked = 0
    connection = database.connection

    def counted(**more: float) -> object:
        nonlocal asked
        asked += 1
        return connection(**more)

    database.connection = counted  # type: ignore[method-assign, assignment]
    answers = await asyncio.gather(*(directory.resolve(at("support@acme.test"), now()) for _ in range(50)))
    assert asked == 1
    assert len({id(answer) for _, answer in answers}) == 1


async def test_a_database_that_is_away_is_no_answer(database: Database) -> None:
    await database.close()
    with pytest.raises(Unavailable):
        await Directory(database).resolve(at("support@acme.test"), now())


async def test_a_role_that_sees_no_tenant_says_no_to_nobody(walled: Walled) -> None:
    """Row-level security was turned on for another role than the daemon's: mail waits, it is not refused for good."""
    async with passing(walled.owner, "blind"):
        connection = await asyncpg.connect(walled.owner)
        try:
            await connection.execute("CREATE ROLE blind; GRANT SELECT ON ALL TABLES IN SCHEMA public TO blind")
            await connection.execute("SET ROLE blind")
            with pytest.raises(Unavailable):
                await lookup(connection, Address(local="support", domain="acme.test"), now())
        finally:
            await connection.close()
