"""Removing a tenant: every row of it in every table, the tenant itself last.

It takes nothing more from the first moment on; what is killed half-way is begun again and goes on. The list of the
tables is the database's own (`catalog`), so that none is forgotten. Objects go by the trash, as always.
"""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from ingester.core.ids import SYSTEM_TENANT
from ingester.store.catalog import Table, tenant_tables
from ingester.store.db import Connection
from ingester.store.erasing import count_of
from ingester.store.registry import enter_alone

STEP: Final = 1000
"""Rows that go in one transaction; of raw mails, each of which may be large, fewer."""
RAWS: Final = 100
WHOLE_SECONDS: Final = 3600
"""How long a query may take that goes through a whole table."""
KEPT: Final = frozenset({"erased_tenants", "blob_trash"})
"""What outlives the tenant: that it was here, by its id alone, and the names of objects until they are deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """Rows of one table that went in one step; `objects` of them are to go from the object store."""

    table: str
    rows: int
    objects: int = 0


async def close_tenant(connection: Connection, tenant_id: UUID) -> None:
    """Let nothing more in, and wait for whoever is writing. What is tried from now on fails as if it had never been."""
    await connection.execute(
        "UPDATE tenants SET status = 'erasing', status_since = now() WHERE id = $1 AND status <> 'erasing'", tenant_id
    )
    async with connection.transaction():
        await enter_alone(connection, tenant_id)


async def tables_of_tenant(connection: Connection) -> list[Table]:
    """The tables in the order in which they are emptied: those that refer to another come before it."""
    return [one for one in await tenant_tables(connection) if one.name not in KEPT]


async def count_rows(connection: Connection, tenant_id: UUID) -> Counter[str]:
    """How many rows there are of a tenant, by table; `objects` are raw mails that lie in the object store."""
    counts: Counter[str] = Counter(tenants=1)
    for table in await tables_of_tenant(connection):
        counts[table.name] = await connection.fetchval(
            f"SELECT count(*) FROM {table.sql} WHERE tenant_id = $1",  # noqa: S608
            tenant_id,
            timeout=WHOLE_SECONDS,
        )
    for name in await _domains(connection, tenant_id):
        counts["refusals"] += await connection.fetchval(
            f"SELECT count(*) FROM refusals WHERE tenant_id = $1 AND {_NAMES_DOMAIN}",  # noqa: S608
            SYSTEM_TENANT,
            name,
            timeout=WHOLE_SECONDS,
        )
        counts["intake_tokens"] += await connection.fetchval(
            "SELECT count(*) FROM intake_tokens WHERE domains = ARRAY[$1::text] AND tenant_id IS NULL", name
        )
    counts["objects"] = await connection.fetchval(
        "SELECT count(*) FROM raws WHERE tenant_id = $1 AND blob_key IS NOT NULL", tenant_id, timeout=WHOLE_SECONDS
    )
    return +counts


async def empty_tables(connection: Connection, tenant_id: UUID) -> AsyncIterator[Gone]:
    """Remove all rows of a closed tenant, step by step."""
    for name in await _domains(connection, tenant_id):
        async for gone in _forget_domain(connection, name):
            yield gone
    for table in await tables_of_tenant(connection):
        after: Sequence[Any] | None = None
        while True:
            gone, after = await _remove_some(connection, table, tenant_id, after)
            yield gone
            if after is None:
                break


async def _remove_some(
    connection: Connection, table: Table, tenant_id: UUID, after: Sequence[Any] | None
) -> tuple[Gone, Sequence[Any] | None]:
    """Remove the next rows in the order of the key, and say where the ones after them begin; None: that was all."""
    if not table.owned:  # a short table that many tenants share
        status = await connection.execute(f"DELETE FROM {table.sql} WHERE tenant_id = $1", tenant_id)  # noqa: S608
        return Gone(table=table.name, rows=count_of(status)), None
    step = RAWS if table.name == "raws" else STEP
    outside = "t.blob_key IS NOT NULL" if table.name == "raws" else "false"
    key, same = (", ".join(f"{alias}.{one.sql}" for one in table.key) for alias in ("t", "s"))
    beyond = f"AND ({table.key_sql()}) > ({table.values_sql(3)})" if after is not None else ""
    rows = await connection.fetch(
        f"""
        WITH chosen AS (
            SELECT {table.key_sql()} FROM {table.sql} WHERE tenant_id = $1 {beyond}
            ORDER BY {table.key_sql()} LIMIT $2
        ), gone AS (
            DELETE FROM {table.sql} t USING chosen s
            WHERE t.tenant_id = $1 AND ({key}) = ({same})
            RETURNING {key}, {outside} AS "outside"
        )
        SELECT * FROM gone ORDER BY {table.key_sql()}
        """,  # noqa: S608  (names of the database's own, quoted)
        tenant_id,
        step,
        *(after or ()),
    )
    gone = Gone(table=table.name, rows=len(rows), objects=sum(row["outside"] for row in rows))
    return gone, [rows[-1][one.name] for one in table.key] if len(rows) == step else None


async def _domains(connection: Connection, tenant_id: UUID) -> list[str]:
    """The domains that are the tenant's for sure: anybody may claim one, and be waiting for the proof."""
    rows = await connection.fetch("SELECT name FROM domains WHERE tenant_id = $1 AND status = 'verified'", tenant_id)
    return [row["name"] for row in rows]


_NAMES_DOMAIN: Final = r"""
    lower(concat(samples::text, envelope::text, detail))
        ~ ('@' || replace($2::text, '.', '\.') || '\.?([^a-z0-9.-]|$)')
"""
"""Whether a refusal names an address of the domain, and not of a longer one."""


async def _forget_domain(connection: Connection, name: str) -> AsyncIterator[Gone]:
    """What the tables of nobody say of a domain: whoever was refused there, and tokens that were for it."""
    rows = await connection.fetch(
        f"SELECT id FROM refusals WHERE tenant_id = $1 AND {_NAMES_DOMAIN}",  # noqa: S608  (only our own words)
        SYSTEM_TENANT,
        name,
        timeout=WHOLE_SECONDS,
    )
    ids = [row["id"] for row in rows]
    for start in range(0, len(ids), STEP):
        status = await connection.execute(
            "DELETE FROM refusals WHERE tenant_id = $1 AND id = ANY ($2::uuid[])",
            SYSTEM_TENANT,
            ids[start : start + STEP],
        )
        yield Gone(table="refusals", rows=count_of(status))
    # A token for no domain at all would be one for every domain.
    status = await connection.execute(
        "DELETE FROM intake_tokens WHERE domains = ARRAY[$1::text] AND tenant_id IS NULL", name
    )
    yield Gone(table="intake_tokens", rows=count_of(status))
    await connection.execute(
        """
        UPDATE intake_tokens SET domains = array_remove(domains, $1::text)
        WHERE $1 = ANY (domains) AND tenant_id IS NULL
        """,
        name,
    )


async def dissolve(connection: Connection, tenant_id: UUID) -> bool:
    """Remove the tenant itself. False while there is anything left of it, its objects included."""
    async with connection.transaction():
        # Whoever refers to it, or is about to, shares this row.
        await connection.execute("SELECT FROM tenants WHERE id = $1 FOR UPDATE", tenant_id)
        tables = [one.sql for one in await tables_of_tenant(connection)]
        for table in [*tables, "blob_trash"]:
            left = f"SELECT EXISTS (SELECT FROM {table} WHERE tenant_id = $1)"  # noqa: S608
            if await connection.fetchval(left, tenant_id):
                return False
        await connection.execute(
            "INSERT INTO erased_tenants (tenant_id, erased_at) VALUES ($1, now()) ON CONFLICT DO NOTHING", tenant_id
        )
        await connection.execute("DELETE FROM tenants WHERE id = $1", tenant_id)
        return True
