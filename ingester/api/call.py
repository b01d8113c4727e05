"""The way of one call, the same for all: who asks, what is asked, the work in the store, the answer.

Nothing is read before it is known who asks, and nothing is looked up before it is clear what is asked: an answer cannot
tell of what belongs to another tenant.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, TypeVar

import msgspec
import structlog
from aiohttp import web

from ingester.settings import Settings
from ingester.store.db import Connection, Database, Trouble, Unavailable, classify
from ingester.store.keys import Holder, holder
from ingester.web.body import Asked, decode, read
from ingester.web.problem import UNAUTHORIZED, UNAVAILABLE, UNPROCESSABLE, Problem, refusal

STORE_SECONDS: Final = 10.0
"""How long a call may wait for the store, its turn included."""

Found = TypeVar("Found")

_log = structlog.get_logger(__name__)


class Calls:
    """What the calls of one worker share."""

    def __init__(self, *, settings: Settings, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now
        self._body_seconds = settings.http.body_seconds
        # Half of the connections at most: mail must not wait for those who ask, strangers with wrong keys among them.
        self._turns = asyncio.Semaphore(max(1, settings.store.connections // 2))

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
        return await self._in_store(lambda connection: work(connection, who, asked))

    async def _who(self, request: web.Request) -> Holder | Problem:
        """Whom the bearer key stands for (RFC 6750, 2.1); the scheme is in any case (RFC 9110, 11.1)."""
        given = request.headers.getall("Authorization", [])
        scheme, _, key = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        text = key.strip()
        if scheme.lower() != "bearer" or not text:
            return UNAUTHORIZED
        found = await self._in_store(lambda connection: holder(connection, text, self._now()))
        return UNAUTHORIZED if found is None else found

    async def _in_store(self, work: Callable[[Connection], Awaitable[Found]]) -> Found | Problem:
        """Work with a connection; what the database says against it becomes a problem. Raises surprises."""
        try:
            async with asyncio.timeout(STORE_SECONDS), self._turns, self._database.connection() as connection:
                return await work(connection)
        except Exception as error:
            trouble = Trouble.TRANSIENT if isinstance(error, Unavailable) else classify(error)
            if trouble is None:
                raise
            _log.warning("http.store", trouble=trouble.name.lower(), error=type(error).__name__)
            return UNPROCESSABLE if trouble is Trouble.DATA else UNAVAILABLE
