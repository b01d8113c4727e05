"""What the database says of its own tables: which hold rows of tenants, by what key, and which columns hold text.

Whoever must miss nothing asks here, so that a table or a column that is added later is not forgotten.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from ingester.store.db import Connection

TEXTS: Final = ("text", "character varying")
LISTS: Final = ("text[]", "character varying[]")
DOCUMENTS: Final = ("jsonb", "json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column. `unique`: no two rows of a tenant may have the same in it."""

    name: str
    type: str
    unique: bool

    @property
    def holds_text(self) -> bool:
        return self.type in (*TEXTS, *LISTS, *DOCUMENTS)

    @property
    def sql(self) -> str:
        return quoted(self.name)

    @property
    def as_text(self) -> str:
        """An expression that has all its text."""
        if self.type in LISTS:
            return f"array_to_string({self.sql}, chr(10))"
        return self.sql if self.type in TEXTS else f"{self.sql}::text"


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table with a column `tenant_id`. `key` is its primary key without it; `owned` says that it begins with it."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[Column, ...]
    owned: bool
    refers_to: frozenset[str]

    @property
    def sql(self) -> str:
        return quoted(self.name)

    @cached_property
    def texts(self) -> tuple[Column, ...]:
        return tuple(one for one in self.columns if one.holds_text)

    @cached_property
    def bytes_columns(self) -> tuple[Column, ...]:
        return tuple(one for one in self.columns if one.type == "bytea")

    def key_sql(self) -> str:
        """The columns of the key, for a list."""
        return ", ".join(one.sql for one in self.key)

    def values_sql(self, first: int) -> str:
        """Parameters for a key, beginning with `$first`."""
        return ", ".join(f"${first + n}::{one.type}" for n, one in enumerate(self.key))


def quoted(name: str) -> str:
    """A name as SQL takes it, whatever it is."""
    return '"' + name.replace('"', '""') + '"'


async def tenant_tables(connection: Connection) -> list[Table]:
    """The tables that hold rows of tenants; those that refer to another come before it."""
    rows = await connection.fetch(
        """
        SELECT t.oid, t.relname AS name, a.attname AS column, format_type(a.atttypid, NULL) AS type,
               coalesce(array_position(p.indkey::smallint[], a.attnum), -1) AS place,
               EXISTS (SELECT FROM pg_index u
                       WHERE u.indrelid = t.oid AND u.indisunique AND a.attnum = ANY (u.indkey::smallint[])) AS unique,
               ARRAY(SELECT r.relname::text FROM pg_constraint c JOIN pg_class r ON r.oid = c.confrelid
                     WHERE c.conrelid = t.oid AND c.contype = 'f') AS refers_to
        FROM pg_class t
        JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_index p ON p.indrelid = t.oid AND p.indisprimary
        WHERE t.relnamespace = current_schema()::regnamespace AND t.relkind IN ('r', 'p') AND NOT t.relispartition
          AND EXISTS (SELECT FROM pg_attribute x
                      WHERE x.attrelid = t.oid AND x.attname = 'tenant_id' AND NOT x.attisdropped)
        ORDER BY t.relname, a.attnum
        """
    )
    tables = []
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [row for row in rows if row["name"] == name]
        columns = {
            row["column"]: Column(name=row["column"], type=row["type"], unique=row["unique"])
            for row in own
            if row["column"] != "tenant_id"
        }
        keyed = sorted((row for row in own if row["place"] >= 0), key=lambda row: row["place"])
        tables.append(
            Table(
                name=name,
                columns=tuple(columns.values()),
                key=tuple(columns[row["column"]] for row in keyed if row["column"] != "tenant_id"),
                owned=bool(keyed) and keyed[0]["column"] == "tenant_id",
                refers_to=frozenset(own[0]["refers_to"]),
            )
        )
    return _in_order(tables)


def _in_order(tables: Sequence[Table]) -> list[Table]:
    """Each before those that it refers to, else by name."""
    left, done = {one.name: one for one in tables}, list[Table]()
    while left:
        referred = {name for one in left.values() for name in one.refers_to - {one.name}}
        free = [one for name, one in left.items() if name not in referred] or list(left.values())
        done += free
        for one in free:
            del left[one.name]
    return done
