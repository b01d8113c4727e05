"""The list of deploy/citus.sql against the schema: every table, with its tenant, in an order that foreign keys allow.

`python -m tests.deploy.test_citus URL` writes the file anew from a migrated database. Citus itself is not run: Debian
has none. What is checked is what Citus asks of a schema.
"""

import asyncio
import re
import sys
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest

SQL = Path(__file__).parents[2] / "deploy" / "citus.sql"
REFERENCE = ("tenants", "domains", "api_keys", "intake_tokens")
"""Law 4: whoever is asked for without knowing the tenant. They are small."""
LOCAL = ("schema_migrations",)
_HEAD = """\
-- Distributes the schema by tenant: run once on the coordinator of a Citus cluster, after `ingester migrate`, while no
-- daemon runs. See scaling.md for what is tested. Made and checked by tests/deploy/test_citus.py.
"""


class Table(NamedTuple):
    """A table, and those that its foreign keys point at."""

    name: str
    parents: frozenset[str]


async def schema(url: str) -> list[Table]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            """
            SELECT c.relname AS name,
                   array(SELECT DISTINCT f.confrelid::regclass::text FROM pg_constraint f
                         WHERE f.conrelid = c.oid AND f.contype = 'f' AND f.confrelid <> c.oid) AS parents
            FROM pg_class c
            WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
            ORDER BY c.oid
            """
        )
        return [Table(row["name"], frozenset(row["parents"])) for row in rows]
    finally:
        await connection.close()


def text_for(tables: list[Table]) -> str:
    """Reference tables first, then the others after those that they point at, all beside the first."""
    lines = [f"SELECT create_reference_table('{name}');" for name in REFERENCE]
    rest = [table for table in tables if table.name not in REFERENCE + LOCAL]
    done: list[str] = []
    while rest:
        ready = [table for table in rest if table.parents <= {*REFERENCE, *done}]
        assert ready, f"foreign keys in a circle: {[table.name for table in rest]}"
        for table in ready:
            beside = f", colocate_with => '{done[0]}'" if done else ""
            lines.append(f"SELECT create_distributed_table('{table.name}', 'tenant_id'{beside});")
            done.append(table.name)
        rest = [table for table in rest if table not in ready]
    return _HEAD + "\n".join(lines) + "\n"


async def test_the_list_is_that_of_the_schema(database_url: str) -> None:
    made = text_for(await schema(database_url))
    assert SQL.read_text() == made, "run `python -m tests.deploy.test_citus URL`"


async def test_what_is_referred_to_is_where_it_can_be(database_url: str) -> None:
    """A reference table cannot point at a distributed one, and what is distributed has the tenant in every key."""
    for table in await schema(database_url):
        if table.name in REFERENCE:
            assert table.parents <= set(REFERENCE), table.name
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch(
            """
            SELECT i.indrelid::regclass::text AS name, i.indexrelid::regclass::text AS index
            FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
            WHERE c.relnamespace = 'public'::regnamespace AND i.indisunique AND c.relkind IN ('r', 'p')
              AND NOT EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attname = 'tenant_id'
                              AND a.attnum = ANY (i.indkey))
            """
        )
    finally:
        await connection.close()
    assert {row["name"] for row in rows} <= {*REFERENCE, *LOCAL}


@pytest.mark.parametrize("table", ["messages", "raws", "claims"])
def test_a_table_that_is_not_listed_is_missed(table: str) -> None:
    """The file names what the mail needs, each once."""
    assert len(re.findall(rf"create_distributed_table\('{table}', 'tenant_id'", SQL.read_text())) == 1


if __name__ == "__main__":
    SQL.write_text(text_for(asyncio.run(schema(sys.argv[1]))))
