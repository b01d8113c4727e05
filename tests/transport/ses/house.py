"""A daemon in this process with an SNS of our own and a real S3 server behind it, and what SES would say of a mail."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import msgspec
from pydantic import SecretStr

from ingester.app import App
from ingester.clock import new_id, now
from ingester.settings import Listen, Settings, load
from ingester.store.outbound import NewOutbound, Registered, register
from ingester.transport.sockets import bind
from tests.daemon import Town, settle
from tests.quiet_dns import nameservers
from tests.sns import FakeSns, body_of, headers_of
from tests.swift import Swift

INBOUND, EVENTS = "/events/inbound/ses-s3", "/events/ses"
SECRETS = (b"a secret of at least 32 characters!!",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back."""

    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def no(self) -> tuple[int, str]:
        """Status and reason of a no, whose shape is asserted."""
        assert self.body["ok"] is False
        assert self.body["status"] in ("refused", "deferred")
        assert self.body["message"].endswith(".")
        return self.status, self.body["reason"]


@dataclass(slots=True, kw_only=True)
class House:
    """A door that serves, and a client of it."""

    app: App
    sns: FakeSns
    session: aiohttp.ClientSession
    town: Town
    port: int
    smtp: int
    lmtp: int
    swift: Swift | None
    bucket: str

    async def post(self, envelope: dict[str, Any], path: str = INBOUND, **headers: str) -> Reply:
        """Bring an SNS message as SNS does."""
        return await self.bring(body_of(envelope), path, {**headers_of(envelope), **headers})

    async def bring(self, body: bytes, path: str = INBOUND, headers: Mapping[str, str] | None = None) -> Reply:
        """Bring these bytes."""
        url = f"http://127.0.0.1:{self.port}{path}"
        async with self.session.post(url, data=BytesIO(body), headers=headers) as response:
            assert response.content_type == "application/json"
            return Reply(
                status=response.status, body=msgspec.json.decode(await response.read()), headers=response.headers
            )

    async def tell(self, message: Mapping[str, Any] | str, path: str = INBOUND, **how: Any) -> Reply:
        """Bring a notification that is signed well."""
        return await self.post(self.sns.notification(message, **how), path)

    def put(self, raw: bytes, *, prefix: str = "acme/", key: str | None = None) -> str:
        """Put a mail into the bucket, as SES does; gives its key."""
        assert self.swift is not None
        key = prefix + (key or uuid4().hex)
        self.swift.write(self.bucket, key, raw)
        return key

    def received(self, key: str, *recipients: str, **more: Any) -> dict[str, Any]:
        """SES's notification of a mail in our bucket."""
        return received(*recipients, action=in_s3(self.bucket, key), **more)

    async def count(self, table: str) -> int:
        found = await self.town.fetch(f"SELECT count(*) AS n FROM {table}")
        return int(found[0]["n"])

    async def register(self, mailbox: str = "support@acme.test", tenant: str = "acme", **more: Any) -> Registered:
        """A message of ours."""
        async with self.app.database.connection() as connection:
            row = await connection.fetchrow(
                "SELECT m.tenant_id, m.id FROM mailboxes m JOIN tenants t ON t.id = m.tenant_id "
                "WHERE t.slug = $1 AND m.local_part || '@' || m.domain = $2",
                tenant,
                mailbox,
            )
            assert row is not None
            new = NewOutbound(
                tenant_id=row["tenant_id"], tenant_slug=tenant, mailbox_id=row["id"], to=("ada@customer.test",), **more
            )
            return await register(connection, new, secrets=SECRETS, new_id=new_id, now=now())

    async def status(self, message_id: UUID) -> str:
        found = await self.town.fetch("SELECT status FROM messages WHERE id = $1", message_id)
        return str(found[0]["status"])


def settings(url: str, topics: str, buckets: str, swift: Swift | None, **more: Any) -> Settings:
    s3: dict[str, Any] = {} if swift is None else {f"s3__{name}": value for name, value in _s3(swift).items()}
    own = {"dns__nameservers": nameservers(), "ses__topics": topics, "ses__buckets": buckets}
    ours = load({}, env="development", **(own | s3 | more))
    return ours.model_copy(update={"database_url": SecretStr(url)})


def _s3(swift: Swift) -> dict[str, str]:
    return {name.removeprefix("INGESTER_S3__").lower(): value for name, value in swift.settings.items()}


@asynccontextmanager
async def running(
    url: str,
    swift: Swift | None = None,
    *,
    topics: str | None = None,
    buckets: str | None = None,
    sns: FakeSns | None = None,
    bucket: str | None = None,
    **more: Any,
) -> AsyncIterator[House]:
    """A daemon on a free port. `{}` in `buckets` stands for the bucket."""
    sns = sns or FakeSns()
    bucket = bucket or (swift.make_bucket() if swift is not None else "no-bucket")
    default = "{0}/acme=tenant:acme,{0}/globex=globex.test"
    town = await settle(url, {"acme.test": ("support", "sales"), "globex.test": ("support",)})
    chosen = settings(
        url,
        sns.topic_arn if topics is None else topics,
        (default if buckets is None else buckets).format(bucket),
        swift,
        **more,
    )
    app = App(chosen, get=sns.get)
    (socket, smtp, lmtp) = bind((Listen(host="127.0.0.1", port=0),) * 3, reuse_port=False)
    await app.start((smtp,), (socket,), lmtp=(lmtp,))
    try:
        async with aiohttp.ClientSession() as session:
            yield House(
                app=app,
                sns=sns,
                session=session,
                town=town,
                port=socket.getsockname()[1],
                smtp=smtp.getsockname()[1],
                lmtp=lmtp.getsockname()[1],
                swift=swift,
                bucket=bucket,
            )
    finally:
        await app.drain()


def mail(name: str = "first", *, to: str = "support@acme.test", body: str = "Hello.") -> bytes:
    lines = [
        "From: Ada <ada@customer.test>",
        f"To: {to}",
        "Subject: A question",
        f"Message-ID: <{name}@customer.test>",
        "",
        body,
        "",
    ]
    return "\r\n".join(lines).encode()


def in_s3(bucket: str, key: str) -> dict[str, str]:
    return {
        "type": "S3",
        "topicArn": "arn:aws:sns:eu-west-1:123456789012:inbound",
        "bucketName": bucket,
        "objectKeyPrefix": key.rpartition("/")[0],
        "objectKey": key,
    }


def received(
    *recipients: str, action: Mapping[str, Any], source: str = "ada@customer.test", **more: Any
) -> dict[str, Any]:
    """What SES says of a mail that it received."""
    addresses = list(recipients or ("support@acme.test",))
    return {
        "notificationType": "Received",
        "mail": {
            "timestamp": "2026-11-21T08:00:00.000Z",
            "source": source,
            "messageId": "d6iitobk75ur44p8kdnnp7g2n800",
            "destination": addresses,
            "headersTruncated": False,
            "headers": [{"name": "To", "value": "somebody.else@globex.test"}],
            "commonHeaders": {"to": ["somebody.else@globex.test"]},
        },
        "receipt": {
            "timestamp": "2026-11-21T08:00:00.000Z",
            "processingTimeMillis": 222,
            "recipients": addresses,
            "spamVerdict": {"status": "PASS"},
            "virusVerdict": {"status": "PASS"},
            "spfVerdict": {"status": "PASS"},
            "dkimVerdict": {"status": "GRAY"},
            "dmarcVerdict": {"status": "FAIL"},
            "dmarcPolicy": "reject",
            "action": dict(action),
        },
        **more,
    }


def feedback(
    kind: str, message_id: str, *, word: str = "eventType", source: str = "support@acme.test", **part: Any
) -> dict[str, Any]:
    """What SES says of a mail that it was given to send."""
    name = {"DeliveryDelay": "deliveryDelay"}.get(kind, kind.lower())
    return {
        word: kind,
        "mail": {
            "timestamp": "2026-11-21T08:00:00.000Z",
            "source": source,
            "sourceArn": "arn:aws:ses:eu-west-1:123456789012:identity/acme.test",
            "sendingAccountId": "123456789012",
            "messageId": message_id,
            "destination": ["ada@customer.test"],
        },
        name: {"timestamp": "2026-11-21T08:00:05.000Z", **part},
    }


def bounce(message_id: str, kind: str = "Permanent", **more: Any) -> dict[str, Any]:
    return feedback(
        "Bounce",
        message_id,
        bounceType=kind,
        bounceSubType="General",
        bouncedRecipients=[
            {
                "emailAddress": "ada@customer.test",
                "action": "failed",
                "status": "5.1.1",
                "diagnosticCode": "smtp; 550 5.1.1 user unknown",
            }
        ],
        reportingMTA="dns; b224-13.smtp-out.eu-west-1.amazonses.com",
        feedbackId="0102018c-feedback",
        **more,
    )


def delivery(message_id: str, **more: Any) -> dict[str, Any]:
    return feedback(
        "Delivery",
        message_id,
        processingTimeMillis=546,
        recipients=["ada@customer.test"],
        smtpResponse="250 ok",
        reportingMTA="a8-70.smtp-out.amazonses.com",
        **more,
    )


def complaint(message_id: str, **more: Any) -> dict[str, Any]:
    return feedback(
        "Complaint",
        message_id,
        complainedRecipients=[{"emailAddress": "ada@customer.test"}],
        complaintFeedbackType="abuse",
        userAgent="ExampleCorp Feedback Loop (V0.01)",
        **more,
    )


def delay(message_id: str, **more: Any) -> dict[str, Any]:
    return feedback(
        "DeliveryDelay",
        message_id,
        delayType="MailboxFull",
        delayedRecipients=[{"emailAddress": "ada@customer.test", "status": "4.2.2", "diagnosticCode": "smtp; 452"}],
        **more,
    )
