"""ingester.store.erasing on a real Postgres: what goes with a message, what stays, and what is right afterwards."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from ingester.app import App
from ingester.core.outcome import Outcome, Reason
from ingester.store.erasing import Erased, erase, preview
from tests.daemon import Town, settle
from tests.test_pipeline import envelope, mail, send, settings


@pytest.fixture
async def town(database_url: str) -> Town:
    return await settle(database_url, {"acme.test": ("support", "sales"), "globex.test": ("support",)})


@pytest.fixture
async def app(town: Town) -> AsyncIterator[App]:
    one = App(settings(town.url))
    await one.open()
    yield one
    await one.close()


async def gone(app: App, outcome: Outcome, number: int = 0) -> Erased:
    one = outcome.stored[number]
    async with app.database.connection() as connection:
        expected = await preview(connection, one.tenant_id, one.message_id)
        erased = await erase(connection, one.tenant_id, one.message_id)
        assert erased is not None
        assert erased == expected, "a dry run says what will be"
        assert await preview(connection, one.tenant_id, one.message_id) is None
        assert await erase(connection, one.tenant_id, one.message_id) is None
    return erased


async def count(town: Town, table: str) -> int:
    return int((await town.fetch(f"SELECT count(*) FROM {table}"))[0][0])


async def test_the_only_message_goes_with_all_that_is_its_own(app: App, town: Town) -> None:
    outcome = await send(app, mail("one"))
    erased = await gone(app, outcome)
    assert (erased.left, erased.answers, erased.parts, erased.size) == (0, 0, 1, len(mail("one")))
    for table in ("messages", "parts", "raws", "threads", "thread_ids", "participants", "blob_trash"):
        assert await count(town, table) == 0, table


async def test_a_retry_does_not_bring_it_back(app: App, town: Town) -> None:
    """Claims and receipts outlive the message: the answer is duplicate, with the id it had."""
    outcome = await send(app, mail("one"))
    await gone(app, outcome)
    again = await send(app, mail("one"))
    assert again.reason is Reason.DUPLICATE
    assert again.stored[0].message_id == outcome.stored[0].message_id
    assert await count(town, "messages") == 0
    assert await count(town, "receipts") == 2


@pytest.mark.parametrize("first", [0, 1])
async def test_the_bytes_go_with_the_last_that_needs_them(app: App, town: Town, first: int) -> None:
    """One arrival for two mailboxes of a tenant, whose bytes are shared; the other tenant has its own."""
    outcome = await send(app, mail("shared"), "support@acme.test", "sales@acme.test", "support@globex.test")
    ours = [n for n, one in enumerate(outcome.stored) if one.tenant_id == outcome.stored[0].tenant_id]
    numbers = ours if len(ours) == 2 else [n for n in range(3) if n not in ours]
    assert (await gone(app, outcome, numbers[first])).raw_id is None
    assert await count(town, "raws") == 2
    assert (await gone(app, outcome, numbers[1 - first])).raw_id is not None
    assert await count(town, "raws") == 1


async def test_two_that_share_bytes_go_at_once(app: App, town: Town) -> None:
    """The second waits for the first, or each would leave the bytes to the other."""
    outcome = await send(app, mail("shared"), "support@acme.test", "sales@acme.test")

    async def other() -> Erased | None:
        async with app.database.connection() as connection:
            return await erase(connection, outcome.stored[1].tenant_id, outcome.stored[1].message_id)

    async with app.database.connection() as connection, connection.transaction():
        first = await erase(connection, outcome.stored[0].tenant_id, outcome.stored[0].message_id)
        task = asyncio.create_task(other())
        while not task.done() and not await town.fetch("SELECT FROM pg_locks WHERE NOT granted"):
            pass
    second = await task
    assert first is not None
    assert second is not None
    assert (first.raw_id is None, second.raw_id is None) == (True, False)
    assert await count(town, "raws") == 0


async def test_a_dead_letter_keeps_its_bytes_until_it_is_redriven(app: App, town: Town) -> None:
    outcome = await send(app, mail("one"))
    (row,) = await town.fetch("SELECT tenant_id, raw_id FROM messages")
    await town.fetch(
        "INSERT INTO dead_letters (tenant_id, id, kind, reason, detail, envelope, client_prefix, raw_id, created_at)"
        " VALUES ($1, $2, 'mail', '', '', '{}', '', $2, now())",
        row["tenant_id"],
        row["raw_id"],
    )
    async with app.database.connection() as connection:
        kept = await preview(connection, row["tenant_id"], outcome.stored[0].message_id)
        assert kept is not None
        assert kept.raw_id is None
        await connection.execute("UPDATE dead_letters SET state = 'redriven'")
    assert (await gone(app, outcome)).raw_id == row["raw_id"]


async def test_answers_stay_in_their_conversation(app: App, town: Town) -> None:
    """They answered something; that is not there any more. The thread counts and names what is left."""
    first = await send(app, mail("one", subject="The secret"))
    later = envelope(mail("two", reply="one", subject="Re: hello"))
    second = await app.pipeline.accept(later)
    assert second.stored[0].matched
    erased = await gone(app, first)
    assert (erased.left, erased.answers) == (1, 1)
    (row,) = await town.fetch("SELECT * FROM messages")
    assert (row["reply_match_status"], row["reply_to_email_id"]) == ("matched", None)
    assert row["decision"] is not None
    assert str(first.stored[0].message_id) in row["decision"]
    (thread,) = await town.fetch("SELECT * FROM threads")
    assert (thread["message_count"], thread["root_message_id"]) == (1, second.stored[0].message_id)
    assert (thread["subject"], thread["last_message_at"]) == ("Re: hello", row["received_at"])
    # An answer to the erased message that was on its way still finds the conversation.
    third = await send(app, mail("three", reply="one"))
    (row,) = await town.fetch("SELECT thread_id FROM messages WHERE id = $1", third.stored[0].message_id)
    assert row["thread_id"] == thread["id"]


async def test_the_last_message_of_a_thread_goes(app: App, town: Town) -> None:
    first = await send(app, mail("one"))
    second = await send(app, mail("two", reply="one"))
    await gone(app, second)
    (thread,) = await town.fetch("SELECT t.*, m.received_at FROM threads t, messages m")
    assert (thread["message_count"], thread["root_message_id"]) == (1, first.stored[0].message_id)
    assert thread["last_message_at"] == thread["received_at"]


async def test_a_thread_that_went_is_not_missed(app: App, town: Town) -> None:
    """Whoever cites an id of it later begins a new conversation, and others that cite it join there."""
    await gone(app, await send(app, mail("one")))
    await send(app, mail("two", reply="one"))
    await send(app, mail("three", reply="one"))
    assert await count(town, "threads") == 1
    assert (await town.fetch("SELECT message_count FROM threads"))[0][0] == 2


async def test_who_took_part_in_it_alone_takes_part_no_more(app: App, town: Town) -> None:
    first = await send(app, mail("one"))
    await send(app, mail("two", reply="one"))
    (thread,) = await town.fetch("SELECT tenant_id, id FROM threads")
    for number, address in enumerate(("ada@customer.test", "support@acme.test", "eve@else.test")):
        await town.fetch(
            "INSERT INTO participants (tenant_id, thread_id, address_hash, address, role, added_at)"
            " VALUES ($1, $2, $3, $4, 'sender', now())",
            *thread,
            bytes([number]),
            address,
        )
    await town.fetch("UPDATE messages SET from_address = 'Grace@customer.test' WHERE rfc_message_id LIKE 'two@%'")
    await gone(app, first)
    rows = await town.fetch("SELECT address FROM participants ORDER BY 1")
    assert [row["address"] for row in rows] == ["eve@else.test", "support@acme.test"]


async def test_ours_alone_open_a_thread_only_mailbox(app: App, town: Town) -> None:
    first = await send(app, mail("one"))
    await send(app, mail("two", reply="one"))
    await town.fetch("UPDATE messages SET direction = 'outbound' WHERE rfc_message_id LIKE 'one@%'")
    await town.fetch("UPDATE threads SET has_outbound = true")
    await gone(app, first)
    assert (await town.fetch("SELECT has_outbound FROM threads"))[0][0] is False


async def test_another_tenant_erases_nothing(app: App, town: Town) -> None:
    outcome = await send(app, mail("one"))
    async with app.database.connection() as connection:
        assert await erase(connection, UUID(int=0), outcome.stored[0].message_id) is None
    assert await count(town, "messages") == 1


async def test_mail_comes_in_while_its_conversation_is_erased(app: App, town: Town) -> None:
    """Whatever comes first, the counts are right, and no mail is lost."""
    first = await send(app, mail("m0"))
    outcomes = [first, *[await send(app, mail(f"m{n}", reply="m0")) for n in range(1, 6)]]

    async def erasing(outcome: Outcome) -> None:
        one = outcome.stored[0]
        async with app.database.connection() as connection:
            await erase(connection, one.tenant_id, one.message_id)

    arriving = [send(app, mail(f"n{n}", reply=f"m{n % 6}")) for n in range(20)]
    results = await asyncio.gather(*arriving, *(erasing(outcome) for outcome in outcomes))
    assert [one.reason for one in results[:20] if one is not None] == [Reason.ACCEPTED] * 20
    assert await count(town, "messages") == 20
    wrong = await town.fetch(
        "SELECT FROM threads t WHERE message_count <> (SELECT count(*) FROM messages m WHERE m.tenant_id = t.tenant_id"
        " AND m.thread_id = t.id)"
    )
    assert wrong == []
    lost = await town.fetch(
        "SELECT FROM messages m WHERE NOT EXISTS (SELECT FROM threads t WHERE t.tenant_id = m.tenant_id"
        " AND t.id = m.thread_id)"
    )
    assert lost == []
    nowhere = await town.fetch(
        "SELECT FROM messages m WHERE reply_to_email_id IS NOT NULL AND NOT EXISTS (SELECT FROM messages p"
        " WHERE p.tenant_id = m.tenant_id AND p.id = m.reply_to_email_id)"
    )
    assert nowhere == []
