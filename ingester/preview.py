"""The whole judgement of a mail without storing it: what a door would be told, and why."""

import asyncio
from dataclasses import dataclass

from ingester.case import Case
from ingester.core.envelope import Envelope
from ingester.judge import Judgement, judge, queries
from ingester.pipeline import Pipeline
from ingester.store.db import Database
from ingester.store.finding import find


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What is known of the mail, and what would be decided for its recipients; without recipients nothing is."""

    case: Case
    judgement: Judgement


async def preview(pipeline: Pipeline, database: Database, envelope: Envelope) -> Preview:
    """Take a mail up to the commit. The database is only asked where there are recipients, and it must be open."""
    targets, unrouted = await pipeline.targets(envelope)
    case = await pipeline.examine(envelope, targets, unrouted, asyncio.get_running_loop().time())
    if not targets:
        return Preview(case=case, judgement=judge(case, [], pipeline.limits))
    async with database.connection() as connection:
        findings = await find(connection, queries(case))
    return Preview(case=case, judgement=judge(case, findings, pipeline.limits))
