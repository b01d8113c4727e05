"""What lies in a bucket and has not arrived is found and handed in once, without its notification."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingester.clock import now
from ingester.configured import bounds
from ingester.ledger import Ledger
from ingester.settings import load
from ingester.store.objects import Item, ObjectsUnavailable
from ingester.store.sources import Attempt
from ingester.transport.ses.mailroom import Said
from ingester.transport.ses.reconcile import GRACE, HOPELESS, NotNow, Reconciled, Reconciler, is_due
from ingester.transport.ses.trace import read_trace
from tests.cost import assert_cheap
from tests.swift import Swift
from tests.transport.ses.house import House, mail, running

WRITTEN = datetime(2026, 11, 21, 8, tzinfo=UTC)
LATER = timedelta(minutes=10)


@pytest.fixture
async def house(database_url: str, swift: Swift) -> AsyncIterator[House]:
    async with running(database_url, swift) as one:
        yield one


def reconciler(house: House, *, later: timedelta = LATER, **settings: Any) -> Reconciler:
    """One whose clock is ahead, so that what was written just now is old enough."""
    chosen = house.app.settings
    if settings:
        chosen = chosen.model_copy(update={"ses": chosen.ses.model_copy(update=settings)})
    return Reconciler(
        settings=chosen,
        bounds=bounds(chosen),
        database=house.app.database,
        ledger=Ledger(settings=chosen, database=house.app.database),
        mailroom=house.app.mailroom,
        now=lambda: now() + later,
    )


async def search(house: House, *, apply: bool = True, **how: Any) -> dict[str, Reconciled]:
    search = await reconciler(house, **how).search_all(since=None, apply=apply, watch=lambda _: None)
    if search.stopped is not None:
        raise NotNow(search.stopped)
    return {one.source.removeprefix(f"s3://{house.bucket}/"): one for one in search.found}


def ses_mail(
    name: str, recipient: str = "support@acme.test", *, to: str = "undisclosed:;", sender: str = "b@c.test"
) -> bytes:
    """As SES writes it into a bucket."""
    head = (
        f"Return-Path: <{sender}>\r\n"
        "Received: from mx.customer.test (mx.customer.test [192.0.2.1])\r\n"
        " by inbound-smtp.eu-west-1.amazonaws.com with SMTP id d6iitobk75ur44p8kdnnp7g2n800\r\n"
        f" for {recipient};\r\n"
        " Sat, 21 Nov 2026 08:00:00 +0000 (UTC)\r\n"
        "X-SES-Spam-Verdict: PASS\r\n"
    )
    return head.encode() + mail(name, to=to)


async def test_what_was_not_announced_is_handed_in_once(house: House) -> None:
    key = house.put(ses_mail("quiet"))
    (dry,) = (await search(house, apply=False)).values()
    assert (dry.ending, dry.source, dry.size) == ("missing", f"s3://{house.bucket}/{key}", len(ses_mail("quiet")))
    assert await house.count("messages") == 0
    (done,) = (await search(house)).values()
    assert done.ending == "stored"
    (row,) = await house.town.fetch(
        "SELECT r.door, r.provider, r.provider_event_id, r.envelope_from, r.envelope_to, r.source, r.raw_sha256, m.id "
        "FROM receipts r JOIN messages m ON m.id = r.message_id"
    )
    assert done.message_ids == (row["id"],)
    assert (row["door"], row["provider"], row["source"]) == ("ses", "ses", f"s3://{house.bucket}/{key}")
    assert row["provider_event_id"] == bytes(row["raw_sha256"]).hex()
    assert (row["envelope_from"], row["envelope_to"]) == ("b@c.test", ["support@acme.test"])
    assert await search(house) == {}


async def test_what_has_arrived_is_left_alone(house: House) -> None:
    key = house.put(mail())
    assert (await house.tell(house.received(key))).status == 202
    refused = house.put(mail("no"))
    assert (await house.tell(house.received(refused, "nobody@acme.test"))).status == 200
    large = house.put(b"x" * 2000)
    assert await search(house, later=GRACE - timedelta(minutes=1)) == {}, "they are left to their notifications first"
    assert [*await search(house, apply=False)] == [large]


async def test_a_late_notification_is_a_duplicate(house: House) -> None:
    key = house.put(ses_mail("late"))
    (done,) = (await search(house)).values()
    reply = await house.tell(house.received(key))
    assert (reply.status, reply.body["status"]) == (200, "duplicate")
    assert reply.body["message_ids"] == [str(one) for one in done.message_ids]
    assert (await house.count("messages"), await house.count("receipts")) == (1, 2)


async def test_notification_and_search_at_once_store_once(house: House) -> None:
    keys = [house.put(ses_mail(f"m{number}")) for number in range(10)]
    searching = asyncio.create_task(search(house))
    replies = await asyncio.gather(*(house.tell(house.received(key)) for key in keys))
    found = await searching
    assert all(reply.status in (200, 202) and reply.body["ok"] for reply in replies)
    assert {one.ending for one in found.values()} <= {"stored", "duplicate"}
    assert await house.count("messages") == 10


async def test_what_is_for_nobody_is_noted_and_not_tried_again(house: House) -> None:
    key = house.put(ses_mail("astray", "support@globex.test", to="nobody@elsewhere.test"))
    unknown = house.put(ses_mail("unknown", "nobody@acme.test"))
    found = await search(house)
    assert {key: (one.ending, one.reason) for key, one in found.items()} == {
        key: ("refused", "missing_domain"),
        unknown: ("refused", "missing_domain"),
    }
    rows = await house.town.fetch("SELECT source FROM refusals WHERE source IS NOT NULL")
    assert {row["source"] for row in rows} == {f"s3://{house.bucket}/{one}" for one in (key, unknown)}
    assert await search(house) == {}


async def test_each_place_has_its_own_mail(house: House) -> None:
    """The place of globex takes no mail of acme, whatever the mail says; what lies nowhere of ours is not looked at."""
    house.put(ses_mail("theirs"), prefix="globex/")
    house.put(ses_mail("elsewhere"), prefix="initech/")
    house.put(b"test", prefix="acme/", key="AMAZON_SES_SETUP_NOTIFICATION")
    house.put(b"", prefix="acme/", key="empty")
    (found,) = (await search(house)).values()
    assert (found.ending, found.reason) == ("refused", "missing_domain")
    assert found.source.startswith(f"s3://{house.bucket}/globex/")


async def test_a_deeper_place_is_not_searched_twice(database_url: str, swift: Swift) -> None:
    async with running(database_url, swift, buckets="{0}=tenant:acme,{0}/globex=tenant:globex") as house:
        house.put(ses_mail("a"), prefix="")
        house.put(ses_mail("g", "support@globex.test"), prefix="globex/")
        done = await reconciler(house).search_all(since=None, apply=True, watch=lambda _: None)
        assert [one.ending for one in done.found] == ["stored"] * 2
        rows = await house.town.fetch("SELECT t.slug FROM messages m JOIN tenants t ON t.id = m.tenant_id")
        assert sorted(row["slug"] for row in rows) == ["acme", "globex"]


async def test_a_mail_that_is_too_large_is_noted(database_url: str, swift: Swift) -> None:
    async with running(database_url, swift, ses__max_message_bytes=2000) as house:
        house.put(b"x" * 2001)
        (found,) = (await search(house)).values()
        assert (found.ending, found.reason) == ("refused", "oversized_message")
        assert await search(house) == {}


async def test_a_deferred_mail_is_tried_again_but_ever_more_rarely(house: House) -> None:
    await house.town.fetch("UPDATE tenants SET status = 'suspended', status_since = now() WHERE slug = 'acme'")
    key = house.put(ses_mail("wait"))
    (found,) = (await search(house)).values()
    assert (found.ending, found.reason) == ("deferred", "mailbox_suspended")
    assert await search(house, later=timedelta(minutes=1)) == {}
    assert (await search(house, later=timedelta(hours=1)))[key].ending == "deferred"
    await house.town.fetch("UPDATE tenants SET status = 'active', status_since = now() WHERE slug = 'acme'")
    assert (await search(house, later=timedelta(hours=1)))[key].ending == "stored"
    assert await search(house, later=timedelta(hours=2)) == {}


async def test_one_recipient_that_was_deferred_keeps_the_mail_open(house: House) -> None:
    """SNS may give up after a mail that one mailbox took and another could not take then."""
    await house.town.fetch("UPDATE mailboxes SET status = 'suspended', status_since = now() WHERE local_part = 'sales'")
    both = ("support@acme.test", "sales@acme.test")
    key = house.put(ses_mail("both", to=", ".join(both)))
    assert (await house.tell(house.received(key, *both))).no == (503, "mailbox_suspended")
    assert await house.count("messages") == 1
    await house.town.fetch("UPDATE mailboxes SET status = 'active', status_since = now() WHERE local_part = 'sales'")
    assert (await search(house))[key].ending == "stored"
    assert await house.count("messages") == 2
    assert await search(house) == {}


async def test_the_span_is_bounded(house: House) -> None:
    house.put(ses_mail("old"))
    assert await search(house, later=timedelta(days=4)) == {}
    long_ago = now() - timedelta(days=1)
    later = reconciler(house, later=timedelta(days=4))
    assert len((await later.search_all(since=long_ago, apply=False, watch=lambda _: None)).found) == 1


async def test_one_worker_searches_at_a_time(house: House) -> None:
    house.put(ses_mail("one"))
    async with reconciler(house)._alone() as alone:
        assert alone
        with pytest.raises(NotNow, match="Another worker"):
            await search(house)
        assert len(await search(house, apply=False)) == 1
        await reconciler(house).reconcile()
    assert await house.count("messages") == 0
    await reconciler(house).reconcile()
    assert await house.count("messages") == 1


async def test_a_place_of_nobody_is_said(database_url: str, swift: Swift) -> None:
    async with running(database_url, swift, buckets="{0}/a=tenant:initech,{0}/b=tenant:acme") as house:
        house.put(ses_mail("one"), prefix="b/")
        with pytest.raises(NotNow, match="whose"):
            await search(house)
        await reconciler(house).reconcile()
        assert await house.count("messages") == 1, "the daemon goes on with the next place"


async def test_what_was_done_before_the_search_stopped_is_told(database_url: str, swift: Swift) -> None:
    async with running(database_url, swift, buckets="{0}/a=tenant:acme,{0}/b=tenant:initech") as house:
        house.put(ses_mail("one"), prefix="a/")
        stopped = await reconciler(house).search_all(since=None, apply=True, watch=lambda _: None)
        assert [one.ending for one in stopped.found] == ["stored"]
        assert "whose" in (stopped.stopped or "")


async def test_an_object_that_cannot_be_read_does_not_hide_the_others(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcdefghij":
        house.put(ses_mail(name), key=name)
    objects = house.app.mailroom.objects(house.bucket)
    true_size = objects.size
    forbidden = {"acme/b"}

    async def size(key: str) -> int:
        if key in forbidden:
            raise ObjectsUnavailable("PermissionDeniedError")
        return await true_size(key)

    monkeypatch.setattr(objects, "size", size)
    found = await search(house)
    assert [key for key, one in found.items() if one.ending == "deferred"] == ["acme/b"]
    assert found["acme/b"].reason == "store_unavailable"
    assert await house.count("messages") == 9
    forbidden.clear()
    assert [*await search(house)] == ["acme/b"]


async def test_a_store_that_is_away_is_not_asked_for_every_object(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        house.put(ses_mail(f"m{number}"))
    asked: list[str] = []

    async def size(key: str) -> int:
        asked.append(key)
        raise ObjectsUnavailable("timeout")

    monkeypatch.setattr(house.app.mailroom.objects(house.bucket), "size", size)
    with pytest.raises(NotNow, match="cannot be read"):
        await search(house)
    assert len(asked) == HOPELESS


async def test_the_daemon_searches_every_so_often(
    database_url: str, swift: Swift, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def reconcile(self: Reconciler) -> None:
        begun.set()

    monkeypatch.setattr(Reconciler, "reconcile", reconcile)
    async with running(database_url, swift, ses__reconcile_seconds=0.01):
        await asyncio.wait_for(begun.wait(), 30)
    async with running(database_url, swift, ses__reconcile_seconds=0) as house:
        assert "reconciling" not in house.app._chores.names
    async with running(database_url, swift, buckets="") as house:
        assert "reconciling" not in house.app._chores.names


async def test_many_objects_are_asked_for_in_batches(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingester.transport.ses.reconcile.ASKED", 4)
    for number in range(10):
        house.put(ses_mail(f"m{number}"))
    seen: list[int] = []
    search = await reconciler(house).search_all(since=None, apply=True, watch=seen.append)
    assert (len(search.found), sum(seen)) == (10, 10)
    assert await house.count("messages") == 10


def test_when_a_deferred_object_is_due() -> None:
    item = Item(key="k", size=1, modified=WRITTEN)
    assert is_due(item, None, WRITTEN)
    first = Attempt(at=WRITTEN + timedelta(minutes=1), open=True)
    assert not is_due(item, first, first.at + GRACE - timedelta(seconds=1))
    assert is_due(item, first, first.at + GRACE)
    late = Attempt(at=WRITTEN + timedelta(hours=10), open=True)
    assert not is_due(item, late, late.at + timedelta(hours=4))
    assert is_due(item, late, late.at + timedelta(hours=5))
    assert not is_due(item, replace(late, open=False), late.at + timedelta(days=30))


BOUNDS = bounds(load({}, env="development"))
ACME = frozenset({"acme.test"})


def trace(raw: bytes) -> Said:
    return read_trace(raw, BOUNDS, ACME)


def test_the_trace_of_ses() -> None:
    assert trace(ses_mail("x")).recipients == ("support@acme.test",)
    assert trace(ses_mail("x")).mail_from == "b@c.test"
    assert trace(ses_mail("x", sender="")).mail_from == ""
    assert trace(ses_mail("x", to="Sales <sales@acme.test>, b@c.test")).recipients == (
        "support@acme.test",
        "sales@acme.test",
    )
    assert trace(ses_mail("x", "a@globex.test")).recipients == ()


def test_only_the_first_fields_are_ses_s_own() -> None:
    beneath = b"X-First: 1\r\n" + ses_mail("x")
    assert trace(beneath).mail_from is None
    other = ses_mail("x").replace(b"inbound-smtp.eu-west-1.amazonaws.com", b"inbound-smtp.evil.test")
    assert trace(other).recipients == ()
    second = b"Received: by somebody.test; now\r\n" + ses_mail("x")
    assert trace(second).recipients == ()


@given(st.binary())
def test_no_bytes_raise(raw: bytes) -> None:
    said = trace(b"Return-Path: <" + raw + b"\r\nReceived: x\r\n by inbound-smtp.a.amazonaws.com for " + raw)
    assert all(one.endswith("@acme.test") for one in said.recipients)
    trace(raw)


def test_a_hostile_header_is_cheap() -> None:
    for raw in (
        b"Return-Path: " + b" " * 200_000 + b"\r\n\r\n",
        b"Received: " + b" by inbound-smtp." * 12_000 + b"\r\n\r\n",
        b"Received: by inbound-smtp.a.amazonaws.com " + b" for " * 40_000 + b"\r\n\r\n",
    ):
        assert_cheap(lambda: trace(raw), seconds=0.05)  # noqa: B023
