"""The doors of one process on a real Postgres, and a client that hands in mail over HTTP."""

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from uuid import UUID

import aiohttp
import asyncpg
import msgspec

from ingester.app import App
from ingester.clock import new_id, now
from ingester.settings import Listen, load
from ingester.store.intake_tokens import NewToken, add_token, token_text
from ingester.transport.answers import Answer
from ingester.transport.sockets import bind
from tests.daemon import Town, settle
from tests.quiet_dns import nameservers

TOKEN = "an inbound token of 32 characters!"
NOWHERE = "postgresql://127.0.0.1:1/none"
PATH = "/events/inbound"
RFC822 = {"Content-Type": "message/rfc822"}
SHAPE = frozenset(Answer.__struct_fields__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back. `body` is asserted to be of the one shape."""

    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def said(self) -> tuple[int, str, str | None]:
        """HTTP status, status and reason."""
        return self.status, self.body["status"], self.body.get("reason")

    @property
    def no(self) -> tuple[int, str, str | None]:
        """HTTP status, reason and field of a no."""
        assert self.body["ok"] is False
        return self.status, self.body["reason"], self.body.get("field")


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """A process that receives, and a client of it."""

    app: App
    session: aiohttp.ClientSession
    town: Town
    port: int
    smtp: int

    async def post(
        self,
        body: Any = b"",
        *,
        path: str = PATH,
        token: str | None = TOKEN,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Hand in bytes as they are (`message/rfc822`, where no header says otherwise), or anything else as JSON."""
        raw = isinstance(body, bytes | AsyncIterator)
        sent = dict(RFC822 if raw else {"Content-Type": "application/json"})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        sent |= dict(headers or {})
        data = body if isinstance(body, AsyncIterator) else BytesIO(body if raw else msgspec.json.encode(body))
        async with self.session.post(f"http://127.0.0.1:{self.port}{path}", data=data, headers=sent) as response:
            assert response.content_type == "application/json"
            reply = Reply(
                status=response.status, body=msgspec.json.decode(await response.read()), headers=response.headers
            )
        assert_one_shape(reply, accepted=200 if "accepted=200" in path else 202)
        return reply

    async def json(self, raw: bytes, **asked: Any) -> Reply:
        """Hand in a mail as JSON."""
        token = asked.pop("token", TOKEN)
        given = {"event_id": str(new_id()), "raw_mime_base64": base64.b64encode(raw).decode()} | asked
        return await self.post(given, token=token)

    async def raw(self, text: str) -> bytes:
        """Send these words on a connection of their own and read the answer up to the end of its JSON."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(text.encode("latin-1"))
            return await asyncio.wait_for(reader.readuntil(b"}"), 10)
        finally:
            writer.transport.abort()

    async def token(self, **fields: Any) -> str:
        """Make an intake token; `tenant` by its slug."""
        text = token_text(new_id().bytes + new_id().bytes)
        slug = fields.pop("tenant", None)
        connection = await asyncpg.connect(self.town.url)
        try:
            tenant_id = await connection.fetchval("SELECT id FROM tenants WHERE slug = $1", slug)
            new: dict[str, Any] = {
                "id": new_id(),
                "text": text,
                "name": "test",
                "provider": None,
                "tenant_id": tenant_id,
                "domains": (),
                "may_assert_envelope": False,
                "created_at": now(),
            }
            await add_token(connection, NewToken(**(new | fields)))
        finally:
            await connection.close()
        return text

    async def execute(self, query: str, *arguments: object) -> None:
        await self.town.fetch(query, *arguments)

    async def refusals(self) -> dict[str, int]:
        """Refusals by reason, those that were only counted included."""
        await self.app.refusals.flush()
        rows = await self.town.fetch("SELECT reason, sum(count)::integer AS count FROM refusals GROUP BY 1")
        return {row["reason"]: row["count"] for row in rows}

    async def stored(self) -> list[UUID]:
        return [row["id"] for row in await self.town.fetch("SELECT id FROM messages ORDER BY id")]


def assert_one_shape(reply: Reply, *, accepted: int = 202) -> None:
    """Every answer has the fields of one Struct, a status that agrees with the rest, and says when to come again."""
    body = reply.body
    assert set(body) <= SHAPE
    msgspec.convert(body, Answer)
    assert body["ok"] is (body["status"] in ("accepted", "duplicate"))
    assert (body["status"] == "deferred") is (reply.status in (408, 503))
    assert ("Retry-After" in reply.headers) is (reply.status == 503)
    assert ("WWW-Authenticate" in reply.headers) is (reply.status == 401)
    assert (reply.status == 202) <= (body["status"] == "accepted") <= (reply.status == accepted)
    if body["ok"]:
        assert body["message_ids"] == [one["message_id"] for one in body["messages"]]
        assert body.get("message_id") == next(iter(body["message_ids"]), None)
        assert "reason" not in body
    else:
        assert body["message"].endswith(".")


@asynccontextmanager
async def receiving(url: str, *, away: bool = False, **override: Any) -> AsyncIterator[House]:
    """A process with SMTP and HTTP on free ports. `away`: its database is not there."""
    town = await settle(url, {"acme.test": ("support", "sales"), "globex.test": ("support",)})
    override.setdefault("dns__nameservers", nameservers())
    override.setdefault("inbound_token", TOKEN)
    app = App(load({}, env="development", database_url=NOWHERE if away else url, **override))
    smtp, http = (bind((Listen(host="127.0.0.1", port=0),), reuse_port=False) for _ in range(2))
    ports = [one[0].getsockname()[1] for one in (smtp, http)]
    await app.start(smtp, http)
    try:
        async with aiohttp.ClientSession() as session:
            yield House(app=app, session=session, town=town, port=ports[1], smtp=ports[0])
    finally:
        await app.drain()


def mail(name: str, *, to: str = "support@acme.test", **more: str) -> bytes:
    """A small mail; the name becomes its Message-ID."""
    lines = ["From: Ada <ada@customer.test>", f"To: {to}", "Subject: A question", f"Message-ID: <{name}@customer.test>"]
    lines += [f"{field.replace('_', '-')}: {value}" for field, value in more.items()]
    return "\r\n".join([*lines, "", f"Body of {name}.", ""]).encode()
