"""Following what arrives, by polling ids: nothing is missed and nothing is told twice.

An id is made when its mail arrives, its row is seen when the mail is committed: up to a minute later, and daemons have
clocks of their own. So every look begins a little before the newest id, and now and then one begins so far back that
nothing can be later; what was told before is remembered for as long. No index, no LISTEN, no trace in the database.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from ingester.store import watching
from ingester.store.db import Connection, Database, Trouble, classify
from ingester.store.refused import RefusalRow, named
from ingester.store.watching import Arrived, Key

SKEW: Final = timedelta(minutes=2)
"""How far the clocks of two machines may be apart."""
NEAR: Final = timedelta(seconds=5)
"""How much earlier than the newest id an ordinary look begins."""
SWEEP: Final = timedelta(seconds=10)
"""How often a look begins as far back as a mail may be late."""
PAGE: Final = 2000
SLICE: Final = timedelta(minutes=1)
LEAST: Final = timedelta(milliseconds=100)
"""Slices: the first one, and the shortest, which is longer than the millisecond that an id tells."""
SHARE: Final = 20
"""Looking takes at most one part in so many of the time, whatever a look costs."""
MOST_SECONDS: Final = 10
"""But never is there a longer pause than this for that reason."""
_END: Final = 253_402_300_000
"""Seconds since the epoch, in the year 9999: a clock that is later than that is not told the time by."""
LAST_ID: Final = UUID(int=(1 << 128) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A row of refusals that is new, or has grown by `more` since it was told."""

    row: RefusalRow
    more: int


class Following:
    """Who follows: what it has told, and where its next look begins. Without `tenant_ids` it follows all tenants."""

    def __init__(
        self, *, tenant_ids: Sequence[UUID] | None, late: timedelta, begin: datetime, refusals: bool = False
    ) -> None:
        """`late`: the time between an id and its row, clocks included. `begin`: the database's time, as all here."""
        self.tenant_ids = tenant_ids
        self._late = late
        self._refusals = refusals
        self._swept = begin
        self._newest = begin
        self._told: set[UUID] = set()
        self._counted: dict[UUID, int] = {}

    async def skip_arrivals(self, connection: Connection) -> None:
        """Take the mails that are there already as told."""
        async for page in pages(connection, self.tenant_ids, after=self._swept - self._late, now=self._swept):
            self._note(page)

    async def skip_refusals(self, connection: Connection) -> None:
        """Take the refusals that are there already as told."""
        found = await watching.counts(connection, self.tenant_ids, since=self._swept - self._late)
        self._counted.update({row_id: count for _, row_id, count in found})

    def tell(self, arrived: Sequence[Arrived]) -> list[Arrived]:
        """Note that these are told now. Gives those that were not before."""
        fresh = [one for one in arrived if one.receipt_id not in self._told]
        self._note([(one.tenant_id, one.receipt_id) for one in fresh])
        return fresh

    def tell_refused(self, rows: Sequence[RefusalRow]) -> list[Refused]:
        """Note that these are told now, as they stand."""
        self._counted.update({row.id: row.count for row in rows})
        return [Refused(row=row, more=row.count) for row in rows]

    async def look(self, connection: Connection) -> AsyncIterator[list[Arrived | Refused]]:
        """What has arrived since the last look, some at a time, in the order of ids."""
        begun = await watching.now(connection)
        sweeping = not timedelta() <= begun - self._swept < SWEEP
        self._swept = min(self._swept, begun)  # another server may have taken over, with a clock that is behind
        since = self._swept - self._late if sweeping else min(self._newest, begun) - NEAR
        async for keys in pages(connection, self.tenant_ids, after=since, now=begun):
            fresh = await watching.told(connection, [key for key in keys if key[1] not in self._told])
            if fresh:
                yield [*self.tell(fresh)]
        if self._refusals:
            grown = await self._grown(connection, since)
            if grown:
                yield [*grown]
        if sweeping:
            self._swept = begun
            self._forget(begun - self._late)

    async def _grown(self, connection: Connection, since: datetime) -> list[Refused]:
        found = await watching.counts(connection, self.tenant_ids, since=since)
        more = {row_id: count - self._counted.get(row_id, 0) for _, row_id, count in found}
        keys = [(tenant_id, row_id) for tenant_id, row_id, _ in found if more[row_id] > 0]
        grown = [Refused(row=row, more=more[row.id]) for row in await named(connection, keys)]
        self._counted.update({row_id: count for _, row_id, count in found})
        return grown

    def _note(self, keys: Sequence[Key]) -> None:
        """Remember what a later look could find again."""
        oldest = first_id(self._swept - self._late)
        self._told.update(row_id for _, row_id in keys if row_id >= oldest)
        if keys:
            self._newest = max(self._newest, moment_of(max(row_id for _, row_id in keys)))

    def _forget(self, before: datetime) -> None:
        """What no look will find again. A refusal's id may be a little younger than its minute."""
        oldest = first_id(before)
        self._told = {row_id for row_id in self._told if row_id >= oldest}
        oldest = first_id(before - timedelta(minutes=1))
        self._counted = {row_id: count for row_id, count in self._counted.items() if row_id >= oldest}


async def pages(
    connection: Connection, tenant_ids: Sequence[UUID] | None, *, after: datetime, now: datetime
) -> AsyncIterator[list[Key]]:
    """All receipts since a moment in the order of their ids, a slice of time after the other.

    A slice is as long as brings a page: what lies behind it is not touched for it, be it ten million rows.
    """
    low, span = first_id(after), SLICE
    while low < LAST_ID:
        end = moment_of(low) + span
        high = first_id(end) if end < now else LAST_ID
        page = await watching.arrivals(connection, tenant_ids, after=low, until=high, limit=PAGE)
        if page:
            yield page
        full = len(page) == PAGE
        low = page[-1][1] if full else high
        span = max(span / 2, LEAST) if full else span * 2 if len(page) < PAGE // 2 else span


def first_id(moment: datetime) -> UUID:
    """The least UUIDv7 of a moment."""
    return UUID(int=max(int(moment.timestamp() * 1000), 0) << 80)


def moment_of(row_id: UUID) -> datetime:
    """When an id was made, by the clock of who made it."""
    return datetime.fromtimestamp(min((row_id.int >> 80) / 1000, _END), UTC)


async def keep_looking(
    database: Database,
    look: Callable[[Connection], Awaitable[bool]],
    *,
    seconds: float,
    away: Callable[[bool], None],
) -> None:
    """Look every so many seconds until `look` gives False. `away` hears that the database has gone, and is back.

    Raises what is no matter of waiting: a missing right, a schema that is not ours.
    """
    connection: Connection | None = None
    gone = False
    loop = asyncio.get_running_loop()
    try:
        while True:
            begun = loop.time()
            try:
                connection = connection or await database.connect()
                go_on = await look(connection)
            except Exception as error:
                if classify(error) is not Trouble.TRANSIENT:
                    raise
                await _hang_up(connection)
                connection, go_on = None, True
                if not gone:
                    away(True)
                gone = True
            else:
                if gone:
                    away(False)
                gone = False
            if not go_on:
                return
            took = 0.0 if gone else loop.time() - begun
            await asyncio.sleep(max(seconds, min(took * SHARE, MOST_SECONDS)))
    finally:
        await _hang_up(connection)


async def _hang_up(connection: Connection | None) -> None:
    if connection is not None:
        with suppress(Exception):
            await connection.close(timeout=2)
