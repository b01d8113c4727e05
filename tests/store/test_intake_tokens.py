"""ingester.store.intake_tokens: made, found by their hash alone, revoked for good."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from ingester.clock import new_id, now
from ingester.store.db import Connection, Database
from ingester.store.intake_tokens import (
    Bearer,
    NewToken,
    add_token,
    bearer,
    revoke_token,
    token_text,
    tokens,
)
from ingester.store.secret import is_same, secret_hash, secret_text
from tests.api.house import settings
from tests.daemon import settle

TEXT = token_text(b"t" * 32)


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    await settle(database_url, {"acme.test": ("support",)})
    one = await Database(settings(database_url)).connect()
    yield one
    await one.close()


async def made(connection: Connection, text: str = TEXT, **fields: Any) -> NewToken:
    new: dict[str, Any] = {
        "id": new_id(),
        "text": text,
        "name": "relay",
        "provider": None,
        "tenant_id": None,
        "domains": (),
        "may_assert_envelope": False,
        "created_at": now(),
    }
    token = NewToken(**(new | fields))
    await add_token(connection, token)
    return token


async def test_a_token_says_what_it_may(connection: Connection) -> None:
    tenant_id = await connection.fetchval("SELECT id FROM tenants WHERE slug = 'acme'")
    bound = await made(
        connection, provider="postmark", tenant_id=tenant_id, domains=("acme.test",), may_assert_envelope=True
    )
    assert await bearer(connection, TEXT, now()) == Bearer(
        token_id=bound.id,
        provider="postmark",
        tenant_id=tenant_id,
        domains=("acme.test",),
        may_assert_envelope=True,
    )
    for other in (TEXT.upper(), TEXT[:-1], "", "\udcff", token_text(b"u" * 32)):
        assert await bearer(connection, other, now()) is None


async def test_only_the_hash_is_kept(connection: Connection) -> None:
    await made(connection)
    row = await connection.fetchrow("SELECT * FROM intake_tokens")
    assert row is not None
    assert row["hash"] == secret_hash(TEXT)
    assert TEXT.removeprefix("igi_") not in str(dict(row))
    with pytest.raises(asyncpg.UniqueViolationError):
        await made(connection)


async def test_a_revoked_token_is_none_and_keeps_its_time(connection: Connection) -> None:
    token = await made(connection)
    at = now()
    first = await revoke_token(connection, token.id, at)
    again = await revoke_token(connection, token.id, at + timedelta(days=1))
    assert first is not None
    assert first == again
    assert first.revoked_at == at
    assert await bearer(connection, TEXT, now()) is None
    assert await revoke_token(connection, new_id(), at) is None


async def test_tokens_are_listed_those_of_nobody_first(connection: Connection) -> None:
    tenant_id = await connection.fetchval("SELECT id FROM tenants WHERE slug = 'acme'")
    theirs = await made(connection, tenant_id=tenant_id, domains=("acme.test", "b.test"))
    ours = await made(connection, token_text(b"o" * 32))
    listed = await tokens(connection)
    assert [(one.id, one.tenant, one.domains) for one in listed] == [
        (ours.id, None, ()),
        (theirs.id, "acme", ("acme.test", "b.test")),
    ]
    assert [one.id for one in await tokens(connection, [tenant_id])] == [theirs.id]
    assert await tokens(connection, [new_id()]) == []


async def test_the_use_is_noted_to_the_minute(connection: Connection) -> None:
    await made(connection)
    at = now()
    for seconds, noted in ((0, 0), (30, 0), (61, 61), (90, 61)):
        assert await bearer(connection, TEXT, at + timedelta(seconds=seconds)) is not None
        (one,) = await tokens(connection)
        assert one.last_used_at == at + timedelta(seconds=noted)
    token = (await tokens(connection))[0]
    await revoke_token(connection, token.id, at)
    await bearer(connection, TEXT, at + timedelta(days=1))
    assert (await tokens(connection))[0].last_used_at == at + timedelta(seconds=61)


def test_the_text_of_a_secret() -> None:
    assert TEXT.startswith("igi_")
    assert len(TEXT) == 4 + 52
    with pytest.raises(ValueError, match="32 bytes"):
        secret_text("x_", b"short")


def test_two_hashes_are_one_or_not() -> None:
    assert is_same(secret_hash("a"), secret_hash("a"))
    assert not is_same(secret_hash("a"), secret_hash("b"))
    assert not is_same(secret_hash("a"), None)
    assert not is_same(bytes(32), None), "nothing is not the hash of nothing"
