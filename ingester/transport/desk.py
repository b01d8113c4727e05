"""What all dialogs of one door share: the settings, the pipeline, the limits, the mails being accepted. No sockets."""

import asyncio
import socket
from collections.abc import Callable
from datetime import datetime
from typing import Protocol
from uuid import UUID

import structlog

from ingester.core.address import Address
from ingester.core.envelope import Client, Door, Envelope, Route
from ingester.core.ids import SYSTEM_TENANT
from ingester.core.outcome import CODES, Outcome, Reason, Refusal
from ingester.settings import Settings
from ingester.telemetry import Telemetry
from ingester.transport.limits import Connections, Flight, Harvest, Ticket
from ingester.transport.proxy import Networks
from ingester.transport.tls import Certificate


class Acceptance(Protocol):
    """What a door asks of the pipeline. None of it raises in normal operation."""

    async def recipient(self, address: Address, client: Client, *, door: Door, mail_from: str) -> Route | Refusal:
        """Where a recipient's mail goes, asked of the directory and, before a no, of the database."""

    def known(self, address: Address) -> Route | None:
        """The cached route, without asking anything."""

    async def accept(self, envelope: Envelope) -> Outcome:
        """Commit the mail. May take as long as a commit may."""

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
        """Count a refusal that the door made by itself. In memory, bounded."""

    def new_arrival(self) -> tuple[UUID, datetime]:
        """A fresh arrival id and the time of arrival."""


class Desk:
    """The shared part of one worker's door."""

    def __init__(
        self,
        *,
        door: Door,
        settings: Settings,
        pipeline: Acceptance,
        flight: Flight,
        telemetry: Telemetry,
        clock: Callable[[], float],
    ) -> None:
        """`flight` is the worker's, for all its doors; `clock` is monotonic seconds.

        Raises CertificateError on a certificate that cannot be used.
        """
        smtp = settings.smtp
        self.door = door
        self.settings = settings
        self.pipeline = pipeline
        self.hostname = smtp.hostname or socket.gethostname() or "localhost"
        self.clock = clock
        self.telemetry = telemetry
        self.log = structlog.get_logger()
        self.connections = Connections(total=smtp.max_connections, per_prefix=smtp.max_connections_per_prefix)
        self.flight = flight
        self.harvest = Harvest(per_hour=smtp.unknown_recipients_per_hour, clock=clock)
        self.proxies = Networks(smtp.proxy_networks if door is Door.SMTP else ())
        self.relays = Networks(settings.lmtp.trusted_networks if door is Door.LMTP else ())
        self.trusts_local = door is Door.LMTP
        """Who may open our unix socket is trusted as a relay of ours is."""
        self.certificate: Certificate | None = None
        if smtp.tls_cert is not None and smtp.tls_key is not None:
            self.certificate = Certificate(cert=smtp.tls_cert, key=smtp.tls_key, clock=clock)
        self.draining = False
        self.accepting: set[asyncio.Task[None]] = set()

    def accept(self, envelope: Envelope, ticket: Ticket) -> "asyncio.Future[Outcome]":
        """Accept a mail in a task that no connection owns (design page, law 6): who cancels what is given here stops
        to wait for the commit and does not cancel it.
        """
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Outcome] = loop.create_future()
        self.accepting.add(loop.create_task(self._accept(envelope, ticket, outcome)))
        return outcome

    async def _accept(self, envelope: Envelope, ticket: Ticket, outcome: "asyncio.Future[Outcome]") -> None:
        """Sees to the end itself: as a callback it would be one turn of the loop more from the commit to the answer."""
        try:
            result = await self.pipeline.accept(envelope)
        except Exception as error:  # whatever it was, the sender is told to come again
            self.log.error("accept.failed", arrival_id=str(envelope.arrival_id), exc_info=error)
            result = Outcome(reason=Reason.STORE_UNAVAILABLE, arrival_id=envelope.arrival_id)
        except BaseException:
            outcome.cancel()
            raise
        finally:
            ticket.close()
            if (task := asyncio.current_task()) is not None:
                self.accepting.discard(task)
        if not outcome.done():
            outcome.set_result(result)

    def refuse(self, reason: Reason, client: Client, *, mail_from: str = "", recipients: tuple[str, ...] = ()) -> str:
        """Count a refusal and give its reply."""
        self.pipeline.note_refusal(
            reason=reason, client=client, door=self.door, mail_from=mail_from, recipients=recipients
        )
        return CODES[reason].line
