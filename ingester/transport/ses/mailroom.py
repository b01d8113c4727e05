"""From what SES has put somewhere to an accepted mail: whose it may be, its bytes within bounds, the intake, and a row
for what was refused, so that nobody fetches it again.

The same for a mail that a notification names and for one that is found later.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import structlog

from ingester.core.envelope import Client, Door, Envelope, Recipient
from ingester.core.outcome import Outcome, Reason
from ingester.faults import Faults
from ingester.ledger import Ledger
from ingester.pipeline import BESIDE_THE_LOOP
from ingester.settings import S3, Owner, Settings, Topic
from ingester.store.db import Connection
from ingester.store.objects import ObjectMissing, Objects, ObjectsUnavailable, ObjectTooLarge, open_objects
from ingester.store.sources import note_refused, stored_from
from ingester.transport.intake import Intake
from ingester.transport.limits import Flight
from ingester.transport.load import Load
from ingester.transport.recipients import parse_recipient
from ingester.transport.ses.notification import InBucket, Received
from ingester.transport.ses.owners import PROVIDER, owned_by, scope_of, source_of
from ingester.transport.submission import Assertion, Scope, Submission
from ingester.web.problem import RETRY_SECONDS, UNAVAILABLE, Problem

FOREIGN: Final = Problem(
    status=401,
    reason="unauthorized",
    message="This topic may not speak of that bucket and prefix.",
    headers={"WWW-Authenticate": "SNS"},
)
ABSENT: Final = Problem(
    status=503,
    reason="object_missing",
    message="The object is not there, or not yet.",
    headers={"Retry-After": str(RETRY_SECONDS)},
)
_SAYS_NOTHING: Final = (Reason.ACCEPTED, Reason.DUPLICATE, Reason.STORE_UNAVAILABLE, Reason.OVERLOADED)
"""Of a mail that was not stored in a mailbox: a dead letter, or what is tried again as if for the first time."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a mail lies, and whose it may be."""

    bucket: str
    key: str
    tenant_id: UUID
    scope: Scope

    @property
    def source(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What is known of a mail beside its bytes. No `event_id`: the bytes name the event."""

    event_id: str | None = None
    mail_from: str | None = None
    recipients: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


Open = Callable[[str, S3], Objects]
Look = Callable[[bytes], Said]
"""What a mail's own bytes say, where nobody else says anything."""


class Mailroom:
    """One per worker."""

    def __init__(
        self,
        *,
        settings: Settings,
        intake: Intake,
        flight: Flight,
        ledger: Ledger,
        faults: Faults,
        new_id: Callable[[], UUID],
        now: Callable[[], datetime],
        opened: Open = open_objects,
    ) -> None:
        self._sources = settings.ses.buckets
        self._max_bytes = settings.ses.max_message_bytes
        self._s3 = settings.s3
        self._intake = intake
        self._flight = flight
        self._ledger = ledger
        self._faults = faults
        self._new_id = new_id
        self._now = now
        self._opened = opened
        self._buckets: dict[str, Objects] = {}

    async def close(self) -> None:
        """Give the connections up."""
        for objects in self._buckets.values():
            await objects.close()
        self._buckets.clear()

    def objects(self, bucket: str) -> Objects:
        """The objects of a bucket of ours. Raises MissingExtra and ObjectsUnavailable."""
        if bucket not in self._buckets:
            self._buckets[bucket] = self._opened(f"s3://{bucket}", self._s3)
        return self._buckets[bucket]

    async def take(self, received: Received, *, event_id: str, topic: Topic) -> Outcome | Problem:
        """Accept a mail that a topic of ours tells of."""
        said = Said(
            event_id=event_id,
            mail_from=received.sender,
            recipients=received.recipients,
            metadata={**received.evidence, "topic": topic.arn},
        )
        if isinstance(received.mail, bytes):
            scope = await self.scope([topic.owner])
            if isinstance(scope, Problem):
                return scope
            submission = _submission(received.mail, said, None)
            return await self._intake.take(submission, scope, door=Door.SES, max_bytes=self._max_bytes)
        place = await self._place(received.mail, topic)
        return place if isinstance(place, Problem) else await self.take_object(place, lambda _: said)

    async def _place(self, mail: InBucket, topic: Topic) -> Place | Problem:
        source = source_of(self._sources, mail.bucket, mail.key)
        if source is None:
            _log.warning("ses.bucket_unknown", topic=topic.arn, bucket=mail.bucket)
            return FOREIGN
        scope = await self.scope([source.owner, topic.owner])
        if isinstance(scope, Problem):
            return scope
        assert scope.tenant_id is not None  # the entry of the bucket has an owner
        return Place(bucket=mail.bucket, key=mail.key, tenant_id=scope.tenant_id, scope=scope)

    async def scope(self, owners: Sequence[Owner | None]) -> Scope | Problem:
        """What may be handed in under all of these owners of the settings together."""

        async def find(connection: Connection) -> Scope | Problem:
            owned = []
            for owner in filter(None, owners):
                found = await owned_by(connection, owner)
                if found is None:
                    # A fault of the settings, or a domain that is verified in a minute: nothing is lost meanwhile.
                    _log.error("ses.owner_unknown", tenant=owner.tenant, domain=owner.domain)
                    return UNAVAILABLE
                owned.append(found)
            return scope_of(owned) or FOREIGN

        return await self._ledger.ask(find)

    async def take_object(self, place: Place, look: Look) -> Outcome | Problem:
        """Accept a mail that lies in a bucket. `look` says the rest, of the bytes."""
        load = Load(self._flight)
        try:
            raw = await self._fetch(place, load)
            said = await _looked(look, raw if isinstance(raw, bytes) else b"")
        except BaseException:
            load.close()
            raise
        if isinstance(raw, bytes):
            return await self._hand_in(place, raw, said, load)
        load.close()
        if raw is ABSENT:
            return await self._before(place)
        if isinstance(raw, Problem):
            return raw
        outcome = Outcome(reason=raw, arrival_id=self._new_id())
        if raw is Reason.OVERSIZED:
            await self._note(place, said, outcome)
        return outcome

    async def _fetch(self, place: Place, load: Load) -> bytes | Reason | Problem:
        """The bytes, their size asked for first: what is too large is never read."""
        try:
            objects = self.objects(place.bucket)
            size = await objects.size(place.key)
            if size > self._max_bytes:
                return Reason.OVERSIZED
            if not load.hold(size):
                return Reason.OVERLOADED
            raw = await objects.get(place.key, max_bytes=size)
        except (ObjectMissing, ObjectTooLarge):
            return ABSENT
        except ObjectsUnavailable as error:
            _log.warning("ses.bucket_unavailable", bucket=place.bucket, reason=str(error))
            return UNAVAILABLE
        self._faults.hit("fetched")
        return raw

    async def _hand_in(self, place: Place, raw: bytes, said: Said, load: Load) -> Outcome:
        submission = _submission(raw, said, place.source)
        outcome = await self._intake.take(submission, place.scope, door=Door.SES, max_bytes=self._max_bytes, load=load)
        if not outcome.stored and outcome.reason not in _SAYS_NOTHING:
            await self._note(place, said, outcome)
        return outcome

    async def _before(self, place: Place) -> Outcome | Problem:
        """An object that is not there: an earlier try may have brought it, and somebody has tidied up."""
        stored = await self._ledger.ask(lambda connection: stored_from(connection, place.tenant_id, place.source))
        if isinstance(stored, Problem):
            return stored
        if stored:
            return Outcome(reason=Reason.DUPLICATE, arrival_id=self._new_id(), stored=stored)
        _log.warning("ses.object_missing", bucket=place.bucket)
        return ABSENT

    async def _note(self, place: Place, said: Said, outcome: Outcome) -> None:
        """Keep in a row that this object was refused. A store that is away: the next try finds the object, and why."""
        addresses = filter(None, map(parse_recipient, said.recipients))
        envelope = Envelope(
            door=Door.SES,
            raw=b"",
            mail_from=said.mail_from or "",
            recipients=tuple(Recipient(address=address) for address in addresses),
            client=Client(ip=""),
            arrival_id=outcome.arrival_id,
            received_at=self._now(),
            provider=PROVIDER,
            provider_event_id=said.event_id,
            metadata=said.metadata,
            source=place.source,
        )
        await self._ledger.ask(
            lambda connection: note_refused(connection, place.tenant_id, self._new_id(), envelope, outcome.reason, "")
        )


async def _looked(look: Look, raw: bytes) -> Said:
    """What is looked for in a large mail is looked for in a thread (law 9)."""
    return look(raw) if len(raw) <= BESIDE_THE_LOOP else await asyncio.to_thread(look, raw)


def _submission(raw: bytes, said: Said, source: str | None) -> Submission:
    """What is handed in. SES does not say which client brought the mail."""
    return Submission(
        raw=raw,
        provider=PROVIDER,
        event_id=said.event_id,
        recipients=said.recipients,
        asserted=Assertion(mail_from=said.mail_from),
        metadata=said.metadata,
        source=source,
    )
