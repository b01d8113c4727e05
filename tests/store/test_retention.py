"""Retention on a real Postgres: what is over its time goes, by index, in small steps; what is needed stays."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from ingester.app import App
from ingester.clock import new_id, now
from ingester.core.outcome import Outcome, Reason
from ingester.rematch import rematch
from ingester.retaining import LOCK, Retaining
from ingester.store import retention
from ingester.store.due import DUE_KINDS, DUE_MAILBOXES, DueMailbox, floor
from ingester.store.registry import add_tenant, enter
from ingester.store.retention import Place
from ingester.store.sweeping import alone
from ingester.store.terms import Days, set_terms
from tests.daemon import Town, settle
from tests.test_pipeline import mail, send, settings

pytestmark = pytest.mark.usefixtures("blobs")

ALL = (
    *("messages", "parts", "raws", "threads", "thread_ids", "participants", "contacts", "receipts", "dead_letters"),
    *("delivery_events", "claims", "refusals"),
)


@pytest.fixture
async def town(database_url: str) -> Town:
    return await settle(database_url, {"acme.test": ("support", "sales"), "globex.test": ("support",)})


@pytest.fixture
async def app(town: Town) -> AsyncIterator[App]:
    one = App(settings(town.url, reply_token_secrets="a secret of the tests and long enough to sign"))
    await one.open()
    yield one
    await one.close()


async def keep(app: App, *, messages: int | None = None, attachments: int | None = None, tenant: str = "acme") -> None:
    """Terms for a tenant, in days."""
    async with app.database.connection() as connection:
        tenant_id = await connection.fetchval("SELECT id FROM tenants WHERE slug = $1", tenant)
        await set_terms(
            connection,
            tenant_id,
            messages=None if messages is None else Days(days=messages),
            attachments=None if attachments is None else Days(days=attachments),
        )


async def after(app: App, days: float, **more: Any) -> Counter[str] | None:
    """A whole run of retention, as it will be in so many days."""
    ours = app.settings if not more else settings(app.settings.database_url.get_secret_value(), **more)
    return await Retaining(settings=ours, database=app.database, now=lambda: now() + timedelta(days=days)).finish()


async def counts(town: Town, *tables: str) -> dict[str, int]:
    found = {table: int((await town.fetch(f"SELECT count(*) FROM {table}"))[0][0]) for table in tables or ALL}
    return {table: many for table, many in found.items() if many}


# -- messages ---------------------------------------------------------------------------------------------------------


async def test_nothing_goes_by_default(app: App, town: Town) -> None:
    await send(app, mail("one"))
    before = await counts(town)
    assert not await after(app, 30_000)
    assert await counts(town) == before


async def test_what_is_over_its_time_goes_with_all_that_is_its_own(app: App, town: Town) -> None:
    """But the claims, which have a time of their own, and nothing of another tenant."""
    await keep(app, messages=30)
    await send(app, mail("one"), "support@acme.test", "sales@acme.test", "support@globex.test")
    await send(app, mail("two", reply="one"))
    assert not await after(app, 29.9)
    rows = await after(app, 30.1)
    assert rows is not None
    assert (rows["messages"], rows["raws"], rows["threads"], rows["receipts"]) == (3, 2, 2, 3)
    left = await counts(town)
    assert left.pop("claims") > 2, "claims outlive what they claimed"
    assert left == {"messages": 1, "parts": 1, "raws": 1, "threads": 1, "thread_ids": 1, "receipts": 1}
    assert not await after(app, 30.1)


async def test_the_settings_hold_for_tenants_without_terms_of_their_own(app: App, town: Town) -> None:
    await send(app, mail("one"), "support@acme.test", "support@globex.test")
    await keep(app, messages=0, tenant="globex")
    assert not await after(app, 6, retention__days=7)
    await after(app, 8, retention__days=7)
    rows = await town.fetch("SELECT t.slug FROM messages m JOIN tenants t ON t.id = m.tenant_id")
    assert [row["slug"] for row in rows] == ["globex"]


async def test_a_retry_of_an_expired_mail_is_a_duplicate(app: App, town: Town) -> None:
    """Its receipt holds nothing of it, and goes in its own time."""
    await keep(app, messages=1)
    outcome = await send(app, mail("one"))
    await after(app, 2)
    assert await counts(town, "receipts") == {"receipts": 1}, "a bucket is searched by them"
    again = await send(app, mail("one"))
    assert (again.reason, again.stored[0].message_id) == (Reason.DUPLICATE, outcome.stored[0].message_id)
    (row,) = await town.fetch("SELECT * FROM receipts WHERE duplicate")
    assert (row["envelope_from"], row["envelope_to"], row["client_ip"], row["helo"]) == ("", [], None, None)
    assert await counts(town, "messages") == {}
    await after(app, 15)
    assert await counts(town, "receipts") == {}


# -- conversations ----------------------------------------------------------------------------------------------------


async def test_a_reply_to_an_expired_message_of_a_living_conversation_joins_it(app: App, town: Town) -> None:
    await keep(app, messages=30)
    first = await send(app, mail("one", subject="Old"))
    await send(app, mail("two", reply="one", subject="Newer"))
    await age(town, first, 40)
    await after(app, 0)
    (thread,) = await town.fetch("SELECT * FROM threads")
    assert (thread["message_count"], thread["subject"]) == (1, "Newer")
    (left,) = await town.fetch("SELECT * FROM messages")
    assert (left["reply_match_status"], left["reply_to_email_id"]) == ("matched", None)
    third = await send(app, mail("three", reply="one"))
    assert not third.stored[0].matched, "what it answers is not here any more"
    rows = await town.fetch("SELECT DISTINCT thread_id FROM messages")
    assert [row["thread_id"] for row in rows] == [thread["id"]]


async def test_a_reply_to_an_expired_conversation_begins_a_new_one(app: App, town: Town) -> None:
    await keep(app, messages=30)
    await send(app, mail("one"))
    await after(app, 31)
    assert await counts(town, "threads", "thread_ids") == {}
    outcome = await send(app, mail("two", reply="one"))
    assert (outcome.reason, outcome.stored[0].matched) == (Reason.ACCEPTED, False)
    late = await send(app, mail("three", reply="two", references=["one", "two"]))
    assert late.stored[0].matched
    assert (await counts(town, "threads"))["threads"] == 1


async def test_a_conversation_that_held_a_message_of_ours_stays_open(app: App, town: Town) -> None:
    """Time alone does not shut out whoever is still writing."""
    await keep(app, messages=30)
    first = await send(app, mail("one"))
    await send(app, mail("two", reply="one"))
    await town.fetch("UPDATE messages SET direction = 'outbound' WHERE rfc_message_id LIKE 'one@%'")
    await town.fetch("UPDATE threads SET has_outbound = true")
    await age(town, first, 40)
    await after(app, 0)
    (thread,) = await town.fetch("SELECT * FROM threads")
    assert (thread["message_count"], thread["has_outbound"]) == (1, True)


async def test_contacts_go_with_the_last_that_names_them(app: App, town: Town) -> None:
    await keep(app, messages=30)
    first, second = await send(app, mail("one")), await send(app, mail("two"))
    (row,) = await town.fetch("SELECT tenant_id FROM messages LIMIT 1")
    for number, outcome in enumerate((first, second, None)):
        contact = UUID(int=number + 1)
        await town.fetch(
            "INSERT INTO contacts (tenant_id, id, address, address_hash, created_at) VALUES ($1, $2, $3, $4, now())",
            row["tenant_id"],
            contact,
            f"{number}@customer.test",
            bytes([number]),
        )
        if outcome is not None:
            await town.fetch("UPDATE messages SET contact_id = $1 WHERE id = $2", contact, outcome.stored[0].message_id)
    await age(town, first, 40)
    await after(app, 0)
    rows = await town.fetch("SELECT address FROM contacts")
    assert [one["address"] for one in rows] == ["1@customer.test"]


@pytest.mark.parametrize(("writer", "left"), [("acme", {"contacts": 1}), ("globex", {})])
async def test_a_contact_whose_mail_is_on_its_way_is_left(
    app: App, town: Town, writer: str, left: dict[str, int]
) -> None:
    """Whoever stores mail for the tenant may be about to name it: the run goes on without. Other tenants' mail is none
    of its business, nor held up by it."""
    await keep(app, messages=30)
    await send(app, mail("one"))
    (row,) = await town.fetch("SELECT tenant_id FROM messages")
    await town.fetch(
        "INSERT INTO contacts (tenant_id, id, address, address_hash, created_at) VALUES ($1, $2, 'a@b', '', now())",
        row["tenant_id"],
        UUID(int=1),
    )
    (other,) = await town.fetch("SELECT id FROM tenants WHERE slug = $1", writer)
    async with app.database.connection() as connection, connection.transaction():
        await enter(connection, other["id"])
        await connection.execute("SELECT take_contacts($1, '{}', '[]')", other["id"])
        assert await after(app, 0) is not None
        assert await counts(town, "contacts") == left
    await after(app, 0)
    assert await counts(town, "contacts") == {}


async def test_a_tenant_that_has_nothing_over_its_time_costs_no_statement(
    app: App, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked about together with hundreds of others."""
    ours = settings(app.settings.database_url.get_secret_value(), retention__days=1)
    retaining = Retaining(settings=ours, database=app.database, now=now)
    await send(app, mail("one"))
    await retaining.retain()
    few = await statements(retaining, monkeypatch)
    async with app.database.connection() as connection:
        for n in range(50):
            assert await add_tenant(connection, tenant_id=new_id(), slug=f"t{n}", name="")
    assert await statements(retaining, monkeypatch) == few


async def statements(retaining: Retaining, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many a run sends, once the contacts were gone through."""
    sent = 0
    with monkeypatch.context() as patch:
        for name in ("fetch", "fetchval", "execute"):
            original = getattr(asyncpg.Connection, name)

            async def counted(*arguments: Any, _original: Any = original, **more: Any) -> Any:
                nonlocal sent
                sent += 1
                return await _original(*arguments, **more)

            patch.setattr(asyncpg.Connection, name, counted)
        await retaining.retain()
    return sent


async def age(town: Town, outcome: Outcome, days: int) -> None:
    """As if the messages had come so many days earlier."""
    ids = [one.message_id for one in outcome.stored]
    await town.fetch(
        "UPDATE messages SET received_at = received_at - $2::interval WHERE id = ANY ($1)", ids, timedelta(days=days)
    )


# -- raw bytes ---------------------------------------------------------------------------------------------------------


async def test_the_bytes_go_earlier_and_all_else_stays(app: App, town: Town) -> None:
    """The row, its texts and its decision, and the list of its parts; whoever wants the bytes hears that they went."""
    await keep(app, messages=365, attachments=90)
    outcome = await send(app, mail("one"))
    before = (await town.fetch("SELECT * FROM messages"), await town.fetch("SELECT * FROM parts"))
    assert not await after(app, 89.9)
    assert await after(app, 90.1) == Counter(raws=1)
    assert (await town.fetch("SELECT * FROM messages"), await town.fetch("SELECT * FROM parts")) == before
    (row,) = await town.fetch("SELECT tenant_id, raw_id FROM messages")
    async with app.database.connection() as connection:
        with pytest.raises(LookupError):
            await app.raws.read(connection, *row)
        lost: list[UUID] = []
        since = now() - timedelta(days=1)
        found = [
            one
            async for one in rematch(
                connection,
                app.raws,
                [row["tenant_id"]],
                since,
                bounds=app.pipeline._bounds,
                secrets=[],
                apply=True,
                lost=lost.append,
            )
        ]
    assert (found, lost) == ([], [outcome.stored[0].message_id])
    assert (await send(app, mail("two", reply="one"))).stored[0].matched, "an answer needs no bytes of what it answers"


async def test_the_bytes_go_with_their_messages_at_the_latest(app: App, town: Town) -> None:
    await keep(app, messages=30, attachments=90)
    await send(app, mail("one"))
    rows = await after(app, 31)
    assert rows is not None
    assert (rows["messages"], rows["raws"]) == (1, 1)


async def test_parts_that_are_no_view_on_the_bytes_are_emptied(app: App, town: Town) -> None:
    await keep(app, attachments=90)
    await send(app, mail("one"))
    await town.fetch('UPDATE parts SET data = $1, "offset" = NULL, length = NULL', b"unpacked")
    assert await after(app, 91) == Counter(raws=1, emptied_parts=1)
    assert [bytes(row["data"]) for row in await town.fetch("SELECT data FROM parts")] == [b""]
    assert not await after(app, 91)


@pytest.mark.s3
async def test_the_objects_of_the_bytes_are_to_go(app: App, town: Town) -> None:
    await keep(app, attachments=90)
    await send(app, mail("one"))
    await after(app, 91)
    assert len(await counts(town, "blob_trash")) == app.blobs.on


# -- dead letters ------------------------------------------------------------------------------------------------------


async def test_dead_letters_have_times_of_their_own(town: Town) -> None:
    """What nobody could digest is kept as mail is; what was redriven or discarded a month. The bytes go with them."""
    app = App(settings(town.url, test__faults="scan:raise"))
    await app.open()
    try:
        for name in ("dead", "redriven", "discarded"):
            await send(app, mail(name))
            await town.fetch(
                "UPDATE dead_letters SET state = $1 WHERE created_at = (SELECT max(created_at) FROM dead_letters)", name
            )
        await keep(app, attachments=7)
        await after(app, 8)
        assert await counts(town, "dead_letters", "raws") == {"dead_letters": 3, "raws": 1}, "the letter is its bytes"
        await after(app, 31)
        assert [row["state"] for row in await town.fetch("SELECT state FROM dead_letters")] == ["dead"]
        await keep(app, messages=60)
        await after(app, 61)
        assert await counts(town, "dead_letters", "raws", "receipts") == {}
    finally:
        await app.close()


# -- in small steps, and out of the way --------------------------------------------------------------------------------


async def test_what_mail_is_arriving_for_is_left_for_the_next_time(app: App, town: Town) -> None:
    """Its conversation is locked: nobody waits, and what else is over its time goes."""
    await keep(app, messages=30)
    first = await send(app, mail("one"))
    await send(app, mail("two"))
    thread = await town.fetch("SELECT thread_id FROM messages WHERE id = $1", first.stored[0].message_id)
    async with app.database.connection() as connection, connection.transaction():
        await connection.execute("SELECT FROM threads WHERE id = $1 FOR UPDATE", thread[0]["thread_id"])
        rows = await after(app, 31)
        assert rows is not None
        assert rows["messages"] == 1
    rows = await after(app, 31)
    assert rows is not None
    assert rows["messages"] == 1


async def test_one_at_a_time(app: App) -> None:
    await keep(app, messages=30)
    async with alone(app.database, LOCK) as free:
        assert free
        assert await after(app, 31) is None


async def test_killed_in_the_middle_it_goes_on(app: App, town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """After any number of steps what is there is whole, and the next run does the rest."""
    monkeypatch.setattr(retention, "BATCH", 2)
    await keep(app, messages=30)
    for name in range(7):
        await send(app, mail(f"m{name}", reply="m0" if name % 2 else None))
    steps = 0
    original = retention.expire_messages

    async def dying(connection: Any, due: DueMailbox, place: Place | None) -> Any:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise asyncio.CancelledError
        return await original(connection, due, place)

    monkeypatch.setattr(retention, "expire_messages", dying)
    with pytest.raises(asyncio.CancelledError):
        await after(app, 31)
    assert (await counts(town, "messages"))["messages"] == 3
    wrong = await town.fetch(
        "SELECT FROM threads t WHERE message_count <> (SELECT count(*) FROM messages m WHERE m.thread_id = t.id)"
    )
    assert wrong == []
    await after(app, 31)
    assert await counts(town, "messages", "threads", "parts", "raws", "participants") == {}


async def test_mail_comes_in_while_old_mail_goes(app: App, town: Town) -> None:
    await keep(app, messages=30)
    old = [await send(app, mail(f"m{n}", reply="m0" if n else None)) for n in range(6)]
    for outcome in old:
        await age(town, outcome, 40)
    arriving = [send(app, mail(f"n{n}", reply=f"m{n % 6}")) for n in range(20)]
    outcomes = await asyncio.gather(*arriving, *(after(app, 0) for _ in range(3)))
    assert [one.reason for one in outcomes[:20] if isinstance(one, Outcome)] == [Reason.ACCEPTED] * 20
    await after(app, 0)
    assert (await counts(town, "messages"))["messages"] == 20
    wrong = await town.fetch(
        "SELECT FROM threads t WHERE message_count <> (SELECT count(*) FROM messages m WHERE m.thread_id = t.id)"
        " UNION ALL SELECT FROM messages m WHERE NOT EXISTS (SELECT FROM threads t WHERE t.id = m.thread_id)"
        " UNION ALL SELECT FROM messages m WHERE reply_to_email_id IS NOT NULL"
        " AND NOT EXISTS (SELECT FROM messages p WHERE p.id = m.reply_to_email_id)"
    )
    assert wrong == []


async def crowd(town: Town) -> None:
    """300 tenants with 20,000 messages, a tenth of them of one tenant, and as many of all else."""
    for statement in (
        "INSERT INTO tenants (id, slug, name) SELECT md5('t' || n)::uuid, 't' || n, '' FROM generate_series(1, 300) n",
        "INSERT INTO mailboxes (tenant_id, id, domain, local_part)"
        " SELECT md5('t' || n)::uuid, md5('b' || n)::uuid, 'd', '' FROM generate_series(1, 300) n",
        "INSERT INTO messages (tenant_id, id, mailbox_id, thread_id, direction, kind, status, rfc_message_id,"
        " rfc_id_hash, reply_match_status, received_at, contact_id)"
        " SELECT md5('t' || k)::uuid, id, md5('b' || k)::uuid, id, 'inbound', 'new', '', '', '', 'unmatched',"
        " now() - n * interval '2 minutes', id"
        " FROM (SELECT n, md5('m' || n)::uuid AS id, CASE WHEN n % 10 = 0 THEN 1 ELSE n % 300 + 1 END AS k"
        " FROM generate_series(1, 20000) n) x",
        "INSERT INTO raws (tenant_id, id, sha256, size, data) SELECT tenant_id, id, '', 0, '' FROM messages",
        "INSERT INTO receipts (tenant_id, id, arrival_id, message_id, door, envelope_from, envelope_to, raw_sha256,"
        " received_at, duplicate) SELECT tenant_id, id, id, id, '', '', '{}', '', received_at, false FROM messages",
        "INSERT INTO contacts (tenant_id, id, address, address_hash, created_at)"
        " SELECT tenant_id, id, '', uuid_send(id), received_at FROM messages",
        "INSERT INTO participants (tenant_id, thread_id, address_hash, address, role, contact_id, added_at)"
        " SELECT tenant_id, id, '', '', 'sender', id, received_at FROM messages",
        "INSERT INTO dead_letters (tenant_id, id, kind, state, reason, detail, envelope, client_prefix, raw_id,"
        " created_at) SELECT tenant_id, id, 'mail', 'redriven', '', '', '{}', '', id, received_at FROM messages",
        "INSERT INTO parts (tenant_id, message_id, ordinal, path, role, content_type, encoding, decoded_size, sha256,"
        " data) SELECT tenant_id, id, 1, '', 'body', '', '', 0, '',"
        " CASE WHEN received_at < now() - interval '27 days' THEN 'x' ELSE '' END::bytea FROM messages",
        "ANALYZE",
    ):
        await town.fetch(statement)


async def test_the_next_batch_is_found_through_an_index(town: Town) -> None:
    """And the mailboxes that are due by one look-up in each, however much mail there is."""
    await crowd(town)
    before = now() - timedelta(days=27)
    (row,) = await town.fetch("SELECT md5('t1')::uuid AS tenant, md5('b1')::uuid AS mailbox")
    nil, tenant, young = UUID(int=0), row["tenant"], floor(before)
    tenants = [one["id"] for one in await town.fetch("SELECT id FROM tenants")]
    long_ago = before - timedelta(days=10_000)
    plans: tuple[tuple[Any, ...], ...] = (
        ("messages_mailbox", DUE_MAILBOXES, tenants, [before] * len(tenants)),
        ("parts_bytes", DUE_KINDS, tenants, *[[before] * len(tenants)] * 3, *[[young] * len(tenants)] * 2),
        ("messages_mailbox", retention.DUE_MESSAGES, tenant, row["mailbox"], before, long_ago, nil, 100),
        ("raws_pkey", retention.DUE_RAWS, tenant, nil, young, before, 100),
        ("parts_bytes", retention.DUE_PARTS, tenant, young, 100),
        ("receipts_pkey", retention.DUE_RECEIPTS, tenant, nil, young, 1000),
        ("dead_letters_created", retention.DUE_LETTERS, tenant, before, before, 100),
        ("contacts_pkey", retention.LONELY_CONTACTS, tenant, nil, young, 1000),
    )
    for index, statement, *arguments in plans:
        plan = await explained(town, str(statement), *arguments)
        assert index in plan, plan
        for table in ("messages", "raws", "parts", "receipts", "dead_letters", "contacts", "participants"):
            assert f"Seq Scan on {table}" not in plan, plan


async def explained(town: Town, statement: str, *arguments: object) -> str:
    rows = await town.fetch(f"EXPLAIN (ANALYZE, BUFFERS) {statement}", *arguments)
    return "\n".join(row[0] for row in rows)
