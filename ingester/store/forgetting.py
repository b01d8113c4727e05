"""Finding the rows of a tenant that name a person, and changing or removing them; each change is one transaction.

What is to become of a row is not decided here (`core.forgetting`). Rows are read page by page in the order of their
key, and of a page only those that hold both the local part and the domain somewhere: the rest is never sent.
"""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from ingester.core.address import Address
from ingester.core.person import Person
from ingester.store.catalog import Table
from ingester.store.db import Connection
from ingester.store.erasing import MOVES, count_of, lock, remove
from ingester.store.registry import enter_alone

PAGE: Final = 500
"""Rows that are looked at in one query."""
WHOLE_SECONDS: Final = 3600
"""How long a query may take: over a page of the longest texts there are, or over the raw mails of a whole tenant."""
BATCH: Final = 50
"""Messages that go in one transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A row that may name the person. `key` is its primary key without the tenant, `texts` its text columns."""

    key: tuple[Any, ...]
    texts: Mapping[str, Any]


async def rows_naming(
    connection: Connection, table: Table, tenant_id: UUID, person: Person
) -> AsyncIterator[Sequence[Named]]:
    """The rows that hold the parts of the address, page by page."""
    if not table.texts or not table.key:
        return
    low: Sequence[Any] | None = None
    while True:
        high = await _end_of_page(connection, table, tenant_id, low)
        yield await _page(connection, table, tenant_id, person, low, high)
        if high is None:
            return
        low = high


async def _end_of_page(
    connection: Connection, table: Table, tenant_id: UUID, low: Sequence[Any] | None
) -> Sequence[Any] | None:
    beyond = f"AND ({table.key_sql()}) > ({table.values_sql(3)})" if low is not None else ""
    row = await connection.fetchrow(
        f"""
        SELECT {table.key_sql()} FROM {table.sql} WHERE tenant_id = $1 {beyond}
        ORDER BY {table.key_sql()} OFFSET $2 LIMIT 1
        """,  # noqa: S608  (names of the database's own, quoted)
        tenant_id,
        PAGE - 1,
        *(low or ()),
    )
    return None if row is None else tuple(row)


async def _page(
    connection: Connection,
    table: Table,
    tenant_id: UUID,
    person: Person,
    low: Sequence[Any] | None,
    high: Sequence[Any] | None,
) -> list[Named]:
    many = len(table.key)
    bounds = [f"AND ({table.key_sql()}) > ({table.values_sql(4)})"] if low is not None else []
    if high is not None:
        bounds.append(f"AND ({table.key_sql()}) <= ({table.values_sql(4 + (many if low is not None else 0))})")
    texts = ", ".join(one.sql for one in table.texts)
    whole = f"lower(concat_ws(chr(10), {', '.join(one.as_text for one in table.texts)}))"
    rows = await connection.fetch(
        f"""
        SELECT {table.key_sql()}, {texts} FROM {table.sql}
        CROSS JOIN LATERAL (SELECT {whole} AS whole OFFSET 0) w
        WHERE tenant_id = $1 {" ".join(bounds)}
          AND w.whole LIKE ANY ($2::text[]) AND w.whole LIKE $3
        ORDER BY {table.key_sql()}
        """,  # noqa: S608
        tenant_id,
        [_like(one) for one in person.domains],
        _like(person.plain_local),
        *(low or ()),
        *(high or ()),
        timeout=WHOLE_SECONDS,
    )
    return [
        Named(key=tuple(row.values())[:many], texts={one.name: row[one.name] for one in table.texts}) for row in rows
    ]


def _like(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


async def change(connection: Connection, table: Table, tenant_id: UUID, row: Named, changes: Mapping[str, Any]) -> bool:
    """Change a row, unless somebody else has changed these columns meanwhile."""
    columns = [one for one in table.texts if one.name in changes]
    first = 2 + len(table.key)
    sets = ", ".join(f"{one.sql} = ${first + n}::{one.type}" for n, one in enumerate(columns))
    old = " AND ".join(
        f"{one.sql} IS NOT DISTINCT FROM ${first + len(columns) + n}::{one.type}" for n, one in enumerate(columns)
    )
    status = await connection.execute(
        f"""
        UPDATE {table.sql} SET {sets}
        WHERE tenant_id = $1 AND ({table.key_sql()}) = ({table.values_sql(2)}) AND {old}
        """,  # noqa: S608
        tenant_id,
        *row.key,
        *(changes[one.name] for one in columns),
        *(row.texts[one.name] for one in columns),
    )
    return count_of(status) > 0


async def delete(connection: Connection, table: Table, tenant_id: UUID, row: Named) -> bool:
    """Delete a row that nothing else hangs on."""
    status = await connection.execute(
        f"DELETE FROM {table.sql} WHERE tenant_id = $1 AND ({table.key_sql()}) = ({table.values_sql(2)})",  # noqa: S608
        tenant_id,
        *row.key,
    )
    return count_of(status) > 0


async def delete_contact(connection: Connection, tenant_id: UUID, contact_id: UUID) -> bool:
    """Delete a contact; what names it names nobody then, mail that is on its way included."""
    async with connection.transaction():
        await enter_alone(connection, tenant_id)
        for table in ("messages", "participants"):
            await connection.execute(
                f"UPDATE {table} SET contact_id = NULL WHERE tenant_id = $1 AND contact_id = $2",  # noqa: S608
                tenant_id,
                contact_id,
            )
        status = await connection.execute(
            "DELETE FROM contacts WHERE tenant_id = $1 AND id = $2", tenant_id, contact_id
        )
    return count_of(status) > 0


async def remove_messages(
    connection: Connection, tenant_id: UUID, message_ids: Sequence[UUID], bare: Mapping[str, Any]
) -> Counter[str]:
    """Remove messages with all that is theirs; their receipts stay, bared of whoever sent them."""
    counts: Counter[str] = Counter()
    for start in range(0, len(message_ids), BATCH):
        left = list(message_ids[start : start + BATCH])
        for _ in range(MOVES):
            async with connection.transaction():
                rows = await lock(connection, tenant_id, left)
                counts += (await remove(connection, tenant_id, rows)).rows
                counts["receipts bared"] += await bare_receipts(connection, tenant_id, "message_id", left, bare)
            gone = {row["id"] for row in rows}
            left = [one for one in left if one not in gone]
            if not left:
                break
    return counts


async def bare_receipts(
    connection: Connection, tenant_id: UUID, of: str, ids: Sequence[UUID], bare: Mapping[str, Any]
) -> int:
    """Take what they say of the sender out of the receipts of messages (`message_id`) or letters (`dead_letter_id`)."""
    status = await connection.execute(
        f"""
        UPDATE receipts SET envelope_from = $3, client_ip = $4, helo = $5, auth_report = $6, metadata = $7
        WHERE tenant_id = $1 AND {of} = ANY ($2::uuid[])
        """,  # noqa: S608  (one of our own two words)
        tenant_id,
        ids,
        *(bare[name] for name in ("envelope_from", "client_ip", "helo", "auth_report", "metadata")),
    )
    return count_of(status)


async def remove_letter(
    connection: Connection, tenant_id: UUID, letter_id: UUID, bare: Mapping[str, Any]
) -> Counter[str]:
    """Remove a dead letter with its bytes, unless these are a message's by now. Its claims stay."""
    async with connection.transaction():
        row = await connection.fetchrow(
            "SELECT raw_id, state FROM dead_letters WHERE tenant_id = $1 AND id = $2 FOR UPDATE", tenant_id, letter_id
        )
        if row is None:
            return Counter()
        bared = await bare_receipts(connection, tenant_id, "dead_letter_id", [letter_id], bare)
        await connection.execute("DELETE FROM dead_letters WHERE tenant_id = $1 AND id = $2", tenant_id, letter_id)
        raws = 0 if row["state"] == "redriven" else await delete_raw(connection, tenant_id, row["raw_id"])
        return Counter({"dead_letters": 1, "receipts bared": bared, "raws": raws})


async def delete_raw(connection: Connection, tenant_id: UUID, raw_id: UUID) -> int:
    """Delete raw bytes."""
    return count_of(await connection.execute("DELETE FROM raws WHERE tenant_id = $1 AND id = $2", tenant_id, raw_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A message or a dead letter that has raw bytes."""

    table: str
    id: UUID
    raw_id: UUID


async def raw_holders(connection: Connection, tenant_id: UUID) -> AsyncIterator[Sequence[Holder]]:
    """Whoever has raw bytes that are there, page by page."""
    for table in ("messages", "dead_letters"):
        after = UUID(int=0)
        while True:
            rows = await connection.fetch(
                f"""
                SELECT m.id, m.raw_id FROM {table} m
                WHERE m.tenant_id = $1 AND m.id > $2
                  AND EXISTS (SELECT FROM raws r WHERE r.tenant_id = m.tenant_id AND r.id = m.raw_id)
                ORDER BY m.id LIMIT $3
                """,  # noqa: S608  (one of our own two words)
                tenant_id,
                after,
                PAGE,
            )
            yield [Holder(table=table, id=row["id"], raw_id=row["raw_id"]) for row in rows]
            if len(rows) < PAGE:
                break
            after = rows[-1]["id"]


async def lost_raws(connection: Connection, tenant_id: UUID) -> list[UUID]:
    """Raw bytes that nobody has."""
    rows = await connection.fetch(
        """
        SELECT r.id FROM raws r WHERE r.tenant_id = $1
          AND NOT EXISTS (SELECT FROM messages m WHERE m.tenant_id = $1 AND m.raw_id = r.id)
          AND NOT EXISTS (SELECT FROM dead_letters d WHERE d.tenant_id = $1 AND d.raw_id = r.id)
        ORDER BY r.id
        """,
        tenant_id,
        timeout=WHOLE_SECONDS,
    )
    return [row["id"] for row in rows]


async def parts_with_bytes(connection: Connection, tenant_id: UUID) -> AsyncIterator[tuple[UUID, bytes]]:
    """The parts that are no view on raw bytes, one by one: the message, and the bytes."""
    rows = await connection.fetch(
        "SELECT message_id, ordinal FROM parts WHERE tenant_id = $1 AND octet_length(data) > 0", tenant_id
    )
    for row in rows:
        data = await connection.fetchval(
            "SELECT data FROM parts WHERE tenant_id = $1 AND message_id = $2 AND ordinal = $3", tenant_id, *row
        )
        yield row["message_id"], bytes(data or b"")


async def own_mailboxes(
    connection: Connection, tenant_ids: Sequence[UUID], locals_: Sequence[str], domain: str
) -> list[tuple[str, str]]:
    """The mailboxes (tenant, address) that such an address reaches by name: it is the tenant's own then."""
    rows = await connection.fetch(
        """
        SELECT t.slug, b.local_part, b.domain FROM tenants t
        JOIN mailboxes b ON b.tenant_id = t.id AND b.system IS NULL
        WHERE t.id = ANY ($1) AND (
            (b.domain = $2 AND lower(b.local_part) = ANY ($3::text[])) OR EXISTS (
                SELECT FROM routes r WHERE r.tenant_id = t.id AND r.mailbox_id = b.id AND r.domain = $2
                  AND r.local_part = ANY ($3::text[])))
        ORDER BY t.slug
        """,
        tenant_ids,
        domain,
        locals_,
    )
    return [(row["slug"], str(Address(local=row["local_part"], domain=row["domain"]))) for row in rows]
