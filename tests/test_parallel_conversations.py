"""Registrations, replies, providers' ids and rematches meet in the same conversations: no deadlock, nothing lost."""

import asyncio
from datetime import timedelta

import pytest

from ingester.app import App
from ingester.clock import now
from ingester.configured import bounds
from ingester.core.outcome import Reason
from ingester.rematch import rematch
from ingester.store.outbound import Registered, record_sent
from tests.daemon import Town
from tests.test_conversations import Office, app, mail, office, send, town

pytestmark = pytest.mark.usefixtures("blobs")

__all__ = ["app", "town"]

CONVERSATIONS = 6
ROUNDS = 8


async def replies(app: App, firsts: list[Registered], n: int, turn: int) -> None:
    """What customers answer: by citing, by the provider's id, by a token beside the id of another conversation."""
    first, other = firsts[n], firsts[(n + 1) % len(firsts)]
    name = f"{n}-{turn}"
    outcomes = await asyncio.gather(
        send(app, mail(f"cites-{name}", In_Reply_To=first.headers["Message-ID"])),
        send(app, mail(f"provider-{name}", In_Reply_To=f"<ses-{n}-{turn}@ses.test>")),
        send(app, mail(f"late-{name}", In_Reply_To=f"<cites-{n}-{turn}@customer.test>")),
        send(app, mail(f"token-{name}", References=other.headers["Message-ID"]), first.reply_address),
        send(
            app,
            mail(f"both-{name}", X_OpenSend_Reply_Token=first.reply_token, In_Reply_To=f"<token-{name}@customer.test>"),
        ),
    )
    assert {one.reason for one in outcomes} == {Reason.ACCEPTED}


async def application(ours: Office, first: Registered, n: int, turn: int) -> Registered:
    """It answers in the thread, twice with one key, and learns what the provider made of the id."""
    one, again = await asyncio.gather(
        ours.writes(in_reply_to=first.rfc_message_id, idempotency_key=f"{n}-{turn}"),
        ours.writes(in_reply_to=first.rfc_message_id, idempotency_key=f"{n}-{turn}"),
    )
    assert one.message_id == again.message_id
    assert one.created is not again.created

    async def note() -> None:
        async with ours.app.database.connection() as connection:
            assert await record_sent(
                connection,
                ours.tenant_id,
                one.message_id,
                provider_message_id=None,
                rfc_message_id=f"ses-{n}-{turn}@ses.test",
                at=now(),
            )

    await asyncio.gather(note(), note())
    return one


async def judge_again(ours: Office) -> None:
    async with ours.app.database.connection() as connection:
        since, settings = now() - timedelta(days=1), ours.app.settings
        found = rematch(
            connection,
            ours.app.raws,
            [ours.tenant_id],
            since,
            bounds=bounds(settings),
            secrets=settings.token_secrets,
            apply=True,
        )
        async for _ in found:
            pass


async def test_all_that_touches_a_conversation_at_once_leaves_it_whole(app: App, town: Town) -> None:
    ours = await office(app, town)
    firsts = [await ours.writes(f"customer-{n}@customer.test") for n in range(CONVERSATIONS)]
    for turn in range(ROUNDS):
        await asyncio.gather(
            *(replies(app, firsts, n, turn) for n in range(CONVERSATIONS)),
            *(application(ours, first, n, turn) for n, first in enumerate(firsts)),
            judge_again(ours),
            judge_again(ours),
        )
    await judge_again(ours)
    threads = await town.fetch(
        """
        SELECT h.message_count, count(m.id) AS held, count(DISTINCT m.mailbox_id) AS mailboxes
        FROM threads h LEFT JOIN messages m ON m.tenant_id = h.tenant_id AND m.thread_id = h.id
        GROUP BY h.tenant_id, h.id, h.message_count
        """
    )
    per_turn = 6
    assert [tuple(one) for one in threads] == [(1 + per_turn * ROUNDS, 1 + per_turn * ROUNDS, 1)] * CONVERSATIONS
    lost = await town.fetch(
        """
        SELECT 1 FROM messages m LEFT JOIN threads h ON h.tenant_id = m.tenant_id AND h.id = m.thread_id
        WHERE h.id IS NULL OR (m.direction = 'inbound' AND m.reply_match_status = 'unmatched')
        UNION ALL
        SELECT 1 FROM thread_ids t LEFT JOIN threads h ON h.tenant_id = t.tenant_id AND h.id = t.thread_id
        WHERE h.id IS NULL
        """
    )
    assert lost == []
    assert await deadlocks(app, town) == 0


async def deadlocks(app: App, town: Town) -> int:
    """As Postgres counts them; a backend tells of its own when it ends."""
    await app.close()
    (pids,) = await town.fetch("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
    while pids[0] > 1:
        (pids,) = await town.fetch("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
    (found,) = await town.fetch("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    return int(found[0])
