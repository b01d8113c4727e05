"""The journey of a mail: scan, authenticate, find, decide, commit, answer. Gather, judge, act, on one page.

Yes means committed (law 1). What our code cannot digest becomes a dead letter and is answered yes; what the database
cannot do now is answered 4xx.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from time import perf_counter
from typing import TypeVar
from uuid import UUID

import structlog

from ingester import tally
from ingester.arrival import MOST, Arrival, correspondents, summary
from ingester.auth.check import Authenticator, Checked
from ingester.burial import Burial
from ingester.case import Case, Limits, Target, Unrouted
from ingester.committing import Committing
from ingester.core.address import Address
from ingester.core.envelope import Client, Door, Envelope, Route
from ingester.core.ids import SYSTEM_TENANT
from ingester.core.message import Message, digest, digest_at_once
from ingester.core.mime import Bounds
from ingester.core.outcome import Outcome, Reason, Refusal
from ingester.faults import Faults
from ingester.settings import Settings
from ingester.spam import SpamGate, SpamVerdict
from ingester.store.blobs import Blobs
from ingester.store.db import Database, Unavailable
from ingester.store.dead import Caps
from ingester.store.directory import Directory
from ingester.store.refusals import Refusals
from ingester.telemetry import Stage, Telemetry
from ingester.telemetry.journey import Journey
from ingester.telemetry.metrics import REFUSALS, SPAM_CHECKS, Metrics

BESIDE_THE_LOOP = 128 << 10
"""Mails above this many bytes are scanned in a thread, so that the loop is not held (law 9), and so are smaller ones
that turn out to be dear. For a usual one a thread costs more than it spares: both then want the interpreter, and pass
it to and fro.
"""
Work = TypeVar("Work")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What the pure parts must not have: time and identity."""

    now: Callable[[], datetime]
    new_id: Callable[[], UUID]
    new_ids: Callable[[int], Sequence[UUID]]


class Pipeline:
    """One per process. Doors call `recipient` and `accept`; both always answer, neither raises."""

    def __init__(
        self,
        *,
        settings: Settings,
        bounds: Bounds,
        database: Database,
        directory: Directory,
        refusals: Refusals,
        faults: Faults,
        sources: Sources,
        threads: Executor,
        authenticator: Authenticator,
        spam: SpamGate,
        blobs: Blobs,
        telemetry: Telemetry,
        watch: Callable[[Arrival], None] | None = None,
    ) -> None:
        self._watch = watch
        self._telemetry = telemetry
        self._directory = directory
        self._refusals = refusals
        self._faults = faults
        self._sources = sources
        self._threads = threads
        self._authenticator = authenticator
        self._spam = spam
        store = settings.store
        self._commit_seconds = store.commit_seconds
        claim_life = timedelta(days=store.claim_days)
        caps = Caps(tenant=store.dead_letters_per_hour, prefix=store.dead_letters_per_prefix_hour)
        self._burial = Burial(
            database=database, caps=caps, claim_life=claim_life, new_id=sources.new_id, telemetry=telemetry
        )
        self.limits = Limits(
            max_received=settings.mime.max_received, claim_life=claim_life, secrets=settings.token_secrets
        )
        self._bounds = bounds
        self._committing = Committing(
            settings=settings,
            database=database,
            blobs=blobs,
            burial=self._burial,
            faults=faults,
            limits=self.limits,
            refusals=refusals,
            telemetry=telemetry,
        )

    @property
    def metrics(self) -> Metrics:
        """Where mails are counted, whoever writes them."""
        return self._telemetry.metrics

    # -- what doors ask ----------------------------------------------------------------------------------------------

    def new_arrival(self) -> tuple[UUID, datetime]:
        """A fresh arrival id and the time it stands for."""
        return self._sources.new_id(), self._sources.now()

    def known(self, address: Address) -> Route | None:
        """The cached route, without asking anybody."""
        return self._directory.known(address)

    async def recipient(self, address: Address, client: Client, *, door: Door, mail_from: str) -> Route | Refusal:
        """May this recipient be taken? Refusals are noted here."""
        tenant_id, answer = await self.route(address)
        if isinstance(answer, Refusal):
            self.note_refusal(
                reason=answer.reason,
                client=client,
                door=door,
                mail_from=mail_from,
                recipients=(str(address),),
                tenant_id=tenant_id,
            )
        return answer

    async def route(self, address: Address) -> tuple[UUID, Route | Refusal]:
        """Where an address leads, and whose it is: the tenant of a refusal too. Nothing is noted."""
        try:
            return await self._directory.resolve(address, self._sources.now())
        except Unavailable:
            return SYSTEM_TENANT, Refusal(reason=Reason.STORE_UNAVAILABLE)

    def note_refusal(
        self,
        *,
        reason: Reason,
        client: Client,
        door: Door,
        mail_from: str,
        recipients: tuple[str, ...],
        tenant_id: UUID = SYSTEM_TENANT,
        detail: str = "",
    ) -> None:
        """Count a refusal that the door made itself."""
        self._telemetry.metrics.count(REFUSALS, door, reason)
        self._refusals.note(
            tenant_id=tenant_id,
            door=door,
            reason=reason,
            client=client,
            mail_from=mail_from,
            recipients=recipients,
            detail=detail,
            now=self._sources.now(),
        )

    async def accept(self, envelope: Envelope) -> Outcome:
        """Take one mail as far as it goes, within the commit deadline; the caller may go away meanwhile."""
        deadline = asyncio.get_running_loop().time() + self._commit_seconds
        case: Case | None = None
        with self._telemetry.journey(envelope.arrival_id) as journey:
            try:
                async with asyncio.timeout_at(deadline):
                    case, result = await self._accept(envelope, deadline)
            except TimeoutError:
                result = self._deferred(envelope)
            except Exception as error:  # noqa: BLE001  (whatever it was, the sender is told to come again)
                _log.error("mail.failed", arrival_id=str(envelope.arrival_id), exc_info=error)
                result = self._deferred(envelope)
            self._tell(
                Arrival(
                    envelope=envelope,
                    message=case.message if case else None,
                    report=case.checked.report if case else None,
                    outcome=result,
                    seconds=journey.seconds,
                ),
                journey,
            )
        return result

    def _tell(self, arrival: Arrival, journey: Journey) -> None:
        """What became of it. Whatever goes wrong here, the sender is told what became of the mail."""
        try:
            self._tell_all(arrival, journey)
        except Exception as error:  # noqa: BLE001  (it may be stored: another answer would bring it again)
            _log.error("mail.not_told", arrival_id=str(arrival.outcome.arrival_id), exc_info=error)

    def _tell_all(self, arrival: Arrival, journey: Journey) -> None:
        """Its counts, one line per mail, and its spans: no mail text, no address in clear."""
        tally.ended(self._telemetry.metrics, arrival)
        told = summary(arrival)
        self._telemetry.log_mail(
            {
                "arrival_id": arrival.outcome.arrival_id,
                **told,
                **correspondents(arrival.envelope),
                "message_ids": [one.message_id for one in arrival.outcome.stored[:MOST]],
                "worker": self._telemetry.worker,
                "ms": round(arrival.seconds * 1000, 1),
                "stage_ms": journey.stage_ms(),
            }
        )
        if self._telemetry.spans is not None:
            self._telemetry.spans.tell(journey, told)
        if self._watch is not None:
            self._watch(arrival)

    # -- the journey -------------------------------------------------------------------------------------------------

    async def _accept(self, envelope: Envelope, deadline: float) -> tuple[Case | None, Outcome]:
        targets, unrouted = await self.targets(envelope)
        if not targets:
            return None, self._refuse_all(envelope, unrouted)
        try:
            case = await self.examine(envelope, targets, unrouted, deadline)
        except Exception as error:  # noqa: BLE001  (the surprise of the design page: a dead letter)
            raw_sha256 = await self._beside(envelope.raw, lambda: sha256(envelope.raw).digest())
            return None, await self._burial.keep(
                envelope, targets, raw_sha256=raw_sha256, stage="scan", error=error, deadline=deadline
            )
        return case, await self._committing.submit(case)

    def _refuse_all(self, envelope: Envelope, unrouted: Sequence[Unrouted]) -> Outcome:
        """No recipient is ours: nothing is parsed or stored (a door that could not ask before)."""
        for one in unrouted:
            self.note_refusal(
                reason=one.refusal.reason,
                client=envelope.client,
                door=envelope.door,
                mail_from=envelope.mail_from,
                recipients=one.recipients,
                tenant_id=one.tenant_id,
            )
        refusal = next((one.refusal for one in unrouted if one.refusal.code.retry), unrouted[0].refusal)
        refused = tuple((text, one.refusal) for one in unrouted for text in one.recipients)
        return Outcome(reason=refusal.reason, arrival_id=envelope.arrival_id, final=refusal.final, refused=refused)

    async def examine(
        self, envelope: Envelope, targets: tuple[Target, ...], unrouted: tuple[Unrouted, ...], deadline: float
    ) -> Case:
        """Scan and authenticate: all that the bytes and DNS tell. Raises whatever the scan stumbles over."""
        with self._telemetry.stage(Stage.PARSE, envelope.arrival_id):
            raw_sha256, message = await self.scan(envelope.raw, envelope.raw_sha256)
        checked, spam = await self._ask_about(envelope, message, targets)
        tenants = {target.route.tenant_id for target in targets}
        ids = self._sources.new_ids(2 * len(tenants))
        return Case(
            envelope=envelope,
            message=message,
            raw_sha256=raw_sha256,
            raw_ids=dict(zip(tenants, ids, strict=False)),
            raw_stored=False,
            targets=targets,
            unrouted=unrouted,
            deadline=deadline,
            checked=checked,
            spam=spam,
            contact_ids=dict(zip(tenants, ids[len(tenants) :], strict=True)),
        )

    async def _check(self, envelope: Envelope, message: Message) -> Checked:
        begun = perf_counter()
        with self._telemetry.stage(Stage.AUTH, envelope.arrival_id):
            checked = await self._authenticator.check(
                envelope,
                authors=message.authors,
                from_fields=message.from_fields,
                hashed=message.hashed,
                block=message.header,
            )
        self._telemetry.spent(Stage.DNS, envelope.arrival_id, begun, checked.dns_seconds)
        return checked

    async def _ask_about(
        self, envelope: Envelope, message: Message, targets: Sequence[Target]
    ) -> tuple[Checked, SpamVerdict | None]:
        """What becomes known of the sender, and beside it what the spam filter thinks, where one is set and the mail
        may be cold: a reply token is proof enough.
        """
        if not self._spam.on or all(target.route.answers for target in targets):
            return await self._check(envelope, message), None  # a task each would cost more than the judging
        return await asyncio.gather(self._check(envelope, message), self._ask_for_spam(envelope))

    async def _ask_for_spam(self, envelope: Envelope) -> SpamVerdict:
        with self._telemetry.stage(Stage.SPAM, envelope.arrival_id):
            verdict = await self._spam.judge(
                envelope.raw,
                ip=envelope.client.ip,
                helo=envelope.client.helo or "",
                mail_from=envelope.mail_from,
                recipients=tuple(str(one.address) for one in envelope.recipients),
                queue_id=str(envelope.arrival_id),
            )
        self._telemetry.metrics.count(SPAM_CHECKS, verdict.action)
        return verdict

    async def scan(self, raw: bytes, raw_sha256: bytes | None = None) -> tuple[bytes, Message]:
        """The hash of the bytes, where it is not known yet, and what they say; what takes long beside the loop."""
        self._faults.hit("scan")
        if len(raw) <= BESIDE_THE_LOOP:
            message = digest_at_once(raw, self._bounds)
            if message is not None:
                return raw_sha256 or sha256(raw).digest(), message
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: (raw_sha256 or sha256(raw).digest(), digest(raw, self._bounds))
        )

    async def targets(self, envelope: Envelope) -> tuple[tuple[Target, ...], tuple[Unrouted, ...]]:
        """Recipients by mailbox: two addresses of one mailbox are one delivery."""
        routes: dict[tuple[UUID, UUID], tuple[Route, list[str]]] = {}
        unrouted: list[Unrouted] = []
        for recipient in envelope.recipients:
            tenant_id, answer = SYSTEM_TENANT, recipient.route or Refusal(reason=Reason.UNKNOWN_MAILBOX)
            if recipient.route is None:
                tenant_id, answer = await self.route(recipient.address)
            text = str(recipient.address)
            if isinstance(answer, Refusal):
                unrouted.append(
                    Unrouted(id=self._sources.new_id(), tenant_id=tenant_id, refusal=answer, recipients=(text,))
                )
                continue
            key = (answer.tenant_id, answer.mailbox_id)
            route, texts = routes.get(key, (answer, []))
            # Of several ways to one mailbox, a reply token says the most.
            routes[key] = (answer if answer.answers and not route.answers else route, [*texts, text])
        ordered = [routes[key] for key in sorted(routes)]
        return tuple([self._target(route, texts) for route, texts in ordered]), tuple(unrouted)

    def _target(self, route: Route, recipients: Sequence[str]) -> Target:
        message_id, thread_id, receipt_id, refusal_id = self._sources.new_ids(4)
        return Target(
            route=route,
            recipients=tuple(dict.fromkeys(recipients)),
            message_id=message_id,
            thread_id=thread_id,
            receipt_id=receipt_id,
            refusal_id=refusal_id,
        )

    async def _beside(self, raw: bytes, work: Callable[[], Work]) -> Work:
        if len(raw) <= BESIDE_THE_LOOP:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _deferred(self, envelope: Envelope) -> Outcome:
        return Outcome(reason=Reason.STORE_UNAVAILABLE, arrival_id=envelope.arrival_id)
