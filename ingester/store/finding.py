"""What must be known before a mail is decided, of many deliveries in one read: standing, candidates, rules, trust.

Every branch carries the tenant. A reply token names its mailbox itself; nothing else looks beyond the mailbox.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from ipaddress import IPv4Network, IPv6Network
from typing import Any
from uuid import UUID

import asyncpg

from ingester.core.resolve import Candidate
from ingester.core.rules import Quota, Standing, Status
from ingester.core.senders import Action, MatchedRule, SenderMode
from ingester.store.db import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What one delivery must know before it is decided."""

    tenant_id: UUID
    mailbox_id: UUID
    hashes: tuple[bytes, ...]
    patterns: tuple[str, ...]
    """What a sender rule may name of the From address."""
    forwarders: tuple[str, ...]
    """Who might vouch for the mail."""
    token_ids: tuple[UUID, ...]
    """The outbound messages that reply tokens name."""
    from_hash: bytes | None
    """Of the From address, to see whether it takes part in a conversation."""
    day: date
    """In UTC, for the quotas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedForwarder:
    """An entry of the registry, the tenant's own or everybody's."""

    kind: str
    name: str
    networks: tuple[IPv4Network | IPv6Network, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """A message of the same tenant that a token names, whichever mailbox sent it."""

    candidate: Candidate
    mailbox_id: UUID
    reply_domain: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The answer: standing is None where the mailbox is gone, candidates by hash of their Message-ID."""

    standing: Standing | None
    candidates: dict[bytes, Candidate] = field(default_factory=dict)
    rules: list[MatchedRule] = field(default_factory=list)
    forwarders: list[TrustedForwarder] = field(default_factory=list)
    outbound: dict[UUID, Outbound] = field(default_factory=dict)


_FIND = "SELECT * FROM find_for_deliveries($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"


async def find(connection: Connection, queries: Sequence[Query]) -> list[Finding]:
    """What many deliveries must know in one round trip, each within its tenant and mailbox."""
    rows = await connection.fetch(
        _FIND,
        [query.tenant_id for query in queries],
        [query.mailbox_id for query in queries],
        [query.from_hash for query in queries],
        [query.day for query in queries],
        *_asked([query.hashes for query in queries]),
        *_asked([query.patterns for query in queries]),
        *_asked([query.forwarders for query in queries]),
        *_asked([query.token_ids for query in queries]),
    )
    findings = [Finding(standing=None) for _ in queries]
    for row in rows:
        finding = findings[row["n"]]
        match row["what"]:
            case "candidate":
                finding.candidates[row["hash"]] = _candidate(row)
            case "outbound":
                finding.outbound[row["id"]] = Outbound(
                    candidate=_candidate(row),
                    mailbox_id=row["mailbox_id"],
                    reply_domain=row["name"] or "",
                    expires_at=row["expires_at"],
                )
            case "rule":
                finding.rules.append(
                    MatchedRule(action=Action(row["kind"]), pattern=row["name"], mailbox_only=row["mailbox_only"])
                )
            case "forwarder":
                finding.forwarders.append(
                    TrustedForwarder(kind=row["kind"], name=row["name"], networks=tuple(row["networks"]))
                )
            case _:
                findings[row["n"]] = replace(finding, standing=_standing(row))
    return findings


def _asked(wanted: Sequence[Sequence[Any]]) -> tuple[list[int], list[Any]]:
    """What is asked for, and the number of the delivery that asks."""
    return [n for n, group in enumerate(wanted) for _ in group], [one for group in wanted for one in group]


def _candidate(row: asyncpg.Record) -> Candidate:
    return Candidate(
        message_id=row["id"], thread_id=row["thread_id"], expected=row["expected"], ours=row["has_outbound"]
    )


def _standing(row: asyncpg.Record) -> Standing:
    return Standing(
        tenant=row["name"],
        accepts_cold_inbound=row["accepts_cold_inbound"],
        status=Status(
            tenant_active=row["tenant_active"],
            domain_verified=row["domain_verified"],
            mailbox_active=row["mailbox_active"],
            suspended_since=row["suspended_since"],
        ),
        strict_senders=row["strict_senders"],
        auth_policy=row["auth_policy"],
        require_alignment=row["require_alignment"],
        accept_forwarded=row["accept_forwarded"],
        sender_mode=SenderMode(row["sender_mode"]),
        quotas=tuple(
            Quota(mails=mails, size=size, matched_share=share, used_mails=used_mails or 0, used_size=used_size or 0)
            for mails, size, share, used_mails, used_size in (row["tenant_quota"], row["mailbox_quota"])
            if mails is not None or size is not None
        ),
    )
