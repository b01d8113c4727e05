"""ingester.transport.intake: whom a mail is for, what its envelope says, and how far a token reaches."""

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest

from ingester.core.envelope import Door
from ingester.core.outcome import Reason
from ingester.transport.intake import MAX_FOREIGN_DOMAINS, NOT_ASSERTED, Intake
from ingester.transport.limits import Flight
from ingester.transport.submission import Assertion, Scope, Submission
from tests.inbound import PATH, TOKEN, House, Reply, mail, receiving

OWN = Scope(may_assert_envelope=True)


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    async with receiving(database_url) as one:
        yield one


async def reached(house: House) -> list[str]:
    """The addresses that have a message, and the recipients on the receipts agree."""
    rows = await house.town.fetch(
        "SELECT b.local_part || '@' || b.domain AS address, x.envelope_to FROM messages m"
        " JOIN mailboxes b ON b.id = m.mailbox_id JOIN receipts x ON x.message_id = m.id ORDER BY 1"
    )
    assert all(row["envelope_to"] == [row["address"]] for row in rows)
    return [row["address"] for row in rows]


# -- content ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event_id", [None, "e"])
@pytest.mark.parametrize("raw", [mail("m"), mail("m").replace(b"\r\n", b"\n")], ids=["crlf", "lf"])
async def test_the_hash_is_that_of_the_bytes_that_are_kept(house: House, raw: bytes, event_id: str | None) -> None:
    given = Submission(raw=raw, provider="generic", event_id=event_id, recipients=("support@acme.test",))
    outcome = await house.app.intake.take(given, OWN, door=Door.HTTP)
    assert outcome.reason is Reason.ACCEPTED
    (row,) = await house.town.fetch("SELECT raw_sha256, provider_event_id FROM receipts")
    kept = sha256(mail("m")).digest()
    assert (row["raw_sha256"], row["provider_event_id"]) == (kept, event_id or kept.hex())


# -- recipients -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "mailboxes"),
    [
        (
            "To: support@acme.test, friend@elsewhere.test\r\nCc: sales@acme.test",
            ["sales@acme.test", "support@acme.test"],
        ),
        ("Delivered-To: sales@acme.test\r\nTo: support@acme.test", ["sales@acme.test"]),
        (
            "Delivered-To: x@elsewhere.test\r\nDelivered-To: sales@acme.test\r\nTo: support@acme.test",
            ["sales@acme.test"],
        ),
        ("X-Original-To: support@globex.test\r\nTo: support@acme.test", ["support@globex.test"]),
        ("Delivered-To: x@elsewhere.test\r\nTo: support@acme.test", ["support@acme.test"]),
        ("Bcc: support@acme.test\r\nSubject: support@acme.test", []),
    ],
)
async def test_without_a_list_the_header_tells(house: House, header: str, mailboxes: list[str]) -> None:
    raw = f"{header}\r\nMessage-ID: <m@x>\r\n\r\nTo: sales@globex.test\r\n".encode()
    reply = await house.post(raw)
    assert await reached(house) == mailboxes
    assert reply.status == (202 if mailboxes else 200)
    assert "refused" not in reply.body, "nobody has named the strangers of a header"


async def test_the_list_goes_before_the_envelope_and_that_before_the_header(house: House) -> None:
    raw = mail("m", to="support@globex.test")
    envelope = {"recipients": ["sales@acme.test"], "mail_from": "ada@customer.test"}
    await house.json(raw, recipients=["support@acme.test"], envelope=envelope)
    assert await reached(house) == ["support@acme.test"]
    await house.json(raw, envelope=envelope)
    assert await reached(house) == ["sales@acme.test", "support@acme.test"]
    await house.json(raw)
    assert await reached(house) == ["sales@acme.test", "support@acme.test", "support@globex.test"]


async def test_recipients_in_headers_and_queries_of_the_request(house: House) -> None:
    headers = {"X-Ingester-Recipient": "Ada <support@acme.test>, sales@acme.test"}
    reply = await house.post(mail("m"), path=f"{PATH}?recipient=support@globex.test", headers=headers)
    assert len(reply.body["messages"]) == 3


async def test_strangers_in_a_header_cost_a_bounded_number_of_questions(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    real = house.app.pipeline.route

    async def route(address: Any) -> Any:
        asked.append(address)
        return await real(address)

    monkeypatch.setattr(house.app.pipeline, "route", route)
    strangers = ", ".join(f"a{n}@d{n % 300}.test" for n in range(900))
    assert (await house.post(mail("m", to=strangers))).body["reason"] == "missing_domain"
    assert len(asked) == MAX_FOREIGN_DOMAINS


async def test_an_unknown_mailbox_of_a_known_domain_is_a_refusal(house: House) -> None:
    reply = await house.post(mail("m", to="nobody@acme.test, support@acme.test"))
    assert reply.body["refused"] == [{"recipient": "nobody@acme.test", "reason": "missing_domain"}]
    assert await house.refusals() == {"unknown_mailbox": 1}


# -- the envelope ---------------------------------------------------------------------------------------------------


async def test_who_may_assert_the_envelope_is_believed(house: House) -> None:
    query = "mail_from=%3Cada@customer.test%3E&client_ip=192.0.2.7&helo=mx.customer.test"
    trusted = await house.token(may_assert_envelope=True)
    for number, token in enumerate((TOKEN, trusted)):
        assert (await house.post(mail(f"m{number}"), path=f"{PATH}?{query}", token=token)).status == 202
    rows = await house.town.fetch("SELECT envelope_from, client_ip, helo, auth_report->'spf'->>'result' FROM receipts")
    assert [tuple(row)[:3] for row in rows] == [("ada@customer.test", "192.0.2.7", "mx.customer.test")] * 2
    assert {row[3] for row in rows} == {"none"}, "SPF was asked"
    assert not [row for row in await house.town.fetch("SELECT flags FROM messages") if NOT_ASSERTED in row["flags"]]


async def test_who_may_not_is_not(house: House) -> None:
    """The mail is stored, and what was said of it is not: SPF is unknown, no recipient of that envelope counts."""
    token = await house.token()
    told = {"mail_from": "a@b.test", "client_ip": "192.0.2.7", "helo": "x", "recipients": ["sales@acme.test"]}
    assert (await house.json(mail("m"), token=token, envelope=told)).status == 202
    assert await reached(house) == ["support@acme.test"]
    (row,) = await house.town.fetch("SELECT x.*, m.flags, m.spf FROM receipts x JOIN messages m ON m.id = x.message_id")
    assert (row["envelope_from"], row["client_ip"], row["helo"], row["spf"]) == ("", None, None, "unknown")
    assert NOT_ASSERTED in row["flags"]
    assert (await house.json(mail("n"), token=token, envelope={})).status == 202
    (row,) = await house.town.fetch("SELECT flags FROM messages WHERE rfc_message_id = 'n@customer.test'")
    assert NOT_ASSERTED not in row["flags"]


async def test_the_null_sender_is_one(house: House) -> None:
    for number, sender in enumerate(("", "<>")):
        assert (await house.json(mail(f"m{number}"), envelope={"mail_from": sender})).status == 202
    assert {row["envelope_from"] for row in await house.town.fetch("SELECT envelope_from FROM receipts")} == {""}


# -- how far a token reaches ----------------------------------------------------------------------------------------

BOUNDS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["sales@acme.test", "support@acme.test", "support@globex.test"]),
    ({"tenant": "acme"}, ["sales@acme.test", "support@acme.test"]),
    ({"domains": ("globex.test",)}, ["support@globex.test"]),
    ({"tenant": "acme", "domains": ("globex.test",)}, []),
    ({"tenant": "acme", "domains": ("acme.test", "globex.test")}, ["sales@acme.test", "support@acme.test"]),
]


@pytest.mark.parametrize("named", [True, False], ids=["list", "header"])
@pytest.mark.parametrize(("bounds", "mailboxes"), BOUNDS)
async def test_what_is_outside_is_nobodys(
    house: House, bounds: dict[str, Any], mailboxes: list[str], named: bool
) -> None:
    everybody = BOUNDS[0][1]
    token = await house.token(may_assert_envelope=True, **bounds)
    given: dict[str, Any] = {"recipients": everybody} if named else {}
    reply = await house.json(mail("m", to=", ".join(everybody)), token=token, **given)
    assert await reached(house) == mailboxes
    outside = sorted(set(everybody) - set(mailboxes))
    if named:
        # A no names nobody (law 11).
        refused = [({"recipient": one} if mailboxes else {}) | {"reason": "missing_domain"} for one in outside]
        assert sorted(reply.body.get("refused", []), key=str) == refused
        assert await house.refusals() == ({"unknown_domain": len(outside)} if outside else {})
        # Where the token stands for one tenant, its people can see what was refused.
        owners = await house.town.fetch("SELECT DISTINCT t.slug FROM refusals r JOIN tenants t ON t.id = r.tenant_id")
        assert [one["slug"] for one in owners] == ([bounds.get("tenant", "system")] if outside else [])
    assert reply.said == ((202, "accepted", None) if mailboxes else (200, "refused", "missing_domain"))


async def test_outside_is_told_as_a_domain_that_is_not_there(house: House) -> None:
    """Whether globex.test is ours is nobody's business."""
    token = await house.token(tenant="acme")
    told: list[Reply] = []
    for recipient in ("support@globex.test", "nobody@globex.test", "support@nowhere.test", "nobody@acme.test"):
        reply = await house.json(mail("m"), token=token, recipients=[recipient])
        told.append(reply)
        del reply.body["arrival_id"]
        assert reply.body.pop("refused") == [{"reason": "missing_domain"}]
    assert all((one.status, one.body) == (told[0].status, told[0].body) for one in told)


async def test_an_event_of_one_tenant_says_nothing_of_anothers(house: House) -> None:
    acme, globex = [await house.token(tenant=slug) for slug in ("acme", "globex")]
    first = await house.json(mail("m"), token=acme, event_id="e", recipients=["support@acme.test"])
    second = await house.json(mail("n"), token=globex, event_id="e", recipients=["support@globex.test"])
    assert (first.status, second.status) == (202, 202)


# -- what other doors of this kind use ------------------------------------------------------------------------------


def submission(**fields: Any) -> Submission:
    return Submission(**({"raw": mail("m"), "provider": "ses", "recipients": ("support@acme.test",)} | fields))


async def test_another_door_has_its_own_bound_and_says_where_the_bytes_lie(house: House) -> None:
    given = submission(source="s3://bucket/key", event_id="e", raw=mail("m").ljust(5000, b"x"))
    outcome = await house.app.intake.take(given, OWN, door=Door.SES, max_bytes=4999)
    assert outcome.reason is Reason.OVERSIZED
    outcome = await house.app.intake.take(given, OWN, door=Door.SES, max_bytes=5000)
    assert outcome.reason is Reason.ACCEPTED
    assert house.app._flight.used == 0
    (row,) = await house.town.fetch("SELECT door, provider, provider_event_id, source FROM receipts")
    assert tuple(row) == ("ses", "ses", "e", "s3://bucket/key")


async def test_who_is_cancelled_does_not_cancel_the_mail(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drain that cuts its callers off (design page, law 6)."""
    begun, gate = asyncio.Event(), asyncio.Event()
    real = house.app.pipeline.accept

    async def slow(envelope: Any) -> Any:
        begun.set()
        await gate.wait()
        return await real(envelope)

    monkeypatch.setattr(house.app.pipeline, "accept", slow)
    caller = asyncio.create_task(house.app.intake.take(submission(), OWN, door=Door.SES))
    await asyncio.wait_for(begun.wait(), 10)
    caller.cancel()
    await asyncio.wait({caller})
    gate.set()
    await house.app.intake.drain(10)
    assert len(await house.stored()) == 1


async def test_what_is_no_address_is_nobodys(house: House) -> None:
    """A list that nobody has checked: the others are served."""
    given = submission(recipients=("nonsense", "support@acme.test", "\ud800@acme.test"))
    outcome = await house.app.intake.take(given, OWN, door=Door.SES)
    assert outcome.reason is Reason.ACCEPTED
    assert [text for text, _ in outcome.refused] == ["nonsense", "\ud800@acme.test"]


async def test_an_envelope_that_is_none_is_unknown(house: House) -> None:
    asserted = Assertion(mail_from="nonsense\0", client_ip="nonsense", helo="")
    assert (await house.app.intake.take(submission(asserted=asserted), OWN, door=Door.SES)).reason is Reason.ACCEPTED
    (row,) = await house.town.fetch("SELECT envelope_from, client_ip, helo FROM receipts")
    assert tuple(row) == ("", None, None)


async def test_what_does_not_fit_in_flight_is_deferred(house: House) -> None:
    app = house.app
    flight = Flight(limit=100)
    intake = Intake(
        settings=app.settings, bounds=app.pipeline._bounds, pipeline=app.pipeline, flight=flight, threads=app._threads
    )
    assert (await intake.take(submission(), OWN, door=Door.SES)).reason is Reason.OVERLOADED
    assert flight.used == 0
    assert (await house.refusals()) == {"overloaded": 1}


async def test_a_tenant_that_is_none_reaches_nobody(house: House) -> None:
    outcome = await house.app.intake.take(submission(), Scope(tenant_id=UUID(int=5)), door=Door.SES)
    assert outcome.reason is Reason.UNKNOWN_DOMAIN
