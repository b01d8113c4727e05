"""Redriving a dead letter: a fresh attempt with today's code and directory. And discarding one, which is the other end.

A redrive may end in refused, which discards, never bounces. The dead letter's claims are released and taken again by
the message in one transaction, so that no retry of the sender can slip in between; killed anywhere, it has happened
whole or not at all.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Final
from uuid import UUID

from ingester import __version__, tally
from ingester.burial import describe
from ingester.case import Case
from ingester.core.backoff import pauses
from ingester.core.outcome import Reason
from ingester.judge import Judgement, judge, queries
from ingester.pipeline import Pipeline
from ingester.store.db import Connection, Database, Trouble, classify
from ingester.store.finding import find
from ingester.store.letters import Buried, Which, waiting
from ingester.store.messages import write
from ingester.store.raws import Raws
from ingester.store.settling import became, erase_bytes, hand_over, lock, release, revive, settle, still_dead

TRIES: Final = 8
"""A redrive may stand in a circle with the sender's own retry, which Postgres breaks; or the database restarts."""
PAGE: Final = 200


class Ending(StrEnum):
    """How a redrive ended, or would end."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    DISCARDED = "discarded"
    DEFERRED = "deferred"
    STILL_DEAD = "still_dead"
    NOT_DEAD = "not_dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Redriven:
    """One dead letter's redrive. `message_ids` are empty in a dry run."""

    id: UUID
    ending: Ending
    reason: str
    message_ids: tuple[UUID, ...] = ()


class Pace:
    """At most so many a second, evenly; 0 is as fast as it goes."""

    def __init__(self, rate: float) -> None:
        self._gap = 1 / rate if rate else 0.0
        self._next = 0.0

    async def turn(self) -> None:
        """Wait for one's turn."""
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(max(0.0, self._next - now))
        self._next = max(self._next, now) + self._gap


async def each(database: Database, which: Which, pace: Pace) -> AsyncIterator[Buried]:
    """The letters that wait, oldest first, each once, whatever becomes of it meanwhile."""
    last: tuple[datetime, UUID] | None = None
    while True:
        async with database.connection() as connection:
            page = await waiting(connection, which, after=last, limit=PAGE)
        for letter in page:
            await pace.turn()
            yield letter
        if len(page) < PAGE:
            return
        last = (page[-1].created_at, page[-1].id)


async def redrive(
    pipeline: Pipeline, database: Database, raws: Raws, letter: Buried, *, apply: bool, by: str
) -> Redriven:
    """Try one dead letter again; without `apply` nothing is written. A database that stays away raises.

    `by` is who does it, for the record. What Postgres breaks off (a deadlock, a restart) is tried again.
    """
    if letter.state != "dead":
        return Redriven(id=letter.id, ending=Ending.NOT_DEAD, reason=letter.state)
    for pause in islice(pauses(), TRIES - 1):
        try:
            return await _try(pipeline, database, raws, letter, apply=apply, by=by)
        except Exception as error:
            if classify(error) is not Trouble.TRANSIENT:
                raise
            await asyncio.sleep(pause)
            done = await _settled(database, letter)
            if done is not None:
                return done
    return await _try(pipeline, database, raws, letter, apply=apply, by=by)


async def _try(pipeline: Pipeline, database: Database, raws: Raws, letter: Buried, *, apply: bool, by: str) -> Redriven:
    try:
        case = await _case(pipeline, database, raws, letter)
        return await _attempt(pipeline, database, letter, case, apply=apply, by=by)
    except Exception as error:
        if classify(error) in (Trouble.TRANSIENT, Trouble.LASTING):
            raise
        detail = describe(error)
        if apply:
            async with database.connection() as connection:
                await still_dead(connection, letter.tenant_id, letter.id, detail=detail, version=__version__)
        return Redriven(id=letter.id, ending=Ending.STILL_DEAD, reason=detail)


async def _settled(database: Database, letter: Buried) -> Redriven | None:
    """What a COMMIT without an answer has done after all. None: nothing, or the database is still away."""
    try:
        async with database.connection() as connection:
            ids = await became(connection, letter.tenant_id, letter.id)
    except Exception as error:
        if classify(error) is not Trouble.TRANSIENT:
            raise
        return None
    if not ids:
        return None
    return Redriven(id=letter.id, ending=Ending.STORED, reason=Reason.ACCEPTED, message_ids=tuple(ids))


async def _case(pipeline: Pipeline, database: Database, raws: Raws, letter: Buried) -> Case:
    async with database.connection() as connection:
        raw = await raws.read(connection, letter.tenant_id, letter.raw_id)
    envelope = revive(letter, raw)
    targets, unrouted = await pipeline.targets(envelope)
    # A domain may have changed hands since: the letter belongs to its tenant, and only its mailboxes may have it.
    own = tuple(target for target in targets if target.route.tenant_id == letter.tenant_id)
    case = await pipeline.examine(envelope, own, unrouted, asyncio.get_running_loop().time())
    return replace(case, raw_ids={letter.tenant_id: letter.raw_id}, raw_stored=True)


async def _attempt(
    pipeline: Pipeline, database: Database, letter: Buried, case: Case, *, apply: bool, by: str
) -> Redriven:
    tenant_id = letter.tenant_id
    async with database.connection() as connection, connection.transaction():
        if not await lock(connection, tenant_id, letter.id):
            return Redriven(id=letter.id, ending=Ending.NOT_DEAD, reason="another redrive was faster")
        judgement = judge(case, await find(connection, queries(case)), pipeline.limits)
        deferred = next((refusal for refusal in judgement.refusals if refusal.code.retry), None)
        if deferred is not None:
            return Redriven(id=letter.id, ending=Ending.DEFERRED, reason=deferred.reason)
        mails = [mail for mail in judgement.mails if mail.tenant_id == tenant_id]
        taken = any(mail.deliveries for mail in mails)
        if not apply:
            reason = Reason.ACCEPTED if taken else _refusal(judgement)
            return Redriven(id=letter.id, ending=Ending.STORED if taken else Ending.DISCARDED, reason=reason)
        await release(connection, tenant_id, letter.id)
        rows = await write(connection, tenant_id, mails)
        why = None if rows else f"refused at the redrive: {_refusal(judgement)}"
        state = "redriven" if rows else "discarded"
        await settle(connection, tenant_id, letter.id, state=state, by=by, tried=True, why=why)
        if rows:
            await hand_over(connection, tenant_id, letter.id, lambda: pipeline.new_arrival()[0])
    tally.redriven(pipeline.metrics, case.envelope.door, mails, rows)
    if not rows:
        return Redriven(id=letter.id, ending=Ending.DISCARDED, reason=_refusal(judgement))
    fresh = any(not row.duplicate for row in rows)
    return Redriven(
        id=letter.id,
        ending=Ending.STORED if fresh else Ending.DUPLICATE,
        reason=Reason.ACCEPTED if fresh else Reason.DUPLICATE,
        message_ids=tuple(row.message_id for row in rows),
    )


def _refusal(judgement: Judgement) -> Reason:
    """Why nothing was taken; a letter whose mailboxes all went to other tenants has no refusal of its own."""
    return judgement.refusals[0].reason if judgement.refusals else Reason.UNKNOWN_MAILBOX


async def discard(connection: Connection, letter: Buried, *, by: str, why: str | None, erase: bool) -> bool:
    """Put a letter away for good, with `erase` its bytes too. False when it is not dead (any more).

    The row stays with its receipts, and who did it and why. The claims are released: a sender who brings the mail once
    more is heard, or the mail would vanish behind a yes.
    """
    async with connection.transaction():
        if not await lock(connection, letter.tenant_id, letter.id):
            return False
        await release(connection, letter.tenant_id, letter.id)
        await settle(connection, letter.tenant_id, letter.id, state="discarded", by=by, tried=False, why=why)
        if erase:
            await erase_bytes(connection, letter.tenant_id, letter.id)
        return True
