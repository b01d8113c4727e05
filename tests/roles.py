"""A database whose daemon logs in as the runtime role: what `ingester roles` makes of it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import asyncpg
import pytest

from ingester.store.roles import apply_plan, plan
from ingester.store.scram import verifier
from tests.postgres import _execute

PASSWORD = "a-password-of-the-tests"


@dataclass(frozen=True, slots=True, kw_only=True)
class Walled:
    """`owner` and `runtime` are URLs of one database, the others names of roles: roles belong to a whole server."""

    owner: str
    runtime: str
    role: str
    api: str


def url_as(url: str, role: str) -> str:
    """The URL of a database for a role with the password of the tests."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{role}:{PASSWORD}@{parts.hostname}:{parts.port}").geturl()


async def wall(url: str) -> Walled:
    """Make the roles of this database."""
    name = urlsplit(url).path.strip("/")
    connection = await asyncpg.connect(url)
    try:
        role, api = f"runtime_{name}", f"api_{name}"
        await apply_plan(
            connection, await plan(connection, runtime=role, api=api, verifier=verifier(PASSWORD, b"salt" * 4))
        )
    finally:
        await connection.close()
    return Walled(owner=url, runtime=url_as(url, role), role=role, api=api)


async def remove(url: str, *roles: str) -> None:
    """Remove these roles, where they are, with all that they have in this database."""
    for role in roles:
        there = f"EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}')"
        await _execute(url, f"DO $$ BEGIN IF {there} THEN DROP OWNED BY {role}; DROP ROLE {role}; END IF; END $$")


@asynccontextmanager
async def passing(url: str, *roles: str) -> AsyncIterator[None]:
    """These roles are gone at the end."""
    try:
        yield
    finally:
        await remove(url, *roles)


@pytest.fixture
def walled(database_url: str) -> Iterator[Walled]:
    """A migrated database with both roles."""
    made = asyncio.run(wall(database_url))
    yield made
    asyncio.run(remove(database_url, made.role, made.api))
