"""ingester.pipeline on a real Postgres: routes, threads, claims, receipts, refusals, dead letters."""

import asyncio
import gc
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from ingester.app import App
from ingester.clock import new_id, now
from ingester.core.address import parse_path
from ingester.core.envelope import Client, Door, Envelope, Recipient
from ingester.core.outcome import Outcome, Reason
from ingester.settings import Settings, load
from ingester.store.db import Connection
from ingester.store.mail import Mail, Written
from ingester.store.messages import LARGE_BYTES, write
from tests.blobs import stored_bytes
from tests.daemon import OF_THIS_TEST, Town, settle
from tests.quiet_dns import nameservers

pytestmark = pytest.mark.usefixtures("blobs")


@pytest.fixture
async def town(database_url: str) -> Town:
    return await settle(database_url, {"acme.test": ("support", "sales"), "globex.test": ("support",)})


def settings(url: str, **more: Any) -> Settings:
    ours = load(OF_THIS_TEST, env="development", dns__nameservers=nameservers(), **more)
    return ours.model_copy(update={"database_url": SecretStr(url)})


@pytest.fixture
async def app(town: Town) -> AsyncIterator[App]:
    one = App(settings(town.url))
    await one.open()
    yield one
    await one.close()


def envelope(raw: bytes, *recipients: str, flags: tuple[str, ...] = ()) -> Envelope:
    addresses = [parse_path(text) for text in recipients or ("support@acme.test",)]
    return Envelope(
        door=Door.SMTP,
        raw=raw,
        mail_from="ada@customer.test",
        recipients=tuple(Recipient(address=address) for address in addresses if address is not None),
        client=Client(ip="192.0.2.1", helo="client.test"),
        arrival_id=new_id(),
        received_at=now(),
        flags=flags,
    )


def mail(
    name: str | None,
    *,
    reply: str | None = None,
    references: Sequence[str] = (),
    subject: str = "A question",
    **more: str,
) -> bytes:
    """A small mail; names become Message-IDs."""
    lines = ["From: Ada <ada@customer.test>", "To: support@acme.test", f"Subject: {subject}"]
    if name is not None:
        lines.append(f"Message-ID: <{name}@customer.test>")
    if reply is not None:
        lines.append(f"In-Reply-To: <{reply}@customer.test>")
    if references:
        lines.append("References: " + " ".join(f"<{one}@customer.test>" for one in references))
    lines += [f"{field.replace('_', '-')}: {value}" for field, value in more.items()]
    return "\r\n".join([*lines, "", f"Body of {name}.", ""]).encode()


async def send(app: App, raw: bytes, *recipients: str) -> Outcome:
    return await app.pipeline.accept(envelope(raw, *recipients))


async def row(town: Town, outcome: Outcome) -> dict[str, Any]:
    found = await town.fetch("SELECT * FROM messages WHERE id = $1", outcome.stored[0].message_id)
    return dict(found[0])


# -- whom it is for --------------------------------------------------------------------------------------------------


@pytest.mark.s3
async def test_a_mail_becomes_its_rows(app: App, town: Town) -> None:
    raw = mail("first")
    outcome = await send(app, raw)
    assert outcome.reason is Reason.ACCEPTED
    message = await row(town, outcome)
    assert message["subject"] == "A question"
    assert message["rfc_message_id"] == "first@customer.test"
    assert message["from_address"] == "ada@customer.test"
    assert message["from_name"] == "Ada"
    assert message["body_text"].strip() == "Body of first."
    assert (message["reply_match_status"], message["delivery_role"]) == ("unmatched", "to")
    assert message["decision"]
    stored = await town.fetch("SELECT data, blob_key, size FROM raws WHERE id = $1", message["raw_id"])
    assert (stored_bytes(stored[0]), stored[0]["size"]) == (raw, len(raw))
    receipts = await town.fetch("SELECT * FROM receipts")
    assert [(r["message_id"], r["arrival_id"], r["duplicate"]) for r in receipts] == [
        (message["id"], outcome.arrival_id, False)
    ]
    thread = (await town.fetch("SELECT * FROM threads"))[0]
    assert (thread["id"], thread["message_count"]) == (message["thread_id"], 1)


async def test_a_mail_is_answered_whatever_happens_while_it_is_told_of(
    app: App, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("ingester.tally.ended", full)
    outcome = await send(app, mail("one"))
    assert outcome.reason is Reason.ACCEPTED
    assert await row(town, outcome)


async def test_a_mail_leaves_nothing_that_only_the_garbage_collector_finds(app: App, town: Town) -> None:
    """A worker lets it come seldom."""
    await asyncio.gather(*(send(app, mail(f"before-{n}")) for n in range(20)))
    gc.collect()
    gc.disable()
    try:
        await asyncio.gather(*(send(app, mail(f"after-{n}")) for n in range(20)))
        assert gc.collect() < 20
    finally:
        gc.enable()


async def test_two_tenants_in_one_mail_get_rows_of_their_own(app: App, town: Town) -> None:
    outcome = await send(app, mail("both"), "support@acme.test", "support@globex.test", "sales@acme.test")
    assert len(outcome.stored) == 3
    by_tenant = await town.fetch("SELECT tenant_id, count(*) FROM messages GROUP BY 1 ORDER BY 2")
    assert [r["count"] for r in by_tenant] == [1, 2]
    raws = await town.fetch("SELECT tenant_id, count(*) FROM raws GROUP BY 1")
    assert [r["count"] for r in raws] == [1, 1], "one copy of the bytes per arrival and tenant"


async def test_after_the_final_dot_one_read_and_one_write_per_tenant(app: App, town: Town) -> None:
    """Counted on the wire's side of asyncpg, the transaction's own BEGIN and COMMIT left out."""
    await send(app, mail("warm"), "support@acme.test")
    statements: list[str] = []
    async with app.database.connection() as connection:
        pooled = connection._con
        pooled.add_query_logger(lambda record: statements.append(" ".join(record.query.split())))
    both = envelope(mail("counted"), "support@acme.test", "sales@acme.test", "support@globex.test")
    routed = [
        await app.pipeline.recipient(one.address, both.client, door=Door.SMTP, mail_from="") for one in both.recipients
    ]
    statements.clear()
    recipients = tuple(replace(one, route=r) for one, r in zip(both.recipients, routed, strict=True))  # type: ignore[arg-type]
    outcome = await app.pipeline.accept(replace(both, recipients=recipients))
    assert len(outcome.stored) == 3
    counted = [one.split()[1] for one in statements if one not in ("BEGIN;", "COMMIT;")]
    assert len([one for one in statements if "store_deliveries" in one]) == 2, "one write per tenant"
    assert len(counted) == 3, statements


async def test_a_mail_of_one_tenant_is_two_round_trips(app: App, town: Town) -> None:
    await send(app, mail("warm"))
    statements: list[str] = []
    async with app.database.connection() as connection:
        connection._con.add_query_logger(lambda record: statements.append(record.query))
    assert (await send(app, mail("counted"))).reason is Reason.ACCEPTED
    assert len([one for one in statements if "_deliveries(" in one]) == 2
    assert not {"BEGIN;", "COMMIT;"} & set(statements)
    assert len(await town.fetch("SELECT FROM raws")) == 2


async def test_two_addresses_of_one_mailbox_are_one_delivery_with_its_tag(app: App, town: Town) -> None:
    outcome = await send(app, mail("tag"), "Support+Order-42@acme.test", "support@acme.test")
    assert len(outcome.stored) == 1
    assert (await row(town, outcome))["recipient_tag"] == "Order-42"
    receipt = (await town.fetch("SELECT envelope_to FROM receipts"))[0]
    assert receipt["envelope_to"] == ["Support+Order-42@acme.test", "support@acme.test"]


@pytest.mark.parametrize(("to", "cc", "role"), [("support", "x", "to"), ("x", "SUPPORT", "cc"), ("x", "y", "bcc")])
async def test_delivery_role(app: App, town: Town, to: str, cc: str, role: str) -> None:
    raw = f"From: a@b.test\r\nTo: {to}@acme.test\r\nCc: {cc}@acme.test\r\nMessage-ID: <r@x>\r\n\r\nx\r\n".encode()
    assert (await row(town, await send(app, raw)))["delivery_role"] == role


async def test_unknown_recipients_after_data_are_refused_and_counted(app: App, town: Town) -> None:
    assert (await send(app, mail("x"), "nobody@acme.test")).reason is Reason.UNKNOWN_MAILBOX
    assert (await send(app, mail("x"), "nobody@else.test")).reason is Reason.UNKNOWN_DOMAIN
    await app.refusals.flush()
    rows = await town.fetch("SELECT reason, count, samples FROM refusals ORDER BY reason")
    assert [(r["reason"], r["count"]) for r in rows] == [("unknown_domain", 1), ("unknown_mailbox", 1)]
    assert not await town.fetch("SELECT FROM messages")


async def test_one_known_and_one_unknown_recipient_is_a_yes_and_the_refusal_is_a_row(app: App, town: Town) -> None:
    outcome = await send(app, mail("x"), "support@acme.test", "nobody@acme.test")
    assert outcome.reason is Reason.ACCEPTED
    rows = await town.fetch("SELECT reason, arrival_id, envelope FROM refusals")
    assert [(r["reason"], r["arrival_id"]) for r in rows] == [("unknown_mailbox", outcome.arrival_id)]
    assert "nobody@acme.test" in rows[0]["envelope"]


async def test_a_mail_in_a_loop_is_refused_for_good(app: App, town: Town) -> None:
    raw = b"Received: from a by b\r\n" * 101 + mail("loop")
    outcome = await send(app, raw)
    assert (outcome.reason, outcome.code.smtp) == (Reason.MAIL_LOOP, 554)
    assert [r["reason"] for r in await town.fetch("SELECT reason FROM refusals")] == ["mail_loop"]
    assert (await send(app, raw.replace(b"Received: from a by b\r\n", b"", 1))).reason is Reason.ACCEPTED


@pytest.mark.parametrize(("days", "code"), [(0, 450), (4, 550)])
async def test_a_suspended_mailbox_defers_and_after_three_days_refuses(
    app: App, town: Town, days: int, code: int
) -> None:
    first = envelope(mail("before"))
    taken = await app.pipeline.recipient(first.recipients[0].address, first.client, door=Door.SMTP, mail_from="")
    await town.fetch(
        "UPDATE mailboxes SET status = 'suspended', status_since = $1 WHERE local_part = 'support'",
        now() - timedelta(days=days),
    )
    # The route was taken at RCPT, before the suspension: the gate looks again.
    late = replace(first, recipients=(replace(first.recipients[0], route=taken),))  # type: ignore[arg-type]
    outcome = await app.pipeline.accept(late)
    assert (outcome.reason, outcome.code.smtp) == (Reason.MAILBOX_SUSPENDED, code)


async def test_a_deferred_recipient_makes_the_reply_a_4xx_and_the_retry_stores_once(app: App, town: Town) -> None:
    both = envelope(mail("part"), "support@acme.test", "sales@acme.test")
    await town.fetch("UPDATE mailboxes SET status = 'suspended' WHERE local_part = 'sales' AND domain = 'acme.test'")
    outcome = await app.pipeline.accept(both)
    assert outcome.code.smtp == 450
    assert len(outcome.stored) == 1, "the accepted one is committed"
    await town.fetch("UPDATE mailboxes SET status = 'active' WHERE local_part = 'sales'")
    again = await app.pipeline.accept(replace(both, arrival_id=new_id()))
    assert again.reason is Reason.ACCEPTED
    assert sorted(stored.duplicate for stored in again.stored) == [False, True]
    assert len(await town.fetch("SELECT FROM messages")) == 2
    assert len(await town.fetch("SELECT FROM receipts")) == 3


# -- once and only once ----------------------------------------------------------------------------------------------


@pytest.mark.s3
async def test_the_same_mail_twice_is_one_message_with_two_receipts(app: App, town: Town) -> None:
    first, second = await send(app, mail("same")), await send(app, mail("same"))
    assert (first.reason, second.reason) == (Reason.ACCEPTED, Reason.DUPLICATE)
    assert first.stored[0].message_id == second.stored[0].message_id
    receipts = await town.fetch("SELECT duplicate FROM receipts ORDER BY received_at, duplicate")
    assert [r["duplicate"] for r in receipts] == [False, True]
    assert len(await town.fetch("SELECT FROM raws")) == 1


async def test_changed_trace_headers_are_the_same_mail(app: App, town: Town) -> None:
    await send(app, b"Received: by one\r\n" + mail("same"))
    second = await send(app, b"Received: by two\r\n" + mail("same"))
    assert second.reason is Reason.DUPLICATE
    # The new bytes are claimed too: a third arrival of them is known by its hash alone.
    assert (await send(app, b"Received: by two\r\n" + mail("same"))).reason is Reason.DUPLICATE
    assert len(await town.fetch("SELECT FROM messages")) == 1


async def test_the_same_message_id_with_other_content_is_another_mail(app: App, town: Town) -> None:
    """Else whoever sends an id first suppresses the real mail."""
    await send(app, mail("squat", subject="squatted"))
    assert (await send(app, mail("squat", subject="the real one"))).reason is Reason.ACCEPTED
    assert len(await town.fetch("SELECT FROM messages")) == 2


async def test_a_hundred_arrivals_at_once_store_once(app: App, town: Town) -> None:
    outcomes = await asyncio.gather(*(send(app, mail("flood")) for _ in range(100)))
    assert sum(outcome.reason is Reason.ACCEPTED for outcome in outcomes) == 1
    assert {outcome.reason for outcome in outcomes} == {Reason.ACCEPTED, Reason.DUPLICATE}
    assert len(await town.fetch("SELECT FROM messages")) == 1
    assert len(await town.fetch("SELECT FROM receipts")) == 100


async def test_small_mails_do_not_wait_for_the_commits_of_large_ones(
    app: App, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor do large ones crowd Postgres: their bytes go there one after the other."""
    at_once = app.settings.store.connections // 4 if app.blobs.on else 1
    entered, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def held(connection: Connection, tenant_id: UUID, mails: Sequence[Mail]) -> list[Written]:
        if any(len(one.envelope.raw) >= LARGE_BYTES for one in mails):
            entered.release()
            await go_on.wait()
        return await write(connection, tenant_id, mails)

    monkeypatch.setattr("ingester.committing.write", held)
    filling = b"x" * LARGE_BYTES
    large = [asyncio.create_task(send(app, mail(f"large-{n}") + filling)) for n in range(at_once + 1)]
    for _ in range(at_once):
        await entered.acquire()
    async with asyncio.timeout(10):
        small = await asyncio.gather(*(send(app, mail(f"small-{n}")) for n in range(20)))
    assert {outcome.reason for outcome in small} == {Reason.ACCEPTED}
    assert not any(one.done() for one in large)
    assert entered.locked(), "one more has begun"
    go_on.set()
    assert {outcome.reason for outcome in await asyncio.gather(*large)} == {Reason.ACCEPTED}


async def test_claims_end_after_their_time(app: App, town: Town) -> None:
    await send(app, mail("old"))
    await town.fetch("UPDATE claims SET expires_at = now() - interval '1 second'")
    assert (await send(app, mail("old"))).reason is Reason.ACCEPTED
    assert len(await town.fetch("SELECT FROM messages")) == 2


async def test_a_mail_without_message_id_is_claimed_by_its_bytes_for_a_day(app: App, town: Town) -> None:
    outcome = await send(app, mail(None))
    claims = await town.fetch("SELECT expires_at - created_at AS life FROM claims")
    assert [c["life"] for c in claims] == [timedelta(hours=24)]
    assert (await row(town, outcome))["rfc_message_id"].endswith("@no-message-id.invalid")
    assert (await send(app, mail(None))).reason is Reason.DUPLICATE


# -- conversations ---------------------------------------------------------------------------------------------------


async def test_a_reply_is_matched_by_in_reply_to(app: App, town: Town) -> None:
    parent = await row(town, await send(app, mail("parent")))
    reply = await row(town, await send(app, mail("reply", reply="parent")))
    assert (reply["thread_id"], reply["reply_to_email_id"]) == (parent["thread_id"], parent["id"])
    assert (reply["reply_match_status"], reply["reply_match_method"]) == ("matched", "in_reply_to")
    thread = (await town.fetch("SELECT * FROM threads"))[0]
    assert thread["message_count"] == 2


async def test_references_are_tried_newest_first_when_in_reply_to_is_unknown(app: App, town: Town) -> None:
    await send(app, mail("root"))
    middle = await row(town, await send(app, mail("middle", reply="root")))
    reply = await row(town, await send(app, mail("reply", reply="lost", references=["root", "middle", "lost"])))
    assert (reply["reply_to_email_id"], reply["reply_match_method"]) == (middle["id"], "references")


async def test_a_client_that_strips_references_still_threads(app: App, town: Town) -> None:
    root = await row(town, await send(app, mail("root")))
    await send(app, mail("second", reply="root"))
    third = await row(town, await send(app, mail("third", reply="second")))
    assert third["thread_id"] == root["thread_id"]


async def test_another_mailbox_or_tenant_never_matches(app: App, town: Town) -> None:
    await send(app, mail("parent"), "support@acme.test")
    for recipient in ("sales@acme.test", "support@globex.test"):
        stranger = await row(town, await send(app, mail(f"to-{recipient[:5]}", reply="parent"), recipient))
        assert stranger["reply_match_status"] == "unmatched"
    assert len(await town.fetch("SELECT FROM threads")) == 3


async def test_an_orphan_joins_its_late_parent(app: App, town: Town) -> None:
    orphan = await row(town, await send(app, mail("orphan", reply="parent")))
    child = await row(town, await send(app, mail("child", reply="orphan")))
    assert (orphan["reply_match_status"], child["reply_match_status"]) == ("unmatched", "matched")
    parent = await row(town, await send(app, mail("parent")))
    rows = {r["rfc_message_id"]: r for r in await town.fetch("SELECT * FROM messages")}
    joined = rows["orphan@customer.test"]
    assert {r["thread_id"] for r in rows.values()} == {parent["thread_id"]}, "the orphan moves, not the parent"
    assert (joined["reply_match_status"], joined["reply_match_method"]) == ("matched", "late_join")
    assert joined["reply_to_email_id"] == parent["id"]
    threads = await town.fetch("SELECT message_count FROM threads")
    assert [t["message_count"] for t in threads] == [3]
    assert {r["thread_id"] for r in await town.fetch("SELECT thread_id FROM thread_ids")} == {parent["thread_id"]}


async def test_answers_to_the_same_absent_mail_are_one_conversation(app: App, town: Town) -> None:
    one = await row(town, await send(app, mail("one", reply="absent")))
    two = await row(town, await send(app, mail("two", reply="absent")))
    assert one["thread_id"] == two["thread_id"]
    assert two["reply_match_status"] == "unmatched", "the mail it answers is not here"
    absent = await row(town, await send(app, mail("absent")))
    rows = await town.fetch("SELECT reply_match_method, thread_id FROM messages WHERE id <> $1", absent["id"])
    assert [(r["reply_match_method"], r["thread_id"]) for r in rows] == [("late_join", absent["thread_id"])] * 2


async def test_a_stranger_cannot_glue_two_conversations_together(app: App, town: Town) -> None:
    """He answers the victim's mail and cites an id of his own; what he then sends under it takes nothing along."""
    victim = await row(town, await send(app, mail("victim")))
    await send(app, mail("glue", reply="victim", references=["mine"]))
    waiting = await row(town, await send(app, mail("waiting", reply="mine")))
    assert waiting["thread_id"] == victim["thread_id"]
    mine = await row(town, await send(app, mail("mine")))
    rows = {r["rfc_message_id"].partition("@")[0]: r for r in await town.fetch("SELECT * FROM messages")}
    assert rows["victim"]["thread_id"] == victim["thread_id"] != mine["thread_id"]
    assert rows["glue"]["thread_id"] == victim["thread_id"]
    assert rows["waiting"]["thread_id"] == mine["thread_id"]
    counts = {t["id"]: t["message_count"] for t in await town.fetch("SELECT id, message_count FROM threads")}
    assert counts == {victim["thread_id"]: 2, mine["thread_id"]: 2}


async def test_of_several_mails_with_one_id_the_oldest_is_answered(app: App, town: Town) -> None:
    oldest = await row(town, await send(app, mail("dup", subject="oldest")))
    await send(app, mail("dup", subject="newer"))
    reply = await row(town, await send(app, mail("reply", reply="dup")))
    assert reply["reply_to_email_id"] == oldest["id"]


async def test_a_whole_conversation_at_once_in_any_order_is_one_thread(app: App, town: Town) -> None:
    """Parents and answers in the same batches and in parallel commits find each other in the write."""
    mails = [mail("m0")] + [
        mail(f"m{n}", reply=f"m{n - 1}", references=[f"m{k}" for k in range(n)]) for n in range(1, 40)
    ]
    outcomes = await asyncio.gather(*(send(app, raw) for raw in reversed(mails)))
    assert {outcome.reason for outcome in outcomes} == {Reason.ACCEPTED}
    assert len(await town.fetch("SELECT DISTINCT thread_id FROM messages")) == 1
    assert [t["message_count"] for t in await town.fetch("SELECT message_count FROM threads")] == [40]
    unmatched = await town.fetch("SELECT rfc_message_id FROM messages WHERE reply_match_status = 'unmatched'")
    assert [r["rfc_message_id"] for r in unmatched] == ["m0@customer.test"]


async def test_the_nearest_ancestor_that_comes_late_is_the_one_answered(app: App, town: Town) -> None:
    await send(app, mail("root"))
    leaf = await row(town, await send(app, mail("leaf", reply="middle", references=["root", "middle"])))
    assert leaf["reply_match_method"] == "references"
    middle = await row(town, await send(app, mail("middle", reply="root")))
    found = await town.fetch("SELECT reply_to_email_id FROM messages WHERE id = $1", leaf["id"])
    assert found[0]["reply_to_email_id"] == middle["id"]


@pytest.mark.parametrize("seed", range(12))
async def test_conversations_do_not_depend_on_the_order_of_arrival(app: App, town: Town, seed: int) -> None:
    """Random trees, some clients stripping References, in random order and in parallel: each tree is one thread."""
    rng = random.Random(seed)
    mails: list[bytes] = []
    for tree in range(3):
        chains: list[list[str]] = [[f"t{tree}.0"]]
        mails.append(mail(chains[0][0]))
        for n in range(1, 10):
            ancestors = rng.choice(chains)
            name = f"t{tree}.{n}"
            strips = rng.random() < 0.3
            mails.append(mail(name, reply=ancestors[-1], references=[] if strips else ancestors))
            chains.append([*ancestors, name])
    rng.shuffle(mails)
    while mails:
        size = rng.randint(1, 8)
        await asyncio.gather(*(send(app, raw) for raw in mails[:size]))
        mails = mails[size:]
    rows = await town.fetch("SELECT rfc_message_id, thread_id, in_reply_to, reply_to_email_id, id FROM messages")
    by_id = {r["rfc_message_id"]: r for r in rows}
    assert len(by_id) == 30
    for tree in range(3):
        assert len({r["thread_id"] for name, r in by_id.items() if name.startswith(f"t{tree}.")}) == 1
    assert len(await town.fetch("SELECT FROM threads WHERE message_count = 10")) == 3
    alone = [name for name, r in by_id.items() if r["reply_to_email_id"] is None]
    assert sorted(alone) == [f"t{tree}.0@customer.test" for tree in range(3)], "every answer is matched in the end"


async def test_a_hundred_pairs_in_both_orders_under_load_all_match(app: App, town: Town) -> None:
    pairs = [(mail(f"p{n}"), mail(f"a{n}", reply=f"p{n}")) for n in range(100)]
    mixed = [
        one for n, (parent, answer) in enumerate(pairs) for one in ((parent, answer) if n % 2 else (answer, parent))
    ]
    await asyncio.gather(*(send(app, raw) for raw in mixed))
    rows = await town.fetch("SELECT reply_match_status, count(*) FROM messages GROUP BY 1 ORDER BY 1")
    assert [(r["reply_match_status"], r["count"]) for r in rows] == [("matched", 100), ("unmatched", 100)]
    assert len(await town.fetch("SELECT FROM threads")) == 100


# -- when it goes wrong ----------------------------------------------------------------------------------------------


async def broken(town: Town, faults: str, **more: Any) -> App:
    app = App(settings(town.url, test__faults=faults, **more))
    await app.open()
    return app


@pytest.mark.parametrize("fault", ["scan:raise", "decide:raise", "find:raise", "commit:data"])
async def test_a_mail_we_cannot_digest_is_a_dead_letter_and_a_yes(town: Town, fault: str) -> None:
    app = await broken(town, fault)
    try:
        raw = mail("poison")
        outcome = await send(app, raw, "support@acme.test", "support@globex.test")
        assert outcome.smtp_line == f"250 2.0.0 stored as {outcome.arrival_id}"
        letters = await town.fetch("SELECT * FROM dead_letters ORDER BY tenant_id")
        assert len({letter["tenant_id"] for letter in letters}) == 2, "each tenant has its own"
        assert {letter["state"] for letter in letters} == {"dead"}
        assert all("poison" not in letter["detail"] for letter in letters), "no mail text"
        data = await town.fetch("SELECT data FROM raws")
        assert [r["data"] for r in data] == [raw, raw]
        receipts = await town.fetch("SELECT dead_letter_id, message_id, arrival_id FROM receipts ORDER BY tenant_id")
        assert [(r["dead_letter_id"], r["message_id"]) for r in receipts] == [
            (letter["id"], None) for letter in letters
        ]
        assert {r["arrival_id"] for r in receipts} == {outcome.arrival_id}
        # The sender's retry after a lost 250: one more receipt, nothing else.
        assert (await send(app, raw, "support@acme.test", "support@globex.test")).code.smtp == 250
        assert len(await town.fetch("SELECT FROM dead_letters")) == 2
        assert len(await town.fetch("SELECT FROM receipts")) == 4
    finally:
        await app.close()


@pytest.mark.s3
async def test_one_bad_mail_in_a_shared_commit_falls_back_to_one_by_one(town: Town) -> None:
    app = await broken(town, "commit:data@1", store__connections=2)
    try:
        outcomes = await asyncio.gather(*(send(app, mail(f"m{n}")) for n in range(17)))
        assert {outcome.code.smtp for outcome in outcomes} == {250}
        assert len(await town.fetch("SELECT FROM messages")) == 17, "the batch was tried again, each mail alone"
        assert not await town.fetch("SELECT FROM dead_letters")
    finally:
        await app.close()


async def test_beyond_the_caps_dead_letters_are_deferred(town: Town) -> None:
    app = await broken(town, "scan:raise", store__dead_letters_per_prefix_hour=2)
    try:
        codes = [(await send(app, mail(f"m{n}"))).code.smtp for n in range(4)]
        assert codes == [250, 250, 451, 451]
        assert len(await town.fetch("SELECT FROM dead_letters")) == 2
        assert len(await town.fetch("SELECT FROM raws")) == 2
    finally:
        await app.close()


async def test_without_a_database_every_answer_is_for_now(unused_port: int) -> None:
    app = App(settings(f"postgresql://nobody@127.0.0.1:{unused_port}/none", store__commit_seconds=0.3))
    await app.open()
    try:
        address = parse_path("support@acme.test")
        assert address is not None
        answer = await app.pipeline.recipient(address, Client(ip="192.0.2.1"), door=Door.SMTP, mail_from="a@x.test")
        assert getattr(answer, "reason", None) is Reason.STORE_UNAVAILABLE
        assert (await send(app, mail("x"))).code.smtp == 451
    finally:
        await app.close()


async def test_nul_and_lone_surrogates_in_the_envelope_are_stored_readably(app: App, town: Town) -> None:
    odd = replace(envelope(mail("odd")), mail_from="a\0b\udcff@x", client=Client(ip="192.0.2.1", helo="h\0\udce9"))
    assert (await app.pipeline.accept(odd)).reason is Reason.ACCEPTED
    receipt = (await town.fetch("SELECT envelope_from, helo FROM receipts"))[0]
    assert (receipt["envelope_from"], receipt["helo"]) == ("a\ufffdb?@x", "h\ufffd?")


def test_ids_are_made_by_us_and_sort_by_time() -> None:
    ids = [new_id() for _ in range(5)]
    assert all(isinstance(one, UUID) and one.version == 7 for one in ids)


async def test_fresh_tables_are_read_by_key(app: App, town: Town) -> None:
    """Conversations that come in their order and against it, in a database that nobody has analyzed: a plan by another
    index than the key reads all mails of the tenant, and a connection keeps it.
    """
    chains = [[mail(f"{c}-{n}", reply=f"{c}-{n - 1}" if n else None) for n in range(4)] for c in range(60)]
    for some in (chains[:10], chains[10:]):
        for turn in range(4):
            ordered = [chain[turn if c % 2 else 3 - turn] for c, chain in enumerate(some)]
            outcomes = await asyncio.gather(*(app.pipeline.accept(envelope(raw)) for raw in ordered))
            assert all(outcome.reason is Reason.ACCEPTED for outcome in outcomes)
    assert await town.fetch("SELECT FROM messages WHERE reply_match_method = 'late_join'")
    await app.close()  # sessions that end have reported what they read
    read = await town.fetch(
        "SELECT indexrelname, idx_scan, idx_tup_read FROM pg_stat_user_indexes"
        " WHERE relname IN ('messages', 'threads', 'thread_ids', 'participants', 'contacts', 'receipts')"
        " AND idx_scan > 0"
    )
    assert {row["indexrelname"] for row in read} >= {"messages_pkey", "messages_bearers"}
    assert {row["indexrelname"] for row in read if row["idx_tup_read"] > 8 * row["idx_scan"]} == set()
