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


_FIND = """
WITH q AS (
    SELECT * FROM unnest($1::integer[], $2::uuid[], $3::uuid[], $12::bytea[], $13::date[])
                  AS u(n, tenant_id, mailbox_id, sender, day)
)
SELECT q.n, 'standing' AS what, NULL::bytea AS hash, m.id, NULL::uuid AS thread_id, m.id AS mailbox_id,
       NULL::text AS kind, t.slug AS name, false AS mailbox_only, NULL::cidr[] AS networks,
       false AS expected, false AS has_outbound, NULL::timestamptz AS expires_at,
       t.status = 'active' AS tenant_active, m.status = 'active' AS mailbox_active,
       m.domain = '' OR EXISTS (SELECT FROM domains d WHERE d.tenant_id = q.tenant_id AND d.name = m.domain
                                AND d.status = 'verified') AS domain_verified,
       CASE WHEN t.status = 'active' THEN m.status_since ELSE t.status_since END AS suspended_since,
       m.accepts_cold_inbound, m.strict_senders, m.auth_policy, m.require_alignment, m.accept_forwarded,
       CASE WHEN m.system IS NULL AND 'allowlist' IN (t.sender_mode, m.sender_mode) THEN 'allowlist' ELSE 'none' END
           AS sender_mode,
       ARRAY[t.quota_mails, t.quota_bytes, t.quota_matched_share, ut.mails, ut.bytes] AS tenant_quota,
       ARRAY[m.quota_mails, m.quota_bytes, m.quota_matched_share, um.mails, um.bytes] AS mailbox_quota
FROM q
JOIN mailboxes m ON m.tenant_id = q.tenant_id AND m.id = q.mailbox_id
JOIN tenants t ON t.id = q.tenant_id
LEFT JOIN quota_usage ut ON ut.tenant_id = q.tenant_id AND ut.day = q.day
                        AND ut.mailbox_id = '00000000-0000-0000-0000-000000000000'
LEFT JOIN quota_usage um ON um.tenant_id = q.tenant_id AND um.day = q.day AND um.mailbox_id = q.mailbox_id
UNION ALL
SELECT q.n, 'candidate', c.hash, x.id, x.thread_id, q.mailbox_id, NULL, NULL, false, NULL,
       x.expected, x.has_outbound, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM unnest($4::integer[], $5::bytea[]) AS c(n, hash) JOIN q USING (n)
CROSS JOIN LATERAL (
    SELECT y.id, y.thread_id, coalesce(h.has_outbound, false) AS has_outbound,
           EXISTS (SELECT FROM participants p WHERE p.tenant_id = q.tenant_id AND p.thread_id = y.thread_id
                   AND p.address_hash = q.sender) AS expected
    FROM bearers(q.tenant_id, q.mailbox_id, c.hash) y
    LEFT JOIN threads h ON h.tenant_id = q.tenant_id AND h.id = y.thread_id
    LIMIT 1
) x
UNION ALL
SELECT q.n, 'rule', NULL, NULL, NULL, NULL, x.action, c.pattern, x.mailbox_only, NULL,
       NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM unnest($6::integer[], $7::text[]) AS c(n, pattern) JOIN q USING (n)
CROSS JOIN LATERAL (
    SELECT s.action, s.mailbox_id = q.mailbox_id AS mailbox_only FROM sender_rules s
    WHERE s.tenant_id = q.tenant_id AND s.pattern = c.pattern
      AND s.mailbox_id IN (q.mailbox_id, '00000000-0000-0000-0000-000000000000') OFFSET 0
) x
UNION ALL
SELECT q.n, 'forwarder', NULL, NULL, NULL, NULL, x.kind, c.name, false, x.networks,
       NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM unnest($8::integer[], $9::text[]) AS c(n, name) JOIN q USING (n)
CROSS JOIN LATERAL (
    SELECT f.kind, f.networks FROM forwarders f
    WHERE f.tenant_id IN (q.tenant_id, '00000000-0000-0000-0000-000000000000') AND f.name = c.name OFFSET 0
) x
UNION ALL
SELECT q.n, 'outbound', NULL, x.id, x.thread_id, x.mailbox_id, NULL, x.reply_domain, false, NULL,
       x.expected, x.has_outbound, x.token_expires_at,
       NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM unnest($10::integer[], $11::uuid[]) AS c(n, id) JOIN q USING (n)
CROSS JOIN LATERAL (
    SELECT o.id, o.thread_id, o.mailbox_id, o.reply_domain, o.token_expires_at,
           coalesce(h.has_outbound, false) AS has_outbound,
           EXISTS (SELECT FROM participants p WHERE p.tenant_id = q.tenant_id AND p.thread_id = o.thread_id
                   AND p.address_hash = q.sender) AS expected
    FROM messages o
    LEFT JOIN threads h ON h.tenant_id = q.tenant_id AND h.id = o.thread_id
    WHERE o.tenant_id = q.tenant_id AND o.id = c.id AND o.direction = 'outbound' LIMIT 1
) x
"""
"""LATERAL with a limit or OFFSET 0 makes each branch a look-up by key, whatever the planner thinks of an array."""


async def find(connection: Connection, queries: Sequence[Query]) -> list[Finding]:
    """What many deliveries must know in one round trip, each within its tenant and mailbox."""
    rows = await connection.fetch(
        _FIND,
        list(range(len(queries))),
        [query.tenant_id for query in queries],
        [query.mailbox_id for query in queries],
        *_asked([query.hashes for query in queries]),
        *_asked([query.patterns for query in queries]),
        *_asked([query.forwarders for query in queries]),
        *_asked([query.token_ids for query in queries]),
        [query.from_hash for query in queries],
        [query.day for query in queries],
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
