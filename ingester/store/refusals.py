"""Refusals before DATA: counted in memory per minute, with at most three samples, and written every few seconds.

A stranger can make many, so they cost a row per (tenant, door, reason, client prefix, minute), never one each; in the
log they are a line for each such count, and a line for the rest where there are many.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog

from ingester.core.envelope import Client, Door
from ingester.core.outcome import Reason
from ingester.store.db import Database, classify
from ingester.store.documents import clean

MAX_COUNTERS = 10_000
"""Counters held between two flushes; beyond it strangers are counted under the prefix "other"."""
MAX_SAMPLES = 3
MAX_SAMPLE_TEXT = 320
OVERFLOW = "other"
MAX_LINES = 20
"""Lines of the log for what was counted between two flushes, the highest counts first."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Key:
    tenant_id: UUID
    door: Door
    reason: Reason
    prefix: str
    minute: datetime


@dataclass(slots=True)
class _Counter:
    count: int = 0
    told: int = 0
    """So many of them stand in the log."""
    samples: list[dict[str, Any]] = field(default_factory=list)


class Refusals:
    """The counters of one process."""

    def __init__(self, database: Database, new_id: Callable[[], UUID]) -> None:
        self._database = database
        self._new_id = new_id
        self._counters: dict[_Key, _Counter] = {}

    def note(
        self,
        *,
        tenant_id: UUID,
        door: Door,
        reason: Reason,
        client: Client,
        mail_from: str,
        recipients: tuple[str, ...],
        detail: str,
        now: datetime,
    ) -> None:
        """Count one refusal; no I/O."""
        minute = now.replace(second=0, microsecond=0)
        key = _Key(tenant_id=tenant_id, door=door, reason=reason, prefix=client.prefix, minute=minute)
        counter = self._counters.get(key)
        if counter is None:
            if len(self._counters) >= MAX_COUNTERS:
                key = _Key(tenant_id=tenant_id, door=door, reason=reason, prefix=OVERFLOW, minute=minute)
            counter = self._counters.setdefault(key, _Counter())
        counter.count += 1
        if len(counter.samples) < MAX_SAMPLES:
            counter.samples.append(
                {
                    "mail_from": clean(mail_from[:MAX_SAMPLE_TEXT]),
                    "recipients": [clean(text[:MAX_SAMPLE_TEXT]) for text in recipients[:MAX_SAMPLES]],
                    "helo": clean((client.helo or "")[:MAX_SAMPLE_TEXT]),
                    "detail": detail,
                    "at": now,
                }
            )

    async def flush(self) -> None:
        """Write what was counted. What cannot be written is kept for the next time; in the log it stands at once."""
        counters, self._counters = self._counters, {}
        if not counters:
            return
        _tell(counters)
        try:
            async with self._database.connection() as connection:
                await connection.executemany(
                    """
                    INSERT INTO refusals AS r (tenant_id, id, door, reason, client_prefix, minute, count, samples)
                    SELECT t.id, $2, $3, $4, $5, $6, $7, $8 FROM tenants t
                    WHERE t.id = $1 AND t.status <> 'erasing' FOR KEY SHARE
                    ON CONFLICT (tenant_id, door, reason, client_prefix, minute) WHERE arrival_id IS NULL
                    DO UPDATE SET count = r.count + excluded.count,
                        samples = CASE WHEN jsonb_array_length(r.samples) < 3 THEN r.samples || (excluded.samples->0)
                                       ELSE r.samples END
                    """,
                    [
                        (
                            key.tenant_id,
                            self._new_id(),
                            key.door.value,
                            key.reason.value,
                            key.prefix,
                            key.minute,
                            counter.count,
                            counter.samples,
                        )
                        for key, counter in sorted(counters.items(), key=lambda item: repr(item[0]))
                    ],
                )
        except Exception as error:
            if classify(error) is None:
                raise
            _log.warning("refusals not written yet", waiting=len(counters))
            for key, counter in counters.items():
                kept = self._counters.setdefault(key, _Counter())
                kept.count += counter.count
                kept.told += counter.told
                kept.samples = (counter.samples + kept.samples)[:MAX_SAMPLES]


def _tell(counters: Mapping[_Key, _Counter]) -> None:
    """The log's share. Who was refused stands there as a hash, like every address."""
    untold = [(key, counter) for key, counter in counters.items() if counter.count > counter.told]
    untold.sort(key=lambda item: item[1].told - item[1].count)
    for key, counter in untold[:MAX_LINES]:
        sample = counter.samples[-1]
        _log.info(
            "refused",
            door=key.door.value,
            reason=key.reason.value,
            times=counter.count - counter.told,
            client=key.prefix,
            mail_from=sample["mail_from"],
            rcpt_to=sample["recipients"],
        )
    rest = sum(counter.count - counter.told for _, counter in untold[MAX_LINES:])
    if rest:
        _log.info("refused", times=rest, clients=len(untold) - MAX_LINES)
    for _, counter in untold:
        counter.told = counter.count
