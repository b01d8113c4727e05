"""POST /events/inbound/ses-s3 and POST /events/ses: SNS messages become mail, delivery events or an acknowledgement.

Who asks is proven by the signature of SNS and the list of topics; there is no token. Both paths take whatever SES
tells: one topic may carry it all. Nothing is looked up and nothing fetched for a message that is not proven.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

import structlog
from aiohttp import web

from ingester.core.outcome import Outcome, Reason
from ingester.settings import Settings
from ingester.store.delivery_events import Recorded
from ingester.transport.answers import told
from ingester.transport.limits import Flight
from ingester.transport.load import Load
from ingester.transport.reading import Limits, is_plain, read_body
from ingester.transport.ses.description import EVENTS, INBOUND, KIND_HEADER, SesAnswer, Word
from ingester.transport.ses.feedback import Feedback
from ingester.transport.ses.mailroom import Mailroom
from ingester.transport.ses.notification import SAID, Malformed, Other, Received, read_notification
from ingester.transport.ses.sns import MAX_BODY, Flaw, Kind, Message, Sns, Trusted, read_message
from ingester.web.body import unprocessable
from ingester.web.problem import (
    BAD_REQUEST,
    OVERSIZED,
    TIMED_OUT,
    TOO_SLOW,
    UNAVAILABLE,
    UNSUPPORTED,
    Problem,
    answer,
    refusal,
)

UNAUTHORIZED: Final = Problem(
    status=401,
    reason="unauthorized",
    message="This is no message that Amazon SNS has signed, of a topic that is heard here.",
    headers={"WWW-Authenticate": "SNS"},  # RFC 9110, 11.6.1: a 401 names a scheme
)
BUSY: Final = Problem(
    status=503, reason=Reason.OVERLOADED, message="We are busy, try again later.", headers=UNAVAILABLE.headers
)
_PROBLEMS: Final[Mapping[int, Problem]] = {400: BAD_REQUEST, 413: OVERSIZED, 503: UNAVAILABLE}

_log = structlog.get_logger(__name__)

Result = Outcome | SesAnswer | Problem


class SesDoor:
    """The two routes."""

    def __init__(
        self,
        *,
        settings: Settings,
        sns: Sns,
        mailroom: Mailroom,
        feedback: Feedback,
        flight: Flight,
        now: Callable[[], datetime],
    ) -> None:
        self._limits = Limits(bytes=MAX_BODY, seconds=settings.http.body_seconds)
        self._sns = sns
        self._mailroom = mailroom
        self._feedback = feedback
        self._flight = flight
        self._now = now

    def routes(self) -> list[web.RouteDef]:
        """What the listener is to serve."""
        return [web.post(path, self._post) for path in (INBOUND, EVENTS)]

    async def _post(self, request: web.Request) -> web.Response:
        load = Load(self._flight)
        try:
            body = await _body(request, self._limits, load)
            result = await self._result(body, request.headers.get(KIND_HEADER)) if isinstance(body, bytes) else body
        finally:
            load.close()
        if isinstance(result, Outcome):
            return told(result)
        if isinstance(result, Problem):
            return refusal(result)
        return answer(result, status=202 if result.status == "accepted" else 200)

    async def _result(self, body: bytes, kind: str | None) -> Result:
        message = read_message(body, kind)
        if isinstance(message, Flaw):
            return _refuse(message, None)
        trusted = await self._sns.verify(message, self._now())
        if isinstance(trusted, Flaw):
            return _refuse(trusted, message)
        if message.kind is Kind.NOTIFICATION:
            return await self._heed(trusted)
        flaw = await self._sns.attend(trusted)
        if flaw is not None:
            return _refuse(flaw, message)
        return _yes("subscribed" if message.kind is Kind.SUBSCRIPTION else "unsubscribed")

    async def _heed(self, trusted: Trusted) -> Result:
        """Do what a notification is for. Its id is the event's: SNS keeps it in its retries."""
        message, topic = trusted.message, trusted.topic
        notification = read_notification(message.text)
        match notification:
            case Received():
                return await self._mailroom.take(notification, event_id=message.id, topic=topic)
            case Malformed():
                _log.warning("ses.malformed", topic=topic.arn, field=notification.field)
                return unprocessable(notification.field, notification.sentence)
            case Other():
                # A word of a closed set: what is none of these is whatever somebody has published to the topic.
                what = notification.what if notification.what in SAID else "other"
                _log.info("ses.ignored", topic=topic.arn, what=what)
                return _yes("ignored")
            case _:
                kept = await self._feedback.keep(notification, event_id=message.id, topic=topic)
                return _recorded(kept) if isinstance(kept, Recorded) else kept


async def _body(request: web.Request, limits: Limits, load: Load) -> bytes | Problem:
    """The body, whatever type it says it has: SNS calls its JSON text/plain."""
    if not is_plain(request):
        return UNSUPPORTED
    body = await read_body(request, limits, load)
    if isinstance(body, Reason):
        return OVERSIZED if body is Reason.OVERSIZED else BUSY
    return TOO_SLOW if body is TIMED_OUT else body  # SNS gives up at 4xx


def _refuse(flaw: Flaw, message: Message | None) -> Problem:
    """All 401 are one answer; the log tells what it was, and the topic where it is one of ours, no stranger's words."""
    ours = message is not None and flaw is not Flaw.TOPIC
    _log.warning("sns.refused", flaw=flaw.value, topic=message.topic_arn if message is not None and ours else None)
    return _PROBLEMS.get(flaw.status, UNAUTHORIZED)


def _yes(status: Word) -> SesAnswer:
    return SesAnswer(ok=True, status=status)


def _recorded(kept: Recorded) -> SesAnswer:
    return SesAnswer(
        ok=True,
        status="duplicate" if kept.duplicate else "accepted",
        event_id=kept.event_id,
        message_id=kept.message_id,
    )
