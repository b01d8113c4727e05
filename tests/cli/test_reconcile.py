"""ingester reconcile, and what else the commands show of SES: delivery events, and SES as a forwarder."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from ingester.clock import new_id, now
from ingester.settings import load
from ingester.store.db import Database
from ingester.store.delivery_events import NewEvent, record
from tests.cli.conftest import Cli
from tests.swift import Swift

MAIL = b"From: ada@customer.test\r\nTo: support@acme.test\r\nSubject: x\r\nMessage-ID: <x@customer.test>\r\n\r\nx\r\n"


@pytest.fixture
def town(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("INGESTER_REPLY_TOKEN_SECRETS", "a secret of the tests that is long enough to sign")
    cli.town()
    return cli


def test_without_a_bucket_there_is_nothing_to_search(town: Cli) -> None:
    assert town.fails("reconcile", "s3") == "INGESTER_SES__BUCKETS is not set: there is nothing to search"
    assert "yesterday" in town.usage("reconcile", "s3", "--since", "yesterday")


@pytest.mark.thorough
def test_a_bucket_is_searched_and_what_was_deferred_is_said(
    town: Cli, swift: Swift, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = swift.make_bucket()
    for name, value in swift.settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("INGESTER_SES__BUCKETS", f"{bucket}/in=tenant:acme")
    monkeypatch.setattr("ingester.transport.ses.reconcile.GRACE", timedelta(seconds=-5))
    monkeypatch.setattr("ingester.store.objects.RETRY_SECONDS", 0.2)
    assert town.ok("reconcile", "s3") == "All that lies in the buckets has arrived.\n"
    swift.write(bucket, "in/one", MAIL)
    swift.write(bucket, "in/two", MAIL.replace(b"support@", b"nobody@"))
    dry = town.ok("reconcile", "s3")
    assert f"s3://{bucket}/in/one" in dry
    assert "Nothing was fetched: add --apply to do it." in dry
    assert [one["ending"] for one in town.json("reconcile", "s3")["objects"]] == ["missing", "missing"]
    town.ok("tenant", "suspend", "acme")
    result = town.run("reconcile", "s3", "--apply", "--since", "1h")
    assert (result.exit_code, "deferred" in result.stdout, "refused" in result.stdout) == (1, True, True)
    assert "1 of 2 mails were deferred: they are tried again later" in result.stderr
    town.ok("tenant", "resume", "acme")
    (done,) = town.json("reconcile", "s3", "--apply")["objects"]
    assert (done["source"], done["ending"]) == (f"s3://{bucket}/in/one", "stored")
    assert town.json("show", done["message_ids"][0])["receipts"][0]["door"] == "ses"
    swift.stop()
    assert f"The bucket {bucket} cannot be listed" in town.fails("reconcile", "s3")
    swift.start()


def test_an_outbound_message_shows_what_became_of_it(town: Cli) -> None:
    one = town.json("outbound", "register", "support@acme.test", "--to", "ada@customer.test")
    town.ok("outbound", "sent", one["message_id"], "--provider-id", "m-1")
    assert "Delivery" not in town.ok("show", one["message_id"])
    asyncio.run(_tell(town.url, UUID(one["message_id"])))
    shown = town.ok("show", one["message_id"])
    assert "Delivery" in shown
    assert "smtp; 550 5.1.1 no such user" in shown
    assert "status" in shown
    found: dict[str, Any] = town.json("show", one["message_id"])
    assert found["message"]["status"] == "bounced"
    (event,) = found["delivery_events"]
    assert (event["kind"], event["status"], event["recipients"]) == ("bounce", "bounced", ["ada@customer.test"])


async def _tell(url: str, message_id: UUID) -> None:
    connection = await Database(load({}, env="development", database_url=url)).connect()
    try:
        tenant_id = await connection.fetchval("SELECT tenant_id FROM messages WHERE id = $1", message_id)
        recorded = await record(
            connection,
            NewEvent(
                tenant_id=tenant_id,
                id=new_id(),
                provider="ses",
                provider_message_id="m-1",
                provider_event_id="e-1",
                kind="bounce",
                status="bounced",
                recipients=("ada@customer.test",),
                detail={"recipients": [{"diagnostic": "smtp; 550 5.1.1 no such user"}]},
                occurred_at=now(),
                received_at=now(),
            ),
        )
        assert recorded.message_id == message_id
    finally:
        await connection.close()


def test_ses_is_trusted_without_a_network(town: Cli) -> None:
    """It has a door of its own; every other upstream needs one."""
    town.ok("forwarder", "add", "authserv_id", "amazonses.com", "--tenant", "acme")
    town.ok("forwarder", "add", "authserv_id", "amazonses.com", "--network", "192.0.2.0/24")
    assert "needs at least one" in town.usage("forwarder", "add", "authserv_id", "up.example")
    assert "needs at least one" in town.usage("forwarder", "add", "arc", "amazonses.com", "--network", "192.0.2.0/24")
    listed = {one["tenant"]: one["networks"] for one in town.json("forwarder", "list")}
    assert listed == {"acme": [], "system": ["192.0.2.0/24"]}
    town.ok("forwarder", "remove", "authserv_id", "amazonses.com", "--tenant", "acme")
