"""Redriving a dead letter: a fresh attempt with today's code and directory.

A redrive may end in refused, which discards, never bounces. The dead letter's claims are released and taken again by
the message in one transaction, so that no retry of the sender can slip in between.
"""

import asyncio
from dataclasses import dataclass, replace
from enum import StrEnum
from uuid import UUID

from ingester.burial import describe
from ingester.case import Case
from ingester.core.outcome import Reason
from ingester.judge import Judgement, judge, queries
from ingester.pipeline import Pipeline
from ingester.store.db import Database, Trouble, classify
from ingester.store.dead import Buried, lock, release, revive, settle
from ingester.store.finding import find
from ingester.store.messages import write
from ingester.store.raws import Raws


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


async def redrive(pipeline: Pipeline, database: Database, raws: Raws, letter: Buried, *, apply: bool) -> Redriven:
    """Try one dead letter again; without `apply` nothing is written. A database that is away raises."""
    if letter.state != "dead":
        return Redriven(id=letter.id, ending=Ending.NOT_DEAD, reason=letter.state)
    try:
        case = await _case(pipeline, database, raws, letter)
        return await _attempt(pipeline, database, letter, case, apply=apply)
    except Exception as error:
        if classify(error) in (Trouble.TRANSIENT, Trouble.LASTING):
            raise
        detail = describe(error)
        if apply:
            async with database.connection() as connection:
                await settle(connection, letter.tenant_id, letter.id, state="dead", message_id=None, detail=detail)
        return Redriven(id=letter.id, ending=Ending.STILL_DEAD, reason=detail)


async def _case(pipeline: Pipeline, database: Database, raws: Raws, letter: Buried) -> Case:
    async with database.connection() as connection:
        raw = await raws.read(connection, letter.tenant_id, letter.raw_id)
    envelope = revive(letter, raw)
    targets, unrouted = await pipeline.targets(envelope)
    # A domain may have changed hands since: the letter belongs to its tenant, and only its mailboxes may have it.
    own = tuple(target for target in targets if target.route.tenant_id == letter.tenant_id)
    case = await pipeline.examine(envelope, own, unrouted, asyncio.get_running_loop().time())
    return replace(case, raw_ids={letter.tenant_id: letter.raw_id}, raw_stored=True)


async def _attempt(pipeline: Pipeline, database: Database, letter: Buried, case: Case, *, apply: bool) -> Redriven:
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
        ids = tuple(row.message_id for row in rows)
        state = "redriven" if rows else "discarded"
        await settle(connection, tenant_id, letter.id, state=state, message_id=ids[0] if ids else None, detail=None)
    if not rows:
        return Redriven(id=letter.id, ending=Ending.DISCARDED, reason=_refusal(judgement))
    fresh = any(not row.duplicate for row in rows)
    return Redriven(
        id=letter.id,
        ending=Ending.STORED if fresh else Ending.DUPLICATE,
        reason=Reason.ACCEPTED if fresh else Reason.DUPLICATE,
        message_ids=ids,
    )


def _refusal(judgement: Judgement) -> Reason:
    """Why nothing was taken; a letter whose mailboxes all went to other tenants has no refusal of its own."""
    return judgement.refusals[0].reason if judgement.refusals else Reason.UNKNOWN_MAILBOX
