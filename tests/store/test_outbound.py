"""Registering outbound messages: answers, threads, headers, what is refused, and what providers make of the ids."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from ingester.clock import new_id
from ingester.core.token import parse_token, verify
from ingester.settings import load
from ingester.store.db import Connection, Database
from ingester.store.outbound import NewOutbound, OutboundError, Registered, Sent, record_sent, register
from tests.daemon import Town, settle

SECRETS = [b"a secret of at least 32 characters!!", b"an older secret of at least 32 chars"]
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
async def town(database_url: str) -> Town:
    return await settle(database_url, {"acme.test": ("support", "sales"), "globex.test": ("support",)})


@pytest.fixture
async def connection(town: Town) -> AsyncIterator[Connection]:
    one = await Database(load({}, env="development", database_url=town.url)).connect()
    yield one
    await one.close()


@pytest.fixture
async def new(town: Town) -> NewOutbound:
    (row,) = await town.fetch(
        "SELECT tenant_id, id FROM mailboxes WHERE domain = 'acme.test' AND local_part = 'support'"
    )
    return NewOutbound(
        tenant_id=row["tenant_id"], tenant_slug="acme", mailbox_id=row["id"], to=("Ada@customer.test",), subject="Hello"
    )


async def registered(connection: Connection, new: NewOutbound, **how: Any) -> Registered:
    return await register(connection, replace(new, **how), secrets=SECRETS, new_id=new_id, now=NOW)


async def refused(connection: Connection, new: NewOutbound, **how: Any) -> str:
    with pytest.raises(OutboundError) as caught:
        await registered(connection, new, **how)
    return caught.value.code


async def test_a_registration_gives_all_that_the_mail_needs(
    connection: Connection, new: NewOutbound, town: Town
) -> None:
    one = await registered(connection, new)
    token = parse_token(one.reply_token)
    assert token is not None
    assert token.id == one.message_id
    assert verify(token, SECRETS, tenant="acme", domain="acme.test")
    assert one.reply_address == one.envelope_sender == f"reply+{one.reply_token}@acme.test"
    assert one.headers == {
        "Message-ID": f"<{one.reply_token}@acme.test>",
        "X-OpenSend-Reply-Token": one.reply_token,
    }
    (row,) = await town.fetch("SELECT * FROM messages")
    assert (row["direction"], row["status"], row["from_address"]) == ("outbound", "registered", "support@acme.test")
    (thread,) = await town.fetch("SELECT * FROM threads")
    assert (thread["id"], thread["is_read"], thread["has_outbound"]) == (one.thread_id, True, True)
    (participant,) = await town.fetch("SELECT * FROM participants")
    (contact,) = await town.fetch("SELECT * FROM contacts")
    assert (participant["address"], participant["role"]) == ("ada@customer.test", "recipient")
    assert participant["contact_id"] == contact["id"]


async def test_the_same_key_gives_the_same_answer(connection: Connection, new: NewOutbound, town: Town) -> None:
    first = await registered(connection, new, idempotency_key="k1")
    again = await registered(connection, new, idempotency_key="k1", subject="Another")
    other = await registered(connection, new, idempotency_key="k2")
    assert again == replace(first, created=False)
    assert other.message_id != first.message_id
    assert len(await town.fetch("SELECT 1 FROM messages")) == 2


async def test_a_reply_cites_the_whole_chain_that_is_stored(connection: Connection, new: NewOutbound) -> None:
    first = await registered(connection, new)
    second = await registered(connection, new, in_reply_to=first.rfc_message_id)
    third = await registered(connection, new, thread_id=first.thread_id)
    assert first.thread_id == second.thread_id == third.thread_id
    assert third.headers["In-Reply-To"] == f"<{second.rfc_message_id}>"
    assert third.headers["References"] == f"<{first.rfc_message_id}> <{second.rfc_message_id}>"


async def test_a_thread_of_another_mailbox_or_tenant_is_refused(
    connection: Connection, new: NewOutbound, town: Town
) -> None:
    one = await registered(connection, new)
    (sales,) = await town.fetch("SELECT id FROM mailboxes WHERE local_part = 'sales'")
    (globex,) = await town.fetch("SELECT tenant_id, id FROM mailboxes WHERE domain = 'globex.test' AND system IS NULL")
    other = {"tenant_id": globex["tenant_id"], "tenant_slug": "globex", "mailbox_id": globex["id"]}
    assert await refused(connection, new, mailbox_id=sales["id"], thread_id=one.thread_id) == "cross_mailbox"
    assert await refused(connection, new, **other, thread_id=one.thread_id) == "unknown_thread"
    assert await refused(connection, new, thread_id=new_id()) == "unknown_thread"
    assert await refused(connection, new, mailbox_id=globex["id"]) == "unknown_mailbox"
    assert await refused(connection, new, to=()) == "recipients"
    stranger = await registered(connection, new, mailbox_id=sales["id"], in_reply_to=one.rfc_message_id)
    assert stranger.thread_id != one.thread_id


async def test_a_marketing_mailbox_must_be_unsubscribable(connection: Connection, new: NewOutbound, town: Town) -> None:
    await town.fetch("UPDATE mailboxes SET email_type = 'marketing'")
    assert await refused(connection, new) == "not_unsubscribable"
    await town.fetch("UPDATE mailboxes SET unsubscribable = true")
    assert (await registered(connection, new)).created


async def test_a_mail_that_was_sent_elsewhere_keeps_its_ids(connection: Connection, new: NewOutbound) -> None:
    first = await registered(connection, new)
    old = UUID("11111111-2222-4333-8444-555555555555")
    sent = Sent(id=old, rfc_message_id="old@elsewhere.test", provider_message_id="p-1")
    one = await registered(connection, new, sent=sent)
    assert (one.message_id, one.rfc_message_id) == (old, "old@elsewhere.test")
    assert await refused(connection, new, sent=replace(sent, token=first.reply_token)) == "bad_token"
    assert await refused(connection, new, sent=replace(sent, token="osr_x")) == "bad_token"
    assert await refused(connection, new, sent=sent) == "id_taken"


async def test_replies_to_the_providers_id_are_replies_too(
    connection: Connection, new: NewOutbound, town: Town
) -> None:
    first = await registered(connection, new)
    note = partial(
        record_sent, connection, provider_message_id="ses-1", rfc_message_id="ses-1@email.amazonses.com", at=NOW
    )
    assert await note(new.tenant_id, first.message_id)
    assert await note(new.tenant_id, first.message_id)
    assert not await note(new_id(), first.message_id)
    later = await registered(connection, new, in_reply_to="ses-1@email.amazonses.com")
    assert later.thread_id == first.thread_id
    assert later.headers["References"] == "<ses-1@email.amazonses.com>"
    (row,) = await town.fetch("SELECT status, provider_message_id FROM messages WHERE id = $1", first.message_id)
    assert tuple(row) == ("sent", "ses-1")


async def test_without_a_secret_nothing_can_be_registered(connection: Connection, new: NewOutbound) -> None:
    with pytest.raises(OutboundError, match="INGESTER_REPLY_TOKEN_SECRETS"):
        await register(connection, new, secrets=[], new_id=new_id, now=NOW)
