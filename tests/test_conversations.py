"""Replies find home: tokens, citations, posture, on a real Postgres. An application registers, a person answers."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from hmac import digest
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest

from ingester.app import App
from ingester.clock import new_id, now
from ingester.core.address import parse_path
from ingester.core.envelope import Client, Door, Envelope, Recipient
from ingester.core.outcome import Outcome, Reason
from ingester.core.token import mint
from ingester.settings import load
from ingester.store.directory import lookup
from ingester.store.outbound import NewOutbound, Registered, Sent, record_sent, register
from tests.daemon import OF_THIS_TEST, Town, settle
from tests.quiet_dns import nameservers

pytestmark = pytest.mark.usefixtures("blobs")

OLD_SECRET = "the secret of last year - 32 letters"
SECRETS = f"the secret that signs now - long enough,{OLD_SECRET}"


@pytest.fixture
async def town(database_url: str) -> Town:
    one = await settle(database_url, {"acme.test": ("support", "sales"), "globex.test": ("support",)})
    await one.fetch(
        "INSERT INTO domains (tenant_id, name, status)"
        " SELECT id, 'second.test', 'verified' FROM tenants WHERE slug = 'acme'"
    )
    return one


@pytest.fixture
async def app(town: Town) -> AsyncIterator[App]:
    settings = load(
        OF_THIS_TEST,
        env="development",
        database_url=town.url,
        dns__nameservers=nameservers(),
        reply_token_secrets=SECRETS,
    )
    one = App(settings)
    await one.open()
    yield one
    await one.close()


@dataclass(frozen=True, slots=True)
class Office:
    """An application that sends from one mailbox."""

    app: App
    tenant_id: UUID
    slug: str
    mailbox_id: UUID

    async def writes(self, *to: str, secrets: tuple[bytes, ...] = (), **how: Any) -> Registered:
        new = NewOutbound(
            tenant_id=self.tenant_id,
            tenant_slug=self.slug,
            mailbox_id=self.mailbox_id,
            to=to or ("ada@customer.test",),
            subject="Your order",
            **how,
        )
        secrets = secrets or self.app.settings.token_secrets
        async with self.app.database.connection() as connection:
            return await register(connection, new, secrets=secrets, new_id=new_id, now=now())


async def office(app: App, town: Town, address: str = "support@acme.test") -> Office:
    local, _, domain = address.partition("@")
    (row,) = await town.fetch(
        """
        SELECT m.tenant_id, t.slug, m.id FROM mailboxes m JOIN tenants t ON t.id = m.tenant_id
        WHERE m.domain = $1 AND m.local_part = $2 AND m.system IS NULL
        """,
        domain,
        local,
    )
    return Office(app, row["tenant_id"], row["slug"], row["id"])


def mail(name: str, sender: str = "ada@customer.test", subject: str = "Re: Your order", **fields: str) -> bytes:
    lines = [f"From: {sender}", f"Subject: {subject}", f"Message-ID: <{name}@customer.test>"]
    lines += [f"{field.replace('_', '-')}: {value}" for field, value in fields.items()]
    return "\r\n".join([*lines, "", f"Body of {name}.", ""]).encode()


async def send(app: App, raw: bytes, *recipients: str, mail_from: str = "ada@customer.test") -> Outcome:
    addresses = [parse_path(text) for text in recipients or ("support@acme.test",)]
    return await app.pipeline.accept(
        Envelope(
            door=Door.SMTP,
            raw=raw,
            mail_from=mail_from,
            recipients=tuple(Recipient(address=address) for address in addresses if address is not None),
            client=Client(ip="192.0.2.1", helo="client.test"),
            arrival_id=new_id(),
            received_at=now(),
        )
    )


async def row(town: Town, outcome: Outcome) -> asyncpg.Record:
    (found,) = await town.fetch(
        """
        SELECT m.*, b.local_part, b.system, m.decision->>'reason' AS reason FROM messages m
        JOIN mailboxes b ON b.tenant_id = m.tenant_id AND b.id = m.mailbox_id WHERE m.id = $1
        """,
        outcome.stored[0].message_id,
    )
    return found


# -- tokens: which, and where they stand -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Case:
    """A token, the outbound message it is of, and whether it is true and for this mailbox."""

    token: str
    answers: UUID
    true: bool = True
    here: bool = True


async def make(kind: str, app: App, town: Town) -> Case:
    ours = await office(app, town)
    if kind == "other tenant":
        one = await (await office(app, town, "support@globex.test")).writes()
        return Case(one.reply_token, one.message_id, true=False)
    if kind == "other mailbox":
        one = await (await office(app, town, "sales@acme.test")).writes()
        return Case(one.reply_token, one.message_id, here=False)
    if kind == "expired":
        one = await ours.writes(expires_at=now() - timedelta(seconds=1))
        return Case(one.reply_token, one.message_id, true=False)
    if kind == "rotated secret":
        one = await ours.writes(secrets=(OLD_SECRET.encode(),))
        return Case(one.reply_token, one.message_id)
    if kind == "legacy form":
        one = await ours.writes()
        text = f"acme:{one.message_id}:acme.test".encode()
        sig = digest(app.settings.token_secrets[0], text, sha256).hex()[:24]
        return Case(f"osr_{one.message_id.hex}_{sig}", one.message_id)
    one = await ours.writes()
    if kind == "upper-cased":
        return Case(one.reply_token.upper(), one.message_id)
    if kind == "one bit forged":
        last = "a" if one.reply_token[-2] != "a" else "b"
        return Case(one.reply_token[:-2] + last + one.reply_token[-1], one.message_id, true=False)
    if kind == "other domain":
        secret = app.settings.token_secrets[0]
        token = mint(secret, tenant="acme", message_id=one.message_id, domain="second.test")
        return Case(token.text, one.message_id, true=False)
    if kind == "unknown id":
        secret, nobody = app.settings.token_secrets[0], new_id()
        return Case(mint(secret, tenant="acme", message_id=nobody, domain="acme.test").text, nobody, true=False)
    if kind == "stranger's secret":
        token = mint(b"x" * 32, tenant="acme", message_id=one.message_id, domain="acme.test")
        return Case(token.text, one.message_id, true=False)
    assert kind == "valid"
    return Case(one.reply_token, one.message_id)


KINDS = [
    "valid", "one bit forged", "other tenant", "other mailbox", "other domain", "expired", "rotated secret",
    "upper-cased", "legacy form", "unknown id", "stranger's secret",
]  # fmt: skip
CARRIERS = {
    "reply+": "token_recipient",
    "bare": "token_recipient",
    "reply-": "token_recipient",
    "X-OpenSend-Reply-Token": "token_header",
    "In-Reply-To": "token_reference",
    "References": "token_reference",
}


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("kind", KINDS)
async def test_the_matrix_of_tokens(app: App, town: Town, kind: str, carrier: str) -> None:
    case = await make(kind, app, town)
    if CARRIERS[carrier] == "token_recipient":
        local = case.token if carrier == "bare" else carrier + case.token
        message = await row(town, await send(app, mail("a"), f"{local}@acme.test"))
        assert message["system"] == (None if case.true else "reply")
        assert message["local_part"] == ("reply" if not case.true else "support" if case.here else "sales")
        matched = case.true
    else:
        value = case.token if carrier.startswith("X-") else f"<{case.token}@mail.test>"
        message = await row(town, await send(app, mail("a", **{carrier.replace("-", "_"): value})))
        assert (message["system"], message["local_part"]) == (None, "support")
        matched = case.true and case.here
        if case.true and not case.here:
            assert message["reason"] == "cross_mailbox"
    assert message["reply_match_method"] == (CARRIERS[carrier] if matched else None)
    assert message["reply_to_email_id"] == (case.answers if matched else None)
    if not case.true:
        assert message["reason"] == "token_invalid"
    if kind == "other tenant":
        assert str(case.answers) not in str(dict(message)).replace(str(message["raw_id"]), "").split("decision")[0]


async def test_an_expired_token_proves_nothing_but_the_message_id_is_still_ours(app: App, town: Town) -> None:
    first = await (await office(app, town)).writes(expires_at=now() - timedelta(seconds=1))
    message = await row(town, await send(app, mail("a", In_Reply_To=first.headers["Message-ID"])))
    assert (message["reply_match_method"], message["reply_to_email_id"]) == ("in_reply_to", first.message_id)


async def test_a_domain_may_refuse_false_tokens(app: App, town: Town) -> None:
    await town.fetch("UPDATE domains SET invalid_tokens = 'refuse'")
    for kind in ("one bit forged", "other tenant", "expired", "unknown id"):
        case = await make(kind, app, town)
        assert (await send(app, mail("a"), f"reply+{case.token}@acme.test")).reason is Reason.UNKNOWN_MAILBOX
    true = await make("valid", app, town)
    assert (await send(app, mail("b"), f"reply+{true.token}@acme.test")).reason is Reason.ACCEPTED
    assert (await send(app, mail("c"), "reply@acme.test")).reason is Reason.UNKNOWN_MAILBOX


async def test_forged_and_foreign_tokens_cost_the_same(app: App, town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: HMACs and queries are the same whether the id is ours, another tenant's or nobody's."""
    hmacs = 0

    def counted(*arguments: Any) -> bytes:
        nonlocal hmacs
        hmacs += 1
        return digest(*arguments)

    queries: list[str] = []
    costs: set[tuple[int, int]] = set()
    cases = {kind: await make(kind, app, town) for kind in KINDS}
    monkeypatch.setattr("ingester.core.token.hmac.digest", counted)
    for case in cases.values():
        address = parse_path(f"reply+{case.token}@acme.test")
        assert address is not None
        async with app.database.connection() as connection:
            hmacs, queries = 0, []
            with connection.query_logger(lambda record: queries.append(record.query)):  # noqa: B023
                await lookup(connection, address, now(), app.settings.token_secrets)
                await asyncio.sleep(0)  # the logger is called a moment later
            costs.add((hmacs, len(queries)))
    assert costs == {(2, 1)}


# -- conversations -----------------------------------------------------------------------------------------------------


async def test_a_conversation_of_many_rounds_is_one_thread(app: App, town: Town) -> None:
    """The client strips References, changes the subject, answers from another address, forwards, and out of order."""
    ours = await office(app, town)
    first = await ours.writes()
    answers = [
        await send(app, mail("a", In_Reply_To=first.headers["Message-ID"])),
        await send(app, mail("b", subject="Something else", X_OpenSend_Reply_Token=first.reply_token)),
        await send(app, mail("c", sender="ada@private.test"), first.reply_address),
        await send(app, mail("e", In_Reply_To="<d@customer.test>")),
        await send(app, mail("d", In_Reply_To="<a@customer.test>")),
    ]
    second = await ours.writes(in_reply_to="a@customer.test")
    answers.append(await send(app, mail("f", References=second.headers["References"])))
    threads = {(await row(town, one))["thread_id"] for one in answers}
    assert threads == {first.thread_id} == {second.thread_id}
    assert first.rfc_message_id in second.headers["References"]
    (thread,) = await town.fetch("SELECT message_count, is_read FROM threads")
    assert tuple(thread) == (8, False)


async def test_a_reply_to_the_providers_id_is_a_reply(app: App, town: Town) -> None:
    ours = await office(app, town)
    first = await ours.writes()
    early = await send(app, mail("early", In_Reply_To="<ses-1@email.amazonses.com>"))
    assert (await row(town, early))["reply_match_status"] == "unmatched"
    async with app.database.connection() as connection:
        assert await record_sent(
            connection,
            ours.tenant_id,
            first.message_id,
            provider_message_id="ses-1",
            rfc_message_id="ses-1@email.amazonses.com",
            at=now(),
        )
    late = await row(town, await send(app, mail("late", In_Reply_To="<ses-1@email.amazonses.com>")))
    assert (late["reply_match_method"], late["reply_to_email_id"]) == ("in_reply_to", first.message_id)
    joined = await row(town, early)
    assert (joined["reply_match_method"], joined["reply_to_email_id"]) == ("late_join", first.message_id)
    assert joined["thread_id"] == late["thread_id"] == first.thread_id


async def test_who_was_written_to_is_expected(app: App, town: Town) -> None:
    first = await (await office(app, town)).writes("Ada@customer.test")
    cited = {"In_Reply_To": first.headers["Message-ID"]}
    ada = await row(town, await send(app, mail("a", **cited)))
    eve = await row(town, await send(app, mail("b", sender="eve@evil.test", **cited)))
    cold = await row(town, await send(app, mail("c")))
    assert (ada["sender_expected"], eve["sender_expected"], cold["sender_expected"]) == (True, False, False)
    assert (eve["reply_match_status"], eve["sender_verified"]) == ("matched", False)
    assert ada["contact_id"] is not None
    assert msgspec.json.decode(eve["decision"])["sender"]["expected"] is False


async def test_strict_senders_keep_strangers_out_of_a_conversation(app: App, town: Town) -> None:
    await town.fetch("UPDATE mailboxes SET strict_senders = true")
    first = await (await office(app, town)).writes()
    cited = {"In_Reply_To": first.headers["Message-ID"]}
    ada = await row(town, await send(app, mail("a", References=f"<x@y> <{first.rfc_message_id}>")))
    # The id holds the token, which is proof of having had the mail, but in a header it names no one.
    eve = await row(town, await send(app, mail("b", sender="eve@evil.test", **cited)))
    direct = await row(town, await send(app, mail("c", sender="eve@evil.test"), first.reply_address))
    assert ada["reply_match_status"] == "matched"
    assert (eve["reply_match_status"], eve["reason"]) == ("unmatched", "candidate_unverified")
    assert direct["reply_match_method"] == "token_recipient"


async def test_nobody_squats_a_message_id(app: App, town: Town) -> None:
    """A stranger sends our id, or cites it, in another mailbox and another tenant: the real reply still finds home."""
    ours = await office(app, town)
    sent = Sent(rfc_message_id="order-1@acme.test")
    squatted = b"From: eve@evil.test\r\nMessage-ID: <order-1@acme.test>\r\nSubject: x\r\n\r\nmine\r\n"
    for where in ("support@acme.test", "sales@acme.test", "support@globex.test"):
        assert (await send(app, squatted, where)).reason is Reason.ACCEPTED
    first = await ours.writes(sent=sent)
    foreign = await row(town, await send(app, mail("g", In_Reply_To="<order-1@acme.test>"), "support@globex.test"))
    reply = await row(town, await send(app, mail("a", In_Reply_To="<order-1@acme.test>")))
    assert (reply["reply_to_email_id"], reply["thread_id"]) == (first.message_id, first.thread_id)
    assert foreign["reply_to_email_id"] != first.message_id


async def test_a_token_beside_the_plain_address_still_proves_the_conversation(app: App, town: Town) -> None:
    first = await (await office(app, town)).writes()
    outcome = await send(app, mail("a"), "support@acme.test", first.reply_address)
    message = await row(town, outcome)
    assert len(outcome.stored) == 1
    assert (message["reply_match_method"], message["reply_to_email_id"]) == ("token_recipient", first.message_id)


async def test_our_id_cited_elsewhere_attaches_nothing(app: App, town: Town) -> None:
    """Another mailbox and another tenant know nothing of it; a plain id says no more than that it is not here."""
    first = await (await office(app, town)).writes(sent=Sent(rfc_message_id="order-1@acme.test"))
    for where in ("sales@acme.test", "support@globex.test"):
        message = await row(town, await send(app, mail("x", In_Reply_To="<order-1@acme.test>"), where))
        assert (message["reply_match_status"], message["reason"]) == ("unmatched", "nothing_cited_is_here")
        assert message["thread_id"] != first.thread_id


async def test_five_recipients_of_two_tenants_cost_one_read_and_a_write_each(app: App, town: Town) -> None:
    """With tokens, quotas, rules and participants on; counted on the wire's side of asyncpg."""
    first = await (await office(app, town)).writes()
    await town.fetch("UPDATE mailboxes SET quota_mails = 10, strict_senders = true WHERE system IS NULL")
    await town.fetch("UPDATE tenants SET quota_bytes = 1000000 WHERE slug <> 'system'")
    await send(app, mail("warm"), first.reply_address, "support@globex.test")
    statements: list[str] = []
    async with app.database.connection() as connection:
        connection._con.add_query_logger(lambda record: statements.append(" ".join(record.query.split())))
    to = ("support@acme.test", "sales@acme.test", first.reply_address, "support@globex.test", "abuse@globex.test")
    addresses = [address for address in map(parse_path, to) if address is not None]
    client = Client(ip="192.0.2.1", helo="client.test")
    routed = [await app.pipeline.recipient(address, client, door=Door.SMTP, mail_from="") for address in addresses]
    statements.clear()
    outcome = await app.pipeline.accept(
        Envelope(
            door=Door.SMTP,
            raw=mail("counted", In_Reply_To=first.headers["Message-ID"]),
            mail_from="ada@customer.test",
            recipients=tuple(
                Recipient(address=address, route=route)  # type: ignore[arg-type]
                for address, route in zip(addresses, routed, strict=True)
            ),
            client=client,
            arrival_id=new_id(),
            received_at=now(),
        )
    )
    assert len(outcome.stored) == 4, "the token and the address of one mailbox are one delivery"
    counted = [one for one in statements if one not in ("BEGIN;", "COMMIT;")]
    assert len([one for one in counted if "store_deliveries" in one]) == 2
    assert len(counted) == 3, counted


# -- posture -----------------------------------------------------------------------------------------------------------


async def test_a_thread_only_mailbox_takes_replies_and_nothing_else(app: App, town: Town) -> None:
    await town.fetch("UPDATE mailboxes SET accepts_cold_inbound = false WHERE system IS NULL")
    ours = await office(app, town)
    first = await ours.writes()
    cold = await send(app, mail("cold"))
    assert cold.smtp_line.startswith("550 5.7.1 ")
    (refusal,) = await town.fetch("SELECT reason, detail, tenant_id FROM refusals")
    assert tuple(refusal) == ("cold_inbound_refused", "cites_nothing", ours.tenant_id)
    reply = await row(town, await send(app, mail("a", In_Reply_To=first.headers["Message-ID"])))
    again = await row(town, await send(app, mail("b", In_Reply_To="<a@customer.test>")))
    assert reply["thread_id"] == again["thread_id"] == first.thread_id
    assert (await send(app, mail("c"), first.reply_address)).reason is Reason.ACCEPTED
    assert (await send(app, mail("d"), "postmaster@acme.test")).reason is Reason.ACCEPTED


async def test_a_thread_only_mailbox_takes_no_thread_of_strangers(app: App, town: Town) -> None:
    await send(app, mail("cold"))
    await town.fetch("UPDATE mailboxes SET accepts_cold_inbound = false WHERE system IS NULL")
    refused = await send(app, mail("again", In_Reply_To="<cold@customer.test>"))
    assert refused.reason is Reason.COLD_INBOUND_REFUSED


async def test_a_mail_for_an_open_and_a_thread_only_mailbox_is_taken_and_a_row(app: App, town: Town) -> None:
    await town.fetch("UPDATE mailboxes SET accepts_cold_inbound = false WHERE local_part = 'support'")
    outcome = await send(app, mail("a"), "support@acme.test", "sales@acme.test")
    assert outcome.reason is Reason.ACCEPTED
    assert len(outcome.stored) == 1
    assert len(await town.fetch("SELECT 1 FROM refusals WHERE reason = 'cold_inbound_refused'")) == 1


DSN = (
    "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\nSorry.\r\n"
    "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.customer.test\r\n\r\n"
    "Final-Recipient: rfc822; ada@customer.test\r\nAction: {action}\r\nStatus: 5.1.1\r\n\r\n"
    "--b\r\nContent-Type: message/rfc822\r\n\r\nMessage-ID: <{returned}>\r\nSubject: Your order\r\n\r\nx\r\n--b--\r\n"
)


def bounce(returned: str, action: str = "failed") -> bytes:
    head = "From: MAILER-DAEMON@customer.test\r\nMessage-ID: <bounce@customer.test>\r\nSubject: Undelivered\r\n"
    return (head + DSN.format(action=action, returned=returned)).encode()


async def test_a_bounce_comes_home_by_its_envelope_and_tells_the_outbound_message(app: App, town: Town) -> None:
    await town.fetch("UPDATE mailboxes SET accepts_cold_inbound = false WHERE system IS NULL")
    first = await (await office(app, town)).writes()
    outcome = await send(app, bounce("nobody@x.test"), first.envelope_sender, mail_from="")
    message = await row(town, outcome)
    assert (message["reply_match_method"], message["reply_to_email_id"]) == ("token_recipient", first.message_id)
    assert message["kind"] == "bounce"
    assert await status(town, first) == "bounced"


async def test_a_delay_is_no_bounce(app: App, town: Town) -> None:
    first = await (await office(app, town)).writes()
    await send(app, bounce("x@x.test", action="delayed"), first.envelope_sender, mail_from="")
    assert await status(town, first) == "registered"


async def test_a_forged_bounce_changes_nothing(app: App, town: Town) -> None:
    """It names our message, and is filed with it; but nobody who is known says so."""
    ours = await office(app, town)
    first = await ours.writes(sent=Sent(rfc_message_id="order-1@acme.test"))
    forged = await row(town, await send(app, bounce("order-1@acme.test"), mail_from=""))
    assert (forged["kind"], forged["reply_match_method"]) == ("bounce", "report")
    assert forged["reply_to_email_id"] == first.message_id
    assert await status(town, first) == "sent"


async def status(town: Town, one: Registered) -> str:
    (found,) = await town.fetch("SELECT status FROM messages WHERE id = $1", one.message_id)
    return str(found[0])
