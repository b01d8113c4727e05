"""Where the bytes of a batch's mails go before the commit: into Postgres with their rows, or each into an object first.

Every object is written once, however often the commit is tried. What is written for nothing (a duplicate, a commit that
never comes) is the store's to find and delete.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import structlog

from ingester.case import Case
from ingester.judge import Judgement
from ingester.store.blobs import Blobs
from ingester.store.messages import Mail
from ingester.store.objects import MissingExtra, ObjectsUnavailable

_log = structlog.get_logger(__name__)


class Placing:
    """The objects of one batch. No connection to the database may be held while they are written."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._there: set[UUID] = set()

    async def place(self, judged: Sequence[tuple[Case, Judgement]]) -> list[Judgement | None]:
        """The judgements with the URLs of their mails' objects; None where an object could not be written."""
        wanted = [
            self._write(mail, case.deadline) for case, judgement in judged for mail in judgement.mails if _needs(mail)
        ]
        failed = [error for error in await asyncio.gather(*wanted, return_exceptions=True) if error is not None]
        for error in failed:
            if not isinstance(error, ObjectsUnavailable | MissingExtra | TimeoutError):
                raise error
        if failed:
            _log.error("the object store is unavailable", error=str(failed[0]) or "timeout", mails=len(failed))
        return [self._placed(judgement) for _, judgement in judged]

    async def _write(self, mail: Mail, deadline: float) -> None:
        if mail.raw_id in self._there:
            return
        async with asyncio.timeout_at(deadline):
            await self._blobs.write(self._blobs.url(mail.tenant_id, mail.raw_id), mail.envelope.raw)
        self._there.add(mail.raw_id)

    def _placed(self, judgement: Judgement) -> Judgement | None:
        if not all(mail.raw_id in self._there for mail in judgement.mails if _needs(mail)):
            return None
        mails = (
            replace(mail, blob_key=self._blobs.url(mail.tenant_id, mail.raw_id)) if _needs(mail) else mail
            for mail in judgement.mails
        )
        return replace(judgement, mails=tuple(mails))


def _needs(mail: Mail) -> bool:
    """Whether the bytes are to be stored: not those of a refused mail, nor those that lie in Postgres already."""
    return bool(mail.deliveries) and not mail.raw_stored
