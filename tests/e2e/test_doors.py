"""One mail by several doors, in any order and at once: one message, a receipt for each arrival, the same bytes.

A door is a function that brings a mail and gives whether it was answered yes. To add one: write it, and name it in
DOORS.
"""

import asyncio
import itertools
import random
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import aiohttp
import pytest

from tests.daemon import Daemon, Town, serving
from tests.inbound import PATH, RFC822, TOKEN
from tests.mta import Letter, letter
from tests.ports import free_port

RECIPIENT = "support@acme.test"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """Where a daemon listens, and a client."""

    smtp: int
    http: int
    session: aiohttp.ClientSession

    async def post(self, **given: object) -> UUID:
        """Hand in by HTTP. Gives the arrival."""
        url = f"http://127.0.0.1:{self.http}{PATH}?provider=test"
        async with self.session.post(url, **given) as reply:  # type: ignore[arg-type]
            body = await reply.json()
            assert reply.status in (200, 202), body
            assert body["ok"]
            return UUID(body["arrival_id"])


async def by_smtp(doors: Doors, mail: Letter) -> UUID:
    reader, writer = await asyncio.open_connection("127.0.0.1", doors.smtp)
    lines = f"EHLO x\r\nMAIL FROM:<{mail.mail_from}>\r\nRCPT TO:<{RECIPIENT}>\r\nDATA\r\n"
    try:
        writer.write(lines.encode())
        while not (await reader.readline()).startswith(b"354"):
            pass
        writer.write(mail.stuffed)
        answer = (await reader.readline()).decode()
        assert answer.startswith("250"), answer
        return UUID(answer.split()[-1])
    finally:
        writer.close()


async def by_raw(doors: Doors, mail: Letter) -> UUID:
    return await doors.post(data=mail.content, headers=AUTHORIZED | RFC822 | {"X-Ingester-Recipient": RECIPIENT})


async def by_json(doors: Doors, mail: Letter) -> UUID:
    given = {
        "event_id": f"event of {mail.message_id}",
        "recipients": [RECIPIENT],
        "raw_mime_base64": b64encode(mail.content).decode(),
    }
    return await doors.post(json=given, headers=AUTHORIZED)


Door = Callable[[Doors, Letter], Awaitable[UUID]]
DOORS: dict[str, tuple[Door, tuple[str, str | None]]] = {
    "smtp": (by_smtp, ("smtp", None)),
    "raw": (by_raw, ("http", "test")),
    "json": (by_json, ("http", "test")),
}
"""What brings a mail, and what its receipt says of it: door and provider."""


@asynccontextmanager
async def opened(daemon: Daemon, http: int) -> AsyncIterator[Doors]:
    connector = aiohttp.TCPConnector(limit=50)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Doors(smtp=daemon.port, http=http, session=session)


async def audit(town: Town, mail: Letter, arrivals: list[tuple[str, UUID]]) -> None:
    """One message, its bytes the ones that were sent, and a receipt for each arrival, one of them the first."""
    found = await town.fetch(
        "SELECT m.id, r.data FROM messages m JOIN raws r ON r.tenant_id = m.tenant_id AND r.id = m.raw_id"
        " WHERE m.rfc_message_id = $1",
        mail.message_id,
    )
    assert [row["data"] for row in found] == [mail.content]
    receipts = await town.fetch("SELECT * FROM receipts WHERE message_id = $1", found[0]["id"])
    assert {row["arrival_id"] for row in receipts} == {arrival for _, arrival in arrivals}
    told = Counter((row["door"], row["provider"]) for row in receipts)
    assert told == Counter(DOORS[name][1] for name, _ in arrivals)
    assert [row["duplicate"] for row in receipts].count(False) == 1
    assert {tuple(row["envelope_to"]) for row in receipts} == {(RECIPIENT,)}


async def bring(town: Town, daemon: Daemon, http: int, mails: list[tuple[Letter, list[str]]], *, at_once: bool) -> None:
    """Bring each mail by its doors: one after the other, or all of all mails at once."""
    async with opened(daemon, http) as doors, asyncio.timeout(SECONDS):

        async def one(mail: Letter, name: str) -> tuple[str, UUID]:
            return name, await DOORS[name][0](doors, mail)

        for mail, names in [] if at_once else mails:
            await audit(town, mail, [await one(mail, name) for name in names])
        if at_once:
            tasks = [[asyncio.ensure_future(one(mail, name)) for name in names] for mail, names in mails]
            for (mail, _), group in zip(mails, tasks, strict=True):
                await audit(town, mail, await asyncio.gather(*group))
    rows = await town.fetch("SELECT count(*) FROM messages")
    assert rows[0]["count"] == len(mails), "nothing is invented"
    assert not await town.fetch("SELECT FROM dead_letters")


@pytest.mark.thorough
def test_in_any_order(acme: Town) -> None:
    http = free_port()
    orders = list(itertools.permutations(DOORS))
    mails = [(letter(f"order-{number}@x.test", RECIPIENT), list(names)) for number, names in enumerate(orders)]
    with serving(acme.url, settings=settings(http)) as daemon:
        asyncio.run(bring(acme, daemon, http, mails, at_once=False))


@pytest.mark.thorough
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
def test_all_at_once_a_hundred_times(acme: Town, workers: int) -> None:
    """Every mail by every door at once, twice by each: in one process, and where two share the ports."""
    http, chance = free_port(), random.Random(6)
    mails = []
    for number in range(100):
        names = [*DOORS, *DOORS]
        chance.shuffle(names)
        size = 200_000 if number % 10 == 0 else 0
        mails.append((letter(f"at-once-{number}@x.test", RECIPIENT, size=size), names))
    more = {"INGESTER_WORKERS": str(workers), "INGESTER_SMTP__MAX_CONNECTIONS_PER_PREFIX": "1000"}
    with serving(acme.url, settings=settings(http) | more) as daemon:
        if workers > 1:
            daemon.wait_event("serving", times=workers)
        asyncio.run(bring(acme, daemon, http, mails, at_once=True))


def settings(http: int) -> dict[str, str]:
    return {"INGESTER_HTTP__LISTEN": f"127.0.0.1:{http}", "INGESTER_INBOUND_TOKEN": TOKEN}
