"""POST /v1/mailboxes/{id}/outbound and /v1/messages/{id}/sent: what is answered, stored, and refused to whom."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from ingester.clock import new_id
from ingester.core.token import parse_token, verify
from tests.api.house import KEYS, SECRETS, House, running

SENT = {"provider_message_id": "0100018c-ses", "rfc_message_id": "<0100018c-ses@email.amazonses.com>"}


async def test_a_registration_answers_with_all_that_the_mail_needs(house: House) -> None:
    reply = await house.register(cc=["Bob@CUSTOMER.test"])
    assert reply.status == 201
    body = reply.body
    assert set(body) == {"ok", "message_id", "thread_id", "rfc_message_id", "reply_token", "reply_address"} | {
        "envelope_sender",
        "headers",
    }
    token = parse_token(body["reply_token"])
    assert token is not None
    assert str(token.id) == body["message_id"]
    assert verify(token, SECRETS, tenant="acme", domain="acme.test")
    assert body["headers"]["X-OpenSend-Reply-Token"] == body["reply_token"]
    assert body["reply_address"] == f"reply+{body['reply_token']}@acme.test"
    (row,) = await house.town.fetch("SELECT * FROM messages")
    assert (str(row["id"]), row["subject"], row["cc_addresses"]) == (body["message_id"], "Hello", ["Bob@customer.test"])
    assert row["mailbox_id"] == house.mailboxes["support@acme.test"]


async def test_every_field_reaches_the_row(house: House) -> None:
    first = await house.register()
    sent_id = new_id()
    reply = await house.register(
        bcc=["eve@customer.test"],
        thread_id=first.body["thread_id"],
        in_reply_to=f"<{first.body['rfc_message_id']}>",
        idempotency_key="k1",
        expires_at="2027-01-01T00:00:00+01:00",
        sent={"id": str(sent_id), "rfc_message_id": "<was@sent.test>", "provider_message_id": "p1"},
    )
    assert (reply.status, reply.body["message_id"], reply.body["thread_id"]) == (
        201,
        str(sent_id),
        first.body["thread_id"],
    )
    assert reply.body["headers"]["In-Reply-To"] == f"<{first.body['rfc_message_id']}>"
    (row,) = await house.town.fetch("SELECT * FROM messages WHERE id = $1", sent_id)
    assert (row["rfc_message_id"], row["provider_message_id"], row["status"]) == ("was@sent.test", "p1", "sent")
    assert row["token_expires_at"].isoformat() == "2026-12-31T23:00:00+00:00"
    assert row["idempotency_key"] == "k1"
    (count,) = await house.town.fetch("SELECT count(*) FROM participants WHERE address = 'eve@customer.test'")
    assert count[0] == 1


async def test_the_same_key_gives_the_same_answer_under_concurrency_too(house: House) -> None:
    replies = await asyncio.gather(*(house.register(idempotency_key="k") for _ in range(8)))
    assert {reply.status for reply in replies} == {201}
    assert all(reply.body == replies[0].body for reply in replies)
    assert await _count(house) == 1


async def test_the_provider_s_ids_are_noted(house: House) -> None:
    made = (await house.register()).body["message_id"]
    reply = await house.ask("POST", f"/v1/messages/{made}/sent", SENT)
    assert (reply.status, reply.body) == (200, {"ok": True, "message_id": made})
    (row,) = await house.town.fetch("SELECT * FROM messages")
    assert (row["status"], row["provider_message_id"]) == ("sent", "0100018c-ses")
    assert row["sent_message_id"] == "0100018c-ses@email.amazonses.com"
    assert (await house.ask("POST", f"/v1/messages/{made}/sent", SENT)).status == 200


@pytest.mark.parametrize("path", ["/v1/mailboxes/{}/outbound", "/v1/messages/{}/sent"])
async def test_what_belongs_to_another_tenant_does_not_exist(house: House, path: str) -> None:
    """Foreign, unknown, the system's own, and no id at all: the same answer, and nothing is written."""
    made = (await house.register()).body["message_id"]
    before = [dict(row) for row in await house.town.fetch("SELECT * FROM messages")]
    systems = await house.town.fetch("SELECT id FROM mailboxes WHERE system IS NOT NULL")
    theirs = [house.mailboxes["support@acme.test"], made, house.mailboxes["sales@acme.test"]]
    body = {"to": ["ada@customer.test"]} if path.endswith("outbound") else SENT
    replies = [
        await house.ask("POST", path.format(one), body, key=KEYS["globex"])
        for one in (*theirs, *(row["id"] for row in systems), new_id(), UUID(int=0), "x", "%00", "%2e%2e")
    ]
    assert {reply.no for reply in replies} == {(404, "not_found", None)}
    assert all(reply.body == replies[0].body for reply in replies)
    assert [dict(row) for row in await house.town.fetch("SELECT * FROM messages")] == before


async def test_a_thread_of_another_tenant_is_an_unknown_thread(house: House) -> None:
    made = (await house.register()).body
    foreign = await house.register("support@globex.test", key=KEYS["globex"], thread_id=made["thread_id"])
    unknown = await house.register("support@globex.test", key=KEYS["globex"], thread_id=str(new_id()))
    assert foreign.no == unknown.no == (422, "unknown_thread", "thread_id")
    assert foreign.body == unknown.body


async def test_what_the_store_refuses_names_the_field(house: House) -> None:
    made = (await house.register()).body
    other = (await house.register()).body
    cases: list[tuple[tuple[int, str, str | None], str, dict[str, Any]]] = [
        ((422, "cross_mailbox", "thread_id"), "sales@acme.test", {"thread_id": made["thread_id"]}),
        (
            (422, "other_thread", "in_reply_to"),
            "support@acme.test",
            {"thread_id": other["thread_id"], "in_reply_to": made["rfc_message_id"]},
        ),
        ((422, "recipients", "to"), "support@acme.test", {"to": []}),
        ((422, "bad_token", "sent.token"), "support@acme.test", {"sent": {"token": made["reply_token"]}}),
        ((409, "id_taken", None), "support@acme.test", {"sent": {"id": made["message_id"]}}),
    ]
    for error, mailbox, asked in cases:
        assert (await house.register(mailbox, **asked)).no == error
    assert await _count(house) == 2


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"to": ["ada@customer.test", "Ada <ada@customer.test>"]}, "to[1]"),
        ({"cc": ["postmaster"]}, "cc[0]"),
        ({"bcc": [5]}, "bcc[0]"),
        ({"to": "ada@customer.test"}, "to"),
        ({"to": ["a@customer.test"] * 1001}, "to"),
        ({"subject": "Hello\r\nBcc: everyone@customer.test"}, "subject"),
        ({"subject": "\x00"}, "subject"),
        ({"thread_id": "x"}, "thread_id"),
        ({"in_reply_to": "<a\x1b@b>"}, "in_reply_to"),
        ({"in_reply_to": "no id at all"}, "in_reply_to"),
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"idempotency_key": "k" * 256}, "idempotency_key"),
        ({"expires_at": "2027-01-01T00:00:00"}, "expires_at"),
        ({"sent": {"rfc_message_id": ""}}, "sent.rfc_message_id"),
        ({"sent": {"sender": 1}}, "sent.sender"),
        ({"bodytext": "x"}, "bodytext"),
    ],
)
async def test_a_wrong_value_names_its_field_and_quotes_nothing(
    house: House, asked: dict[str, Any], field: str
) -> None:
    reply = await house.register(**asked)
    assert reply.no == (422, "unprocessable", field)
    assert "customer" not in reply.body["message"]
    assert await _count(house) == 0


async def test_the_longest_that_is_taken_is_stored(house: House) -> None:
    local, domain = "x" * 128, ".".join(["d" * 60] * 4)
    reply = await house.register(
        to=[f"{index:03}{local[3:]}@{domain}" for index in range(1000)],
        subject="s" * 10_000,
        in_reply_to=f"<{'i' * 990}@b>",
        idempotency_key="\U0001f511" * 255,
    )
    assert reply.status == 201


async def test_without_a_secret_no_token_can_be_made(database_url: str) -> None:
    async with running(database_url, secrets=()) as house:
        reply = await house.register()
        assert reply.no == (503, "no_secret", None)
        assert reply.headers["Retry-After"] == "5"


async def _count(house: House) -> int:
    (row,) = await house.town.fetch("SELECT count(*) FROM messages")
    return int(row[0])
