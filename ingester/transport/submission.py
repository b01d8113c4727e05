"""What a provider hands in by HTTP: a mail beside what is said of it, before it becomes an envelope. And what whoever
hands it in may say at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """The envelope as the provider tells it. It counts only from who may assert it. `mail_from` is "" for the null
    sender and None where nothing is said.
    """

    mail_from: str | None = None
    client_ip: str | None = None
    helo: str | None = None
    recipients: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One mail. `recipients` is the provider's own list; `event_id` None means that the bytes name the event."""

    raw: bytes
    provider: str
    event_id: str | None = None
    recipients: tuple[str, ...] = ()
    asserted: Assertion = Assertion()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    source: str | None = None
    """Where the bytes were fetched from (`s3://bucket/key`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What whoever hands in a mail may do. Recipients outside are nobody's, as if their domain were not ours.

    `provider` binds the name under which events are claimed; `tenant_id` and `domains` bound whose mail it may be (None
    is everybody's; of two bounds both hold).
    """

    provider: str | None = None
    tenant_id: UUID | None = None
    domains: frozenset[str] | None = None
    may_assert_envelope: bool = False
