"""Committing: waiting mails share one read, one judgement each, one write per tenant and one commit, then are answered.

Yes means committed (law 1). What may pass is tried again within the mail's deadline; of a batch with a bad mail the
others are committed one by one, and the bad one is buried.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from uuid import UUID

import structlog

from ingester import tally
from ingester.batcher import Batcher
from ingester.burial import Burial
from ingester.case import Case, Limits
from ingester.core.backoff import pauses
from ingester.core.outcome import Outcome, Reason
from ingester.faults import Faults
from ingester.judge import Judgement, judge, outcome, queries
from ingester.placing import Placing
from ingester.settings import Settings
from ingester.store.blobs import Blobs
from ingester.store.db import Connection, Database, Trouble, classify, provoke_data_fault
from ingester.store.finding import find
from ingester.store.mail import Mail, Written
from ingester.store.messages import LARGE_BYTES, is_one_statement, write
from ingester.store.provider_events import EventConflict
from ingester.store.refusals import Refusals
from ingester.telemetry import Stage, Telemetry
from ingester.telemetry.metrics import COMMIT_MAILS, REFUSALS, STORE_TROUBLES
from ingester.telemetry.watch import Timing

BATCH_BYTES = 16 << 20
"""Bytes of raw mail that share a commit at most."""
ENOUGH = 8
"""Mails that are worth a further commit while another is on its way. Half the CPU of a commit is its own, not its
mails': measured on two cores with 50 connections, Postgres needs a quarter less with 8 a commit than with 3.
"""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    """A mail that waits for its commit, and since when."""

    case: Case
    timing: Timing


class Committing:
    """One per process."""

    def __init__(
        self,
        *,
        settings: Settings,
        database: Database,
        blobs: Blobs,
        burial: Burial,
        faults: Faults,
        limits: Limits,
        refusals: Refusals,
        telemetry: Telemetry,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._burial = burial
        self._faults = faults
        self._limits = limits
        self._refusals = refusals
        self._telemetry = telemetry
        store = settings.store
        # Of the connections one half stays for all others who ask.
        runners = max(1, store.connections // 4)
        self._small = self._lane(runners, most=store.batch, enough=min(ENOUGH, store.batch))
        # Postgres is busy with the bytes of one, and small mails would wait longer for two. What lies apart is no load.
        self._large = self._lane(runners if blobs.on else 1, most=1, enough=1)

    def _lane(self, runners: int, *, most: int, enough: int) -> "Batcher[_Waiting, Outcome]":
        return Batcher(
            self._settle,
            weigh=lambda waiting: len(waiting.case.envelope.raw),
            runners=runners,
            most=most,
            heaviest=BATCH_BYTES,
            enough=enough,
        )

    def submit(self, case: Case) -> "asyncio.Future[Outcome]":
        """Commit one mail, together with what else waits. The outcome says what became of it."""
        timing = self._telemetry.stage(Stage.QUEUE, case.envelope.arrival_id)
        lane = self._large if len(case.envelope.raw) >= LARGE_BYTES else self._small
        return lane.submit(_Waiting(case=case, timing=timing))

    async def _settle(self, batch: Sequence["_Waiting"]) -> list[Outcome]:
        for waiting in batch:
            waiting.timing.end()
        return await self._insist([waiting.case for waiting in batch], Placing(self._blobs))

    async def _insist(self, cases: Sequence[Case], placing: Placing) -> list[Outcome]:
        """Commit a batch, trying again what may pass; where one mail is the trouble, one by one."""
        loop = asyncio.get_running_loop()
        deadline = min(case.deadline for case in cases)
        waits = pauses()
        while True:
            try:
                return await self._attempt(cases, placing)
            except Exception as error:  # noqa: BLE001  (sorted by `classify`; a surprise is a dead letter)
                trouble, pause = classify(error), next(waits)
                if trouble is not None:
                    self._telemetry.metrics.count(STORE_TROUBLES, trouble.name.lower())
                if trouble is Trouble.TRANSIENT and loop.time() + pause < deadline:
                    _log.warning("commit tried again", error=type(error).__name__, mails=len(cases))
                    await asyncio.sleep(pause)
                    continue
                return await self._give_up(cases, placing, trouble, error)

    async def _give_up(
        self, cases: Sequence[Case], placing: Placing, trouble: Trouble | None, error: Exception
    ) -> list[Outcome]:
        """Defer what the database cannot do now; of a batch with a bad mail, find it; keep the bad mail."""
        if trouble in (Trouble.TRANSIENT, Trouble.LASTING):
            _log.error("the store is unavailable", error=type(error).__name__, mails=len(cases))
            return [_deferred(case) for case in cases]
        if len(cases) > 1:
            return [(await self._insist([case], placing))[0] for case in cases]
        case = cases[0]
        if isinstance(error, EventConflict):
            return [self._conflict(case)]
        kept = await self._burial.keep(
            case.envelope,
            case.targets,
            raw_sha256=case.raw_sha256,
            stage="commit" if trouble is Trouble.DATA else "decide",
            error=error,
            deadline=case.deadline,
        )
        return [kept]

    async def _attempt(self, cases: Sequence[Case], placing: Placing) -> list[Outcome]:
        """One read, the judging, the bytes that lie elsewhere, one write per tenant, one commit.

        While bytes are on their way nothing is locked and no connection is held: a disk or a store may be slow.
        """
        async with self._database.connection() as connection:
            if self._blobs.in_segments:
                await self._blobs.segments.claim(connection)
            judged = await self._judge(connection, cases)
            if not self._blobs.on:
                return await self._commit(connection, judged)
        with self._telemetry.stage(Stage.UPLOAD, *_mails(cases)):
            placed = await placing.place(judged)
        self._faults.hit("uploaded")
        ready = [(case, one) for case, one in zip(cases, placed, strict=True) if one is not None]
        told: Iterator[Outcome] = iter(())
        if ready:
            async with self._database.connection() as connection:
                told = iter(await self._commit(connection, ready))
        return [_deferred(case) if one is None else next(told) for case, one in zip(cases, placed, strict=True)]

    async def _judge(self, connection: Connection, cases: Sequence[Case]) -> list[tuple[Case, Judgement]]:
        wanted = [queries(case) for case in cases]
        self._faults.hit("find")
        with self._telemetry.stage(Stage.FIND, *_mails(cases)):
            found = iter(await find(connection, [query for group in wanted for query in group]))
        self._faults.hit("decide")
        return [
            (case, judge(case, [next(found) for _ in group], self._limits))
            for case, group in zip(cases, wanted, strict=True)
        ]

    async def _commit(self, connection: Connection, judged: Sequence[tuple[Case, Judgement]]) -> list[Outcome]:
        with self._telemetry.stage(Stage.COMMIT, *_mails(case for case, _ in judged)):
            written = await self._write(connection, judged)
        self._telemetry.metrics.observe(COMMIT_MAILS, len(judged))
        for (case, judgement), rows in zip(judged, written, strict=True):
            tally.written(self._telemetry.metrics, case, judgement, rows)
        self._faults.hit("after_commit")
        return [outcome(case, judgement, rows) for (case, judgement), rows in zip(judged, written, strict=True)]

    async def _write(
        self, connection: Connection, judged: Sequence[tuple[Case, Judgement]]
    ) -> list[list[tuple[UUID, Written]]]:
        """Write all mails, grouped by tenant in key order, in one transaction."""
        written: list[list[tuple[UUID, Written]]] = [[] for _ in judged]
        groups: dict[UUID, list[tuple[int, Mail]]] = {}
        for index, (_, judgement) in enumerate(judged):
            for mail in judgement.mails:
                groups.setdefault(mail.tenant_id, []).append((index, mail))
        async with nullcontext() if self._is_one_statement(groups) else connection.transaction():
            for tenant_id, group in sorted(groups.items()):
                for row in await write(connection, tenant_id, [mail for _, mail in group]):
                    written[group[row.mail][0]].append((tenant_id, row))
            if self._faults.hit("commit") == "data":
                await provoke_data_fault(connection)
            self._faults.hit("before_commit")
            self._faults.soon("during_commit", asyncio.get_running_loop().call_soon)
        return written

    def _is_one_statement(self, groups: Mapping[UUID, Sequence[tuple[int, Mail]]]) -> bool:
        """Whether the write is a transaction by itself: a BEGIN and a COMMIT cost a round trip each."""
        if len(groups) != 1 or self._faults.points:
            return False
        return all(is_one_statement(mail) for group in groups.values() for _, mail in group)

    def _conflict(self, case: Case) -> Outcome:
        """Refuse the whole event: which of the tenants knows another mail by its id is nobody's business."""
        envelope = case.envelope
        for target in case.targets:
            self._telemetry.metrics.count(REFUSALS, envelope.door, Reason.EVENT_CONFLICT)
            self._refusals.note(
                tenant_id=target.route.tenant_id,
                door=envelope.door,
                reason=Reason.EVENT_CONFLICT,
                client=envelope.client,
                mail_from=envelope.mail_from,
                recipients=target.recipients,
                detail="",
                now=envelope.received_at,
            )
        return Outcome(reason=Reason.EVENT_CONFLICT, arrival_id=envelope.arrival_id)


def _deferred(case: Case) -> Outcome:
    return Outcome(reason=Reason.STORE_UNAVAILABLE, arrival_id=case.envelope.arrival_id)


def _mails(cases: Iterable[Case]) -> Iterator[UUID]:
    return (case.envelope.arrival_id for case in cases)
