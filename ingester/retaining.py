"""The chore of retention: what is over its time goes, in small steps that leave the way to mail.

One worker of all daemons is at it at a time. It may be killed at any moment: every step is a transaction of its own,
and the next run goes on.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import perf_counter
from typing import Final, TypeVar
from uuid import UUID

import structlog

from ingester.settings import Settings
from ingester.store import retention
from ingester.store.db import Connection, Database
from ingester.store.due import DueMailbox, Kind, Limits, due_kinds, due_mailboxes, due_messages
from ingester.store.retention import Batch
from ingester.store.sweeping import alone
from ingester.store.terms import Defaults, Terms, terms

LOCK: Final = 0x72657461696E
"""The advisory lock of whoever removes what is over its time ("retain")."""
TENANTS: Final = 500
"""Tenants of whom is asked at once what they have that is over its time."""
TURNS: Final = 50
"""Batches of one mailbox, or of one table of a tenant, in a run of the daemon: nobody waits long for his turn."""
CONTACTS_EVERY: Final = timedelta(days=1)
"""How often the daemon goes through the contacts."""
WINDOW: Final = timedelta(days=14)
"""How long a receipt is kept at least: so far back a bucket is searched for mail that has not arrived."""

Cursor = TypeVar("Cursor")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What a run is to do. `turns` are the batches of a kind at most; None is as many as there are."""

    limits: Sequence[Limits]
    contacts: bool
    turns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What a tenant has that is over its time: so many messages, and what goes on its own."""

    tenant: str
    messages: int
    others: tuple[Kind, ...]


class Retaining:
    """One per worker."""

    def __init__(self, *, settings: Settings, database: Database, now: Callable[[], datetime]) -> None:
        self._defaults = defaults_of(settings)
        self._settled = timedelta(days=settings.retention.dead_letter_days) or None
        self._window = max(WINDOW, timedelta(days=settings.store.claim_days))
        self._database = database
        self._now = now
        self._contacts_at: datetime | None = None

    async def retain(self) -> None:
        """One run, unless another worker is at it. For the daemon, every so often."""
        now = self._now()
        contacts = self._contacts_at is None or now - self._contacts_at >= CONTACTS_EVERY
        rows = await self._run(turns=TURNS, contacts=contacts)
        if rows is not None and contacts:
            self._contacts_at = now
        if rows:
            _log.info("mail over its time removed", **rows)

    async def finish(self) -> Counter[str] | None:
        """Remove all that is over its time. Gives the rows that went, by table; None: another worker is at it."""
        return await self._run(turns=None, contacts=True)

    async def due(self) -> list[Due]:
        """What `finish` would begin with; nothing is written. Tenants that have nothing are left out."""
        found = []
        async with self._database.connection() as connection:
            kept = await self._kept(connection)
            for start in range(0, len(kept), TENANTS):
                some = list(kept[start : start + TENANTS])
                mailboxes = {one.tenant_id for one in await due_mailboxes(connection, [one for _, one in some])}
                kinds = await due_kinds(connection, [one for _, one in some])
                for tenant, one in some:
                    many = 0
                    if one.tenant_id in mailboxes:
                        many = await due_messages(connection, one.tenant_id, one.messages)
                    others = tuple(sorted(kinds.get(one.tenant_id, ())))
                    if many or others:
                        found.append(Due(tenant=tenant, messages=many, others=others))
        return found

    async def _run(self, *, turns: int | None, contacts: bool) -> Counter[str] | None:
        async with self._database.connection() as connection:
            limits = [one for _, one in await self._kept(connection)]
        if not limits:
            return Counter()
        plan = _Plan(limits=limits, contacts=contacts, turns=turns)
        async with alone(self._database, LOCK) as free:
            return await _Run(self._database, plan).all() if free else None

    async def _kept(self, connection: Connection) -> list[tuple[str, Limits]]:
        """The tenants of whom anything is not kept for ever."""
        now = self._now()
        found = await terms(connection, self._defaults)
        return [
            (one.tenant, self._limits(one, now))
            for one in found
            if one.attachments is not None or self._settled is not None
        ]

    def _limits(self, one: Terms, now: datetime) -> Limits:
        messages = None if one.messages is None else now - one.messages
        settled = None if self._settled is None else now - self._settled
        return Limits(
            tenant_id=one.tenant_id,
            messages=messages,
            raws=None if one.attachments is None else now - one.attachments,
            receipts=None if messages is None else min(messages, now - self._window),
            settled=settled,
        )


def defaults_of(settings: Settings) -> Defaults:
    """What holds for tenants without terms of their own."""
    return Defaults(messages=settings.retention.days, attachments=settings.retention.attachment_days)


class _Run:
    """One run, and the rows that went so far."""

    def __init__(self, database: Database, plan: _Plan) -> None:
        self._database = database
        self._plan = plan
        self._rows: Counter[str] = Counter()

    async def all(self) -> Counter[str]:
        """Messages first: contacts are found then to be needed no more."""
        for start in range(0, len(self._plan.limits), TENANTS):
            some = self._plan.limits[start : start + TENANTS]
            async with self._database.connection() as connection:
                mailboxes = await due_mailboxes(connection, some)
                kinds = await due_kinds(connection, some)
            for mailbox in mailboxes:
                await self._messages(mailbox)
            for one in some:
                for kind in sorted(kinds.get(one.tenant_id, ())):
                    await self._expire(retention.EXPIRE[kind], one)
                if self._plan.contacts and one.messages is not None:
                    await self._expire(retention.expire_contacts, one)
        return +self._rows

    async def _messages(self, due: DueMailbox) -> None:
        await self._repeat(lambda connection, after: retention.expire_messages(connection, due, after))

    async def _expire(
        self, step: Callable[[Connection, Limits, UUID | None], Awaitable[Batch[UUID]]], one: Limits
    ) -> None:
        await self._repeat(lambda connection, after: step(connection, one, after))

    async def _repeat(self, step: Callable[[Connection, Cursor | None], Awaitable[Batch[Cursor]]]) -> None:
        """Batch after batch, resting between them as long as they take. What somebody else holds is left for later."""
        after: Cursor | None = None
        turn = 0
        while turn != self._plan.turns:
            turn += 1
            began = perf_counter()
            try:
                async with self._database.connection() as connection:
                    batch = await step(connection, after)
            except Exception as error:
                if not retention.is_held(error):
                    raise
                return
            self._rows += batch.rows
            if batch.after is None:
                return
            after = batch.after
            await asyncio.sleep(perf_counter() - began)
