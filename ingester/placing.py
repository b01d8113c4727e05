"""Where the bytes of a batch's mails go: into Postgres with their rows, into an object each, or into a segment.

Objects are written before the commit; a segment is appended to beside the write, and the commit waits for it. All is
written once, however often the commit is tried. What is written for nothing (a duplicate, a commit that never comes) is
the store's to find and delete.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import structlog

from ingester.case import Case
from ingester.judge import Judgement
from ingester.store.blobs import Blobs
from ingester.store.mail import Mail
from ingester.store.objects import MissingExtra, ObjectsUnavailable
from ingester.store.segments.record import Piece

_log = structlog.get_logger(__name__)


class Placing:
    """The bytes of one batch."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._there: dict[UUID, str] = {}
        """The URLs of raw mails that are written, or, in a segment, are on their way."""
        self._landing: list[asyncio.Future[None]] = []

    # -- objects ----------------------------------------------------------------------------------------------------

    async def place(self, judged: Sequence[tuple[Case, Judgement]]) -> list[Judgement | None]:
        """The judgements with the URLs of their mails' objects; None where an object could not be written.

        No connection to the database may be held meanwhile.
        """
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
        url = self._blobs.url(mail.tenant_id, mail.raw_id)
        async with asyncio.timeout_at(deadline):
            await self._blobs.write(url, mail.envelope.raw)
        self._there[mail.raw_id] = url

    # -- segments ---------------------------------------------------------------------------------------------------

    def append(self, judged: Sequence[tuple[Case, Judgement]]) -> list[tuple[Case, Judgement]]:
        """The judgements with the URLs that their mails' bytes will have; they are on their way from now on."""
        pieces = [
            Piece(tenant_id=mail.tenant_id, raw_id=mail.raw_id, sha256=mail.raw_sha256, data=mail.envelope.raw)
            for _, judgement in judged
            for mail in judgement.mails
            if _needs(mail) and mail.raw_id not in self._there
        ]
        if pieces:
            landing = self._blobs.segments.append(pieces)
            self._there.update(zip((piece.raw_id for piece in pieces), landing.urls, strict=True))
            self._landing.append(landing.done)
        return [(case, self._placed(judgement) or judgement) for case, judgement in judged]

    async def landed(self, deadline: float) -> None:
        """Wait until all bytes are on the disk. Raises ObjectsUnavailable or TimeoutError; then all is written anew."""
        try:
            async with asyncio.timeout_at(deadline):
                for done in self._landing:
                    await asyncio.shield(done)
        except BaseException:
            self._landing.clear()
            self._there.clear()
            raise

    # -- both -------------------------------------------------------------------------------------------------------

    def _placed(self, judgement: Judgement) -> Judgement | None:
        if not all(mail.raw_id in self._there for mail in judgement.mails if _needs(mail)):
            return None
        mails = (replace(mail, blob_key=self._there[mail.raw_id]) if _needs(mail) else mail for mail in judgement.mails)
        return replace(judgement, mails=tuple(mails))


def _needs(mail: Mail) -> bool:
    """Whether the bytes are to be stored: not those of a refused mail, nor those that lie in Postgres already."""
    return bool(mail.deliveries) and not mail.raw_stored
