"""What became of mail that SES was given to send: kept beside the message of ours that it is about, of one tenant."""

from collections.abc import Callable
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog

from ingester.core.address import parse_path
from ingester.ledger import Ledger
from ingester.settings import Owner, Topic
from ingester.store.db import Connection
from ingester.store.delivery_events import NewEvent, Recorded, record
from ingester.transport.ses.notification import Told
from ingester.transport.ses.owners import PROVIDER, Owned, owned_by
from ingester.web.problem import UNAVAILABLE, Problem

NOBODY: Final = Problem(
    status=200, reason="missing_domain", message="The domain of the sender is not one that we receive mail for."
)

_log = structlog.get_logger(__name__)


class Feedback:
    """One per worker."""

    def __init__(self, *, ledger: Ledger, new_id: Callable[[], UUID], now: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._new_id = new_id
        self._now = now

    async def keep(self, told: Told, *, event_id: str, topic: Topic) -> Recorded | Problem:
        """Keep an event once. It is looked for among the messages of one tenant alone: that of the topic, else that
        of the domain which sent the mail.
        """

        async def work(connection: Connection) -> Recorded | Problem:
            owner = topic.owner or _sender(told)
            owned = None if owner is None else await owned_by(connection, owner)
            if owned is not None:
                return await record(connection, self._event(told, event_id, owned))
            if topic.owner is None:
                _log.info("ses.event_of_nobody", topic=topic.arn, kind=told.kind.value)
                return NOBODY
            # A fault of the settings, or a domain that is verified in a minute: nothing is lost meanwhile.
            _log.error("ses.owner_unknown", tenant=topic.owner.tenant, domain=topic.owner.domain)
            return UNAVAILABLE

        return await self._ledger.ask(work)

    def _event(self, told: Told, event_id: str, owned: Owned) -> NewEvent:
        now = self._now()
        return NewEvent(
            tenant_id=owned.tenant_id,
            id=self._new_id(),
            provider=PROVIDER,
            provider_message_id=told.provider_message_id,
            provider_event_id=event_id,
            kind=told.kind.value,
            status=told.status,
            recipients=told.recipients,
            detail=dict(told.detail),
            occurred_at=told.occurred_at or now,
            received_at=now,
        )


def _sender(told: Told) -> Owner | None:
    """The domain that the mail was sent from."""
    address = parse_path(told.sender or "")
    return Owner(domain=address.domain) if address is not None and address.domain else None
