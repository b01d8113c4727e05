"""The write round trip: our one statement for several mails, and what everybody writes first.

One INSERT per table and mail is measured with the very rows that our statement has written. It does less: it looks for
no duplicate, joins no conversation and counts nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import process_time
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg

from ingester.app import App
from ingester.settings import load
from ingester.store.mail import Mail
from ingester.store.messages import write
from tests.bench.measure import tree_cpu
from tests.bench.subject import Server

Rows: TypeAlias = list[list[tuple[str, list[tuple[Any, ...]]]]]
"""For each mail, for each table that it has rows in: the statement and the rows."""
_DIRECTORY = ("tenants", "domains", "mailboxes", "routes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trip:
    """CPU-milliseconds per mail of one way to write."""

    client: float
    postgres: float

    @property
    def both(self) -> float:
        return self.client + self.postgres


async def write_all(url: str, server: Server, mails: Sequence[Mail], batch: int) -> Trip:
    """One statement and one commit for so many mails."""
    app = App(load({}, env="development", database_url=url))
    await app.open()
    try:
        async with app.database.connection() as connection:
            begun = process_time(), tree_cpu(server.pid)
            for at in range(0, len(mails), batch):
                async with connection.transaction():
                    await write(connection, mails[at].tenant_id, mails[at : at + batch])
            ended = process_time(), tree_cpu(server.pid)
    finally:
        await app.close()
    return _trip(begun, ended, len(mails))


def _trip(begun: tuple[float, float], ended: tuple[float, float], mails: int) -> Trip:
    return Trip(client=1000 * (ended[0] - begun[0]) / mails, postgres=1000 * (ended[1] - begun[1]) / mails)


async def written_rows(url: str) -> Rows:
    """What was written, mail by mail, as INSERT statements."""
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch(
            """
            SELECT c.relname AS name, array_agg(a.attname::text ORDER BY a.attnum) AS columns
            FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
                  AND a.attgenerated = ''
            GROUP BY c.relname
            HAVING bool_or(a.attname = 'tenant_id')
            """
        )
        found: dict[str, list[asyncpg.Record]] = {}
        statements: dict[str, str] = {}
        for name, columns in tables:
            if name in _DIRECTORY:
                continue
            names = ", ".join(f'"{column}"' for column in columns)
            found[name] = await connection.fetch(f"SELECT {names} FROM {name}")
            places = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
            statements[name] = f"INSERT INTO {name} ({names}) VALUES ({places})"
        return _by_mail(found, statements)
    finally:
        await connection.close()


def _by_mail(found: dict[str, list[asyncpg.Record]], statements: dict[str, str]) -> Rows:
    """Rows go with the mail that they name, directly, by its raw or by its thread; else with the first."""
    order = sorted(found["messages"], key=lambda row: row["id"])
    mail_of: dict[UUID, int] = {}
    for number, row in enumerate(order):
        for name in ("id", "raw_id", "thread_id"):
            mail_of.setdefault(row[name], number)
    out: list[dict[str, list[tuple[Any, ...]]]] = [{} for _ in order]
    for table, rows in found.items():
        for row in rows:
            keys = (row.get("message_id"), row.get("raw_id"), row.get("id"), row.get("thread_id"))
            number = next((mail_of[key] for key in keys if key in mail_of), 0)
            out[number].setdefault(table, []).append(tuple(row))
    return [[(statements[table], rows) for table, rows in mail.items()] for mail in out]


async def insert_all(url: str, server: Server, mails: Rows) -> Trip:
    """What everybody writes first: a transaction for each mail, a statement for each table."""
    connection = await asyncpg.connect(url)
    try:
        begun = process_time(), tree_cpu(server.pid)
        for mail in mails:
            async with connection.transaction():
                for statement, rows in mail:
                    await connection.executemany(statement, rows)
        ended = process_time(), tree_cpu(server.pid)
    finally:
        await connection.close()
    return _trip(begun, ended, len(mails))
