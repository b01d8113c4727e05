"""Whose mail and whose events they may be: from the owners in the settings to the tenant and its bounds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from ingester.settings import Owner, Source
from ingester.store.db import Connection
from ingester.store.registry import owners, tenant
from ingester.transport.submission import Scope

PROVIDER = "ses"
"""The name under which events are claimed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """A tenant, or of a tenant one domain alone."""

    tenant_id: UUID
    domain: str | None = None


def source_of(sources: Iterable[Source], bucket: str, key: str) -> Source | None:
    """The entry whose place an object lies in: the deepest. A prefix ends where a segment of the key ends, and keys are
    no paths: `..` in one leads nowhere.
    """
    fitting = [one for one in sources if one.bucket == bucket and key.startswith(folder(one))]
    return max(fitting, key=lambda one: len(folder(one)), default=None)


def folder(source: Source) -> str:
    """What the keys of an entry begin with: empty, or with a slash at its end."""
    prefix = source.prefix.rstrip("/")
    return f"{prefix}/" if prefix else ""


async def owned_by(connection: Connection, owner: Owner) -> Owned | None:
    """Whom an owner in the settings means; None where there is no such tenant, or nobody has verified the domain."""
    if owner.tenant is not None:
        named = await tenant(connection, owner.tenant)
        return None if named is None else Owned(tenant_id=named.id)
    found = await owners(connection, owner.domain or "")
    if not found or found[0].status != "verified":
        return None
    return Owned(tenant_id=found[0].tenant_id, domain=found[0].name)


def scope_of(owned: Sequence[Owned]) -> Scope | None:
    """What may be handed in by all of these together; None where they exclude each other. SNS has proven who says so,
    so the envelope counts.
    """
    tenants = {one.tenant_id for one in owned}
    domains = {one.domain for one in owned if one.domain is not None}
    if len(tenants) > 1 or len(domains) > 1:
        return None
    return Scope(
        provider=PROVIDER,
        tenant_id=next(iter(tenants), None),
        domains=frozenset(domains) or None,
        may_assert_envelope=True,
    )
