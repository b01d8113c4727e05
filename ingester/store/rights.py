"""What the daemon's role and the API's role may do, table by table, and the SQL that makes it so. No database here.

The runtime role is whom the daemon and the commands log in as: it sees all tenants, because one mail may be for
several, and changes rows, never tables. The API role cannot log in: a connection takes it for one transaction together
with a tenant (`store/wall.py`), and row-level security shows it nothing else. Without a tenant it sees no row at all.

Whoever adds a table adds a line here (a test holds the list against the catalog). Tables that are not here are none of
our business: nobody is given rights on them.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

API_ROLE: Final = "ingester_api"
RUNTIME_ROLE: Final = "ingester_runtime"
API_POLICY: Final = "ingester_api"
"""By these names, and by the roles in them, the database itself remembers for whom it was set up."""
RUNTIME_POLICY: Final = "ingester_runtime"
TENANT_SETTING: Final = "ingester.tenant"
LOCK_SECONDS: Final = 2
"""How long a statement may wait for a table, with whoever comes after it behind: well within a mail's 60 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """Of one table. Letters: S select, I insert, U update (locking a row needs it too), D delete.

    `tenant` is the column that names the tenant; None: the table holds nothing of any tenant.
    """

    runtime: str
    api: str = ""
    tenant: str | None = "tenant_id"


RIGHTS: Final[Mapping[str, Rights]] = {
    "schema_migrations": Rights(runtime="S", tenant=None),
    # The directory.
    "tenants": Rights(runtime="SIUD", api="S", tenant="id"),
    "erased_tenants": Rights(runtime="SI"),
    "domains": Rights(runtime="SIUD"),
    "mailboxes": Rights(runtime="SIUD", api="S"),
    "routes": Rights(runtime="SIUD"),
    "sender_rules": Rights(runtime="SID"),
    "forwarders": Rights(runtime="SID"),
    "api_keys": Rights(runtime="SIUD"),
    "intake_tokens": Rights(runtime="SIUD"),
    # Mail. A message of ours finds its conversation as one that arrives does, so the API writes there too.
    "raws": Rights(runtime="SIUD"),
    "messages": Rights(runtime="SIUD", api="SIU"),
    "parts": Rights(runtime="SIUD"),
    "threads": Rights(runtime="SIUD", api="SIUD"),
    "thread_ids": Rights(runtime="SIUD", api="SIU"),
    "contacts": Rights(runtime="SIUD", api="SI"),
    "participants": Rights(runtime="SIUD", api="SIUD"),
    "receipts": Rights(runtime="SIUD"),
    "claims": Rights(runtime="SIUD"),
    "quota_usage": Rights(runtime="SIUD"),
    "refusals": Rights(runtime="SIUD"),
    "dead_letters": Rights(runtime="SIUD"),
    "provider_events": Rights(runtime="SIUD"),
    "delivery_events": Rights(runtime="SIUD", api="SU"),
    "blob_trash": Rights(runtime="SID"),
    "blob_sweeps": Rights(runtime="SIUD"),
    "blob_hosts": Rights(runtime="SIUD"),
}

_WORDS: Final = {"S": "SELECT", "I": "INSERT", "U": "UPDATE", "D": "DELETE"}
_PLAIN: Final = re.compile(r"ingester[a-z0-9_]*|public")
"""Names that are no key words; all others stand in quotes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table as it is: whether rows are guarded, by which of our policies for which roles, and who may do what."""

    schema: str
    name: str
    guarded: bool
    policies: Mapping[str, frozenset[str]]
    grants: Mapping[str, frozenset[str]]
    """By role, the privileges that are granted to it itself, as words."""

    @property
    def sql(self) -> str:
        return f"{quoted(self.schema)}.{self.name}"


def quoted(name: str) -> str:
    """The name of a role or a schema as SQL takes it."""
    return name if _PLAIN.fullmatch(name) else '"' + name.replace('"', '""') + '"'


def wanted(name: str, role: str, api: str) -> frozenset[str]:
    """The privileges that a role is to have on a table of ours."""
    rights = RIGHTS[name]
    return frozenset(_WORDS[letter] for letter in (rights.api if role == api else rights.runtime))


def grant_statements(tables: Sequence[Table], roles: Collection[str], api: str) -> list[str]:
    """What is missing is granted, what is too much is revoked; one statement for tables that need the same."""
    found: list[tuple[str, str, str]] = []
    for role in sorted(roles):
        for table in tables:
            has, wants = table.grants.get(role, frozenset()), wanted(table.name, role, api)
            if wants - has:
                found.append((_grant(wants - has), f" TO {quoted(role)};", table.sql))
            if has - wants:
                found.append((_revoke(has - wants), f" FROM {quoted(role)};", table.sql))
    found.sort(key=lambda one: one[:2])
    groups = groupby(found, key=lambda one: one[:2])
    return [f"{verb} ON {', '.join(one[2] for one in group)}{whom}" for (verb, whom), group in groups]


def guard_statements(table: Table, runtime: Collection[str], api: str) -> list[str]:
    """The policies of one table, and that they count. Each locks the whole table: together in one short transaction."""
    column = RIGHTS[table.name].tenant
    if column is None:
        return []
    # An empty setting is what a connection shows after the transaction that set it.
    own = f"{column} = nullif(current_setting('{TENANT_SETTING}', true), '')::uuid"
    statements = [
        *_policy(table, RUNTIME_POLICY, frozenset(runtime), "true"),
        *_policy(table, API_POLICY, frozenset({api}), own),
    ]
    if not table.guarded:
        statements.append(f"ALTER TABLE {table.sql} ENABLE ROW LEVEL SECURITY;")
    return statements


def _policy(table: Table, name: str, roles: frozenset[str], sees: str) -> list[str]:
    """A policy for exactly these roles: for what they read, change and add alike."""
    if table.policies.get(name) == roles or not roles:
        return []
    whom = ", ".join(map(quoted, sorted(roles)))
    if name in table.policies:
        return [f"ALTER POLICY {name} ON {table.sql} TO {whom};"]
    return [f"CREATE POLICY {name} ON {table.sql} TO {whom} USING ({sees});"]


def _grant(privileges: frozenset[str]) -> str:
    return f"GRANT {_listed(privileges)}"


def _revoke(privileges: frozenset[str]) -> str:
    return f"REVOKE {_listed(privileges)}"


def _listed(privileges: frozenset[str]) -> str:
    """In the usual order; what is not one of ours (TRUNCATE, REFERENCES, TRIGGER, MAINTAIN) comes last."""
    order = list(_WORDS.values())
    return ", ".join(sorted(privileges, key=lambda one: (order.index(one) if one in order else len(order), one)))
