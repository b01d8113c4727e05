"""The envelope: what a door hands in. Facts about the arrival and the raw bytes; nothing is judged yet."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any
from uuid import UUID

from ingester.core.address import Address


class Door(StrEnum):
    """Where a mail came in."""

    SMTP = "smtp"
    LMTP = "lmtp"
    HTTP = "http"
    SES = "ses"


class RouteKind(StrEnum):
    """How a recipient address reaches a mailbox, in order of precedence."""

    TOKEN = "token"  # noqa: S105
    EXACT = "exact"
    ALIAS = "alias"
    CATCH_ALL = "catch_all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """The peer, as the connection or a trusted proxy tells. `tls` is the protocol version, None in clear.

    `ip` is empty where a door cannot know it: who hands in a mail over HTTP did not send it.
    """

    ip: str
    helo: str | None = None
    tls: str | None = None

    @property
    def prefix(self) -> str:
        """What strangers are counted by: the address itself for IPv4 (/32), the /64 for IPv6."""
        return client_prefix(self.ip)


@lru_cache(maxsize=1024)  # asked for each recipient that is refused
def client_prefix(ip: str) -> str:
    """The /32 or /64 of an address; "unknown" for what is not an address (a unix socket)."""
    try:
        address = ip_address(ip.partition("%")[0])
    except ValueError:
        return "unknown"
    if address.version == 6 and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(ip_network((address, 32 if address.version == 4 else 64), strict=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The directory's answer for one recipient. `policy` names the content policy that one transaction must share."""

    tenant_id: UUID
    mailbox_id: UUID
    domain: str
    kind: RouteKind
    tag: str | None
    policy: str
    answers: UUID | None = None
    """The outbound message whose reply token the address is; it was verified. None for a token that is not true."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """One envelope recipient. `route` is set where the door has already asked (RCPT), else the pipeline asks."""

    address: Address
    route: Route | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One mail at the door. `mail_from` is "" for the null sender; `flags` are what the door saw in the bytes."""

    door: Door
    raw: bytes
    mail_from: str
    recipients: tuple[Recipient, ...]
    client: Client
    arrival_id: UUID
    received_at: datetime
    flags: tuple[str, ...] = ()
    provider: str | None = None
    provider_event_id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What a provider said beside the mail, as JSON values. Evidence; it decides nothing."""
    source: str | None = None
    """Where the bytes were fetched from (`s3://bucket/key`), so that nobody fetches them again."""
    raw_sha256: bytes | None = None
    """The hash of `raw`, where the door needed it: so that it is not made twice."""
