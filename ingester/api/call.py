"""The way of one call, the same for all: who asks, what is asked, the work in the store, the answer.

Nothing is read before it is known who asks, and nothing is looked up before it is clear what is asked: an answer cannot
tell of what belongs to another tenant. Finding the key's holder is the one query outside the wall of a tenant: it tells
which one.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime

import msgspec
from aiohttp import web

from ingester.ledger import Ledger
from ingester.settings import Settings
from ingester.store.db import Connection, Database
from ingester.store.keys import Holder, holder
from ingester.store.wall import Wall
from ingester.web.body import Asked, decode, read
from ingester.web.problem import UNAUTHORIZED, Problem, refusal


class Calls:
    """What the calls of one worker share."""

    def __init__(self, *, settings: Settings, database: Database, now: Callable[[], datetime]) -> None:
        self._ledger = Ledger(settings=settings, database=database, share=2)
        self._wall = Wall()
        self._now = now
        self._body_seconds = settings.http.body_seconds

    async def answer(
        self,
        request: web.Request,
        decoder: msgspec.json.Decoder[Asked],
        work: Callable[[Connection, Holder, Asked], Awaitable[web.Response | Problem]],
    ) -> web.Response:
        """Answer a call whose work needs a key and a body."""
        result = await self._result(request, decoder, work)
        return refusal(result) if isinstance(result, Problem) else result

    async def _result(
        self,
        request: web.Request,
        decoder: msgspec.json.Decoder[Asked],
        work: Callable[[Connection, Holder, Asked], Awaitable[web.Response | Problem]],
    ) -> web.Response | Problem:
        who = await self._who(request)
        if isinstance(who, Problem):
            return who
        body = await read(request, seconds=self._body_seconds)
        if isinstance(body, Problem):
            return body
        asked = decode(body, decoder)
        if isinstance(asked, Problem):
            return asked

        async def walled(connection: Connection) -> web.Response | Problem:
            async with self._wall.around(connection, who.tenant_id):
                return await work(connection, who, asked)

        return await self._ledger.ask(walled)

    async def _who(self, request: web.Request) -> Holder | Problem:
        """Whom the bearer key stands for (RFC 6750, 2.1); the scheme is in any case (RFC 9110, 11.1)."""
        given = request.headers.getall("Authorization", [])
        scheme, _, key = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        text = key.strip()
        if scheme.lower() != "bearer" or not text:
            return UNAUTHORIZED
        found = await self._ledger.ask(lambda connection: holder(connection, text, self._now()))
        return UNAUTHORIZED if found is None else found
