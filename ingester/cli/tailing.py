"""The work of `ingester tail`: what is wanted of the past and of what comes, in lines. The options are next door."""

from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final
from uuid import UUID

import click
import msgspec
from rich.console import Console

from ingester.cli.arrivals import One, line_of, moment, object_of
from ingester.cli.mail_line import UNBOUNDED, WIDE
from ingester.cli.naming import tenant_named, tenants_named
from ingester.core.address import Address, normalise
from ingester.following import LAST_ID, SKEW, Following, Refused, first_id, keep_looking, pages
from ingester.settings import Settings
from ingester.store import watching
from ingester.store.db import Connection, Database
from ingester.store.refused import refusals
from ingester.store.watching import Arrived

POLL_SECONDS: Final = 1.0
LAST: Final = 10
PAGE: Final = 200
LOOK_BACK: Final = 20_000
"""So many of the last arrivals are gone through for those that are wanted."""
_FIRST_ID: Final = UUID(int=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The filters. What a row does not have (a refusal is neither matched nor unmatched) is not let through."""

    domain: str | None
    mailbox: Address | None
    door: str | None
    status: str | None
    reason: str | None
    refusals: bool

    def has(self, one: One) -> bool:
        """Whether it is to be shown."""
        facts: tuple[str | None, ...]
        if isinstance(one, Refused):
            recipients = [name for attempt in one.row.attempts for name in attempt.recipients]
            facts = (one.row.door, None, one.row.reason)
        else:
            recipients = [*one.envelope_to, one.mailbox or ""]
            facts = (one.door, None if one.duplicate else one.status, one.reason)
        wanted = (self.door, self.status, self.reason)
        return all(want in (None, fact) for want, fact in zip(wanted, facts, strict=True)) and self._for(recipients)

    def _for(self, recipients: Sequence[str]) -> bool:
        spelled = {normalise(name) for name in recipients}
        domains = {name.rpartition("@")[2] for name in spelled}
        here = self.mailbox is None or normalise(str(self.mailbox)) in spelled
        return here and (self.domain is None or self.domain in domains)


class ReaderGone(Exception):
    """Nobody reads what is printed."""


class Screen:
    """Where lines go, a terminal or a pipe, each at once."""

    def __init__(self, *, as_json: bool, with_tenant: bool) -> None:
        self._as_json = as_json
        self._with_tenant = with_tenant
        self._console = Console(highlight=False)
        self.closed = False

    def show(self, one: One) -> None:
        """Print one. Raises ReaderGone."""
        text = msgspec.json.encode(object_of(one)).decode() if self._as_json else self._line(one)
        try:
            click.echo(text)
        except BrokenPipeError as error:
            self.closed = True
            raise ReaderGone from error

    def _line(self, one: One) -> str:
        row = one.row if isinstance(one, Refused) else one
        with self._console.capture() as capture:
            width = self._console.width if self._console.is_terminal else UNBOUNDED
            # Where there is little room, the recipient's domain tells the tenant.
            tenant = row.tenant if self._with_tenant and width >= WIDE else None
            line = line_of(one).text(now=datetime.now(UTC), tenant=tenant, width=width)
            self._console.print(line, end="", soft_wrap=True)
        return capture.get()

    def away(self, away: bool) -> None:
        """Say that the database has gone, or is back."""
        click.echo("The database is away; waiting for it." if away else "The database is back.", err=True)


class Tail:
    """One run of the command."""

    def __init__(self, settings: Settings, wanted: Wanted, screen: Screen) -> None:
        self._database = Database(settings)
        self._late = timedelta(seconds=settings.store.commit_seconds) + SKEW
        self._wanted = wanted
        self._screen = screen

    async def run(self, tenant: str | None, *, since: datetime | None, last: int | None, follow: bool) -> None:
        """Show what is wanted of the past, then what comes. Ends when nobody reads any more."""
        with suppress(ReaderGone):
            connection = await self._database.connect()
            try:
                following = await self._past(connection, tenant, since, last)
            finally:
                await connection.close()
            if follow:
                look = partial(self._look, following)
                await keep_looking(self._database, look, seconds=POLL_SECONDS, away=self._screen.away)

    async def _past(
        self, connection: Connection, tenant: str | None, since: datetime | None, last: int | None
    ) -> Following:
        """Show the past. What of it can only be seen later is told by the following."""
        ids = None if tenant is None else [(await tenant_named(connection, tenant)).id]
        begin = await watching.now(connection)
        following = Following(tenant_ids=ids, late=self._late, begin=begin, refusals=self._wanted.refusals)
        if since is not None and last is None:
            await following.skip_refusals(connection)
            refused = await self._refused(connection, following, tenant, since, LOOK_BACK)
            arrived = self._since(connection, following, since)
            async for one in _merged(arrived, refused):
                self._screen.show(one)
            return following
        count = LAST if last is None else last
        await following.skip_refusals(connection)
        await following.skip_arrivals(connection)
        refused = await self._refused(connection, following, tenant, since, count)
        found = await self._last(connection, following, since, count)
        past: list[One] = sorted((*found, *refused), key=moment)
        for each in past[-count:] if count else ():
            self._screen.show(each)
        return following

    async def _since(self, connection: Connection, following: Following, since: datetime) -> AsyncIterator[Arrived]:
        """What has arrived since, oldest first."""
        now = await watching.now(connection)
        async for keys in pages(connection, following.tenant_ids, after=since, now=now):
            for one in following.tell(await watching.told(connection, keys)):
                if self._wanted.has(one):
                    yield one

    async def _last(
        self, connection: Connection, following: Following, since: datetime | None, count: int
    ) -> list[Arrived]:
        """The last so many that are wanted, oldest first. A long way back is not gone."""
        found: list[Arrived] = []
        before, gone = LAST_ID, 0
        floor = _FIRST_ID if since is None else first_id(since)
        while len(found) < count and gone < LOOK_BACK:
            keys = await watching.newest(connection, following.tenant_ids, before=before, limit=PAGE)
            rows = await watching.told(connection, [key for key in keys if key[1] >= floor])
            found += [one for one in reversed(rows) if self._wanted.has(one)]
            gone += len(keys)
            if len(rows) < PAGE:
                break
            before = keys[-1][1]
        following.tell(found[:count])
        return found[:count][::-1]

    async def _refused(
        self, connection: Connection, following: Following, tenant: str | None, since: datetime | None, count: int
    ) -> list[Refused]:
        """Refusals that are wanted, oldest first."""
        if not self._wanted.refusals or not count:
            return []
        ids = await tenants_named(connection, tenant)
        rows = await refusals(connection, ids, since=since, reason=None, limit=count)
        return [one for one in following.tell_refused(rows[::-1]) if self._wanted.has(one)]

    async def _look(self, following: Following, connection: Connection) -> bool:
        async for page in following.look(connection):
            for one in page:
                if self._wanted.has(one):
                    self._screen.show(one)
        return True


async def _merged(arrived: AsyncIterator[Arrived], refused: Sequence[Refused]) -> AsyncIterator[One]:
    """Both in the order of time."""
    waiting = deque(refused)
    async for one in arrived:
        while waiting and moment(waiting[0]) <= moment(one):
            yield waiting.popleft()
        yield one
    for left in waiting:
        yield left
