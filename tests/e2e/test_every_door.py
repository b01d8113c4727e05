"""The same mail by SMTP, LMTP, HTTP and SES, all at once: one message, a receipt for each arrival, equal bytes.

In this process, because the certificate of SNS is our own. The doors that need none are tested in the real daemon by
`test_doors`.
"""

import asyncio
import base64
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from io import BytesIO
from typing import Any

import msgspec
import pytest

from tests.mta import Letter, letter
from tests.swift import Swift
from tests.transport.ses.house import House, received, running

pytestmark = pytest.mark.thorough

MAILS = 100
RECIPIENT = "support@acme.test"
TOKEN = "an inbound token of 32 characters!"
SECONDS = 120.0
TRIES = 5
AT_S3 = asyncio.Semaphore(8)

Bring = Callable[[House, Letter], Awaitable[None]]


async def converse(port: int, hello: str, mail: Letter) -> None:
    """A mail over SMTP or LMTP: the last reply is that to the data, and there is one recipient."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{hello} x\r\nMAIL FROM:<{mail.mail_from}>\r\nRCPT TO:<{RECIPIENT}>\r\nDATA\r\n".encode())
        while not (line := await reader.readline()).startswith(b"354"):
            assert line.startswith(b"2"), line
        writer.write(mail.stuffed)
        assert (await reader.readline()).startswith(b"250 ")
    finally:
        writer.close()


async def by_smtp(house: House, mail: Letter) -> None:
    await converse(house.smtp, "EHLO", mail)


async def by_lmtp(house: House, mail: Letter) -> None:
    await converse(house.lmtp, "LHLO", mail)


async def post(house: House, body: bytes, kind: str, **headers: str) -> None:
    said = {"Authorization": f"Bearer {TOKEN}", "Content-Type": kind, **headers}
    url = f"http://127.0.0.1:{house.port}/events/inbound?provider=test"
    async with house.session.post(url, data=BytesIO(body), headers=said) as reply:
        assert reply.status in (200, 202)
        assert (await reply.json())["ok"]


async def by_raw(house: House, mail: Letter) -> None:
    await post(house, mail.content, "message/rfc822", **{"X-Ingester-Recipient": RECIPIENT})


async def by_json(house: House, mail: Letter) -> None:
    given: dict[str, Any] = {
        "event_id": f"event of {mail.message_id}",
        "recipients": [RECIPIENT],
        "raw_mime_base64": base64.b64encode(mail.content).decode(),
    }
    await post(house, msgspec.json.encode(given), "application/json")


async def by_s3(house: House, mail: Letter) -> None:
    """The mail lies there already. A small S3 server has its limits: at a 503 SNS comes again with the same message."""
    envelope = house.sns.notification(house.received(f"acme/{mail.message_id}", RECIPIENT))
    for _ in range(TRIES):
        async with AT_S3:
            reply = await house.post(envelope)
        if reply.status != 503:
            break
    assert reply.body["ok"], reply


async def by_sns(house: House, mail: Letter) -> None:
    content = base64.b64encode(mail.content).decode()
    reply = await house.tell(received(RECIPIENT, action={"type": "SNS", "encoding": "BASE64"}, content=content))
    assert reply.body["ok"], reply


DOORS: dict[Bring, tuple[str, str | None]] = {
    by_smtp: ("smtp", None),
    by_lmtp: ("lmtp", None),
    by_raw: ("http", "test"),
    by_json: ("http", "test"),
    by_s3: ("ses", "ses"),
    by_sns: ("ses", "ses"),
}
"""What brings a mail, and what its receipt says of it: door and provider."""


async def test_every_door_at_once_a_hundred_times(database_url: str, swift: Swift) -> None:
    chance = random.Random(6)
    mails = [letter(f"every-{number}@x.test", RECIPIENT) for number in range(MAILS)]
    visits = [(bring, mail) for mail in mails for bring in DOORS]
    chance.shuffle(visits)
    async with (
        asyncio.timeout(SECONDS),
        running(database_url, swift, inbound_token=TOKEN, smtp__max_connections_per_prefix=1000) as house,
    ):
        for mail in mails:
            house.put(mail.content, key=mail.message_id)
        await asyncio.gather(*(bring(house, mail) for bring, mail in visits))
        rows = await house.town.fetch(
            """
            SELECT m.rfc_message_id, w.data, array_agg(r.door || ' ' || coalesce(r.provider, '-')) AS told,
                   count(*) FILTER (WHERE NOT r.duplicate) AS firsts
            FROM messages m JOIN receipts r ON r.message_id = m.id JOIN raws w ON w.id = m.raw_id
            GROUP BY m.id, m.rfc_message_id, w.data
            """
        )
        assert await house.count("raws") == MAILS
        assert await house.count("dead_letters") == 0
    assert {row["rfc_message_id"]: bytes(row["data"]) for row in rows} == {one.message_id: one.content for one in mails}
    assert len(rows) == MAILS
    wanted = Counter(f"{door} {provider or '-'}" for door, provider in DOORS.values())
    assert all(Counter(row["told"]) == wanted and row["firsts"] == 1 for row in rows)
