"""The composition root: builds every room once, starts upward, drains downward. Nothing else knows all of them."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import structlog

from ingester.api.call import Calls
from ingester.api.description import operations as api_operations
from ingester.api.outbound import OutboundDoor
from ingester.arrival import Arrival
from ingester.auth.check import Authenticator
from ingester.auth.hosts import addresses_of
from ingester.chores import Chores
from ingester.clock import new_id, new_ids, now
from ingester.configured import bounds, resolver, rules
from ingester.faults import Faults
from ingester.ledger import Ledger
from ingester.operators.readiness import Readiness
from ingester.operators.routes import HealthDoor, MetricsDoor
from ingester.operators.routes import operations as health_operations
from ingester.operators.sampling import BACKLOG_SECONDS, SAMPLE_SECONDS, Sampling
from ingester.pipeline import Pipeline, Sources
from ingester.retaining import Retaining
from ingester.settings import Settings
from ingester.spam import SpamGate
from ingester.store import migrate
from ingester.store.blobs import Blobs
from ingester.store.db import Database, classify
from ingester.store.directory import Directory
from ingester.store.hosts import conflict
from ingester.store.housekeeping import expire_claims, expire_delivery_events, expire_events, expire_refusals
from ingester.store.raws import Raws
from ingester.store.refusals import Refusals
from ingester.telemetry import Telemetry
from ingester.telemetry.metrics import Metrics
from ingester.telemetry.tracing import open_spans
from ingester.tidying import Tidying
from ingester.transport.credentials import Credentials
from ingester.transport.http.description import operations as inbound_operations
from ingester.transport.http.door import InboundDoor
from ingester.transport.intake import Intake
from ingester.transport.limits import Flight
from ingester.transport.listener import MailDoor
from ingester.transport.lmtp import LmtpDoor
from ingester.transport.ses.description import operations as ses_operations
from ingester.transport.ses.door import SesDoor
from ingester.transport.ses.feedback import Feedback
from ingester.transport.ses.mailroom import Mailroom
from ingester.transport.ses.reconcile import Reconciler
from ingester.transport.ses.sns import Sns
from ingester.transport.smtp import SmtpDoor
from ingester.upgrade import AfterUpgrade
from ingester.web import openapi
from ingester.web.fetch import Fetcher, Get
from ingester.web.server import HttpDoor

FLUSH_SECONDS = 2.0
HOUSEKEEPING_SECONDS = 600.0
TIDYING_SECONDS = 60.0
RETAINING_SECONDS = 600.0
UPGRADE_SECONDS = 30.0
ABANDONED_SECONDS = 1.0
"""How much longer the drain waits for mails whose callers it had to cut."""

_log = structlog.get_logger(__name__)


class App:
    """One process: the store, the pipeline and the doors."""

    def __init__(
        self,
        settings: Settings,
        *,
        telemetry: Telemetry | None = None,
        watch: Callable[[Arrival], None] | None = None,
        get: Get | None = None,
    ) -> None:
        """`telemetry`: by default one that nobody reads. `get` takes the place of the fetcher of URLs, for tests."""
        self.settings = settings
        self.telemetry = telemetry or Telemetry(Metrics())
        metrics = self.telemetry.metrics
        self.database = Database(settings, metrics)
        self.directory = Directory(self.database, settings.token_secrets)
        self.refusals = Refusals(self.database, new_id)
        self.blobs = Blobs(settings)
        self.raws = Raws(self.blobs)
        self._tidying = Tidying(settings=settings, database=self.database, blobs=self.blobs, now=now)
        self._retaining = Retaining(settings=settings, database=self.database, now=now)
        # One: two that compute would take the interpreter from each other, and the loop would get it back late.
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="scan")
        self.resolver = resolver(settings, metrics)
        self._spam = SpamGate(settings.spam)
        self.pipeline = Pipeline(
            settings=settings,
            bounds=bounds(settings),
            database=self.database,
            directory=self.directory,
            refusals=self.refusals,
            faults=Faults.parse(settings.test.faults),
            sources=Sources(now=now, new_id=new_id, new_ids=new_ids),
            threads=self._threads,
            spam=self._spam,
            blobs=self.blobs,
            authenticator=Authenticator(self.resolver, rules(settings), threads=self._threads),
            telemetry=self.telemetry,
            watch=watch,
        )
        self._after_upgrade = AfterUpgrade(pipeline=self.pipeline, database=self.database, raws=self.raws, now=now)
        self._chores = Chores(metrics)
        self._flight = Flight(limit=settings.max_bytes_in_flight)
        self._doors: list[MailDoor | HttpDoor] = []
        self._operators: HttpDoor | None = None
        self.readiness = Readiness(self.database, disk=self.blobs.segments.probe)
        self._sampling = self._make_sampling()
        self._get = get or Fetcher(lambda host: addresses_of(self.resolver.lookup(), host)).get
        self._sns: Sns | None = None
        self.intake = self._make_intake()
        self._ledger = Ledger(settings=settings, database=self.database)
        self.mailroom = self._make_mailroom()
        self.reconciler = self._make_reconciler()

    def _make_sampling(self) -> Sampling:
        return Sampling(
            settings=self.settings,
            metrics=self.telemetry.metrics,
            database=self.database,
            directory=self.directory,
            resolver=self.resolver,
            flight=self._flight,
            readiness=self.readiness,
            doors=self._doors,
        )

    def _make_intake(self) -> Intake:
        return Intake(
            settings=self.settings,
            bounds=bounds(self.settings),
            pipeline=self.pipeline,
            flight=self._flight,
            threads=self._threads,
        )

    def _make_mailroom(self) -> Mailroom:
        return Mailroom(
            settings=self.settings,
            intake=self.intake,
            flight=self._flight,
            ledger=self._ledger,
            faults=Faults.parse(self.settings.test.faults),
            new_id=new_id,
            now=now,
        )

    def _make_reconciler(self) -> Reconciler:
        return Reconciler(
            settings=self.settings,
            bounds=bounds(self.settings),
            database=self.database,
            ledger=self._ledger,
            mailroom=self.mailroom,
            now=now,
        )

    async def open(self) -> None:
        """Open what commands need: the store and the directory, no door."""
        await self.database.open()
        self.directory.start()

    async def start(
        self,
        smtp: Sequence[socket.socket],
        http: Sequence[socket.socket] = (),
        *,
        lmtp: Sequence[socket.socket] = (),
        metrics: Sequence[socket.socket] = (),
    ) -> None:
        """Start upward: store, directory, chores, then the doors, but for SMTP's only those that have a socket.

        `metrics` are the operators' sockets: they can ask before mail is taken, and while it no longer is.
        """
        await self.open()
        self.telemetry.spans = open_spans(self.settings.traces)
        self._start_chores()
        if metrics:
            await self._serve_operators(metrics)
        await self._serve_mail(SmtpDoor, smtp)
        if lmtp:
            await self._serve_mail(LmtpDoor, lmtp)
        if http:
            await self._serve_http(http)
        self.readiness.listening = True

    def _start_chores(self) -> None:
        ses, every = self.settings.ses, self._chores.every
        every(FLUSH_SECONDS, "refusals", self.refusals.flush)
        every(HOUSEKEEPING_SECONDS, "housekeeping", self._clean)
        every(TIDYING_SECONDS, "tidying", self._tidying.tidy)
        every(RETAINING_SECONDS, "retaining", self._retaining.retain)
        if self.settings.store.redrive_after_upgrade:
            every(UPGRADE_SECONDS, "redrive_after_upgrade", self._after_upgrade.redrive)
        if ses.buckets and ses.reconcile_seconds:
            every(ses.reconcile_seconds, "reconciling", self.reconciler.reconcile)
        every(SAMPLE_SECONDS, "sampling", self._sampling.sample)
        every(BACKLOG_SECONDS, "backlog", self._sampling.count_dead_letters)
        self._chores.always("heartbeat", self._sampling.beat)

    async def _serve_operators(self, sockets: Sequence[socket.socket]) -> None:
        health = HealthDoor(self.readiness, details=True)
        routes = (*health.routes(), *MetricsDoor(self.telemetry.metrics).routes())
        self._operators = HttpDoor(settings=self.settings, routes=routes)
        await self._operators.start(sockets)

    async def _serve_mail(self, kind: type[MailDoor], sockets: Sequence[socket.socket]) -> None:
        door = kind(settings=self.settings, pipeline=self.pipeline, flight=self._flight, telemetry=self.telemetry)
        await door.start(sockets)
        self._doors.append(door)

    async def _serve_http(self, sockets: Sequence[socket.socket]) -> None:
        calls = Calls(settings=self.settings, database=self.database, now=now)
        outbound = OutboundDoor(calls=calls, secrets=self.settings.token_secrets, new_id=new_id, now=now)
        inbound = InboundDoor(
            settings=self.settings,
            intake=self.intake,
            credentials=Credentials(settings=self.settings, database=self.database, now=now),
            flight=self._flight,
            threads=self._threads,
            fetch=self._get,
            now=now,
            telemetry=self.telemetry,
        )
        health = HealthDoor(self.readiness, details=False)
        described = (*api_operations(), *inbound_operations(), *ses_operations(), *health_operations())
        doors = (outbound, inbound, self._ses_door(), health)
        routes = (*(route for door in doors for route in door.routes()), openapi.route(described))
        door = HttpDoor(settings=self.settings, routes=routes, metrics=self.telemetry.metrics)
        await door.start(sockets)
        self._doors.append(door)

    def _ses_door(self) -> SesDoor:
        ses = self.settings.ses
        self._sns = Sns(topics=ses.topics, timestamp_seconds=ses.timestamp_seconds, get=self._get)
        return SesDoor(
            settings=self.settings,
            sns=self._sns,
            mailroom=self.mailroom,
            feedback=Feedback(ledger=self._ledger, new_id=new_id, now=now),
            flight=self._flight,
            now=now,
        )

    def deafen(self, *, replaced: bool) -> None:
        """Take no new connection any more; the operators' neither, where another process has taken over."""
        self.readiness.draining, self.readiness.replaced = True, replaced
        doors = [*self._doors, *([self._operators] if replaced and self._operators is not None else [])]
        for door in doors:
            door.deafen()

    async def drain(self) -> None:
        """Drain downward: the doors finish what they took, then everything below them closes, the operators' last."""
        self.readiness.draining = True
        await asyncio.gather(*(door.drain(self.settings.drain_seconds) for door in self._doors))
        await self.intake.drain(ABANDONED_SECONDS)
        await self.close()

    async def close(self) -> None:
        """Close what `open` and `start` opened."""
        if self._operators is not None:
            await self._operators.drain(ABANDONED_SECONDS)
        await self._chores.stop()
        await self.readiness.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                await self.refusals.flush()
                await self._leave()
        if self._sns is not None:
            await self._sns.close()
        await self.mailroom.close()
        await self.resolver.close()
        await self._spam.close()
        await self.directory.stop()
        await self.database.close()
        await self.blobs.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self.telemetry.spans is not None:
            await self.telemetry.spans.close()

    async def _leave(self) -> None:
        """Whoever comes after us need not wait until we are forgotten. Nothing depends on it."""
        try:
            await self._tidying.leave()
        except Exception as error:
            if classify(error) is None:
                raise

    async def _clean(self) -> None:
        """Remove what is over its time, in small steps."""
        async with self.database.connection() as connection:
            await expire_claims(connection, now())
            await expire_events(connection, now())
            await expire_delivery_events(connection, now(), self.settings.store.claim_days)
            await expire_refusals(connection, now(), self.settings.store.refusal_days)


async def check_schema(settings: Settings) -> list[str]:
    """The migrations that the database lacks. Raises what the database raises when it is away."""
    database = Database(settings)
    connection = await database.connect()
    try:
        return await migrate.check(connection)
    finally:
        await connection.close()


async def check_hosts(settings: Settings) -> str | None:
    """Why this host must not serve this database, in a sentence. Raises what the database raises when it is away."""
    connection = await Database(settings).connect()
    try:
        return await conflict(connection, settings.blobs)
    finally:
        await connection.close()


async def apply_schema(settings: Settings) -> list[str]:
    """Apply what the database lacks and give the names."""
    database = Database(settings)
    connection = await database.connect()
    try:
        return await migrate.migrate(connection)
    finally:
        await connection.close()
