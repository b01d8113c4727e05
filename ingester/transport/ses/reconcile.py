"""The reconciler: what lies in the buckets of SES and has not arrived is handed in, though no notification named it.

A notification may be late, or tried in vain while we were away. Nothing here is in a hurry: one worker of all searches
at a time, an object is left alone for its first minutes, and one that was deferred is tried ever more rarely.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from ingester.core.mime import Bounds
from ingester.core.outcome import Outcome, Reason
from ingester.ledger import Ledger
from ingester.settings import Settings, Source
from ingester.store.db import Database
from ingester.store.objects import Item, ObjectsUnavailable
from ingester.store.registry import domains
from ingester.store.sources import Attempt, attempts, only_one
from ingester.transport.answers import word_of
from ingester.transport.ses.mailroom import ABSENT, Mailroom, Place
from ingester.transport.ses.notification import is_setup_key
from ingester.transport.ses.owners import folder, source_of
from ingester.transport.ses.trace import read_trace
from ingester.transport.submission import Scope
from ingester.web.problem import Problem

GRACE: Final = timedelta(minutes=5)
"""How long an object is left to its notification: SNS tries for a minute."""
ASKED: Final = 200
"""Objects whose earlier tries are asked for at once."""
TAKEN: Final = 4
"""Objects that are handed in at the same time."""
HOPELESS: Final = 8
"""Objects after which a search is given up, where none of them could be read or stored."""
_DONE: Final = {Reason.ACCEPTED: "stored", Reason.DUPLICATE: "duplicate"}

_log = structlog.get_logger(__name__)


class NotNow(Exception):
    """The search cannot go on. The text is a sentence for operators."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """One object that had not arrived. `ending` is missing, stored, duplicate, refused or deferred."""

    source: str
    size: int
    modified: datetime
    ending: str
    reason: str | None = None
    message_ids: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What a search has found, and why it did not come to its end."""

    found: Sequence[Reconciled]
    stopped: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Which objects are looked at, by when they were written."""

    since: datetime
    until: datetime


class Reconciler:
    """One per worker."""

    def __init__(
        self,
        *,
        settings: Settings,
        bounds: Bounds,
        database: Database,
        ledger: Ledger,
        mailroom: Mailroom,
        now: Callable[[], datetime],
    ) -> None:
        self._sources = settings.ses.buckets
        self._days = timedelta(days=settings.ses.reconcile_days)
        self._bounds = bounds
        self._database = database
        self._ledger = ledger
        self._mailroom = mailroom
        self._now = now

    async def reconcile(self) -> None:
        """Hand in what is missing, unless another worker is at it. For the daemon, every so often."""
        async with self._alone() as alone:
            if not alone:
                return
            for source in self._sources:
                counts: dict[str, int] = {}
                try:
                    async for one in self.search(source, apply=True):
                        counts[one.ending] = counts.get(one.ending, 0) + 1
                except NotNow as error:
                    _log.warning("ses.not_reconciled", bucket=source.bucket, prefix=source.prefix, why=str(error))
                if counts:
                    _log.warning("ses.reconciled", bucket=source.bucket, prefix=source.prefix, **counts)

    async def search_all(self, *, since: datetime | None, apply: bool, watch: Callable[[int], object]) -> Search:
        """Search every place, as far as it can be done now; `watch` is told of each object that is looked at."""
        found: list[Reconciled] = []
        async with self._alone() as alone:
            if apply and not alone:
                return Search(found=found, stopped="Another worker is searching the buckets: try again in a minute")
            try:
                for source in self._sources:
                    async for one in self.search(source, apply=apply, since=since, watch=watch):
                        found.append(one)  # noqa: PERF401  (what was found before it stopped is told)
            except NotNow as error:
                return Search(found=found, stopped=str(error))
        return Search(found=found)

    async def search(
        self,
        source: Source,
        *,
        apply: bool,
        since: datetime | None = None,
        watch: Callable[[int], object] = lambda _: None,
    ) -> AsyncIterator[Reconciled]:
        """What lies in one place and has not arrived; with `apply` it is handed in. Raises NotNow."""
        scope = await self._mailroom.scope([source.owner])
        if isinstance(scope, Problem):
            raise NotNow(f"It cannot be found out whose {source.bucket}/{source.prefix} is")
        assert scope.tenant_id is not None
        theirs = scope.domains or await self._domains(scope.tenant_id)
        span = Span(since=since or self._now() - self._days, until=self._now() - GRACE)
        async for items in self._listed(source, span, watch):
            due = await self._due(scope.tenant_id, source, items)
            if not apply:
                for item in due:
                    yield _told(source, item, "missing")
                continue
            async for found in self._hand_in(source, due, scope, theirs):
                yield found

    async def _domains(self, tenant_id: UUID) -> frozenset[str]:
        found = await self._ledger.ask(lambda connection: domains(connection, [tenant_id]))
        if isinstance(found, Problem):
            raise NotNow(found.message)
        return frozenset(one.name for one in found if one.status == "verified")

    async def _listed(
        self, source: Source, span: Span, watch: Callable[[int], object]
    ) -> AsyncIterator[Sequence[Item]]:
        """The objects of a place that may be mail, some at a time. What lies deeper may be another's."""
        batch: list[Item] = []
        try:
            async for item in self._mailroom.objects(source.bucket).list(folder(source)):
                watch(1)
                ours = source_of(self._sources, source.bucket, item.key) == source
                if ours and span.since <= item.modified <= span.until and not is_setup_key(item.key) and item.size:
                    batch.append(item)
                if len(batch) == ASKED:
                    yield batch
                    batch = []
        except ObjectsUnavailable as error:
            raise NotNow(f"The bucket {source.bucket} cannot be listed: {error}") from None
        if batch:
            yield batch

    async def _due(self, tenant_id: UUID, source: Source, items: Sequence[Item]) -> list[Item]:
        """Those that nobody has brought, or that were deferred and may be tried again."""
        names = [f"s3://{source.bucket}/{item.key}" for item in items]
        tried = await self._ledger.ask(lambda connection: attempts(connection, tenant_id, names))
        if isinstance(tried, Problem):
            raise NotNow(tried.message)
        now = self._now()
        return [item for name, item in zip(names, items, strict=True) if is_due(item, tried.get(name), now)]

    async def _hand_in(
        self, source: Source, items: Sequence[Item], scope: Scope, theirs: frozenset[str]
    ) -> AsyncIterator[Reconciled]:
        """Hand objects in, a few at the same time."""
        assert scope.tenant_id is not None
        tenant_id, failed = scope.tenant_id, 0
        for start in range(0, len(items), TAKEN):
            group = items[start : start + TAKEN]
            places = [Place(bucket=source.bucket, key=one.key, tenant_id=tenant_id, scope=scope) for one in group]
            results = await asyncio.gather(
                *(self._mailroom.take_object(one, lambda raw: read_trace(raw, self._bounds, theirs)) for one in places)
            )
            for item, result in zip(group, results, strict=True):
                if isinstance(result, Outcome):
                    yield _ended(source, item, result)
                elif result is not ABSENT:
                    yield _told(source, item, "deferred", reason=result.reason)
            # One object that cannot be read must not keep those behind it from being found; a store that is away must.
            failed = failed + len(group) if all(map(_is_away, results)) else 0
            if failed >= HOPELESS:
                raise NotNow("The objects cannot be read or stored now")

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[bool]:
        """Whether nobody else searches meanwhile: a transaction's lock, which no pooler leaves behind."""
        connection = await self._database.connect()
        try:
            async with connection.transaction():
                yield await only_one(connection)
        finally:
            await connection.close()


def is_due(item: Item, attempt: Attempt | None, now: datetime) -> bool:
    """Whether an object is to be tried: not yet tried at all, or deferred so long ago that waiting grows by half."""
    if attempt is None:
        return True
    return attempt.open and now - attempt.at >= max(GRACE, (attempt.at - item.modified) / 2)


def _is_away(result: Outcome | Problem) -> bool:
    """Whether it was a fault of ours, not something about the mail."""
    return isinstance(result, Problem) or result.reason is Reason.STORE_UNAVAILABLE


def _ended(source: Source, item: Item, outcome: Outcome) -> Reconciled:
    if outcome.reason in _DONE:
        ids = tuple(one.message_id for one in outcome.stored)
        return _told(source, item, _DONE[outcome.reason], message_ids=ids)
    return _told(source, item, "deferred" if outcome.code.retry else "refused", reason=word_of(outcome.reason))


def _told(
    source: Source, item: Item, ending: str, *, reason: str | None = None, message_ids: tuple[UUID, ...] = ()
) -> Reconciled:
    return Reconciled(
        source=f"s3://{source.bucket}/{item.key}",
        size=item.size,
        modified=item.modified,
        ending=ending,
        reason=reason,
        message_ids=message_ids,
    )
