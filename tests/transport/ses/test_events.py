"""Delivery events through the door: status and rows of the message of ours that they are about, tenant by tenant."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from ingester.clock import now
from ingester.store.delivery_events import events_of
from ingester.store.erasing import erase
from ingester.store.housekeeping import expire_delivery_events
from ingester.store.outbound import Sent, record_sent
from tests.sns import FakeSns
from tests.transport.ses.house import EVENTS, INBOUND, House, bounce, complaint, delay, delivery, running


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    async with running(database_url, reply_token_secrets="a secret of at least 32 characters!!") as one:
        yield one


async def sent(house: House, provider_message_id: str = "m-1", tenant: str = "acme") -> UUID:
    """A message of ours that SES was given."""
    made = await house.register(f"support@{tenant}.test", tenant)
    await tell_sent(house, made.message_id, provider_message_id, tenant)
    return made.message_id


async def tell_sent(house: House, message_id: UUID, provider_message_id: str, tenant: str = "acme") -> None:
    async with house.app.database.connection() as connection:
        tenant_id = await connection.fetchval("SELECT id FROM tenants WHERE slug = $1", tenant)
        assert await record_sent(
            connection,
            tenant_id,
            message_id,
            provider_message_id=provider_message_id,
            rfc_message_id=None,
            at=now(),
        )


async def test_a_bounce_is_kept_beside_its_message(house: House) -> None:
    message_id = await sent(house)
    reply = await house.tell(bounce("m-1"), EVENTS, message_id="event-1")
    assert reply.status == 202
    assert reply.body == {
        "ok": True,
        "status": "accepted",
        "event_id": reply.body["event_id"],
        "message_id": str(message_id),
    }
    assert await house.status(message_id) == "bounced"
    (row,) = await house.town.fetch("SELECT * FROM delivery_events")
    assert str(row["id"]) == reply.body["event_id"]
    assert (row["message_id"], row["provider"], row["provider_event_id"]) == (message_id, "ses", "event-1")
    assert (row["kind"], row["status"], row["recipients"]) == ("bounce", "bounced", ["ada@customer.test"])
    assert f"{row['occurred_at']:%H:%M:%S}" == "08:00:05"
    async with house.app.database.connection() as connection:
        (event,) = await events_of(connection, row["tenant_id"], message_id)
    assert event.detail["recipients"][0]["status"] == "5.1.1"


async def test_what_each_event_makes_of_the_status(house: House) -> None:
    told: list[tuple[Any, str]] = [
        (delivery, "delivered"),
        (delay, "delayed"),
        (complaint, "complained"),
        (bounce, "bounced"),
        (lambda of: bounce(of, "Transient"), "sent"),
        (lambda of: bounce(of, "Undetermined"), "sent"),
    ]
    for number, (tell, status) in enumerate(told):
        message_id = await sent(house, f"m-{number}")
        assert (await house.tell(tell(f"m-{number}"), EVENTS)).status == 202
        assert await house.status(message_id) == status
    assert await house.count("delivery_events") == len(told)


async def test_the_strongest_stands_in_every_order(house: House) -> None:
    for number, kinds in enumerate(itertools.permutations((delivery, delay, bounce, complaint))):
        message_id = await sent(house, f"m-{number}")
        replies = [await house.tell(kind(f"m-{number}"), EVENTS) for kind in kinds[:3]]
        assert [reply.status for reply in replies] == [202] * 3
        left = {delivery: "delivered", delay: "delayed", bounce: "bounced", complaint: "complained"}
        order = ["delayed", "delivered", "bounced", "complained"]
        assert await house.status(message_id) == max((left[kind] for kind in kinds[:3]), key=order.index)


async def test_a_replay_stores_once_and_names_the_original(house: House) -> None:
    await sent(house)
    envelope = house.sns.notification(delivery("m-1"))
    replies = await asyncio.gather(*(house.post(envelope, EVENTS) for _ in range(5)))
    assert sorted(reply.status for reply in replies) == [200] * 4 + [202]
    assert len({reply.body["event_id"] for reply in replies}) == 1
    assert {reply.body["status"] for reply in replies} == {"accepted", "duplicate"}
    assert await house.count("delivery_events") == 1


async def test_an_event_that_is_faster_than_the_application_waits(house: House) -> None:
    made = await house.register()
    for told in (delivery("m-1"), bounce("m-1")):
        reply = await house.tell(told, EVENTS)
        assert reply.status == 202
        assert "message_id" not in reply.body
    assert await house.status(made.message_id) == "registered"
    await tell_sent(house, made.message_id, "m-1")
    assert await house.status(made.message_id) == "bounced"
    rows = await house.town.fetch("SELECT message_id FROM delivery_events")
    assert {row["message_id"] for row in rows} == {made.message_id}


async def test_a_mail_that_was_sent_before_it_is_registered_gets_its_events(house: House) -> None:
    await house.tell(complaint("m-1"), EVENTS)
    made = await house.register(sent=Sent(provider_message_id="m-1"))
    assert await house.status(made.message_id) == "complained"


async def test_event_and_application_at_once_never_miss_each_other(house: House) -> None:
    for number in range(20):
        made = await house.register()
        await asyncio.gather(
            house.tell(delivery(f"m-{number}"), EVENTS), tell_sent(house, made.message_id, f"m-{number}")
        )
        assert await house.status(made.message_id) == "delivered"
    (row,) = await house.town.fetch("SELECT count(*) AS n FROM delivery_events WHERE message_id IS NULL")
    assert row["n"] == 0


async def test_no_event_crosses_a_tenant(house: House) -> None:
    """The same id of the provider in two tenants: the domain that sent says whose the event is."""
    ours, theirs = await sent(house, "m-1"), await sent(house, "m-1", "globex")
    assert (await house.tell(bounce("m-1", source="support@globex.test"), EVENTS)).body["message_id"] == str(theirs)
    assert (await house.status(ours), await house.status(theirs)) == ("sent", "bounced")
    only = await sent(house, "m-2")
    reply = await house.tell(bounce("m-2", source="support@globex.test"), EVENTS)
    assert reply.status == 202
    assert "message_id" not in reply.body
    assert await house.status(only) == "sent"


async def test_the_owner_of_the_topic_goes_before_the_sender(database_url: str) -> None:
    sns = FakeSns()
    async with running(
        database_url,
        sns=sns,
        topics=f"{sns.topic_arn}=tenant:globex",
        reply_token_secrets="a secret of at least 32 characters!!",
    ) as house:
        ours, theirs = await sent(house), await sent(house, "m-1", "globex")
        reply = await house.tell(bounce("m-1", source="support@acme.test"), EVENTS)
        assert reply.body["message_id"] == str(theirs)
        assert (await house.status(ours), await house.status(theirs)) == ("sent", "bounced")
        assert (await house.tell(delivery("m-1", source="x@elsewhere.test"), EVENTS)).status == 202


async def test_an_event_of_nobody_is_final(house: House) -> None:
    sources: list[Any] = ["support@elsewhere.test", "", "<>", "nonsense", None]
    for source in sources:
        assert (await house.tell(bounce("m-1", source=source), EVENTS)).no == (200, "missing_domain")
    assert await house.count("delivery_events") == 0


async def test_an_owner_that_does_not_exist_yet_defers(database_url: str) -> None:
    async with running(database_url, topics=f"{FakeSns().topic_arn}=initech.test") as house:
        reply = await house.tell(bounce("m-1"), EVENTS)
        assert reply.no == (503, "store_unavailable")
        assert "Retry-After" in reply.headers


async def test_events_are_taken_on_both_paths(house: House) -> None:
    await sent(house)
    assert (await house.tell(delivery("m-1"), INBOUND)).status == 202


async def test_events_of_mail_that_was_sent_without_us_are_removed(house: House) -> None:
    message_id = await sent(house)
    for told in (delivery("m-1"), delivery("m-2")):
        await house.tell(told, EVENTS)
    async with house.app.database.connection() as connection:
        await expire_delivery_events(connection, now() + timedelta(days=13), 14)
        assert await house.count("delivery_events") == 2
        await expire_delivery_events(connection, now() + timedelta(days=15), 14)
    (row,) = await house.town.fetch("SELECT message_id FROM delivery_events")
    assert row["message_id"] == message_id


async def test_the_events_of_a_message_are_erased_with_it(house: House) -> None:
    for number in (1, 2):
        await sent(house, f"m-{number}")
        await house.tell(delivery(f"m-{number}"), EVENTS)
    (row, other) = await house.town.fetch("SELECT tenant_id, id FROM messages ORDER BY id")
    async with house.app.database.connection() as connection:
        assert await erase(connection, *row) is not None
    (left,) = await house.town.fetch("SELECT message_id FROM delivery_events")
    assert left["message_id"] == other["id"]


async def test_a_mail_that_bounces_does_not_take_back_a_complaint(house: House) -> None:
    """The other way to a status: a report that came by mail and answers the message."""
    made = await house.register()
    await tell_sent(house, made.message_id, "m-1")
    await house.tell(complaint("m-1"), EVENTS)
    report = "\r\n".join(
        [
            "From: MAILER-DAEMON@customer.test",
            "To: " + made.reply_address,
            "Subject: Undelivered",
            "Message-ID: <report@customer.test>",
            'Content-Type: multipart/report; report-type=delivery-status; boundary="b"',
            "",
            "--b",
            "Content-Type: text/plain",
            "",
            "No.",
            "--b",
            "Content-Type: message/delivery-status",
            "",
            "Reporting-MTA: dns; customer.test",
            "",
            "Final-Recipient: rfc822; ada@customer.test",
            "Action: failed",
            "Status: 5.1.1",
            "",
            "--b--",
            "",
        ]
    )
    message = {
        "notificationType": "Received",
        "mail": {"source": "<>", "messageId": "x"},
        "receipt": {"recipients": [made.reply_address], "action": {"type": "SNS"}},
        "content": report,
    }
    assert (await house.tell(message)).status == 202
    (row,) = await house.town.fetch("SELECT kind, reply_to_email_id FROM messages WHERE direction = 'inbound'")
    assert (row["kind"], row["reply_to_email_id"]) == ("bounce", made.message_id)
    assert await house.status(made.message_id) == "complained"
