"""Sender rules and the registry of trusted forwarders, as operators see and change them.

Patterns and names arrive in their one form (`core.senders.pattern_of`; lower-case A-labels). What a mail meets of them
is read in `messages.find`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network
from uuid import UUID

from ingester.core.address import Address
from ingester.store.db import Connection

WHOLE_TENANT = UUID(int=0)
"""`sender_rules.mailbox_id` of a rule for all mailboxes of the tenant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderRule:
    """A rule as it lies in the table; `mailbox` is None for one of the whole tenant."""

    tenant: str
    mailbox: str | None
    action: str
    pattern: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarder:
    """A trusted forwarder as it lies in the table; the tenant `system` stands for all."""

    tenant: str
    kind: str
    name: str
    networks: tuple[str, ...]
    created_at: datetime


async def add_rule(connection: Connection, *, tenant_id: UUID, mailbox_id: UUID, action: str, pattern: str) -> bool:
    """Make a rule; False when there is one."""
    made = await connection.fetchval(
        """
        INSERT INTO sender_rules (tenant_id, mailbox_id, action, pattern) VALUES ($1, $2, $3, $4)
        ON CONFLICT DO NOTHING RETURNING true
        """,
        tenant_id,
        mailbox_id,
        action,
        pattern,
    )
    return made is True


async def remove_rule(connection: Connection, *, tenant_id: UUID, mailbox_id: UUID, action: str, pattern: str) -> bool:
    """Remove a rule; False when there is none."""
    removed = await connection.fetchval(
        """
        DELETE FROM sender_rules WHERE tenant_id = $1 AND mailbox_id = $2 AND action = $3 AND pattern = $4
        RETURNING true
        """,
        tenant_id,
        mailbox_id,
        action,
        pattern,
    )
    return removed is True


async def sender_rules(connection: Connection, tenant_ids: Sequence[UUID]) -> list[SenderRule]:
    """The rules of these tenants, those of whole tenants first."""
    rows = await connection.fetch(
        """
        SELECT t.slug AS tenant, r.action, r.pattern, r.created_at, m.local_part, m.domain
        FROM sender_rules r
        JOIN tenants t ON t.id = r.tenant_id
        LEFT JOIN mailboxes m ON m.tenant_id = r.tenant_id AND m.id = r.mailbox_id AND m.id <> $2
        WHERE r.tenant_id = ANY ($1)
        ORDER BY t.slug, m.domain NULLS FIRST, m.local_part, r.action, r.pattern
        """,
        tenant_ids,
        WHOLE_TENANT,
    )
    return [
        SenderRule(
            tenant=row["tenant"],
            mailbox=None if row["domain"] is None else str(Address(local=row["local_part"], domain=row["domain"])),
            action=row["action"],
            pattern=row["pattern"],
            created_at=row["created_at"],
        )
        for row in rows
    ]


async def set_tenant_mode(connection: Connection, tenant_id: UUID, mode: str) -> None:
    """Whether a whole tenant takes mail of allowed senders only."""
    await connection.execute("UPDATE tenants SET sender_mode = $2 WHERE id = $1", tenant_id, mode)


async def add_forwarder(
    connection: Connection,
    *,
    tenant_id: UUID,
    kind: str,
    name: str,
    networks: Sequence[IPv4Network | IPv6Network],
) -> bool:
    """Trust a forwarder; False when it is trusted already, whatever its networks."""
    made = await connection.fetchval(
        """
        INSERT INTO forwarders (tenant_id, kind, name, networks) VALUES ($1, $2, $3, $4)
        ON CONFLICT DO NOTHING RETURNING true
        """,
        tenant_id,
        kind,
        name,
        list(networks),
    )
    return made is True


async def remove_forwarder(connection: Connection, *, tenant_id: UUID, kind: str, name: str) -> bool:
    """Trust a forwarder no longer; False when it was not trusted."""
    removed = await connection.fetchval(
        "DELETE FROM forwarders WHERE tenant_id = $1 AND kind = $2 AND name = $3 RETURNING true", tenant_id, kind, name
    )
    return removed is True


async def forwarders(connection: Connection, tenant_ids: Sequence[UUID]) -> list[Forwarder]:
    """The trusted forwarders of these tenants."""
    rows = await connection.fetch(
        """
        SELECT t.slug AS tenant, f.kind, f.name, f.networks, f.created_at
        FROM forwarders f JOIN tenants t ON t.id = f.tenant_id
        WHERE f.tenant_id = ANY ($1) ORDER BY t.slug, f.kind, f.name
        """,
        tenant_ids,
    )
    return [
        Forwarder(
            tenant=row["tenant"],
            kind=row["kind"],
            name=row["name"],
            networks=tuple(str(network) for network in row["networks"]),
            created_at=row["created_at"],
        )
        for row in rows
    ]
