"""The settings in groups: one for each door and each thing that is used."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from ingester.settings.kinds import (
    MIB,
    Addresses,
    Checkv2,
    Collector,
    Doors,
    Endpoint,
    FaultPoints,
    Group,
    Headers,
    Listen,
    Networks,
    Sources,
    Topics,
    Zones,
)


class Smtp(Group):
    """The SMTP door."""

    listen: Addresses = Field(
        (Listen(host="::", port=25),),
        description="where SMTP listens; `[::]` takes IPv4 too, port 0 lets the kernel choose",
    )
    hostname: str = Field("", description="the name in the greeting, this host's own by default")
    tls_cert: Path | None = Field(
        None, description="certificate chain (PEM) for STARTTLS; a changed file is loaded without a restart"
    )
    tls_key: Path | None = Field(None, description="its key (PEM)")
    proxy_networks: Networks = Field(
        (), description="networks whose connections begin with a PROXY header (v1 or v2); nobody else may send one"
    )
    bare_lf: Literal["normalise", "refuse"] = Field(
        "normalise",
        description="a lone LF in a mail becomes CRLF before anything is stored, or the mail is refused (`refuse`)",
    )
    max_recipients: int = Field(1000, ge=100, description="recipients of one mail; the others are told to come again")
    max_connections: int = Field(1000, ge=1, description="connections of one worker")
    max_connections_per_prefix: int = Field(
        50, ge=1, description="connections of one IPv4 address or IPv6 /64, per worker"
    )
    unknown_recipients_per_hour: int = Field(
        200, ge=1, description="unknown recipients of one prefix before its others are deferred without a look"
    )
    idle_seconds: float = Field(300, gt=0, description="how long a client may be silent")
    idle_seconds_overloaded: float = Field(10, gt=0, description="the same while nearly all connections are taken")
    session_seconds: float = Field(
        1800, gt=0, description="how long a session may last; a mail that comes fast enough is not cut"
    )
    min_bytes_per_second: int = Field(500, ge=0, description="slower mails are cut")
    max_command_errors: int = Field(20, ge=1, description="mistakes of a client before it is sent away")


class Http(Group):
    """The HTTP door."""

    listen: Addresses = Field((), description="where HTTP listens")
    max_connections: int = Field(1000, ge=1, description="connections of one worker")
    idle_seconds: float = Field(60, gt=0, description="how long a client may be silent between two requests")
    body_seconds: float = Field(30, gt=0, description="how long the body of a request may take")
    intake_seconds: float = Field(120, gt=0, description="the same for a mail that a provider hands in")
    raw_mime_url: bool = Field(
        False, description="whether a provider may hand in a URL (https, public addresses only) instead of the mail"
    )
    raw_mime_url_seconds: float = Field(20, gt=0, le=60, description="how long fetching from such a URL may take")


class Lmtp(Group):
    """The LMTP door, for those who keep an MTA in front."""

    listen: Doors = Field((), description="where LMTP listens: host:port, or `unix:` and a path")
    trusted_networks: Networks = Field(
        (),
        description="networks whose XCLIENT, XFORWARD or PROXY header tells the real client; a unix socket is trusted",
    )
    socket_mode: str = Field(
        "0660", pattern="^0?[0-7]{3}$", description="mode of a unix socket: who may open it may say who sent a mail"
    )
    socket_group: str = Field("", description="its group, such as that of the MTA; the daemon's own by default")


class Providers(Group):
    """Keys with which providers of inbound mail sign what they hand in."""

    mailgun_signing_key: SecretStr | None = Field(
        None, description="Mailgun's HTTP webhook signing key; with it, its signature is enough"
    )
    sendgrid_public_key: str = Field(
        "", description="SendGrid's public key of signed Inbound Parse (base64); with it, its signature is enough"
    )


class Ses(Group):
    """Amazon SES: mail and delivery notifications through SNS and S3."""

    topics: Topics = Field(
        (), description="SNS topics that are heard, each an ARN, or `ARN=tenant:SLUG`; none means that all are refused"
    )
    buckets: Sources = Field(
        (),
        description="where SES puts mail, `bucket/prefix=tenant:SLUG` or `bucket/prefix=example.com`; "
        "none means that all are refused",
    )
    max_message_bytes: int = Field(40_000_000, ge=1024, description="size of a mail through SES")
    timestamp_seconds: float = Field(3600, gt=0, description="how old a notification may be")
    reconcile_seconds: float = Field(
        900,
        ge=0,
        description="how often the buckets are searched for mail that no notification named; 0 is never",
    )
    reconcile_days: float = Field(3, gt=0, le=14, description="how old an object may be to be looked for")


class S3(Group):
    """How to reach S3. What is not set is found as Amazon's own tools find it: environment, web identity, metadata."""

    endpoint: Endpoint = Field("", description="another S3 than Amazon's, such as https://s3.example.org")
    region: str = Field("", description="its region")
    access_key_id: str = Field("", description="the access key")
    secret_access_key: SecretStr = Field(SecretStr(""), description="its secret")


class Metrics(Group):
    """The operators' listener."""

    listen: Addresses = Field(
        (),
        description="where Prometheus scrapes `/metrics`, and `/healthz` and `/readyz` are told in more words than at "
        "the HTTP door; nobody is asked who he is: an address that strangers do not reach",
    )


class Traces(Group):
    """OpenTelemetry spans of the mails' journeys (extra `traces`)."""

    endpoint: Collector = Field(
        "", description="a collector of OpenTelemetry (OTLP over HTTP) that spans go to; empty is off"
    )
    headers: Headers = Field(
        SecretStr(""), description="what it asks for in headers, like `authorization=Bearer TOKEN,x-team=mail`"
    )
    share: float = Field(
        1.0, ge=0, le=1, description="share of the mails that get spans; those that die or are deferred always do"
    )


class Dns(Group):
    """DNS, for the checks of senders."""

    nameservers: Addresses = Field(
        (), description="name servers (IP addresses) for the checks of senders; none means the system's"
    )
    try_seconds: float = Field(2, gt=0, le=30, description="how long one question to one name server may take")
    mail_queries: int = Field(75, ge=10, le=1000, description="questions for one mail, known answers included")
    mail_seconds: float = Field(15, gt=0, le=40, description="how long one mail may wait for DNS in all")
    in_flight: int = Field(50, ge=1, le=1000, description="questions on their way at the same time, per worker")
    cache_entries: int = Field(20_000, ge=0, le=1_000_000, description="answers kept while they hold, per worker")


class Auth(Group):
    """The checks of who sent a mail. Everything is judged; what a mailbox does about it is its `auth_policy`."""

    authserv_id: str = Field(
        "", description="our name in Authentication-Results (RFC 8601), the greeting's name by default"
    )
    relays: Networks = Field(
        (),
        description="own hosts or gateways that hand on mail of others: what they bring has no known client address, "
        "so SPF is unknown instead of a false fail",
    )
    reverse_dns: bool = Field(True, description="the client's names in DNS are noted; they decide nothing")
    block_zones: Zones = Field((), description="DNS block lists that are asked and noted; they decide nothing")
    allow_zones: Zones = Field((), description="DNS allow lists that are asked and noted; they decide nothing")
    max_signatures: int = Field(5, ge=1, le=50, description="DKIM signatures of a mail that are judged")
    max_arc_sets: int = Field(10, ge=1, le=50, description="ARC sets of a mail that are judged; more are unknown")


class Spam(Group):
    """The spam gate: an rspamd that is asked about mail from strangers."""

    url: Checkv2 = Field(
        "", description="rspamd's `/checkv2`, which is asked about mail that belongs to no conversation; empty is off"
    )
    seconds: float = Field(10, gt=0, le=30, description="how long its answer may take; without one the mail is flagged")
    max_bytes: int = Field(
        10 * MIB, ge=1024, description="of a larger mail it sees so many bytes, and the worst that follows is a flag"
    )
    in_flight: int = Field(20, ge=1, le=1000, description="mails that it is asked about at the same time, per worker")


class Mime(Group):
    """Bounds of the MIME walk; beyond one, the rest stays opaque and flagged."""

    max_line_bytes: int = Field(64 << 10, ge=1000, description="a mail with a longer line is flagged")
    max_header_bytes: int = Field(256 << 10, ge=1024, description="bytes of a header block that are read as one")
    max_header_fields: int = Field(1000, ge=10, description="fields of a header block that are read")
    max_parts: int = Field(1000, ge=1, description="parts of a mail; the rest is one opaque part")
    max_depth: int = Field(50, ge=1, description="how deep multiparts may be nested; what is deeper is one opaque part")
    max_address_tokens: int = Field(10_000, ge=10, description="pieces of an address field that are read")
    max_received: int = Field(100, ge=1, description="Received fields; a mail with more is in a loop")


class Store(Group):
    """How the store is used."""

    connections: int = Field(8, ge=2, le=100, description="connections to Postgres, per worker")
    statement_cache: int = Field(
        100, ge=0, description="prepared statements kept per connection; 0 behind pgbouncer in transaction mode"
    )
    commit_seconds: float = Field(60, gt=0, description="how long after the final dot a mail may wait for its commit")
    batch: int = Field(16, ge=1, le=256, description="mails that may share a commit")
    uploads: int = Field(16, ge=1, le=256, description="mails on their way to the object store at once, per worker")
    segment_bytes: int = Field(
        256 * MIB,
        ge=MIB,
        description="size from which a segment is sealed and another begun, where raw bytes live in files",
    )
    orphan_hours: float = Field(
        24, ge=1, description="age from which an object without a mail is deleted from the object store"
    )
    sweep_hours: float = Field(24, ge=0, description="how often the object store is searched for those; 0 is never")
    claim_days: int = Field(14, ge=1, description="how long a second arrival of a mail is known as a duplicate")
    refusal_days: int = Field(30, ge=1, description="how long refusals are kept")
    dead_letters_per_hour: int = Field(
        1000, ge=1, description="dead letters a tenant may get before further ones are deferred"
    )
    dead_letters_per_prefix_hour: int = Field(200, ge=1, description="the same from one client prefix")
    redrive_after_upgrade: bool = Field(
        False,
        description="what another version could not digest is tried again after the start, two letters a second; "
        "else `ingester dead list` offers it",
    )


class Retention(Group):
    """How long mail is kept; a tenant may have terms of its own. Nothing is removed by default."""

    days: int = Field(0, ge=0, le=99_999, description="days that messages are kept; 0 is for ever")
    attachment_days: int = Field(
        0,
        ge=0,
        le=99_999,
        description="days that their raw bytes are kept, and the attachments with them; 0 as long as they",
    )
    dead_letter_days: int = Field(
        30,
        ge=0,
        le=99_999,
        description="days that dead letters are kept which were redriven or discarded; 0 as long as mail",
    )


class Log(Group):
    """Logging. `addresses` puts mail addresses in clear into the logs; off, they are keyed hashes.

    `format` auto is JSON in production and pleasant lines in development.
    """

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="the least level that is logged")
    format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto` is JSON in production and lines for people in development"
    )
    addresses: bool = Field(False, description="mail addresses in clear; else they are keyed hashes")


class Test(Group):
    """Only for tests, refused in production. `faults`: see `ingester.faults`."""

    __test__ = False
    faults: FaultPoints = Field("", description="fault points for tests, see `ingester/faults.py`")
