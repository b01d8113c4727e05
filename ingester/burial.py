"""Dead letters are made here: a mail that our code cannot digest is kept whole and answered yes (Surprise).

Above the caps, or while the database is away, the answer is 451 and the sender brings it again.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import structlog

from ingester import __version__, tally
from ingester.case import Target
from ingester.core.backoff import pauses
from ingester.core.envelope import Envelope
from ingester.core.outcome import Outcome, Reason
from ingester.core.resolve import raw_claim
from ingester.store.db import Database, Trouble, classify
from ingester.store.dead import Caps, DeadLetter, Kept, bury
from ingester.telemetry import Telemetry

_log = structlog.get_logger(__name__)


class Burial:
    """Keeps mails as dead letters, each in a transaction of its own."""

    def __init__(
        self,
        *,
        database: Database,
        caps: Caps,
        claim_life: timedelta,
        new_id: Callable[[], UUID],
        telemetry: Telemetry,
    ) -> None:
        self._database = database
        self._telemetry = telemetry
        self._caps = caps
        self._claim_life = claim_life
        self._new_id = new_id

    async def keep(
        self,
        envelope: Envelope,
        targets: Sequence[Target],
        *,
        raw_sha256: bytes,
        stage: str,
        error: Exception,
        deadline: float,
    ) -> Outcome:
        """Keep one mail as a dead letter of each tenant, trying until `deadline` (on the loop's clock)."""
        arrival_id = envelope.arrival_id
        _log.error("dead letter", stage=stage, cause=describe(error), arrival_id=str(arrival_id))
        letters = self._letters(envelope, targets, raw_sha256, stage, error)
        for pause in pauses():
            try:
                async with self._database.connection() as connection, connection.transaction():
                    kept = [await bury(connection, letter, self._caps) for letter in letters]
                    if Kept.OVER_CAPS in kept:
                        raise _OverCaps
                tally.buried(self._telemetry.metrics, envelope.door, letters, kept)
                return Outcome(reason=Reason.ACCEPTED, arrival_id=arrival_id)
            except _OverCaps:
                _log.error("too many dead letters, mail deferred", arrival_id=str(arrival_id))
                break
            except Exception as trouble:  # noqa: BLE001  (the last resort: 451)
                late = asyncio.get_running_loop().time() + pause >= deadline
                if late or classify(trouble) is not Trouble.TRANSIENT:
                    _log.error("dead letter not kept", cause=describe(trouble), arrival_id=str(arrival_id))
                    break
                await asyncio.sleep(pause)
        return Outcome(reason=Reason.STORE_UNAVAILABLE, arrival_id=arrival_id)

    def _letters(
        self, envelope: Envelope, targets: Sequence[Target], raw_sha256: bytes, stage: str, error: Exception
    ) -> list[DeadLetter]:
        letters: list[DeadLetter] = []
        for tenant_id in sorted({target.route.tenant_id for target in targets}):
            own = [target for target in targets if target.route.tenant_id == tenant_id]
            letters.append(
                DeadLetter(
                    tenant_id=tenant_id,
                    id=self._new_id(),
                    receipt_id=self._new_id(),
                    raw_id=self._new_id(),
                    raw_sha256=raw_sha256,
                    envelope=envelope,
                    recipients=tuple(text for target in own for text in target.recipients),
                    claims=tuple(sorted(raw_claim(target.route.mailbox_id, raw_sha256) for target in own)),
                    expires_at=envelope.received_at + self._claim_life,
                    reason=f"{stage}_failed",
                    detail=describe(error),
                    version=__version__,
                )
            )
        return letters


class _OverCaps(Exception):
    """More dead letters than the caps allow; rolls the burial back."""


def describe(error: BaseException) -> str:
    """What went wrong and where, without the exception's own text: it may quote the mail."""
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    place = f" at {Path(where.tb_frame.f_code.co_filename).name}:{where.tb_lineno}" if where is not None else ""
    state = getattr(error, "sqlstate", None)
    return f"{type(error).__name__}{f' (SQLSTATE {state})' if state else ''}{place}"
