"""The loss count: the corpus and what was answered yes, against the rows. Every mail is looked at, not only sums."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

import asyncpg

from ingester.settings import S3, Settings
from ingester.store.blobs import Blobs, Named
from ingester.store.objects import ObjectMissing, ObjectTooLarge
from tests.bench.corpus import Corpus, Mail
from tests.bench.driver import Answer

CHECKS = ("spf", "dkim", "dmarc")
"""Whose verdicts stand in the rows. The whole corpus passes, so that a check that was skipped or failed is seen."""
SHOWN = 3
"""How many mails a problem names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What the daemon's database holds after a run. Conversations and deadlocks are information, no loss."""

    messages: int
    receipts: int
    raws: int
    raw_bytes: int
    parts: int
    dead_letters: int
    threads: int
    threads_expected: int
    matched: int
    matched_expected: int
    deadlocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What is stored and what is wrong with it; no problem means that nothing was lost and nothing invented.

    `stored` mails, wherever; `rows` only of the daemon.
    """

    stored: int
    rows: Rows | None
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Message:
    """One message row with what hangs on it. `stored_sha256` is of the bytes themselves, wherever they lie."""

    sha256: bytes | None
    size: int | None
    stored_sha256: bytes | None
    parts: int
    receipts: int
    verdicts: dict[str, str]


async def audit(
    connection: asyncpg.Connection,
    corpus: Corpus,
    answers: tuple[Answer, ...],
    *,
    passing: Sequence[str] = CHECKS,
    s3: S3 | None = None,
) -> Audit:
    """Compare. Every mail of the corpus counts as sent, so that one without an answer is a problem as well.

    `passing`: the checks that must have passed for every mail; SPF does for a client that a PROXY header names. `s3`:
    how to reach the objects that rows name.
    """
    messages = await _messages(connection, Settings(s3=s3 or S3()))
    rows = await _count(connection, corpus)
    accepted = Counter(answer.mail for answer in answers if answer.accepted)
    problems = unanswered(corpus, answers, accepted)
    acknowledged = {corpus.mails[number].message_id: corpus.mails[number] for number in accepted}
    problems += _compare(acknowledged.keys(), messages.keys())
    known = [(mail, found) for name, mail in acknowledged.items() for found in messages.get(name, ())]
    problems += _name("stored more than once", (name for name, found in messages.items() if len(found) > 1))
    problems += _name(
        "stored with other bytes", (mail.message_id for mail, found in known if not _same_bytes(mail, found))
    )
    problems += _name("with other parts", (mail.message_id for mail, found in known if found.parts != mail.parts))
    problems += _name("without a receipt", (mail.message_id for mail, found in known if not found.receipts))
    for check in passing:
        failed = (mail.message_id for mail, found in known if found.verdicts[check] != "pass")
        problems += _name(f"with {check} not passed", failed)
    if rows.receipts < accepted.total():
        problems.append(f"{accepted.total()} mails answered yes, but {rows.receipts} receipts")
    if rows.raws != rows.messages:
        problems.append(f"{rows.messages} messages, but {rows.raws} raws")
    if rows.dead_letters:
        problems.append(f"{rows.dead_letters} dead letters")
    return Audit(stored=rows.messages, rows=rows, problems=tuple(problems))


async def audit_plain(connection: asyncpg.Connection, corpus: Corpus, answers: tuple[Answer, ...]) -> Audit:
    """The same for the rows of the plain baseline."""
    found = await connection.fetch("SELECT message_id, sha256(raw) AS sha256, spf, dkim, dmarc FROM mails")
    stored = {row["message_id"].strip("<>"): row for row in found}
    accepted = Counter(answer.mail for answer in answers if answer.accepted)
    acknowledged = {corpus.mails[number].message_id: corpus.mails[number] for number in accepted}
    problems = unanswered(corpus, answers, accepted) + _compare(acknowledged.keys(), stored.keys())
    known = [(mail, stored[name]) for name, mail in acknowledged.items() if name in stored]
    other = (mail.message_id for mail, row in known if row["sha256"].hex() != mail.sha256)
    problems += _name("stored with other bytes", other)
    for check in CHECKS:
        problems += _name(f"with {check} not passed", (mail.message_id for mail, row in known if row[check] != "pass"))
    if len(found) != accepted.total():
        problems.append(f"{accepted.total()} mails answered yes, but {len(found)} rows")
    return Audit(stored=len(found), rows=None, problems=tuple(problems))


def _compare(acknowledged: Set[str], stored: Set[str]) -> list[str]:
    return [
        *_name("lost (answered yes, no row)", acknowledged - stored),
        *_name("stored but never answered yes", stored - acknowledged),
    ]


def unanswered(corpus: Corpus, answers: tuple[Answer, ...], accepted: Counter[int]) -> list[str]:
    """What is wrong with the answers themselves: a no, or none."""
    refused = {answer.mail: answer.code for answer in answers if not answer.accepted and answer.mail not in accepted}
    codes = Counter(refused.values())
    problems = [f"{count} mails ended with {code or 'a dead connection'}" for code, count in sorted(codes.items())]
    silent = len(corpus.mails) - len(accepted) - len(refused)
    return [*problems, f"{silent} mails were never answered"] if silent else problems


def _same_bytes(mail: Mail, found: _Message) -> bool:
    """The row says so, and the bytes are so."""
    expected = bytes.fromhex(mail.sha256)
    return (found.sha256, found.stored_sha256, found.size) == (expected, expected, mail.size)


def _name(what: str, ids: Iterable[str]) -> list[str]:
    names = sorted(ids)
    if not names:
        return []
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return [f"{len(names)} {what}: {', '.join(names[:SHOWN])}{more}"]


async def _messages(connection: asyncpg.Connection, settings: Settings) -> dict[str, list[_Message]]:
    rows = await connection.fetch(
        """
        SELECT m.rfc_message_id AS name, m.spf, m.dkim, m.dmarc,
               r.tenant_id, r.id AS raw_id, r.blob_key, r.sha256, r.size, sha256(r.data) AS sha256_of_data,
               coalesce(p.count, 0) AS parts, coalesce(c.count, 0) AS receipts
        FROM messages m
        LEFT JOIN raws r ON r.tenant_id = m.tenant_id AND r.id = m.raw_id
        LEFT JOIN (SELECT tenant_id, message_id, count(*) FROM parts GROUP BY 1, 2) p
               ON p.tenant_id = m.tenant_id AND p.message_id = m.id
        LEFT JOIN (SELECT tenant_id, message_id, count(*) FROM receipts GROUP BY 1, 2) c
               ON c.tenant_id = m.tenant_id AND c.message_id = m.id
        """
    )
    blobs = Blobs(settings)  # reads what rows name, whatever new mails would go into
    messages: dict[str, list[_Message]] = {}
    for row in rows:
        found = _Message(
            sha256=row["sha256"],
            size=row["size"],
            stored_sha256=row["sha256_of_data"] if row["blob_key"] is None else await _hash(blobs, row),
            parts=row["parts"],
            receipts=row["receipts"],
            verdicts={check: row[check] for check in CHECKS},
        )
        messages.setdefault(row["name"], []).append(found)
    await blobs.close()
    return messages


async def _hash(blobs: Blobs, row: asyncpg.Record) -> bytes | None:
    """Of the bytes outside Postgres; None where they are not."""
    one = Named(tenant_id=row["tenant_id"], raw_id=row["raw_id"], url=row["blob_key"])
    try:
        return hashlib.sha256(await blobs.read(one, max_bytes=row["size"])).digest()
    except (ObjectMissing, ObjectTooLarge):
        return None


async def _count(connection: asyncpg.Connection, corpus: Corpus) -> Rows:
    row = await connection.fetchrow(
        """
        SELECT (SELECT count(*) FROM messages) AS messages,
               (SELECT count(*) FROM receipts) AS receipts,
               (SELECT count(*) FROM raws) AS raws,
               (SELECT coalesce(sum(size), 0)::bigint FROM raws) AS raw_bytes,
               (SELECT count(*) FROM parts) AS parts,
               (SELECT count(*) FROM dead_letters) AS dead_letters,
               (SELECT count(DISTINCT thread_id) FROM messages) AS threads,
               (SELECT count(*) FROM messages WHERE reply_match_status = 'matched') AS matched,
               (SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()) AS deadlocks
        """
    )
    if row is None:
        raise AssertionError("an aggregate gives one row")
    return Rows(
        threads_expected=len({mail.thread for mail in corpus.mails}),
        matched_expected=sum(mail.answers for mail in corpus.mails),
        **row,
    )
