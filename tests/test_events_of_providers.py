"""Events of providers on a real Postgres: one event is one mail, whoever brings it and however often."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import asyncpg
import pytest

from ingester.app import App
from ingester.core.envelope import Client, Door, Envelope
from ingester.core.outcome import Reason
from ingester.store.housekeeping import expire_events
from tests.daemon import Town, settle
from tests.test_pipeline import envelope, mail, settings

pytestmark = pytest.mark.usefixtures("blobs")


@pytest.fixture
async def town(database_url: str) -> Town:
    return await settle(database_url, {"acme.test": ("support", "sales"), "globex.test": ("support",)})


@pytest.fixture
async def app(town: Town) -> AsyncIterator[App]:
    one = App(settings(town.url))
    await one.open()
    yield one
    await one.close()


def event(raw: bytes, event_id: str, *recipients: str, provider: str = "postmark") -> Envelope:
    return replace(
        envelope(raw, *recipients),
        door=Door.HTTP,
        client=Client(ip=""),
        provider=provider,
        provider_event_id=event_id,
        metadata={"tag": "a"},
    )


async def test_the_event_stands_on_the_receipt(app: App, town: Town) -> None:
    await app.pipeline.accept(event(mail("one"), "e1"))
    (receipt,) = await town.fetch("SELECT * FROM receipts")
    assert (receipt["provider"], receipt["provider_event_id"]) == ("postmark", "e1")
    assert receipt["client_ip"] is None
    assert receipt["metadata"] == '{"tag": "a"}'


async def test_the_same_event_is_a_duplicate_even_when_the_bytes_are_forgotten(app: App, town: Town) -> None:
    """A mail without Message-ID is known by its bytes for a day, the provider's event for as long as any claim."""
    first = await app.pipeline.accept(event(mail(None), "e1"))
    later = event(mail(None), "e1")
    again = await app.pipeline.accept(replace(later, received_at=later.received_at + timedelta(days=3)))
    assert (again.reason, again.stored[0].message_id) == (Reason.DUPLICATE, first.stored[0].message_id)
    other = event(mail(None), "e2")
    new = await app.pipeline.accept(replace(other, received_at=other.received_at + timedelta(days=5)))
    assert new.reason is Reason.ACCEPTED
    assert len(await town.fetch("SELECT FROM messages")) == 2


async def test_an_id_that_is_made_of_the_bytes_claims_no_more_than_they_do(app: App) -> None:
    raw = mail(None)
    first = event(raw, sha256(raw).hexdigest())
    assert (await app.pipeline.accept(first)).reason is Reason.ACCEPTED
    later = replace(event(raw, sha256(raw).hexdigest()), received_at=first.received_at + timedelta(days=3))
    assert (await app.pipeline.accept(later)).reason is Reason.ACCEPTED


async def test_another_mail_under_the_same_event_is_a_conflict(app: App, town: Town) -> None:
    await app.pipeline.accept(event(mail("one"), "e1"))
    # Whatever mailbox it is for; the same id of another provider, and of another tenant's mail, is another event.
    conflict = await app.pipeline.accept(event(mail("two"), "e1", "sales@acme.test"))
    assert (conflict.reason, conflict.code.http, conflict.stored) == (Reason.EVENT_CONFLICT, 409, ())
    for other in (event(mail("two"), "e1", provider="mailgun"), event(mail("two"), "e1", "support@globex.test")):
        assert (await app.pipeline.accept(other)).reason is Reason.ACCEPTED
    await app.refusals.flush()
    (refusal,) = await town.fetch("SELECT r.reason, t.slug FROM refusals r JOIN tenants t ON t.id = r.tenant_id")
    assert (refusal["reason"], refusal["slug"]) == ("event_conflict", "acme")
    assert await town.fetch("SELECT FROM dead_letters") == []


async def test_one_conflict_does_not_spoil_the_mails_beside_it(app: App, town: Town) -> None:
    """All come at the same moment and share commits."""
    mails = [event(mail(f"m{n}"), f"e{n // 2}") for n in range(40)]
    outcomes = await asyncio.gather(*map(app.pipeline.accept, mails))
    reasons = [one.reason for one in outcomes]
    assert (reasons.count(Reason.ACCEPTED), reasons.count(Reason.EVENT_CONFLICT)) == (20, 20)
    assert len(await town.fetch("SELECT FROM messages")) == 20


async def test_a_hundred_of_the_same_event_at_once_are_one_message(app: App, town: Town) -> None:
    outcomes = await asyncio.gather(*(app.pipeline.accept(event(mail("one"), "e1")) for _ in range(100)))
    assert sorted({one.reason for one in outcomes}) == [Reason.ACCEPTED, Reason.DUPLICATE]
    assert len({one.stored[0].message_id for one in outcomes}) == 1
    assert len(await town.fetch("SELECT FROM messages")) == 1
    assert len(await town.fetch("SELECT FROM receipts")) == 100


async def test_what_was_deferred_is_tried_again_under_the_same_event(app: App, town: Town) -> None:
    await town.fetch("UPDATE mailboxes SET status = 'suspended', status_since = now() WHERE local_part = 'sales'")
    both = ("support@acme.test", "sales@acme.test")
    deferred = await app.pipeline.accept(event(mail("one"), "e1", *both))
    assert (deferred.reason, len(deferred.stored)) == (Reason.MAILBOX_SUSPENDED, 1)
    assert dict(deferred.refused).keys() == {"sales@acme.test"}
    await town.fetch("UPDATE mailboxes SET status = 'active' WHERE local_part = 'sales'")
    again = await app.pipeline.accept(event(mail("one"), "e1", *both))
    assert again.reason is Reason.ACCEPTED
    assert sorted(one.duplicate for one in again.stored) == [False, True]


async def test_events_over_their_time_are_removed(app: App, town: Town) -> None:
    one = event(mail("one"), "e1")
    await app.pipeline.accept(one)
    connection = await asyncpg.connect(town.url)
    await expire_events(connection, one.received_at + timedelta(days=13))
    assert len(await town.fetch("SELECT FROM provider_events")) == 1
    await expire_events(connection, one.received_at + timedelta(days=15))
    assert await town.fetch("SELECT FROM provider_events") == []
    await connection.close()


async def test_the_line_end_that_smtp_adds_makes_no_second_mail(app: App) -> None:
    """HTTP may bring a mail without its last line end; the raw bytes differ, the mail does not."""
    first = await app.pipeline.accept(envelope(mail("one")))
    again = await app.pipeline.accept(event(mail("one").rstrip(b"\r\n"), "e1"))
    assert (again.reason, again.stored[0].message_id) == (Reason.DUPLICATE, first.stored[0].message_id)
    other = await app.pipeline.accept(event(mail("one").replace(b"Body of one.", b"Body of one"), "e2"))
    assert other.reason is Reason.ACCEPTED
