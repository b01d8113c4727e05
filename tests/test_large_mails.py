"""Large mails go into their rows piece by piece: whole, once, and by the runtime role too."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
import pytest

from ingester.app import App
from ingester.core.outcome import Reason
from ingester.store.db import Connection
from ingester.store.mail import Mail, Written
from ingester.store.messages import LARGE_BYTES, _statement, write
from tests.daemon import Town, settle
from tests.roles import Walled
from tests.test_pipeline import mail, send, settings

MAILBOXES = {"acme.test": ("support", "sales"), "globex.test": ("support",)}
FILLING = bytes(range(1, 255)) * (3 * LARGE_BYTES // 254 // 2)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[App]:
    app = App(settings(url))
    await app.open()
    yield app
    await app.close()


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tables into which was copied."""
    told: list[str] = []
    copy = asyncpg.Connection.copy_to_table

    async def copy_and_tell(connection: asyncpg.Connection, table_name: str, **more: object) -> str:
        told.append(table_name)
        return str(await copy(connection, table_name, **more))

    monkeypatch.setattr(asyncpg.Connection, "copy_to_table", copy_and_tell)
    return told


async def kept(town: Town) -> list[bytes]:
    return [row["data"] for row in await town.fetch("SELECT data FROM raws WHERE sha256 = sha256(data) ORDER BY id")]


async def test_it_is_stored_to_the_byte_for_each_tenant(database_url: str, copies: list[str]) -> None:
    town = await settle(database_url, MAILBOXES)
    raw = mail("large") + FILLING
    async with opened(town.url) as app:
        outcome = await send(app, raw, "support@acme.test", "sales@acme.test", "support@globex.test")
    assert outcome.reason is Reason.ACCEPTED
    assert await kept(town) == [raw, raw]
    assert copies == ["raws", "raws"]
    unnamed = await town.fetch("SELECT FROM messages m WHERE NOT EXISTS (SELECT FROM raws r WHERE r.id = m.raw_id)")
    assert unnamed == []


async def test_a_small_one_needs_no_statement_more(database_url: str, copies: list[str]) -> None:
    town = await settle(database_url, MAILBOXES)
    async with opened(town.url) as app:
        await send(app, mail("small"))
    assert len(await kept(town)) == 1
    assert copies == []


async def test_of_a_duplicate_nothing_is_left(database_url: str, copies: list[str]) -> None:
    town = await settle(database_url, MAILBOXES)
    raw = mail("twice") + FILLING
    async with opened(town.url) as app:
        outcomes = [await send(app, raw) for _ in range(2)]
    assert [outcome.reason for outcome in outcomes] == [Reason.ACCEPTED, Reason.DUPLICATE]
    assert await kept(town) == [raw]
    assert copies == ["raws", "raws"]


async def test_a_commit_of_which_nothing_was_heard_is_looked_up(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same mail is written again under the same ids: its row is there, and that is no fault of the mail."""
    town = await settle(database_url, MAILBOXES)
    raw = mail("unheard") + FILLING
    tries = 0

    async def commit_unheard(connection: Connection, tenant_id: UUID, mails: Sequence[Mail]) -> list[Written]:
        nonlocal tries
        tries += 1
        if tries == 1:
            async with connection.transaction(), app.database.connection() as other, other.transaction():
                await write(other, tenant_id, mails)
            raise ConnectionResetError
        return await write(connection, tenant_id, mails)

    monkeypatch.setattr("ingester.committing.write", commit_unheard)
    async with opened(town.url) as app:
        outcome = await send(app, raw)
    assert (outcome.reason, len(outcome.stored), tries) == (Reason.ACCEPTED, 1, 2)
    assert await kept(town) == [raw]
    assert await town.fetch("SELECT FROM dead_letters") == []


async def test_bytes_without_rows_are_not_left_behind(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes between the bytes and the write undoes both."""
    town = await settle(database_url, MAILBOXES)
    raw = mail("again") + FILLING
    tries = 0

    def fail_first(with_bytes: tuple[int, ...]) -> str:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ConnectionResetError
        return _statement(with_bytes)

    monkeypatch.setattr("ingester.store.messages._statement", fail_first)
    async with opened(town.url) as app:
        outcome = await send(app, raw)
    assert (outcome.reason, len(outcome.stored), tries) == (Reason.ACCEPTED, 1, 2)
    assert await kept(town) == [raw]
    assert await town.fetch("SELECT FROM dead_letters") == []


async def test_where_rows_are_guarded_it_goes_as_all_others(walled: Walled, copies: list[str]) -> None:
    """Postgres refuses COPY into a table with row-level security."""
    town = await settle(walled.runtime, MAILBOXES)
    raw = mail("guarded") + FILLING
    async with opened(town.url) as app:
        outcome = await send(app, raw)
    assert outcome.reason is Reason.ACCEPTED
    assert await kept(town) == [raw]
    assert copies == []
