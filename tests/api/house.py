"""The HTTP door on a real Postgres: two tenants with keys, and a client that asks."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from uuid import UUID

import aiohttp
import msgspec

from ingester.api.call import Calls
from ingester.api.outbound import OutboundDoor
from ingester.clock import new_id, now
from ingester.settings import Listen, Settings, load
from ingester.store.db import Database
from ingester.store.keys import add_key, key_text
from ingester.transport.sockets import bind
from ingester.web.server import HttpDoor
from tests.daemon import Town, settle

SECRETS = (b"a secret of at least 32 characters!!",)
KEYS = {"acme": key_text(b"a" * 32), "globex": key_text(b"g" * 32)}
NOWHERE = "postgresql://127.0.0.1:1/none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back."""

    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def no(self) -> tuple[int, str, str | None]:
        """Status, reason and field of a no, whose shape is asserted."""
        assert set(self.body) <= {"ok", "status", "reason", "message", "field"}
        assert self.body["ok"] is False
        assert self.body["message"].endswith(".")
        return self.status, self.body["reason"], self.body.get("field")


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """A door that serves, and a client of it."""

    door: HttpDoor
    database: Database
    session: aiohttp.ClientSession
    town: Town
    mailboxes: dict[str, UUID]

    @property
    def port(self) -> int:
        return self.door.addresses[0].port

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        key: str | None = KEYS["acme"],
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Make a call; a body that is not bytes becomes JSON."""
        sent = {"Content-Type": "application/json"}
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
        sent |= dict(headers or {})
        data = body
        if not isinstance(body, AsyncIterator) and body is not None:
            # Not the bytes as they are: the client warns of large ones.
            data = BytesIO(body if isinstance(body, bytes) else msgspec.json.encode(body))
        url = f"http://127.0.0.1:{self.port}{path}"
        async with self.session.request(method, url, data=data, headers=sent) as response:
            assert response.content_type == "application/json"
            assert response.headers["Server"] == "ingester"
            return Reply(
                status=response.status, body=msgspec.json.decode(await response.read()), headers=response.headers
            )

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection of one's own."""
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def raw(self, text: str) -> bytes:
        """Send these words and read the answer up to the end of its JSON."""
        reader, writer = await self.connect()
        try:
            writer.write(text.encode("latin-1"))
            return await asyncio.wait_for(reader.readuntil(b"}"), 10)
        finally:
            writer.transport.abort()

    async def register(self, mailbox: str = "support@acme.test", *, key: str = KEYS["acme"], **asked: object) -> Reply:
        """Register a message of a mailbox."""
        body = {"to": ["ada@customer.test"], "subject": "Hello"} | asked
        return await self.ask("POST", f"/v1/mailboxes/{self.mailboxes[mailbox]}/outbound", body, key=key)


def settings(url: str, **override: Any) -> Settings:
    return load({}, env="development", database_url=url, **override)


@asynccontextmanager
async def running(
    url: str, *, away: bool = False, secrets: Sequence[bytes] = SECRETS, **override: Any
) -> AsyncIterator[House]:
    """A door on a free port. `away`: its database is not there."""
    town = await settle(url, {"acme.test": ("support", "sales"), "globex.test": ("support",)})
    mailboxes = await _mailboxes(town)
    chosen = settings(NOWHERE if away else url, **override)
    database = Database(chosen)
    await database.open()
    calls = Calls(settings=chosen, database=database, now=now)
    outbound = OutboundDoor(calls=calls, secrets=secrets, new_id=new_id, now=now)
    door = HttpDoor(settings=chosen, routes=outbound.routes())
    await door.start(bind((Listen(host="127.0.0.1", port=0),), reuse_port=False))
    async with aiohttp.ClientSession() as session:
        yield House(door=door, database=database, session=session, town=town, mailboxes=mailboxes)
    await door.drain(5)
    await database.close()


async def _mailboxes(town: Town) -> dict[str, UUID]:
    """The mailboxes by address; on the way each tenant gets its key."""
    database = Database(settings(town.url))
    connection = await database.connect()
    try:
        for slug, text in KEYS.items():
            tenant_id = await connection.fetchval("SELECT id FROM tenants WHERE slug = $1", slug)
            await add_key(connection, key_id=new_id(), tenant_id=tenant_id, name="app", text=text, at=now())
        rows = await connection.fetch(
            "SELECT id, local_part || '@' || domain AS address FROM mailboxes WHERE system IS NULL"
        )
        return {row["address"]: row["id"] for row in rows}
    finally:
        await connection.close()
