"""The SES door: SNS messages signed by ourselves, mail in a real S3 server, rows in a real Postgres."""

import asyncio
import base64
import gzip
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.sns import FakeSns, body_of, headers_of
from tests.swift import Swift
from tests.transport.ses.house import EVENTS, INBOUND, House, in_s3, mail, received, running


@pytest.fixture
async def house(database_url: str, swift: Swift) -> AsyncIterator[House]:
    async with running(database_url, swift) as one:
        yield one


async def test_a_mail_in_a_bucket_becomes_a_message(house: House) -> None:
    raw = mail()
    key = house.put(raw)
    reply = await house.tell(house.received(key, source="bounces@customer.test"), message_id="event-1")
    assert (reply.status, reply.body["ok"], reply.body["status"]) == (202, True, "accepted")
    (row,) = await house.town.fetch(
        """
        SELECT r.door, r.provider, r.provider_event_id, r.envelope_from, r.envelope_to, r.client_ip, r.source,
               r.metadata, m.id, m.spf, w.data
        FROM receipts r JOIN messages m ON m.id = r.message_id JOIN raws w ON w.id = m.raw_id
        """
    )
    assert str(row["id"]) == reply.body["message_id"]
    assert bytes(row["data"]) == raw
    assert (row["door"], row["provider"], row["provider_event_id"]) == ("ses", "ses", "event-1")
    assert (row["envelope_from"], row["envelope_to"]) == ("bounces@customer.test", ["support@acme.test"])
    assert (row["client_ip"], row["spf"]) == (None, "unknown")
    assert row["source"] == f"s3://{house.bucket}/{key}"
    evidence = row["metadata"]
    assert "reject" in str(evidence)
    assert "GRAY" in str(evidence)


async def test_both_versions_of_signatures_and_both_words(house: House) -> None:
    for version in ("1", "2"):
        for word in ("notificationType", "eventType"):
            message = house.received(house.put(mail(name=f"{word}-{version}")))
            message[word] = message.pop("notificationType")
            assert (await house.tell(message, version=version)).status == 202


async def test_recipients_are_those_of_the_receipt_and_never_those_of_the_header(house: House) -> None:
    key = house.put(mail(to="sales@acme.test, support@globex.test"))
    reply = await house.tell(house.received(key, "support@acme.test"))
    assert reply.status == 202
    rows = await house.town.fetch("SELECT envelope_to FROM receipts")
    assert [row["envelope_to"] for row in rows] == [["support@acme.test"]]


async def test_an_inline_mail_keeps_its_bytes(house: House) -> None:
    raw = mail(body="\u00fc").replace("\u00fc".encode(), b"\xfc")
    action = {"type": "SNS", "topicArn": house.sns.topic_arn, "encoding": "BASE64"}
    message = received(action=action, content=base64.b64encode(raw).decode())
    assert (await house.tell(message)).status == 202
    (row,) = await house.town.fetch("SELECT data FROM raws")
    assert bytes(row["data"]) == raw


async def test_an_inline_mail_as_text(house: House) -> None:
    raw = mail(body="\u00fc")
    assert (await house.tell(received(action={"type": "SNS", "encoding": "UTF8"}, content=raw.decode()))).status == 202
    (row,) = await house.town.fetch("SELECT data FROM raws")
    assert bytes(row["data"]) == raw


async def test_a_replay_is_a_duplicate(house: House) -> None:
    key = house.put(mail())
    envelope = house.sns.notification(house.received(key))
    first, second = await house.post(envelope), await house.post(envelope)
    assert (first.status, second.status) == (202, 200)
    assert second.body["status"] == "duplicate"
    assert second.body["message_id"] == first.body["message_id"]
    assert await house.count("messages") == 1


async def test_replays_at_once_are_stored_once(house: House) -> None:
    envelope = house.sns.notification(house.received(house.put(mail())))
    replies = await asyncio.gather(*(house.post(envelope) for _ in range(10)))
    assert sorted(reply.status for reply in replies) == [200] * 9 + [202]
    assert len({reply.body["message_id"] for reply in replies}) == 1
    assert await house.count("messages") == 1
    assert house.sns.fetched.count(house.sns.certificate_url) == 1


async def test_a_replay_whose_object_was_deleted_is_a_duplicate_all_the_same(house: House) -> None:
    key = house.put(mail())
    envelope = house.sns.notification(house.received(key))
    first = await house.post(envelope)
    await house.app.mailroom.objects(house.bucket).delete(key)
    second = await house.post(envelope)
    assert (second.status, second.body["status"]) == (200, "duplicate")
    assert second.body["message_ids"] == first.body["message_ids"]


async def test_a_missing_object_may_come_later(house: House) -> None:
    envelope = house.sns.notification(house.received("acme/later"))
    reply = await house.post(envelope)
    assert reply.no == (503, "object_missing")
    assert int(reply.headers["Retry-After"]) > 0
    assert await house.count("refusals") == 0
    assert not house.app._flight._open, "no transfer is left behind"
    house.put(mail(), key="later")
    assert (await house.post(envelope)).status == 202


async def test_s3_that_is_down_defers_and_loses_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingester.store.objects.RETRY_SECONDS", 0.2)
    assert house.swift is not None
    envelope = house.sns.notification(house.received(house.put(mail())))
    house.swift.stop()
    down = await house.post(envelope)
    assert down.no == (503, "store_unavailable")
    assert "Retry-After" in down.headers
    house.swift.start()
    assert (await house.post(envelope)).status == 202


async def test_a_database_that_is_away_defers(house: House) -> None:
    envelope = house.sns.notification(house.received(house.put(mail())))
    await house.app.database.close()
    reply = await house.post(envelope)
    assert reply.no == (503, "store_unavailable")
    assert "Retry-After" in reply.headers
    await house.app.database.open()
    assert (await house.post(envelope)).status == 202


async def test_when_the_bytes_in_flight_are_spent_the_mail_comes_again(house: House) -> None:
    """They are given back: those of a mail that is stored, and those of one that is not."""
    envelope = house.sns.notification(house.received(house.put(mail() + b"x" * 200_000)))
    flight = house.app._flight
    held = flight.open(lambda: None)
    held.grow(house.app.settings.max_bytes_in_flight - 100_000)
    held.settle()
    assert (await house.post(envelope)).no == (503, "overloaded")
    assert flight.used == held.held
    assert await house.count("refusals") == 0
    held.close()
    assert (await house.post(envelope)).status == 202
    assert flight.used == 0


async def test_a_mail_of_41_mb_is_refused_unread(house: House) -> None:
    key = house.put(b"Subject: large\r\n\r\n" + b"x" * 41_000_000)
    reply = await house.tell(house.received(key))
    assert reply.no == (413, "oversized_message")
    (row,) = await house.town.fetch("SELECT reason, source, door, envelope FROM refusals")
    assert (row["reason"], row["source"], row["door"]) == ("oversized", f"s3://{house.bucket}/{key}", "ses")
    assert "support@acme.test" in row["envelope"]
    assert await house.count("messages") == 0


async def test_a_mail_between_the_limits_is_taken_by_this_door(house: House) -> None:
    """Larger than SMTP's 25 MiB."""
    line = b"x" * 998 + b"\r\n"
    key = house.put(mail() + line * 26_500)
    assert (await house.tell(house.received(key))).status == 202


async def test_a_place_that_is_not_in_the_settings_is_refused(house: House) -> None:
    keys = ("mail", "initech/mail", "acmex/mail", "acme", "Acme/mail", "/acme/mail", "../acme/mail", "acme\\mail")
    for bucket, key in (("another-bucket", "acme/mail"), *((house.bucket, key) for key in keys)):
        assert (await house.tell(received(action=in_s3(bucket, key)))).no == (401, "unauthorized"), key
    assert await house.count("refusals") == 0


async def test_without_buckets_every_place_is_refused(database_url: str, swift: Swift) -> None:
    async with running(database_url, swift, buckets="") as house:
        assert (await house.tell(house.received(house.put(mail())))).no == (401, "unauthorized")


async def test_dots_lead_nowhere(house: House) -> None:
    """Keys are no paths: this one begins with the prefix of acme, and there is no such object."""
    house.put(mail(), prefix="globex/", key="theirs")
    reply = await house.tell(house.received("acme/../globex/theirs"))
    assert reply.no == (503, "object_missing")


async def test_recipients_of_another_tenant_are_nobody_s(house: House) -> None:
    key = house.put(mail(to="support@globex.test"))
    reply = await house.tell(house.received(key, "support@globex.test"))
    assert reply.no == (200, "missing_domain")
    assert await house.count("messages") == 0
    both = await house.tell(house.received(key, "support@globex.test", "support@acme.test"))
    assert both.status == 202
    assert [one["recipient"] for one in both.body["refused"]] == ["support@globex.test"]
    (row,) = await house.town.fetch("SELECT t.slug FROM messages m JOIN tenants t ON t.id = m.tenant_id")
    assert row["slug"] == "acme"


async def test_a_place_of_a_domain_takes_no_other(house: House) -> None:
    key = house.put(mail(to="support@globex.test"), prefix="globex/")
    assert (await house.tell(house.received(key, "support@acme.test"))).no == (200, "missing_domain")
    assert (await house.tell(house.received(key, "support@globex.test"))).status == 202


async def test_the_deepest_entry_owns_a_place(database_url: str, swift: Swift) -> None:
    buckets = "{0}/=tenant:acme,{0}/shared=tenant:acme,{0}/shared/globex/=tenant:globex"
    async with running(database_url, swift, buckets=buckets) as house:
        for prefix, recipient in (("", "acme"), ("shared/", "acme"), ("shared/globex/", "globex")):
            key = house.put(mail(to=f"support@{recipient}.test", name=prefix), prefix=prefix)
            other = "globex" if recipient == "acme" else "acme"
            assert (await house.tell(house.received(key, f"support@{other}.test"))).no == (200, "missing_domain")
            assert (await house.tell(house.received(key, f"support@{recipient}.test"))).status == 202


async def test_a_topic_of_one_tenant_cannot_speak_of_another_s_place(database_url: str, swift: Swift) -> None:
    topics = f"{FakeSns().topic_arn}=tenant:acme"
    async with running(database_url, swift, topics=topics) as house:
        theirs = house.put(mail(to="support@globex.test"), prefix="globex/")
        assert (await house.tell(house.received(theirs, "support@globex.test"))).no == (401, "unauthorized")
        inline = received("support@globex.test", action={"type": "SNS"}, content=mail().decode())
        assert (await house.tell(inline)).no == (200, "missing_domain")
        assert await house.count("refusals") == 0
        assert (await house.tell(house.received(house.put(mail())))).status == 202


async def test_an_owner_that_does_not_exist_yet_defers(database_url: str, swift: Swift) -> None:
    async with running(database_url, swift, buckets="{0}/a=tenant:initech,{0}/b=initech.test") as house:
        for prefix in ("a/", "b/"):
            key = house.put(mail(), prefix=prefix)
            assert (await house.tell(house.received(key))).no == (503, "store_unavailable")


async def test_an_unknown_recipient_is_final_and_noted_with_its_source(house: House) -> None:
    key = house.put(mail())
    assert (await house.tell(house.received(key, "nobody@acme.test"))).no == (200, "missing_domain")
    (row,) = await house.town.fetch("SELECT reason, source, envelope FROM refusals WHERE source IS NOT NULL")
    assert (row["reason"], row["source"]) == ("unknown_mailbox", f"s3://{house.bucket}/{key}")
    assert "nobody@acme.test" in row["envelope"]


# -- who may speak -----------------------------------------------------------------------------------------------------


async def test_a_subscription_is_confirmed_once_it_is_proven(house: House) -> None:
    reply = await house.post(house.sns.subscription())
    assert (reply.status, reply.body) == (200, {"ok": True, "status": "subscribed"})
    assert len(house.sns.confirmed) == 1


async def test_a_subscription_that_cannot_be_confirmed_now_is_tried_again(house: House) -> None:
    await house.tell("Successfully validated SNS topic for Amazon SES event publishing.")
    house.sns.down = True
    reply = await house.post(house.sns.subscription())
    assert reply.no == (503, "store_unavailable")
    assert "Retry-After" in reply.headers


async def test_the_end_of_a_subscription_is_acknowledged_and_nothing_fetched(house: House) -> None:
    reply = await house.post(house.sns.unsubscription())
    assert (reply.status, reply.body) == (200, {"ok": True, "status": "unsubscribed"})
    assert house.sns.confirmed == []


async def test_another_topic_is_refused(house: House) -> None:
    other = FakeSns("arn:aws:sns:eu-west-1:123456789012:other")
    for envelope in (other.subscription(), other.notification(house.received("acme/x"))):
        reply = await house.post(envelope)
        assert reply.no == (401, "unauthorized")
        assert reply.headers["WWW-Authenticate"]
    assert house.sns.fetched == []


async def test_without_topics_everything_is_refused(database_url: str) -> None:
    async with running(database_url, topics="") as house:
        for envelope in (house.sns.subscription(), house.sns.notification("{}")):
            for path in (INBOUND, EVENTS):
                assert (await house.post(envelope, path)).no == (401, "unauthorized")
        assert house.sns.fetched == []


async def test_tricks_are_refused_in_the_same_words(house: House) -> None:
    """The whole table of hosts is tested with `urls`; here that the door asks it."""
    true = house.sns.notification(house.received(house.put(mail())))
    pem, host = "SimpleNotificationService-0a0a0a0a0a0a0a0a.pem", "https://sns.eu-west-1.amazonaws.com"
    tricks: list[dict[str, Any]] = [
        true | {"SigningCertURL": f"{host}.evil.test/{pem}"},
        true | {"SigningCertURL": f"{host}@evil.test/{pem}"},
        true | {"SigningCertURL": f"{host}:8443/{pem}"},
        true | {"SigningCertURL": f"{host}/{pem}?x"},
        true | {"TopicArn": f"{house.sns.topic_arn}2"},
        true | {"SignatureVersion": "3"},
        true | {"Message": "{}"},
        house.sns.notification(true["Message"], at=datetime.now(UTC) - timedelta(hours=2)),
    ]
    replies = [await house.post(one) for one in tricks]
    assert {reply.no for reply in replies} == {(401, "unauthorized")}
    assert len({str(reply.body) for reply in replies}) == 1
    assert await house.count("messages") == 0
    assert (await house.post(true)).status == 202
    assert house.sns.fetched == [house.sns.certificate_url]


async def test_a_subscribe_url_elsewhere_is_never_asked(house: House) -> None:
    reply = await house.post(house.sns.subscription(SubscribeURL="https://evil.test/?Action=ConfirmSubscription"))
    assert reply.no == (401, "unauthorized")
    assert house.sns.confirmed == []
    assert house.sns.fetched == []


async def test_a_certificate_that_does_not_come_defers(house: House) -> None:
    house.sns.down = True
    reply = await house.tell(house.received(house.put(mail())))
    assert reply.no == (503, "store_unavailable")
    assert "Retry-After" in reply.headers


async def test_what_is_no_sns_message_is_no_request(house: House) -> None:
    for path in (INBOUND, EVENTS):
        for body in (b"", b"{}", b"[]", b"\xff", b"[" * 10_000):
            assert (await house.bring(body, path)).no == (400, "bad_request")


async def test_a_body_is_bounded_and_never_compressed(house: House) -> None:
    assert (await house.bring(b" " * (2 << 20))).no == (413, "oversized_message")
    envelope = house.sns.subscription()
    packed = {**headers_of(envelope), "Content-Encoding": "gzip"}
    assert (await house.bring(gzip.compress(body_of(envelope)), headers=packed)).no == (415, "unsupported")


async def test_a_body_that_comes_too_slowly_may_come_again(database_url: str) -> None:
    """SNS gives up at any 4xx, and a delivery event would be gone."""
    async with running(database_url, http__body_seconds=0.05) as house:
        for path in (INBOUND, EVENTS):
            reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
            writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{{".encode())
            reply = await asyncio.wait_for(reader.readuntil(b"}"), 10)
            assert reply.startswith(b"HTTP/1.1 503 ")
            assert b"Retry-After" in reply
            assert b'"deferred","reason":"request_timeout"' in reply
            writer.transport.abort()


async def test_what_makes_no_sense_names_its_field(house: House) -> None:
    for message, field in (
        ("no JSON", "Message"),
        ({}, "notificationType"),
        (received(action={"type": "SNS", "encoding": "BASE64"}, content="%"), "content"),
        ({"eventType": "Bounce", "bounce": {}}, "mail.messageId"),
    ):
        reply = await house.tell(message)
        assert reply.no == (422, "unprocessable")
        assert reply.body["field"] == field


async def test_what_nothing_is_to_be_done_for_is_acknowledged(house: House) -> None:
    for path in (INBOUND, EVENTS):
        for message in (
            "Successfully validated SNS topic for Amazon SES event publishing.",
            {"eventType": "Open", "mail": {}, "open": {}},
            received(action=in_s3("any-bucket", "acme/AMAZON_SES_SETUP_NOTIFICATION")),
        ):
            reply = await house.tell(message, path)
            assert (reply.status, reply.body) == (200, {"ok": True, "status": "ignored"})
