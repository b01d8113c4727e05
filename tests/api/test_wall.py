"""The API behind the wall: through the real door, as the runtime role, with queries that have forgotten the tenant.

Each fault is tried without the wall as well, where it does cross: else these tests could not fail.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from uuid import UUID

import pytest

from ingester.clock import new_id
from ingester.core.address import Address
from ingester.store import outbound
from ingester.store.db import Connection
from ingester.store.outbound import NewOutbound, OutboundError, Registered
from tests.api.house import KEYS, House, running
from tests.roles import Walled

PLACES = pytest.mark.parametrize("there", [True, False], ids=["wall", "no wall"])


@pytest.fixture
def url(walled: Walled, there: bool) -> Iterator[str]:
    """Of the runtime role, or of the owner before there were roles."""
    if there:
        yield walled.runtime
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ingester.store.wall._role", _nobody)
        yield walled.runtime


async def _nobody(_: Connection) -> None:
    return None


async def _forgetful_mailbox(connection: Connection, new: NewOutbound) -> Address:
    """`outbound._mailbox` without its tenant."""
    row = await connection.fetchrow("SELECT domain, local_part FROM mailboxes WHERE id = $1", new.mailbox_id)
    if row is None:
        raise OutboundError("unknown_mailbox", "There is no such mailbox")
    return Address(local=row["local_part"], domain=row["domain"])


@PLACES
async def test_a_mailbox_that_is_looked_up_without_the_tenant(
    url: str, there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbound, "_mailbox", _forgetful_mailbox)
    async with running(url) as house:
        assert (await house.register(key=KEYS["acme"])).status == 201
        foreign = await house.register("support@acme.test", key=KEYS["globex"])
        assert foreign.status == (404 if there else 201)


@PLACES
async def test_everything_is_counted_without_the_tenant(url: str, there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """And listed, joined and searched: whatever a query forgets."""
    async with running(url) as house:
        for slug, key in KEYS.items():
            assert (await house.register(f"support@{slug}.test", key=key)).status == 201
        for table in ("tenants", "mailboxes", "messages", "threads", "thread_ids", "contacts", "participants"):
            column = "id" if table == "tenants" else "tenant_id"
            seen = await _seen_by_acme(house, monkeypatch, f"SELECT DISTINCT {column} FROM {table}")
            others = {one for one in seen if one != await _tenant(house, "acme")}
            assert bool(others) is not there, table
            assert seen, table


@PLACES
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE threads SET subject = 'taken' WHERE tenant_id = $1",
        "DELETE FROM participants WHERE tenant_id = $1",
        "UPDATE messages SET subject = 'taken'  WHERE tenant_id = $1 OR true",
        "WITH gone AS (DELETE FROM threads WHERE tenant_id = $1 RETURNING 1) SELECT count(*) FROM gone",
    ],
)
async def test_rows_of_another_tenant_are_not_changed(
    url: str, there: bool, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(url) as house:
        assert (await house.register("support@globex.test", key=KEYS["globex"])).status == 201
        globex = await _tenant(house, "globex")
        before = await _state(house, globex)

        async def broken(connection: Connection, new: NewOutbound, **_: object) -> Registered:
            await connection.execute(statement, globex)
            return _registered(new.tenant_id)

        monkeypatch.setattr("ingester.api.outbound.register", broken)
        assert (await house.register(key=KEYS["acme"])).status == 201
        assert (await _state(house, globex) == before) is there


@PLACES
async def test_a_row_with_another_tenant_is_not_written(url: str, there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(url) as house:
        globex = await _tenant(house, "globex")
        true_register = outbound.register

        async def broken(
            connection: Connection, new: NewOutbound, *, secrets: object, new_id: Callable[[], UUID], now: datetime
        ) -> Registered:
            foreign = NewOutbound(
                tenant_id=globex, tenant_slug="globex", mailbox_id=house.mailboxes["support@globex.test"], to=new.to
            )
            monkeypatch.setattr(outbound, "_mailbox", _any_mailbox)
            return await true_register(connection, foreign, secrets=(b"s" * 32,), new_id=new_id, now=now)

        monkeypatch.setattr("ingester.api.outbound.register", broken)
        reply = await house.register(key=KEYS["acme"])
        (row,) = await house.town.fetch("SELECT count(*) FROM messages")
        assert (reply.status, row[0]) == ((503, 0) if there else (201, 1))


async def _any_mailbox(_connection: Connection, _new: NewOutbound) -> Address:
    return Address(local="support", domain="globex.test")


async def test_a_daemon_whose_role_may_not_enter_gives_no_answer(walled: Walled) -> None:
    async with running(walled.runtime) as house:
        await _as_owner(walled, f"REVOKE {walled.api} FROM {walled.role}")
        reply = await house.register()
        assert reply.no == (503, "store_unavailable", None)
        await _as_owner(walled, f"GRANT {walled.api} TO {walled.role}")
        assert (await house.register()).status == 201


async def _as_owner(walled: Walled, statement: str) -> None:
    from tests.postgres import _execute

    await _execute(walled.owner, statement)


async def _seen_by_acme(house: House, monkeypatch: pytest.MonkeyPatch, query: str) -> list[UUID]:
    """What this query gives within a call with acme's key."""
    seen: list[UUID] = []

    async def broken(connection: Connection, new: NewOutbound, **_: object) -> Registered:
        seen.extend(row[0] for row in await connection.fetch(query))
        return _registered(new.tenant_id)

    with monkeypatch.context() as patch:
        patch.setattr("ingester.api.outbound.register", broken)
        assert (await house.register(key=KEYS["acme"])).status == 201
    return seen


def _registered(tenant_id: UUID) -> Registered:
    """Some answer."""
    return Registered(
        message_id=tenant_id,
        thread_id=new_id(),
        rfc_message_id="",
        reply_token="",
        reply_address="",
        envelope_sender="",
        headers={},
        created=True,
    )


async def _tenant(house: House, slug: str) -> UUID:
    (row,) = await house.town.fetch("SELECT id FROM tenants WHERE slug = $1", slug)
    found: UUID = row["id"]
    return found


async def _state(house: House, tenant_id: UUID) -> list[str]:
    """All that a call could have changed, as text."""
    rows = []
    for table in ("messages", "threads", "participants"):
        rows += await house.town.fetch(f"SELECT t::text FROM {table} t WHERE tenant_id = $1 ORDER BY 1", tenant_id)
    return [row[0] for row in rows]
