"""What was said, held against the rows: every yes has exactly one message per mailbox, and nothing was invented."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from hashlib import sha256
from uuid import UUID

import asyncpg
from pydantic import SecretStr

from ingester.clock import now
from ingester.settings import load
from ingester.store.blobs import Blobs
from ingester.store.db import Database
from ingester.store.segments.compacting import tend_all
from ingester.store.sweeping import sweep
from ingester.store.trash import empty
from tests.blobs import current, stored_bytes
from tests.daemon import OF_THIS_TEST, arrival
from tests.mta import Attempt, Letter


def audit(url: str, mails: Iterable[Letter], attempts: Iterable[Attempt], *, dead: int = 0) -> None:
    """Fails on any mail lost, doubled, changed or invented, and on rows that disagree. All mails have had their yes.

    `dead` is the number of dead letters that there must be; their mails are not among `mails`.
    """
    asyncio.run(_audit(url, list(mails), list(attempts), dead))


async def _audit(url: str, mails: list[Letter], attempts: list[Attempt], dead: int) -> None:
    await _tidy(url)
    connection = await asyncpg.connect(url)
    try:
        await _audit_messages(connection, mails)
        await _audit_receipts(connection, attempts)
        await _audit_remains(connection, dead)
        await _audit_objects(connection)
    finally:
        await connection.close()


async def _audit_messages(connection: asyncpg.Connection, mails: list[Letter]) -> None:
    """One message per mail and mailbox, its bytes the ones that were sent, and no other message."""
    rows = await connection.fetch(
        """
        SELECT m.rfc_message_id, b.local_part || '@' || b.domain AS address, r.data, r.blob_key
        FROM messages m
        JOIN mailboxes b ON b.tenant_id = m.tenant_id AND b.id = m.mailbox_id
        LEFT JOIN raws r ON r.tenant_id = m.tenant_id AND r.id = m.raw_id
        """
    )
    stored = Counter((row["rfc_message_id"], row["address"]) for row in rows)
    sent = {(mail.message_id, to) for mail in mails for to in mail.recipients}
    assert not [key for key, count in stored.items() if count > 1], "doubled"
    assert not sent - set(stored), "lost"
    assert not set(stored) - sent, "invented"
    contents = {mail.message_id: sha256(mail.content).digest() for mail in mails}
    assert not [row[0] for row in rows if sha256(stored_bytes(row)).digest() != contents[row[0]]], "changed"


async def _audit_receipts(connection: asyncpg.Connection, attempts: list[Attempt]) -> None:
    """Each yes named an arrival whose receipts lead to that very mail, in the mailboxes of that very attempt."""
    rows = await connection.fetch(
        """
        SELECT x.arrival_id, x.message_id, x.duplicate, x.envelope_to, m.rfc_message_id
        FROM receipts x JOIN messages m ON m.tenant_id = x.tenant_id AND m.id = x.message_id
        """
    )
    receipts: dict[UUID, set[tuple[str, str]]] = {}
    for row in rows:
        receipts.setdefault(row["arrival_id"], set()).update((row["rfc_message_id"], to) for to in row["envelope_to"])
    for attempt in attempts:
        for to in attempt.said("2"):
            assert (attempt.letter.message_id, to) in receipts[arrival(attempt.answers[to])], "a yes without a receipt"
    firsts = Counter(row["message_id"] for row in rows if not row["duplicate"])
    assert set(firsts.values()) <= {1}, "two first arrivals of one message"
    assert set(firsts) == {row["message_id"] for row in rows}, "only duplicates of a message"


async def _audit_remains(connection: asyncpg.Connection, dead: int) -> None:
    """Nothing lies about that belongs to nothing."""
    orphans = {
        "receipts": "receipts x WHERE message_id IS NOT NULL AND NOT EXISTS (SELECT FROM messages m"
        " WHERE m.tenant_id = x.tenant_id AND m.id = x.message_id)",
        "messages": "messages m WHERE NOT EXISTS (SELECT FROM receipts x"
        " WHERE x.tenant_id = m.tenant_id AND x.message_id = m.id)",
        "raws": "raws r WHERE NOT EXISTS (SELECT FROM messages m WHERE m.tenant_id = r.tenant_id AND m.raw_id = r.id)"
        " AND NOT EXISTS (SELECT FROM dead_letters d WHERE d.tenant_id = r.tenant_id AND d.raw_id = r.id)",
        "parts": "messages m WHERE NOT EXISTS (SELECT FROM parts p"
        " WHERE p.tenant_id = m.tenant_id AND p.message_id = m.id)",
        "claims": "claims c WHERE message_id IS NOT NULL AND NOT EXISTS (SELECT FROM messages m"
        " WHERE m.tenant_id = c.tenant_id AND m.id = c.message_id)",
        "threads": "threads t WHERE message_count <> (SELECT count(*) FROM messages m"
        " WHERE m.tenant_id = t.tenant_id AND m.thread_id = t.id)",
    }
    for name, rest in orphans.items():
        assert await connection.fetchval(f"SELECT count(*) FROM {rest}") == 0, name
    assert await connection.fetchval("SELECT count(*) FROM dead_letters") == dead


async def _tidy(url: str) -> None:
    """What the daemon does by and by, at once: the trash is emptied, and whatever is lost in the bucket is swept."""
    if current() is None:
        return
    settings = load(OF_THIS_TEST).model_copy(update={"database_url": SecretStr(url)})
    database, blobs = Database(settings), Blobs(settings)
    await database.open()
    if blobs.in_segments:
        await tend_all(database, blobs.segments.shelf)
    await empty(database, blobs)
    await sweep(database, blobs, before=now() + timedelta(days=1), apply=True, force=True)
    await database.close()


async def _audit_objects(connection: asyncpg.Connection) -> None:
    """An object for each raw mail that names one, and no other."""
    bucket = current()
    if bucket is not None:
        rows = await connection.fetch("SELECT blob_key FROM raws WHERE blob_key IS NOT NULL")
        assert bucket.urls() == {row["blob_key"] for row in rows}
