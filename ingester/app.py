"""The composition root: builds every room once, starts upward, drains downward. Nothing else knows all of them."""

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from ipaddress import ip_network
from uuid import UUID

import structlog

from ingester.api.call import Calls
from ingester.api.description import operations as api_operations
from ingester.api.outbound import OutboundDoor
from ingester.auth.check import Authenticator, Rules
from ingester.auth.dns import Resolver
from ingester.auth.hosts import addresses_of
from ingester.core.ids import uuid7
from ingester.core.mime import Bounds
from ingester.faults import Faults
from ingester.ledger import Ledger
from ingester.pipeline import Arrival, Pipeline, Sources
from ingester.settings import Settings
from ingester.spam import SpamGate
from ingester.store import migrate
from ingester.store.blobs import Blobs
from ingester.store.db import Database
from ingester.store.directory import Directory
from ingester.store.housekeeping import expire_claims, expire_delivery_events, expire_events, expire_refusals
from ingester.store.raws import Raws
from ingester.store.refusals import Refusals
from ingester.telemetry import Telemetry
from ingester.telemetry.metrics import Metrics
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
from ingester.web import openapi
from ingester.web.fetch import Fetcher, Get
from ingester.web.server import HttpDoor

FLUSH_SECONDS = 2.0
HOUSEKEEPING_SECONDS = 600.0
TIDYING_SECONDS = 60.0
ABANDONED_SECONDS = 1.0
"""How much longer the drain waits for mails whose callers it had to cut."""

_log = structlog.get_logger(__name__)


def now() -> datetime:
    """The wall clock, in UTC."""
    return datetime.now(UTC)


def new_id() -> UUID:
    """A fresh UUIDv7."""
    return uuid7(unix_ms=time.time_ns() // 1_000_000, entropy=os.urandom(10))


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
        self.database = Database(settings)
        self.directory = Directory(self.database, settings.token_secrets)
        self.refusals = Refusals(self.database, new_id)
        self.blobs = Blobs(settings)
        self.raws = Raws(self.blobs)
        self._tidying = Tidying(settings=settings, database=self.database, blobs=self.blobs, now=now)
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="scan")
        self.resolver = resolver(settings)
        self._spam = SpamGate(settings.spam)
        self.pipeline = Pipeline(
            settings=settings,
            bounds=bounds(settings),
            database=self.database,
            directory=self.directory,
            refusals=self.refusals,
            faults=Faults.parse(settings.test.faults),
            sources=Sources(now=now, new_id=new_id),
            threads=self._threads,
            spam=self._spam,
            blobs=self.blobs,
            authenticator=Authenticator(self.resolver, rules(settings), threads=self._threads),
            telemetry=self.telemetry,
            watch=watch,
        )
        self._chores: list[asyncio.Task[None]] = []
        self._flight = Flight(limit=settings.max_bytes_in_flight)
        self._doors: list[MailDoor | HttpDoor] = []
        self._get = get or Fetcher(lambda host: addresses_of(self.resolver.lookup(), host)).get
        self._sns: Sns | None = None
        self.intake = Intake(
            settings=settings,
            bounds=bounds(settings),
            pipeline=self.pipeline,
            flight=self._flight,
            threads=self._threads,
        )
        self._ledger = Ledger(settings=settings, database=self.database)
        self.mailroom = Mailroom(
            settings=settings,
            intake=self.intake,
            flight=self._flight,
            ledger=self._ledger,
            faults=Faults.parse(settings.test.faults),
            new_id=new_id,
            now=now,
        )
        self.reconciler = Reconciler(
            settings=settings,
            bounds=bounds(settings),
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
    ) -> None:
        """Start upward: store, directory, chores, then the doors, of HTTP and LMTP only where they have a socket."""
        await self.open()
        chores = (
            (FLUSH_SECONDS, self.refusals.flush),
            (HOUSEKEEPING_SECONDS, self._clean),
            (TIDYING_SECONDS, self._tidying.tidy),
            *self._searches(),
        )
        for seconds, chore in chores:
            self._chores.append(asyncio.create_task(_forever(chore, seconds), name=chore.__name__))
        await self._serve_mail(SmtpDoor, smtp)
        if lmtp:
            await self._serve_mail(LmtpDoor, lmtp)
        if http:
            await self._serve_http(http)

    def _searches(self) -> list[tuple[float, Callable[[], Awaitable[None]]]]:
        """The search of the buckets, where it is wanted."""
        ses = self.settings.ses
        return [(ses.reconcile_seconds, self.reconciler.reconcile)] if ses.buckets and ses.reconcile_seconds else []

    async def _serve_mail(self, kind: type[MailDoor], sockets: Sequence[socket.socket]) -> None:
        door = kind(settings=self.settings, pipeline=self.pipeline, flight=self._flight)
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
        )
        described = (*api_operations(), *inbound_operations(), *ses_operations())
        routes = (*outbound.routes(), *inbound.routes(), *self._ses_door().routes(), openapi.route(described))
        door = HttpDoor(settings=self.settings, routes=routes)
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

    async def drain(self) -> None:
        """Drain downward: the doors finish what they took, then everything below them closes."""
        await asyncio.gather(*(door.drain(self.settings.drain_seconds) for door in self._doors))
        await self.intake.drain(ABANDONED_SECONDS)
        await self.close()

    async def close(self) -> None:
        """Close what `open` and `start` opened."""
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                await self.refusals.flush()
        if self._sns is not None:
            await self._sns.close()
        await self.mailroom.close()
        await self.resolver.close()
        await self._spam.close()
        await self.directory.stop()
        await self.database.close()
        await self.blobs.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _clean(self) -> None:
        """Remove what is over its time, in small steps."""
        async with self.database.connection() as connection:
            await expire_claims(connection, now())
            await expire_events(connection, now())
            await expire_delivery_events(connection, now(), self.settings.store.claim_days)
            await expire_refusals(connection, now(), self.settings.store.refusal_days)


def bounds(settings: Settings) -> Bounds:
    """The bounds of the MIME walk that the settings describe."""
    mime = settings.mime
    return Bounds(
        max_line_bytes=mime.max_line_bytes,
        max_header_bytes=mime.max_header_bytes,
        max_header_fields=mime.max_header_fields,
        max_parts=mime.max_parts,
        max_depth=mime.max_depth,
        max_address_tokens=mime.max_address_tokens,
    )


def resolver(settings: Settings) -> Resolver:
    """The resolver that the settings describe. Raises NoNameserver where none is known."""
    dns = settings.dns
    return Resolver(
        [(one.host, one.port) for one in dns.nameservers],
        try_seconds=dns.try_seconds,
        mail_queries=dns.mail_queries,
        mail_seconds=dns.mail_seconds,
        in_flight=dns.in_flight,
        cache_entries=dns.cache_entries,
    )


def rules(settings: Settings) -> Rules:
    """The rules of the checks that the settings describe."""
    auth = settings.auth
    return Rules(
        authserv_id=auth.authserv_id or settings.smtp.hostname or socket.gethostname(),
        relays=tuple(ip_network(network) for network in auth.relays),
        block_zones=auth.block_zones,
        allow_zones=auth.allow_zones,
        reverse_dns=auth.reverse_dns,
        max_signatures=auth.max_signatures,
        max_arc_sets=auth.max_arc_sets,
    )


async def _forever(chore: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Do a chore every so often. One that fails is told and done again next time."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await chore()
        except Exception as error:  # noqa: BLE001  (a chore must not end with its first bad day)
            _log.warning("chore failed", chore=getattr(chore, "__name__", ""), error=type(error).__name__)


async def check_schema(settings: Settings) -> list[str]:
    """The migrations that the database lacks. Raises what the database raises when it is away."""
    database = Database(settings)
    connection = await database.connect()
    try:
        return await migrate.check(connection)
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
