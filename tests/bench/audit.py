"""The loss count: the corpus and what was answered yes, against the rows. Every mail is looked at, not only sums."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import asyncpg

from tests.bench.corpus import Corpus, Mail
from tests.bench.driver import Answer

SHOWN = 3
"""How many mails a problem names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What the database holds after a run. Conversations and deadlocks are information, no loss."""

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
    """The rows and what is wrong with them; no problem means that nothing was lost and nothing invented."""

    rows: Rows
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Message:
    """One message row with what hangs on it."""

    sha256: bytes | None
    size: int | None
    stored: int | None
    parts: int
    receipts: int


async def audit(connection: asyncpg.Connection, corpus: Corpus, answers: tuple[Answer, ...]) -> Audit:
    """Compare. Every mail of the corpus counts as sent, so that one without an answer is a problem as well."""
    messages = await _messages(connection)
    rows = await _count(connection, corpus)
    accepted = Counter(answer.mail for answer in answers if answer.accepted)
    problems = [*_answers(corpus, answers, accepted)]
    acknowledged = {corpus.mails[number].message_id: corpus.mails[number] for number in accepted}
    problems += _name("lost (answered yes, no row)", acknowledged.keys() - messages.keys())
    problems += _name("stored but never answered yes", messages.keys() - acknowledged.keys())
    known = [(mail, found) for name, mail in acknowledged.items() for found in messages.get(name, ())]
    problems += _name("stored more than once", (name for name, found in messages.items() if len(found) > 1))
    problems += _name(
        "stored with other bytes", (mail.message_id for mail, found in known if not _same_bytes(mail, found))
    )
    problems += _name("with other parts", (mail.message_id for mail, found in known if found.parts != mail.parts))
    problems += _name("without a receipt", (mail.message_id for mail, found in known if not found.receipts))
    if rows.receipts < accepted.total():
        problems.append(f"{accepted.total()} mails answered yes, but {rows.receipts} receipts")
    if rows.raws != rows.messages:
        problems.append(f"{rows.messages} messages, but {rows.raws} raws")
    if rows.dead_letters:
        problems.append(f"{rows.dead_letters} dead letters")
    return Audit(rows=rows, problems=tuple(problems))


def _answers(corpus: Corpus, answers: tuple[Answer, ...], accepted: Counter[int]) -> list[str]:
    refused = {answer.mail: answer.code for answer in answers if not answer.accepted and answer.mail not in accepted}
    codes = Counter(refused.values())
    problems = [f"{count} mails ended with {code or 'a dead connection'}" for code, count in sorted(codes.items())]
    silent = len(corpus.mails) - len(accepted) - len(refused)
    return [*problems, f"{silent} mails were never answered"] if silent else problems


def _same_bytes(mail: Mail, found: _Message) -> bool:
    """By hash and by length of what is stored; where contents lie outside Postgres the length says nothing."""
    same = found.sha256 is not None and found.sha256.hex() == mail.sha256 and found.size == mail.size
    return same and found.stored in (None, mail.size)


def _name(what: str, ids: Iterable[str]) -> list[str]:
    names = sorted(ids)
    if not names:
        return []
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return [f"{len(names)} {what}: {', '.join(names[:SHOWN])}{more}"]


async def _messages(connection: asyncpg.Connection) -> dict[str, list[_Message]]:
    rows = await connection.fetch(
        """
        SELECT m.rfc_message_id, r.sha256, r.size, octet_length(r.data) AS stored,
               coalesce(p.count, 0) AS parts, coalesce(c.count, 0) AS receipts
        FROM messages m
        LEFT JOIN raws r ON r.tenant_id = m.tenant_id AND r.id = m.raw_id
        LEFT JOIN (SELECT tenant_id, message_id, count(*) FROM parts GROUP BY 1, 2) p
               ON p.tenant_id = m.tenant_id AND p.message_id = m.id
        LEFT JOIN (SELECT tenant_id, message_id, count(*) FROM receipts GROUP BY 1, 2) c
               ON c.tenant_id = m.tenant_id AND c.message_id = m.id
        """
    )
    messages: dict[str, list[_Message]] = {}
    for name, sha256, size, stored, parts, receipts in rows:
        found = _Message(sha256=sha256, size=size, stored=stored, parts=parts, receipts=receipts)
        messages.setdefault(name, []).append(found)
    return messages


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
