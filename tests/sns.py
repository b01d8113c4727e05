"""An SNS of our own: it signs messages as Amazon's does, serves its certificate and takes confirmations, all through a
`get` like the fetcher's. The text to sign is written down here a second time, apart from the code that checks it.
"""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.x509.oid import NameOID

from ingester.web.fetch import FetchFailed, FetchTooLarge

TOPIC: Final = "arn:aws:sns:eu-west-1:123456789012:inbound"
_DAY: Final = timedelta(days=1)
_NOTIFICATION: Final = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_CONFIRMATION: Final = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
_SHA256: Final = hashes.SHA256()
_HASHES: Final = {"1": hashes.SHA1(), "2": _SHA256}

Envelope = dict[str, Any]


@cache
def rsa_key(bits: int = 2048, number: int = 0) -> rsa.RSAPrivateKey:
    """A key. Making one takes a while, so tests share them by number."""
    del number
    return rsa.generate_private_key(65537, bits)


def pem_of(key: Any, *, begins: datetime, ends: datetime, algorithm: hashes.SHA256 | None = _SHA256) -> bytes:
    """A certificate for a key, signed by itself, as a PEM file. Some keys want no algorithm."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(begins).not_valid_after(ends)
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM)


class FakeSns:
    """One topic. `get` goes where the fetcher's would; `fetched` and `confirmed` are the URLs that were asked for."""

    def __init__(self, topic_arn: str = TOPIC, *, key: rsa.RSAPrivateKey | None = None) -> None:
        self.topic_arn = topic_arn
        self.key = key or rsa_key()
        self.host = f"sns.{topic_arn.split(':')[3]}.amazonaws.com" + (".cn" if ":aws-cn:" in topic_arn else "")
        self.certificate_url = f"https://{self.host}/SimpleNotificationService-{uuid4().hex}.pem"
        now = datetime.now(UTC)
        self.certificate = pem_of(self.key, begins=now - _DAY, ends=now + 30 * _DAY)
        self.down = False
        """Whether nothing can be had from it."""
        self.fetched: list[str] = []
        self.confirmed: list[str] = []

    def notification(
        self,
        message: str | Mapping[str, Any],
        *,
        subject: str | None = "Amazon SES Email Receipt Notification",
        message_id: str | None = None,
        at: datetime | None = None,
        version: str = "2",
        **changed: Any,
    ) -> Envelope:
        """A signed notification; a message that is no text becomes JSON. What is `changed` is so when it is signed."""
        text = message if isinstance(message, str) else json.dumps(message)
        envelope = self._begun("Notification", text, message_id, at)
        if subject is not None:
            envelope["Subject"] = subject
        envelope["UnsubscribeURL"] = (
            f"https://{self.host}/?Action=Unsubscribe&SubscriptionArn={self.topic_arn}:{uuid4()}"
        )
        return self.signed(envelope | changed, version=version)

    def subscription(self, *, at: datetime | None = None, version: str = "2", **changed: Any) -> Envelope:
        """A signed request to confirm a subscription."""
        return self._confirmation("SubscriptionConfirmation", at, version, changed)

    def unsubscription(self, *, at: datetime | None = None, version: str = "2", **changed: Any) -> Envelope:
        """A signed word that a subscription has ended."""
        return self._confirmation("UnsubscribeConfirmation", at, version, changed)

    def signed(self, envelope: Envelope, *, version: str = "2") -> Envelope:
        """The envelope with a signature in the place of the one that it has."""
        names = _NOTIFICATION if envelope["Type"] == "Notification" else _CONFIRMATION
        text = "".join(f"{name}\n{envelope[name]}\n" for name in names if name in envelope)
        signature = self.key.sign(text.encode(), PKCS1v15(), _HASHES[version])
        made = {"SignatureVersion": version, "Signature": base64.b64encode(signature).decode()}
        return {"SigningCertURL": self.certificate_url} | envelope | made

    async def get(self, url: str, *, max_bytes: int, seconds: float) -> bytes:
        """What the fetcher would bring from Amazon."""
        del seconds
        self.fetched.append(url)
        if self.down:
            raise FetchFailed("the exchange failed: ConnectionRefusedError")
        if url == self.certificate_url:
            if len(self.certificate) > max_bytes:
                raise FetchTooLarge("it is too large")
            return self.certificate
        if url.startswith(f"https://{self.host}/?Action=ConfirmSubscription&"):
            self.confirmed.append(url)
            return b"<ConfirmSubscriptionResponse/>"
        raise FetchFailed("the answer is 404")

    def _confirmation(self, kind: str, at: datetime | None, version: str, changed: Envelope) -> Envelope:
        envelope = self._begun(kind, f"Something happened to {self.topic_arn}.\nVisit the SubscribeURL.", None, at)
        token = uuid4().hex * 4
        query = f"Action=ConfirmSubscription&TopicArn={self.topic_arn}&Token={token}"
        envelope |= {"Token": token, "SubscribeURL": f"https://{self.host}/?{query}"}
        return self.signed(envelope | changed, version=version)

    def _begun(self, kind: str, text: str, message_id: str | None, at: datetime | None) -> Envelope:
        moment = (at or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="milliseconds")
        return {
            "Type": kind,
            "MessageId": message_id or str(uuid4()),
            "TopicArn": self.topic_arn,
            "Message": text,
            "Timestamp": moment.replace("+00:00", "Z"),
        }


def body_of(envelope: Envelope) -> bytes:
    """The body of the request, as Amazon writes it."""
    return json.dumps(envelope, indent=2, ensure_ascii=False).encode()


def headers_of(envelope: Envelope) -> dict[str, str]:
    """Its headers."""
    return {
        "Content-Type": "text/plain; charset=UTF-8",
        "User-Agent": "Amazon Simple Notification Service Agent",
        "x-amz-sns-message-type": envelope["Type"],
        "x-amz-sns-message-id": envelope["MessageId"],
        "x-amz-sns-topic-arn": envelope["TopicArn"],
    }
