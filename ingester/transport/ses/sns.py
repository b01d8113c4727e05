"""SNS messages: reading them, and whether one is really of a topic that we listen to. What it tells is for others.

A stranger can post anything here, so nothing is fetched, and no signature computed, for what is refused more cheaply:
shape, topic, URLs and time come first. What is wrong is a value; nothing raises. How the door answers each is said in
`Flaw`: 401 or 400 where no retry can help, and never 403; 503 where SNS shall come again.

SNS sends JSON as `text/plain; charset=UTF-8`: the content type says nothing.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec
import structlog

from ingester.auth.certificate import Digest
from ingester.settings import Topic
from ingester.transport.ses.certificate import Certificates
from ingester.transport.ses.urls import MAX_URL, confirms, names_certificate
from ingester.web.fetch import FetchFailed, FetchRefused, Get

MAX_BODY: Final = 1 << 20
"""SNS takes texts of 256 KiB; as JSON within JSON each quote and backslash of it needs another."""
MAX_AHEAD: Final = timedelta(minutes=15)
CONFIRM_SECONDS: Final = 5.0
_MAX_CONFIRMED: Final = 64 << 10

_ID: Final = re.compile(r"[0-9A-Za-z-]{1,100}")
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?Z")
_TOPIC: Final = re.compile(r"arn:[!-~]{1,400}")
_TOKEN: Final = re.compile(r"[0-9A-Za-z]{1,1000}")
# SNS allows no control character in a subject. It must not: a line end there could pass for that of another field.
_SUBJECT: Final = re.compile(r"[^\x00-\x1f\x7f]{0,1000}")
_DIGESTS: Final = {"1": Digest.SHA1, "2": Digest.SHA256}

_log = structlog.get_logger(__name__)


class Kind(StrEnum):
    """What a message is."""

    NOTIFICATION = "Notification"
    SUBSCRIPTION = "SubscriptionConfirmation"
    UNSUBSCRIPTION = "UnsubscribeConfirmation"


class Flaw(StrEnum):
    """Why a message is not believed, or not now. It is for the log: all 401 are one answer to the sender."""

    OVERSIZED = "oversized"
    MALFORMED = "malformed"
    TOPIC = "topic"
    SIGNATURE_VERSION = "signature_version"
    CERTIFICATE_URL = "certificate_url"
    SUBSCRIBE_URL = "subscribe_url"
    STALE = "stale"
    IN_FUTURE = "in_future"
    CERTIFICATE_EXPIRED = "certificate_expired"
    """Or not valid yet."""
    SIGNATURE = "signature"
    CERTIFICATE_UNAVAILABLE = "certificate_unavailable"
    """It could not be fetched now, or what came is no usable certificate."""
    NOT_CONFIRMED = "not_confirmed"
    """The message is true, but SNS could not be told so now."""

    @property
    def status(self) -> int:
        """The HTTP status of the answer."""
        return _STATUSES.get(self, 401)


_STATUSES: Final = {
    Flaw.OVERSIZED: 413,
    Flaw.MALFORMED: 400,
    Flaw.CERTIFICATE_UNAVAILABLE: 503,
    Flaw.NOT_CONFIRMED: 503,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An SNS message as it says, not yet believed. `id` stays the same in SNS's retries."""

    kind: Kind
    id: str
    topic_arn: str
    subject: str | None
    text: str
    time: str
    """As it stands, for the signature; `sent_at` is the same."""
    sent_at: datetime
    signature_version: str
    signature: str
    certificate_url: str
    token: str = ""
    subscribe_url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusted:
    """A message that SNS has signed, of a topic that we listen to. Made by `Sns.verify` alone."""

    message: Message
    topic: Topic


class _Wire(msgspec.Struct, rename="pascal"):
    """The JSON object. Fields that are not signed are not read."""

    type: str
    message_id: str
    topic_arn: str
    message: str
    timestamp: str
    signature_version: str
    signature: str
    signing_cert_url: str = msgspec.field(name="SigningCertURL")
    subject: str | None = None
    token: str = ""
    subscribe_url: str = msgspec.field(name="SubscribeURL", default="")


_WIRES: Final = msgspec.json.Decoder(_Wire)


class Sns:
    """Tells whose messages are true, and confirms subscriptions. `get` is a fetcher's."""

    def __init__(self, *, topics: Iterable[Topic], timestamp_seconds: float, get: Get) -> None:
        self._topics = {topic.arn: topic for topic in topics}
        self._max_age = timedelta(seconds=timestamp_seconds)
        self._get = get
        self._certificates = Certificates(get)

    async def verify(self, message: Message, now: datetime) -> Trusted | Flaw:
        """Whether the message is true. `now` is in UTC. A certificate may have to be fetched, within seconds."""
        topic = self._topics.get(message.topic_arn)
        if topic is None:
            return Flaw.TOPIC
        flaw = self._flaw(message, now)
        if flaw is not None:
            return flaw
        certificate = await self._certificates.find(message.certificate_url, now)
        if certificate is None:
            return Flaw.CERTIFICATE_UNAVAILABLE
        if not certificate.holds_at(now):
            return Flaw.CERTIFICATE_EXPIRED
        if not certificate.verifies(message.signature, signed_text(message), _DIGESTS[message.signature_version]):
            return Flaw.SIGNATURE
        return Trusted(message=message, topic=topic)

    async def attend(self, trusted: Trusted) -> Flaw | None:
        """Do what a message asks that is about the subscription itself; None when that is done."""
        match trusted.message.kind:
            case Kind.SUBSCRIPTION:
                return await self._confirm(trusted)
            case Kind.UNSUBSCRIPTION:  # whoever ended it meant to: its URL, which would subscribe again, is left alone
                _log.warning("sns.unsubscribed", topic=trusted.topic.arn)
        return None

    async def close(self) -> None:
        """End what is being fetched."""
        await self._certificates.close()

    async def _confirm(self, trusted: Trusted) -> Flaw | None:
        url = trusted.message.subscribe_url
        try:
            await self._get(url, max_bytes=_MAX_CONFIRMED, seconds=CONFIRM_SECONDS)
        except (FetchRefused, FetchFailed) as error:
            _log.warning("sns.not_confirmed", topic=trusted.topic.arn, reason=str(error))
            return Flaw.NOT_CONFIRMED
        _log.info("sns.confirmed", topic=trusted.topic.arn)
        return None

    def _flaw(self, message: Message, now: datetime) -> Flaw | None:
        """What is wrong that can be seen without asking anybody."""
        if message.signature_version not in _DIGESTS:
            return Flaw.SIGNATURE_VERSION
        if not names_certificate(message.certificate_url, message.topic_arn):
            return Flaw.CERTIFICATE_URL
        if message.kind is not Kind.NOTIFICATION and not confirms(
            message.subscribe_url, message.topic_arn, message.token
        ):
            return Flaw.SUBSCRIBE_URL
        if message.sent_at < now - self._max_age:
            return Flaw.STALE
        return Flaw.IN_FUTURE if message.sent_at > now + MAX_AHEAD else None


def read_message(body: bytes, kind_header: str | None) -> Message | Flaw:
    """The message in a request's body. `kind_header` is `x-amz-sns-message-type`, which must say the same kind."""
    if len(body) > MAX_BODY:
        return Flaw.OVERSIZED
    try:
        wire = _WIRES.decode(body)
        kind = Kind(wire.type)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return Flaw.MALFORMED
    sent_at = _moment(wire.timestamp)
    if sent_at is None or kind_header != kind or not _shapely(wire, kind):
        return Flaw.MALFORMED
    return Message(
        kind=kind,
        id=wire.message_id,
        topic_arn=wire.topic_arn,
        subject=wire.subject,
        text=wire.message,
        time=wire.timestamp,
        sent_at=sent_at,
        signature_version=wire.signature_version,
        signature=wire.signature,
        certificate_url=wire.signing_cert_url,
        token=wire.token,
        subscribe_url=wire.subscribe_url,
    )


def _shapely(wire: _Wire, kind: Kind) -> bool:
    """Whether all values but the text have a shape without line ends: what is signed can then be read in one way."""
    common = (
        _ID.fullmatch(wire.message_id)
        and _TOPIC.fullmatch(wire.topic_arn)
        and (wire.subject is None or _SUBJECT.fullmatch(wire.subject))
        and len(wire.signing_cert_url) <= MAX_URL
    )
    if kind is Kind.NOTIFICATION:
        return bool(common)
    return bool(common and _TOKEN.fullmatch(wire.token) and len(wire.subscribe_url) <= MAX_URL)


def signed_text(message: Message) -> bytes:
    """What SNS signs: names and values, a line each, in the order of the names (SNS developer guide, verifying the
    signatures of messages). A subject that is absent has no line; a confirmation has none at all.
    """
    if message.kind is Kind.NOTIFICATION:
        subject = [] if message.subject is None else [("Subject", message.subject)]
        fields = [("Message", message.text), ("MessageId", message.id), *subject, ("Timestamp", message.time)]
    else:
        fields = [("Message", message.text), ("MessageId", message.id), ("SubscribeURL", message.subscribe_url)]
        fields += [("Timestamp", message.time), ("Token", message.token)]
    fields += [("TopicArn", message.topic_arn), ("Type", message.kind)]
    return "".join(f"{name}\n{value}\n" for name, value in fields).encode()


def _moment(text: str) -> datetime | None:
    """A time in UTC; None when it is none."""
    if _TIME.fullmatch(text) is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
