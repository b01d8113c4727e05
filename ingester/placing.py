"""Where the bytes of a batch's mails go: into Postgres with their rows, into an object each, or into a segment.

All is there before the first row is written, for what is being written locks out other mails of the same
conversation; and it is written once, however often the commit is tried. What is written for nothing (a duplicate, a
commit that never comes) is the store's to find and delete.
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
        """The URLs of raw mails that are written."""

    async def place(self, judged: Sequence[tuple[Case, Judgement]]) -> list[Judgement | None]:
        """The judgements with the URLs of their mails' bytes; None where an object could not be written.

        No connection to the database may be held meanwhile. Raises ObjectsUnavailable or TimeoutError where the bytes
        go into a segment and are not known to be on the disk: nothing of the batch may be committed then.
        """
        await (self._append(judged) if self._blobs.in_segments else self._upload(judged))
        return [self._placed(judgement) for _, judgement in judged]

    async def _append(self, judged: Sequence[tuple[Case, Judgement]]) -> None:
        """Write what is wanted into a segment, and wait until it is on the disk."""
        pieces = [
            Piece(tenant_id=mail.tenant_id, raw_id=mail.raw_id, sha256=mail.raw_sha256, data=mail.envelope.raw)
            for _, judgement in judged
            for mail in judgement.mails
            if self._wants(mail)
        ]
        if not pieces:
            return
        landing = self._blobs.segments.append(pieces)
        async with asyncio.timeout_at(min(case.deadline for case, _ in judged)):
            await asyncio.shield(landing.done)
        self._there.update(zip((piece.raw_id for piece in pieces), landing.urls, strict=True))

    async def _upload(self, judged: Sequence[tuple[Case, Judgement]]) -> None:
        """Write what is wanted as objects, side by side, as far as the store takes it."""
        wanted = [
            self._write(mail, case.deadline)
            for case, judgement in judged
            for mail in judgement.mails
            if self._wants(mail)
        ]
        failed = [error for error in await asyncio.gather(*wanted, return_exceptions=True) if error is not None]
        for error in failed:
            if not isinstance(error, ObjectsUnavailable | MissingExtra | TimeoutError):
                raise error
        if failed:
            _log.error("the object store is unavailable", error=str(failed[0]) or "timeout", mails=len(failed))

    async def _write(self, mail: Mail, deadline: float) -> None:
        url = self._blobs.url(mail.tenant_id, mail.raw_id)
        async with asyncio.timeout_at(deadline):
            await self._blobs.write(url, mail.envelope.raw)
        self._there[mail.raw_id] = url

    def _wants(self, mail: Mail) -> bool:
        return _needs(mail) and mail.raw_id not in self._there

    def _placed(self, judgement: Judgement) -> Judgement | None:
        if not all(mail.raw_id in self._there for mail in judgement.mails if _needs(mail)):
            return None
        mails = (replace(mail, blob_key=self._there[mail.raw_id]) if _needs(mail) else mail for mail in judgement.mails)
        return replace(judgement, mails=tuple(mails))


def _needs(mail: Mail) -> bool:
    """Whether the bytes are to be stored: not those of a refused mail, nor those that lie in Postgres already."""
    return bool(mail.deliveries) and not mail.raw_stored
