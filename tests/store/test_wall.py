"""The wall: work for a tenant is bound to it for one transaction, and to nothing afterwards."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from ingester.clock import new_id
from ingester.core.ids import SYSTEM_TENANT
from ingester.doctor.database import judge_roles
from ingester.settings import load
from ingester.store.db import Database, Unavailable
from ingester.store.standing import standing
from ingester.store.wall import Wall
from tests.deploy.pgbouncer import pooling
from tests.roles import Walled

_WHO = "SELECT current_user || ' ' || coalesce(nullif(current_setting('ingester.tenant', true), ''), 'nobody')"


@asynccontextmanager
async def pool(url: str, **override: Any) -> AsyncIterator[Database]:
    database = Database(load({}, env="development", database_url=url, store__connections=2, **override))
    await database.open()
    yield database
    await database.close()


async def test_inside_it_is_the_api_for_this_tenant_and_afterwards_nobody(walled: Walled) -> None:
    tenant_id, wall = new_id(), Wall()
    async with pool(walled.runtime) as database, database.connection() as connection:
        async with wall.around(connection, tenant_id):
            assert await connection.fetchval(_WHO) == f"{walled.api} {tenant_id}"
            async with connection.transaction():
                assert await connection.fetchval(_WHO) == f"{walled.api} {tenant_id}"
        assert await connection.fetchval(_WHO) == f"{walled.role} nobody"
        with pytest.raises(asyncpg.DivisionByZeroError):
            async with wall.around(connection, tenant_id):
                await connection.execute("SELECT 1 / 0")
        assert await connection.fetchval(_WHO) == f"{walled.role} nobody"


async def test_the_database_is_asked_once(walled: Walled) -> None:
    asked: list[str] = []
    async with pool(walled.runtime) as database, database.connection() as connection:
        wall = Wall()
        connection.add_query_logger(lambda record: asked.append(record.query))
        for _ in range(3):
            async with wall.around(connection, SYSTEM_TENANT):
                pass
    assert sum("pg_policy" in query for query in asked) == 1
    assert sum("set_config('role'" in query for query in asked) == 3


async def test_an_owner_works_as_before(walled: Walled, database_url: str) -> None:
    """With a wall too, which is nothing to an owner who is no superuser; and no transaction is opened."""
    connection = await asyncpg.connect(walled.owner)
    await connection.execute("ALTER TABLE messages OWNER TO pg_database_owner; SET ROLE pg_database_owner")
    async with Wall().around(connection, new_id()):
        assert await connection.fetchval(_WHO) == "pg_database_owner nobody"
        assert not connection.is_in_transaction()
    await connection.close()


async def test_a_superuser_goes_behind_the_wall_too(walled: Walled) -> None:
    connection = await asyncpg.connect(walled.owner)
    async with Wall().around(connection, SYSTEM_TENANT):
        assert await connection.fetchval(_WHO) == f"{walled.api} {SYSTEM_TENANT}"
    await connection.close()


async def test_a_role_that_may_not_enter_is_not_let_through(walled: Walled) -> None:
    """It sees all tenants: without the wall a forgotten filter would show them."""
    owner = await asyncpg.connect(walled.owner)
    await owner.execute(f"REVOKE {walled.api} FROM {walled.role}")
    await owner.close()
    connection = await asyncpg.connect(walled.runtime)
    wall = Wall()
    for _ in range(2):
        with pytest.raises(Unavailable):
            async with wall.around(connection, SYSTEM_TENANT):
                pytest.fail("it was let in")
    (finding,) = judge_roles(await standing(connection))
    assert "/v1 answers 503" in finding.what
    await connection.close()


async def test_a_role_that_is_taken_away_and_given_back(walled: Walled) -> None:
    """Nothing is let through meanwhile, and nobody has to restart the daemon."""
    owner, wall = await asyncpg.connect(walled.owner), Wall()
    async with pool(walled.runtime) as database, database.connection() as connection:
        async with wall.around(connection, SYSTEM_TENANT):
            pass
        await owner.execute(f"REVOKE {walled.api} FROM {walled.role}")
        for _ in range(2):
            with pytest.raises(Unavailable):
                async with wall.around(connection, SYSTEM_TENANT):
                    pytest.fail("it was let in")
        await owner.execute(f"GRANT {walled.api} TO {walled.role}")
        async with wall.around(connection, SYSTEM_TENANT):
            assert await connection.fetchval(_WHO) == f"{walled.api} {SYSTEM_TENANT}"
    await owner.close()


async def test_through_pgbouncer_in_transaction_mode(walled: Walled) -> None:
    """One server connection for two clients: role and tenant of the one are never the other's."""
    tenants, wall = [new_id(), new_id()], Wall()
    with pooling(walled.runtime, servers=1) as url:
        async with (
            pool(url, store__statement_cache=0) as database,
            database.connection() as first,
            database.connection() as second,
        ):
            for tenant_id, one, other in ((tenants[0], first, second), (tenants[1], second, first)):
                async with wall.around(one, tenant_id):
                    assert await one.fetchval(_WHO) == f"{walled.api} {tenant_id}"
                for connection in (one, other):
                    assert await connection.fetchval(_WHO) == f"{walled.role} nobody"
