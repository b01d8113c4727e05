"""From what a provider hands in to an accepted mail: its content, its recipients, its envelope, and the acceptance.

The same for HTTP, for SES and for what is fetched later. Who hands in is known by its scope; what it may not say does
not count, and whose mail it may not bring is nobody's.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from ipaddress import ip_address
from typing import Final, TypeVar

import structlog

from ingester.arrival import ending_of
from ingester.core.address import Address
from ingester.core.envelope import Client, Door, Envelope, Recipient, Route
from ingester.core.ids import SYSTEM_TENANT
from ingester.core.mime import Bounds
from ingester.core.outcome import Outcome, Reason, Refusal
from ingester.pipeline import BESIDE_THE_LOOP, Pipeline
from ingester.settings import Settings
from ingester.transport.content import as_content
from ingester.transport.limits import Flight
from ingester.transport.load import Load
from ingester.transport.recipients import in_headers, parse_recipient, parse_sender
from ingester.transport.submission import Assertion, Scope, Submission

NOT_ASSERTED: Final = "envelope_not_asserted"
"""The flag of a mail whose envelope was told by somebody whose word on it does not count."""
MAX_FOREIGN_DOMAINS: Final = 100
"""Domains of a header that the directory is asked about in vain."""
_OUTSIDE: Final = Refusal(reason=Reason.UNKNOWN_DOMAIN)
_MAX_IP: Final = 64
"""Characters: the longest address has 45, and blanks around it are forgiven."""

Work = TypeVar("Work")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    """A mail as it is kept. `event_id` is the provider's, else the hash of the bytes, which is then in `raw_sha256`."""

    raw: bytes
    raw_sha256: bytes | None
    flags: tuple[str, ...]
    event_id: str
    suggested: tuple[tuple[Address, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chosen:
    """Whom the mail is for, and who was named in vain."""

    recipients: tuple[Recipient, ...]
    dropped: tuple[tuple[str, Refusal], ...] = ()


class Intake:
    """What the doors of one worker share. `take` always answers and never raises."""

    def __init__(
        self, *, settings: Settings, bounds: Bounds, pipeline: Pipeline, flight: Flight, threads: Executor
    ) -> None:
        self._max_bytes = settings.max_message_bytes
        self._max_line = settings.mime.max_line_bytes
        self._max_recipients = settings.smtp.max_recipients
        self._bounds = bounds
        self._pipeline = pipeline
        self._flight = flight
        self._threads = threads
        self._accepting: set[asyncio.Task[Outcome]] = set()

    async def take(
        self,
        submission: Submission,
        scope: Scope,
        *,
        door: Door,
        max_bytes: int | None = None,
        load: Load | None = None,
    ) -> Outcome:
        """Accept a mail in a task that no connection owns (design page, law 6). `load` is what the mail holds of the
        bytes in flight already; it is closed here.
        """
        load = load or Load(self._flight)
        visit = _Visit(self._pipeline, submission, scope, door)
        task = asyncio.create_task(self._accept(visit, load, max_bytes or self._max_bytes))
        self._accepting.add(task)

        def ended(task: asyncio.Task[Outcome]) -> None:
            self._accepting.discard(task)
            load.close()

        task.add_done_callback(ended)
        # Who is cancelled here does not cancel the commit.
        return await asyncio.shield(task)

    def refuse(self, reason: Reason, *, door: Door, recipients: tuple[str, ...] = ()) -> Outcome:
        """Refuse a mail before its bytes are there, and note it."""
        arrival_id, _ = self._pipeline.new_arrival()
        client = Client(ip="")
        self._pipeline.note_refusal(reason=reason, client=client, door=door, mail_from="", recipients=recipients)
        return Outcome(reason=reason, arrival_id=arrival_id)

    async def drain(self, seconds: float) -> None:
        """Wait for what is being accepted, within the bound."""
        if self._accepting:
            await asyncio.wait(list(self._accepting), timeout=seconds)
        if self._accepting:
            _log.warning("intake.drain_cut", accepting=len(self._accepting))

    async def _accept(self, visit: "_Visit", load: Load, max_bytes: int) -> Outcome:
        try:
            return await self._proceed(visit, load, max_bytes)
        except Exception as error:  # noqa: BLE001  (whatever it was, the sender is told to come again)
            _log.error("intake.failed", arrival_id=str(visit.arrival_id), exc_info=error)
            return Outcome(reason=Reason.STORE_UNAVAILABLE, arrival_id=visit.arrival_id)

    async def _proceed(self, visit: "_Visit", load: Load, max_bytes: int) -> Outcome:
        submission = visit.submission
        if len(submission.raw) > max_bytes:
            return visit.refuse(Reason.OVERSIZED)
        if not load.hold(len(submission.raw)):
            return visit.refuse(Reason.OVERLOADED)
        load.settle()
        if len(visit.named) > self._max_recipients:
            return visit.refuse(Reason.TOO_MANY_RECIPIENTS)
        content = await self._beside(submission.raw, lambda: self._content(visit))
        if len(content.raw) > max_bytes:
            return visit.refuse(Reason.OVERSIZED)
        chosen = await visit.choose(content.suggested)
        if isinstance(chosen, Refusal):
            return visit.refuse(chosen.reason)
        for text, refusal in chosen.dropped:
            visit.note(refusal.reason, (text,))
        if not chosen.recipients:
            if not chosen.dropped:
                visit.note(Reason.UNKNOWN_DOMAIN)
            return visit.end(Reason.UNKNOWN_DOMAIN, refused=chosen.dropped)
        outcome = await self._pipeline.accept(visit.envelope(content, chosen.recipients))
        return replace(outcome, refused=(*outcome.refused, *chosen.dropped)) if chosen.dropped else outcome

    def _content(self, visit: "_Visit") -> _Content:
        """What the bytes alone tell; the header only where nobody has named a recipient."""
        raw, flags = as_content(visit.submission.raw, max_line=self._max_line)
        event_id, raw_sha256 = visit.submission.event_id, None
        if not event_id:
            raw_sha256 = sha256(raw).digest()
            event_id = raw_sha256.hex()
        return _Content(
            raw=raw,
            raw_sha256=raw_sha256,
            flags=flags,
            event_id=event_id,
            suggested=() if visit.named else in_headers(raw, self._bounds),
        )

    async def _beside(self, raw: bytes, work: Callable[[], Work]) -> Work:
        """Small mails here, others in a thread, so that the loop is not held (law 9)."""
        if len(raw) <= BESIDE_THE_LOOP:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


class _Visit:
    """One mail on its way in: who brings it, through which door, and what is said of it."""

    def __init__(self, pipeline: Pipeline, submission: Submission, scope: Scope, door: Door) -> None:
        self._pipeline = pipeline
        self.submission = submission
        self._scope = scope
        self._door = door
        self.arrival_id, self._at = pipeline.new_arrival()
        told = submission.asserted
        self._asserted = told if scope.may_assert_envelope else Assertion()
        self._unheard = self._asserted != told
        self._client = _client(self._asserted)
        self._mail_from = parse_sender(self._asserted.mail_from or "") or ""
        self.named = submission.recipients or self._asserted.recipients

    def envelope(self, content: _Content, recipients: tuple[Recipient, ...]) -> Envelope:
        """What the pipeline is given."""
        submission = self.submission
        return Envelope(
            door=self._door,
            raw=content.raw,
            raw_sha256=content.raw_sha256,
            mail_from=self._mail_from,
            recipients=recipients,
            client=self._client,
            arrival_id=self.arrival_id,
            received_at=self._at,
            flags=tuple(sorted((*content.flags, NOT_ASSERTED))) if self._unheard else content.flags,
            provider=submission.provider,
            provider_event_id=content.event_id,
            metadata=submission.metadata,
            source=submission.source,
        )

    async def choose(self, suggested: Sequence[Sequence[Address]]) -> _Chosen | Refusal:
        """Whom the mail is for: those who are named, else the best that the header suggests and that the directory
        knows. A refusal when the directory cannot be asked.
        """
        if self.named:
            return await self._choose_named()
        foreign: set[str] = set()
        for group in suggested:
            found = []
            for address in group:
                if address.domain in foreign or len(foreign) >= MAX_FOREIGN_DOMAINS:
                    continue
                answer = await self._find(address)
                if isinstance(answer, Recipient):
                    found.append(answer)
                elif answer.reason is Reason.STORE_UNAVAILABLE:
                    return answer
                else:
                    foreign.add(address.domain)
            if found:
                return _Chosen(recipients=tuple(found))
        return _Chosen(recipients=())

    async def _choose_named(self) -> _Chosen | Refusal:
        found: dict[Address, Recipient] = {}
        dropped: list[tuple[str, Refusal]] = []
        for text in self.named:
            address = parse_recipient(text)
            answer = Refusal(reason=Reason.UNKNOWN_MAILBOX) if address is None else await self._find(address)
            if isinstance(answer, Recipient):
                found[answer.address] = answer
            elif answer.reason is Reason.STORE_UNAVAILABLE:
                return answer
            else:
                dropped.append((text, answer))
        return _Chosen(recipients=tuple(found.values()), dropped=tuple(dropped))

    async def _find(self, address: Address) -> Recipient | Refusal:
        """The recipient, or a refusal where it is outside of the scope: as if the domain were not ours."""
        domains, owner = self._scope.domains, self._scope.tenant_id
        if domains is not None and address.domain not in domains:
            return _OUTSIDE
        tenant_id, answer = await self._pipeline.route(address)
        if isinstance(answer, Refusal) and answer.reason in (Reason.STORE_UNAVAILABLE, Reason.UNKNOWN_DOMAIN):
            return answer
        if owner is not None and owner != tenant_id:
            return _OUTSIDE
        # Another refusal is the pipeline's to make: it is then told and noted with the mail.
        return Recipient(address=address, route=answer if isinstance(answer, Route) else None)

    def refuse(self, reason: Reason) -> Outcome:
        """Note that the whole mail is refused, and say so."""
        self.note(reason, self.named)
        return self.end(reason)

    def end(self, reason: Reason, *, refused: tuple[tuple[str, Refusal], ...] = ()) -> Outcome:
        """The outcome of a mail that the pipeline has not seen, and its line in the log."""
        outcome = Outcome(reason=reason, arrival_id=self.arrival_id, refused=refused)
        _log.info(
            "mail",
            arrival_id=str(self.arrival_id),
            door=self._door.value,
            outcome=ending_of(outcome).value,
            reason=reason.value,
            bytes=len(self.submission.raw),
            recipients=len(self.named),
            stored=0,
            matched=0,
        )
        return outcome

    def note(self, reason: Reason, recipients: tuple[str, ...] = ()) -> None:
        """Count a refusal: where a token stands for one tenant, its people can see it."""
        self._pipeline.note_refusal(
            reason=reason,
            client=self._client,
            door=self._door,
            mail_from=self._mail_from,
            recipients=recipients,
            tenant_id=self._scope.tenant_id or SYSTEM_TENANT,
        )


def _client(asserted: Assertion) -> Client:
    """Who sent the mail, as far as somebody says so whose word counts."""
    return Client(ip=plain_ip(asserted.client_ip or "") or "", helo=asserted.helo or None)


def plain_ip(text: str) -> str | None:
    """An IP address in its one spelling, without a zone; None for what is none."""
    return _plain_ip(text) if len(text) <= _MAX_IP else None


@lru_cache(maxsize=1024)  # each is asked for twice, and a few servers send most mail
def _plain_ip(text: str) -> str | None:
    try:
        return None if "%" in text else str(ip_address(text.strip()))
    except ValueError:
        return None
