"""The examples of the guides and signed requests through the HTTP door, as far as the rows and the answers."""

from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.cost import assert_loop_goes_on
from tests.inbound import House, Reply, mail, receiving
from tests.transport.providers import test_mailgun as mailgun
from tests.transport.providers import test_sendgrid as sendgrid
from tests.transport.providers.bodies import MULTIPART, Fields, multipart, pieces
from tests.transport.providers.test_guides import MAIL, example

RAW = MAIL.replace(b"acme.example", b"acme.test")
ANOTHER = mail("another")
MIB = 1 << 20


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    """A process that knows the keys of both signers."""
    keys: dict[str, Any] = {
        "providers__mailgun_signing_key": mailgun.KEY,
        "providers__sendgrid_public_key": sendgrid.public(),
    }
    async with receiving(database_url, **keys) as one:
        yield one


async def post_example(house: House, name: str) -> Reply:
    headers, body = example(name)
    headers = {field: value for field, value in headers.items() if field not in ("Host", "Authorization")}
    return await house.post(body.replace(b"acme.example", b"acme.test"), headers=headers)


async def receipts(house: House) -> list[dict[str, Any]]:
    rows = await house.town.fetch(
        "SELECT r.provider, r.envelope_from, r.envelope_to, r.client_ip, r.helo, r.metadata, r.duplicate, w.data"
        " FROM receipts r LEFT JOIN messages m ON m.id = r.message_id LEFT JOIN raws w ON w.id = m.raw_id ORDER BY r.id"
    )
    return [dict(row) for row in rows]


@pytest.mark.parametrize(
    ("name", "envelope_from", "client_ip", "helo"),
    [
        ("mailgun", "ada@customer.example", None, None),
        ("sendgrid", "ada@customer.example", "192.0.2.7", None),
        ("cloudmailin", "ada@customer.example", "192.0.2.7", "mx.customer.example"),
        ("postmark", "", None, None),
    ],
)
async def test_the_example_of_a_guide_is_stored_once(
    house: House, name: str, envelope_from: str, client_ip: str | None, helo: str | None
) -> None:
    first, second = await post_example(house, name), await post_example(house, name)
    assert first.said == (202, "accepted", None)
    assert second.said == (200, "duplicate", None)
    assert second.body["message_id"] == first.body["message_id"]
    row, again = await receipts(house)
    assert (row["provider"], row["envelope_to"], row["data"]) == (name, ["support@acme.test"], RAW)
    assert (row["envelope_from"] or "", row["client_ip"], row["helo"]) == (envelope_from, client_ip, helo)
    assert msgspec.json.decode(row["metadata"])
    assert (row["duplicate"], again["duplicate"]) == (False, True)


async def test_one_mail_of_all_providers_is_one_message(house: House) -> None:
    replies = [await post_example(house, name) for name in ("mailgun", "sendgrid", "cloudmailin", "postmark")]
    assert [reply.status for reply in replies] == [202, 200, 200, 200]
    assert len(await house.stored()) == 1
    assert len(await receipts(house)) == 4


async def test_an_envelope_that_may_not_be_asserted_does_not_count(house: House) -> None:
    token = await house.token(provider="cloudmailin", domains=("acme.test",))
    headers, body = example("cloudmailin")
    body = body.replace(b"acme.example", b"acme.test")
    reply = await house.post(body, token=token, headers={"Content-Type": headers["Content-Type"]})
    assert reply.status == 202
    (row,) = await receipts(house)
    assert (row["envelope_from"] or "", row["client_ip"], row["helo"]) == ("", None, None)


def now() -> datetime:
    return datetime.now(UTC)


async def post_mailgun(house: House, given: Fields) -> Reply:
    return await house.post(
        multipart(given), token=None, headers={"Content-Type": MULTIPART}, path="/events/inbound/mime"
    )


def from_mailgun(raw: bytes = RAW, *, at: datetime | None = None, **changed: bytes) -> Fields:
    return mailgun.fields(at or now(), recipient=b"support@acme.test", body_mime=raw, **changed)


async def test_mailguns_signature_stands_for_a_token_and_serves_one_mail(house: House) -> None:
    given = from_mailgun()
    assert (await post_mailgun(house, given)).said == (202, "accepted", None)
    assert (await post_mailgun(house, given)).said == (200, "duplicate", None)
    replay = [(name, ANOTHER if name == "body-mime" else value) for name, value in given]
    assert (await post_mailgun(house, replay)).no == (409, "event_conflict", None)
    assert (await post_mailgun(house, from_mailgun(at=now() - timedelta(hours=10)))).no == (401, "unauthorized", None)
    assert (await post_mailgun(house, from_mailgun(signature=b"0" * 64))).no == (401, "unauthorized", None)
    assert len(await house.stored()) == 1


async def test_mailgun_tries_again_with_a_new_signature(house: House) -> None:
    assert (await post_mailgun(house, from_mailgun())).status == 202
    at = now() - timedelta(hours=1)
    stamp = str(int(at.timestamp())).encode()
    again = from_mailgun(at=at, token=b"another", signature=mailgun.signature(stamp, b"another"))
    assert (await post_mailgun(house, again)).said == (200, "duplicate", None)


async def post_sendgrid(house: House, headers: dict[str, str], body: bytes) -> Reply:
    return await house.post(body, token=None, headers=headers | {"Content-Type": sendgrid.CONTENT_TYPE})


def from_sendgrid(raw: bytes = RAW) -> bytes:
    envelope = b'{"to":["support@acme.test"],"from":"ada@customer.test"}'
    return multipart([("email", raw), ("sender_ip", b"192.0.2.7"), ("envelope", envelope)], "xYzZY")


def signed(body: bytes, at: datetime | None = None, **changed: Any) -> dict[str, str]:
    return sendgrid.signed(body, str(int((at or now()).timestamp())), **changed)


async def test_sendgrids_signature_stands_for_a_token(house: House) -> None:
    body = from_sendgrid()
    headers = signed(body)
    assert (await post_sendgrid(house, headers, body)).said == (202, "accepted", None)
    assert (await post_sendgrid(house, headers, body)).said == (200, "duplicate", None)
    other_key = ec.generate_private_key(ec.SECP256R1())
    for forged, sent in (
        (headers, from_sendgrid(ANOTHER)),
        (signed(body, now() - timedelta(days=4)), body),
        (signed(body, key=other_key), body),
        ({}, body),
        ({name: b64encode(b"x").decode() for name in headers}, body),
    ):
        assert (await post_sendgrid(house, forged, sent)).no == (401, "unauthorized", None)
    (row, _) = await receipts(house)
    assert (row["client_ip"], row["envelope_from"], row["data"]) == ("192.0.2.7", "ada@customer.test", RAW)


async def test_what_a_signed_form_lacks_is_named(house: House) -> None:
    body = multipart([("envelope", b'{"to":["support@acme.test"]}'), ("text", b"x")], "xYzZY")
    assert (await post_sendgrid(house, signed(body), body)).no == (422, "unprocessable", "email")
    body = from_sendgrid(RAW + b"\r\n--xYzZY--\r\n")
    assert (await post_sendgrid(house, signed(body), body)).no == (400, "bad_request", None)


async def test_a_large_signed_mail_does_not_hold_the_loop(house: House) -> None:
    """25 MB, as it streams: hashed, cut into fields, checked and stored."""
    raw = mail("large") + (b"x" * 76 + b"\r\n") * (24 * MIB // 78)
    body = from_sendgrid(raw)
    headers = signed(body) | {"Content-Type": sendgrid.CONTENT_TYPE}

    async def chunks() -> AsyncIterator[bytes]:
        for piece in pieces(body, 1 << 16):
            yield piece

    reply = await assert_loop_goes_on(lambda: house.post(chunks(), token=None, headers=headers), seconds=0.1)
    assert reply.body["ok"]
    assert (await receipts(house))[0]["data"] == raw
