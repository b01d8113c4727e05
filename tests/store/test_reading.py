"""ingester.store.reading on a real Postgres: an id finds its tenant, and everything else stays within it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import pytest

from ingester.app import App
from ingester.clock import new_id, now
from ingester.core.address import parse_path
from ingester.core.envelope import Client, Door, Envelope, Recipient
from ingester.core.outcome import Outcome
from ingester.settings import load
from ingester.store import reading
from ingester.store.reading import Located
from tests.daemon import settle
from tests.quiet_dns import nameservers

MAIL = b"From: a@b.test\r\nMessage-ID: <m@b.test>\r\n\r\nText.\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """A pipeline and a connection on one database, with tenants acme and globex."""

    app: App
    connection: asyncpg.Connection

    async def accept(self, *recipients: str, raw: bytes = MAIL) -> Outcome:
        addresses = [parse_path(text) for text in recipients]
        envelope = Envelope(
            door=Door.SMTP,
            raw=raw,
            mail_from="a@b.test",
            recipients=tuple(Recipient(address=address) for address in addresses if address is not None),
            client=Client(ip="192.0.2.1"),
            arrival_id=new_id(),
            received_at=now(),
        )
        return await self.app.pipeline.accept(envelope)


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    await settle(database_url, {"acme.test": ("support", "sales"), "globex.test": ("support",)})
    app = App(load({}, env="development", dns__nameservers=nameservers(), database_url=database_url))
    await app.open()
    connection = await app.database.connect()
    yield House(app=app, connection=connection)
    await connection.close()
    await app.close()


async def test_a_message_id_and_an_arrival_id_are_located(house: House) -> None:
    outcome = await house.accept("support@acme.test", "support@globex.test")
    for stored in outcome.stored:
        here = Located(tenant_id=stored.tenant_id, message_id=stored.message_id, dead_letter_id=None)
        assert await reading.locate(house.connection, stored.message_id) == [here]
    both = await reading.locate(house.connection, outcome.arrival_id)
    assert {one.message_id for one in both} == {stored.message_id for stored in outcome.stored}
    assert await reading.locate(house.connection, new_id()) == []


async def test_nothing_is_read_through_the_wall(house: House) -> None:
    ours, theirs = (await house.accept("support@acme.test", "support@globex.test")).stored
    read = house.connection
    assert await reading.message(read, theirs.tenant_id, ours.message_id) is None
    assert await reading.parts(read, theirs.tenant_id, ours.message_id) == []
    assert await reading.receipts(read, theirs.tenant_id, ours.message_id) == []
    message = await reading.message(read, ours.tenant_id, ours.message_id)
    assert message is not None
    assert await reading.thread(read, theirs.tenant_id, message.thread_id) is None
    assert await reading.thread_lines(read, theirs.tenant_id, message.thread_id, 10) == []


async def test_receipts_begin_with_the_one_that_stored_the_message(house: House) -> None:
    first = await house.accept("support@acme.test")
    second = await house.accept("support@acme.test")
    one = first.stored[0]
    found = await reading.receipts(house.connection, one.tenant_id, one.message_id)
    assert [(receipt.arrival_id, receipt.duplicate) for receipt in found] == [
        (first.arrival_id, False),
        (second.arrival_id, True),
    ]
    assert await reading.locate(house.connection, second.arrival_id) == await reading.locate(
        house.connection, one.message_id
    )


async def test_a_thread_is_read_from_its_end(house: House) -> None:
    ids: list[UUID] = []
    for n in range(4):
        cite = b"In-Reply-To: <%d@b.test>\r\n" % (n - 1) if n else b""
        raw = b"From: a@b.test\r\nMessage-ID: <%d@b.test>\r\n%s\r\nText.\r\n" % (n, cite)
        ids.append((await house.accept("support@acme.test", raw=raw)).stored[0].message_id)
    tenant_id = (await reading.locate(house.connection, ids[0]))[0].tenant_id
    message = await reading.message(house.connection, tenant_id, ids[3])
    assert message is not None
    lines = await reading.thread_lines(house.connection, tenant_id, message.thread_id, 3)
    assert [line.id for line in lines] == ids[1:]
    thread = await reading.thread(house.connection, tenant_id, message.thread_id)
    assert thread is not None
    assert thread.message_count == 4


async def test_a_part_that_is_stored_itself_is_read_from_its_row(house: House) -> None:
    one = (await house.accept("support@acme.test")).stored[0]
    assert await reading.part_bytes(house.connection, one.tenant_id, one.message_id, 1) is None
    await house.connection.execute(
        'UPDATE parts SET data = $3, "offset" = NULL, length = NULL WHERE tenant_id = $1 AND message_id = $2',
        one.tenant_id,
        one.message_id,
        b"unpacked",
    )
    assert await reading.part_bytes(house.connection, one.tenant_id, one.message_id, 1) == b"unpacked"
