"""API keys in the store: hashed, found, revoked, and the same for unknown and revoked."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from ingester.clock import new_id
from ingester.store.keys import add_key, holder, key_text, keys, revoke_key
from ingester.store.secret import secret_hash
from tests.daemon import settle

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
KEY = key_text(bytes(range(32)))


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    await settle(database_url, {"acme.test": ("support",), "globex.test": ("support",)})
    one = await asyncpg.connect(database_url)
    yield one
    await one.close()


@pytest.fixture
async def tenant(connection: asyncpg.Connection) -> UUID:
    found = await connection.fetchval("SELECT id FROM tenants WHERE slug = 'acme'")
    assert isinstance(found, UUID)
    return found


async def _add(
    connection: asyncpg.Connection, tenant: UUID, text: str = KEY, name: str = "app", at: datetime = NOW
) -> UUID:
    key_id = new_id()
    await add_key(connection, key_id=key_id, tenant_id=tenant, name=name, text=text, at=at)
    return key_id


def test_a_key_is_256_bits_that_anyone_can_copy() -> None:
    assert KEY == "igk_aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypq"
    with pytest.raises(ValueError, match="32 bytes"):
        key_text(bytes(31))


async def test_only_the_hash_is_stored(connection: asyncpg.Connection, tenant: UUID) -> None:
    await _add(connection, tenant)
    (row,) = await connection.fetch("SELECT * FROM api_keys")
    assert row["hash"] == secret_hash(KEY)
    assert KEY not in str(dict(row))


async def test_a_key_stands_for_its_tenant(connection: asyncpg.Connection, tenant: UUID) -> None:
    key_id = await _add(connection, tenant)
    found = await holder(connection, KEY, NOW)
    assert found is not None
    assert (found.key_id, found.tenant_id, found.tenant) == (key_id, tenant, "acme")
    for other in (KEY.upper(), KEY[:-1], KEY + "a", "", "igk_", key_text(bytes(32)), "\udcff"):
        assert await holder(connection, other, NOW) is None


async def test_a_revoked_key_is_nobody_s_for_good(connection: asyncpg.Connection, tenant: UUID) -> None:
    key_id = await _add(connection, tenant)
    revoked = await revoke_key(connection, key_id, NOW)
    assert revoked is not None
    assert revoked.revoked_at == NOW
    assert await holder(connection, KEY, NOW) is None
    again = await revoke_key(connection, key_id, NOW + timedelta(days=1))
    assert again is not None
    assert again.revoked_at == NOW
    assert await revoke_key(connection, new_id(), NOW) is None
    (listed,) = await keys(connection, [tenant])
    assert listed.last_used_at is None


async def test_a_use_is_noted_once_a_minute(connection: asyncpg.Connection, tenant: UUID) -> None:
    await _add(connection, tenant)
    for seconds, noted in ((0, 0), (59, 0), (61, 61), (62, 61)):
        await holder(connection, KEY, NOW + timedelta(seconds=seconds))
        (one,) = await keys(connection, [tenant])
        assert one.last_used_at == NOW + timedelta(seconds=noted)


async def test_keys_are_listed_by_tenant_and_age(connection: asyncpg.Connection, tenant: UUID) -> None:
    other = await connection.fetchval("SELECT id FROM tenants WHERE slug = 'globex'")
    await _add(connection, other, key_text(bytes(32)), "theirs")
    for age, name in enumerate(("newest", "second", "first")):  # the ids go the other way
        at = NOW - timedelta(days=age)
        await _add(connection, tenant, key_text(name.ljust(32).encode()), name, at)
    assert [one.name for one in await keys(connection, [tenant, other])] == ["first", "second", "newest", "theirs"]
    assert [one.name for one in await keys(connection, [other])] == ["theirs"]
