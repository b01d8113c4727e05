"""Who is measured: the daemon with the raw bytes in Postgres or in segments, and two baselines for the ratios.

Each gets a place of its own for every run (a fresh database, a fresh directory), serves there, and is then counted:
what was answered yes must be there.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from tests.bench import postfix
from tests.bench.audit import Audit, audit, audit_plain, unanswered
from tests.bench.corpus import DOMAIN, Corpus
from tests.bench.driver import Answer
from tests.bench.raws import place
from tests.bench.subject import (
    PROXIED,
    Daemon,
    Server,
    daemon,
    fresh_database,
    own_environment,
    query,
    serving,
)
from tests.ports import free_port

EMPTY = "template1"


class Name(StrEnum):
    """The contestants, in the order in which they run."""

    POSTGRES = "postgres"
    SEGMENTS = "segments"
    PLAIN = "plain"
    POSTFIX = "postfix"

    @property
    def baseline(self) -> bool:
        return self in (Name.PLAIN, Name.POSTFIX)

    @property
    def share(self) -> int:
        """It gets the first mail of this many: a slow one's run need not take minutes."""
        return 5 if self is Name.PLAIN else 1


class Contestant(Protocol):
    """One contestant at his place. A driver must send a PROXY header to all of them."""

    def serve(self) -> AbstractContextManager[Daemon]:
        """Open the door, and close it when all is stored. Raises BenchError."""

    def count(self, corpus: Corpus, answers: tuple[Answer, ...]) -> Audit:
        """Hold what is stored against the answers; every mail of the corpus counts as sent."""


@contextmanager
def invite(name: Name, server: Server, *, workers: int, nameserver: tuple[str, int], log: Path) -> Iterator[Contestant]:
    """Make a place for a contestant; what is there is gone afterwards."""
    match name:
        case Name.POSTFIX:
            with postfix.queue_directory(server.directory) as directory:
                yield Postfix(directory)
        case Name.PLAIN:
            with fresh_database(server, template=EMPTY) as url:
                yield Plain(url=url, nameserver=nameserver, log=log)
        case Name.POSTGRES:
            with fresh_database(server) as url:
                yield Ingester(url=url, workers=workers, nameserver=nameserver, log=log, settings={})
        case Name.SEGMENTS:
            with place("segments", server.directory) as raws, fresh_database(server) as url:
                yield Ingester(url=url, workers=workers, nameserver=nameserver, log=log, settings=raws.settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingester:
    """The daemon."""

    url: str
    workers: int
    nameserver: tuple[str, int]
    log: Path
    settings: Mapping[str, str]

    def serve(self) -> AbstractContextManager[Daemon]:
        settings = {**PROXIED, **self.settings}
        return daemon(self.url, workers=self.workers, log=self.log, nameserver=self.nameserver, settings=settings)

    def count(self, corpus: Corpus, answers: tuple[Answer, ...]) -> Audit:
        return query(self.url, lambda connection: audit(connection, corpus, answers))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """The plain Python ingester (tests/bench/plain.py)."""

    url: str
    nameserver: tuple[str, int]
    log: Path

    @contextmanager
    def serve(self) -> Iterator[Daemon]:
        port = free_port()
        arguments = (self.url, str(port), *map(str, self.nameserver), DOMAIN)
        command = (sys.executable, "-m", "tests.bench.plain", *arguments)
        with serving(command, own_environment(), port=port, log=self.log, proxied=True) as process:
            yield Daemon(pid=process.pid, port=port)

    def count(self, corpus: Corpus, answers: tuple[Answer, ...]) -> Audit:
        return query(self.url, lambda connection: audit_plain(connection, corpus, answers))


@dataclass(frozen=True, slots=True)
class Postfix:
    """Postfix that queues (tests/bench/postfix.py)."""

    directory: Path

    @contextmanager
    def serve(self) -> Iterator[Daemon]:
        with postfix.queueing(self.directory) as queue:
            yield Daemon(pid=queue.pid, port=queue.port)

    def count(self, corpus: Corpus, answers: tuple[Answer, ...]) -> Audit:
        queued = postfix.count_queued(self.directory)
        accepted = Counter(answer.mail for answer in answers if answer.accepted)
        problems = unanswered(corpus, answers, accepted)
        if queued != accepted.total():
            problems.append(f"{accepted.total()} mails answered yes, but {queued} in the queue")
        return Audit(stored=queued, rows=None, problems=tuple(problems))
