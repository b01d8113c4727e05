"""Mode `soak`: minutes of the mixed corpus, and whether memory, descriptors, tasks or the cost of a mail grow.

Full tilt over ten connections by default: a leak is one per mail, so that the most mails in the time show the most, and
a slowdown is seen in the rate itself. (`--rate` gives a steady one instead, below what the machine can do.)

The corpus goes round and round, each time to the mailboxes of a fresh tenant: the same mail to the same mailbox would
be a duplicate. After each round the daemon rests for a moment; memory, descriptors and tasks are those at rest. The
rows stay and grow; of the raw bytes only those of the last round, or minutes would need a disk of their own.
"""

import re
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import asyncpg
from rich.console import Console

from tests.bench import corpus as corpora
from tests.bench.corpus import DOMAIN, Corpus
from tests.bench.driver import Plan, Result, run_apart
from tests.bench.e2e import MEMORY_FILESYSTEMS, zone_of
from tests.bench.measure import describe_machine, tree_cpu, tree_descriptors, tree_pss
from tests.bench.probe import read as read_beats
from tests.bench.raws import place
from tests.bench.sheet import FORMAT, Figure, Sheet
from tests.bench.subject import (
    PROXIED,
    TENANT,
    BenchError,
    Daemon,
    Server,
    daemon,
    fill_directory,
    fresh_database,
    postgres,
    query,
)
from tests.nameserver import NameServer, in_thread

MOST_GROWTH_MIB = 5e6 / (1 << 20)
LEAST_SPEED = 0.95
MOST_COST = 1.05
MOST_MORE = 2.0
"""Descriptors and tasks: pools breathe a little."""
WARM_UP_SHARE = 0.2
"""Of the time: caches fill, and memory that is used now and then has been used once."""
REST_SECONDS = 2.0
"""After each round: longer than the probe takes to look at the tasks."""
FEWEST = 6
"""Rounds after the warm-up: three thirds of two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says. `mails` are those of a round, `rate` is in mails per second, 0: full tilt."""

    seed: int
    minutes: float
    mails: int
    connections: int
    rate: float
    workers: int
    blobs: str
    cache: Path
    directory: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One time through the corpus: CPU in milliseconds per mail; memory in MiB, and it and the counts at rest."""

    mails: int
    rate: float
    daemon_ms: float
    postgres_ms: float
    pss: float
    descriptors: int
    tasks: int
    problems: tuple[str, ...]


def run(options: Options, console: Console) -> Sheet:
    """Measure. Raises BenchError where there is nothing to measure; loss is in the sheet."""
    console.print("composing or reading the corpus ...", style="dim")
    corpus = corpora.load(seed=options.seed, count=options.mails, cache=options.cache)
    with postgres(options.directory) as server:
        machine = describe_machine(server.directory)
        if machine["filesystem"] in MEMORY_FILESYSTEMS:
            raise BenchError(f"{server.directory} is in memory, where fsync means nothing: give --data a disk")
        rounds, warm = _soak(server, corpus, options, console)
    return Sheet(
        mode="soak",
        format=FORMAT,
        setting={
            "corpus": corpora.VERSION,
            "seed": options.seed,
            "minutes": options.minutes,
            "mails a round": options.mails,
            "connections": options.connections,
            "rate": options.rate,
            "workers": options.workers,
            "blobs": options.blobs,
            "postgres": server.version,
        },
        machine=machine,
        figures=figures(rounds[warm:], steady=options.rate > 0),
        lost=tuple(dict.fromkeys(problem for one in rounds for problem in one.problems)),
        notes=(f"{sum(one.mails for one in rounds)} mails in {len(rounds)} rounds, {warm} of them to warm up",),
    )


def figures(rounds: Sequence[Round], *, steady: bool) -> tuple[Figure, ...]:
    """The last third of the rounds against the first; medians, so that one busy moment decides nothing."""
    third = max(1, len(rounds) // 3)
    first, last = rounds[:third], rounds[-third:]

    def middle(part: Sequence[Round], name: str) -> float:
        return float(statistics.median(getattr(one, name) for one in part))

    def cost(part: Sequence[Round]) -> float:
        return statistics.median(one.daemon_ms + one.postgres_ms for one in part)

    def growth(name: str) -> float:
        return middle(last, name) - middle(first, name)

    of = "the last third, against the first"
    return (
        Figure(
            name="rate", value=middle(last, "rate") / middle(first, "rate"), unit="times", of=of,
            more=True, least=None if steady else LEAST_SPEED,
        ),
        Figure(name="CPU a mail", value=cost(last) / cost(first), unit="times", most=MOST_COST, of=of),
        Figure(name="memory", value=growth("pss"), unit="MiB PSS more", most=MOST_GROWTH_MIB, of=of),
        Figure(name="descriptors", value=growth("descriptors"), unit="more", most=MOST_MORE, of=of),
        Figure(name="tasks", value=growth("tasks"), unit="more", most=MOST_MORE, of=of),
        Figure(name="rate, all", value=middle(rounds, "rate"), unit="mails/s", more=True),
        Figure(name="daemon, all", value=middle(rounds, "daemon_ms"), unit="CPU-ms a mail"),
        Figure(name="Postgres, all", value=middle(rounds, "postgres_ms"), unit="CPU-ms a mail"),
        Figure(name="memory at the end", value=middle(last, "pss"), unit="MiB PSS"),
        Figure(name="descriptors at the end", value=middle(last, "descriptors"), unit=""),
        Figure(name="tasks at the end", value=middle(last, "tasks"), unit=""),
    )  # fmt: skip


def _soak(server: Server, corpus: Corpus, options: Options, console: Console) -> tuple[list[Round], int]:
    """All rounds, and how many of them were to warm up."""
    with tempfile.TemporaryDirectory(dir=server.directory) as scratch, fresh_database(server) as url:
        probe = Path(scratch) / "beats"
        probe.mkdir()
        with (
            place(options.blobs, server.directory) as raws,
            in_thread(NameServer(zone=zone_of(corpus))) as names,
            daemon(
                url,
                workers=options.workers,
                log=Path(scratch) / "daemon.log",
                nameserver=names.address,
                settings={**PROXIED, **raws.settings},
                probe=probe,
            ) as subject,
        ):
            rounds: list[Round] = []
            warm = 0
            begun = time.monotonic()
            end = begun + 60 * options.minutes
            while time.monotonic() < end or len(rounds) - warm < FEWEST:
                one = _round(len(rounds) + 1, url, subject, server, corpus, options, probe)
                rounds.append(one)
                if not warm and time.monotonic() - begun >= WARM_UP_SHARE * 60 * options.minutes:
                    warm = len(rounds)
                _progress(len(rounds), one, time.monotonic() - begun, console)
    return rounds, warm


def _round(
    number: int, url: str, subject: Daemon, server: Server, corpus: Corpus, options: Options, probe: Path
) -> Round:
    """One time through the corpus, to a fresh tenant; then rest, look and count."""
    tenant, domain = UUID(int=TENANT.int + (number << 32)), f"r{number}.{DOMAIN}"
    query(url, lambda connection: fill_directory(connection, tenant=tenant, slug=f"r{number}", domain=domain))
    plan = Plan(
        host="127.0.0.1",
        port=subject.port,
        corpus=_addressed(corpus, domain),
        first=0,
        count=options.mails,
        connections=options.connections,
        proxied=True,
        rate=options.rate or None,
    )
    before = tree_cpu(subject.pid), tree_cpu(server.pid)
    result = run_apart(plan)
    after = tree_cpu(subject.pid), tree_cpu(server.pid)
    time.sleep(REST_SECONDS)
    ended = time.perf_counter()
    accepted = len(result.accepted)
    per_mail = 1000 / (accepted or 1)
    return Round(
        mails=accepted,
        rate=result.rate,
        daemon_ms=per_mail * (after[0] - before[0]),
        postgres_ms=per_mail * (after[1] - before[1]),
        pss=tree_pss(subject.pid),
        descriptors=tree_descriptors(subject.pid),
        tasks=read_beats(probe, ended - REST_SECONDS, ended).tasks,
        problems=tuple(_unanswered(number, result))
        + query(url, lambda connection: _count(connection, tenant, number, accepted)),
    )


def _addressed(corpus: Corpus, domain: str) -> Corpus:
    """The same mails to the same mailboxes at another domain; their content stays, signatures and all.

    Without the tags: the daemon keeps each address that it has seen, up to a limit which minutes do not reach, and new
    ones in each round would look like a leak.
    """
    mails = (replace(mail, recipient=f"{re.split('[+@]', mail.recipient)[0]}@{domain}") for mail in corpus.mails)
    return replace(corpus, mails=tuple(mails))


def _unanswered(number: int, result: Result) -> list[str]:
    codes = sorted({answer.code for answer in result.answers if not answer.accepted})
    stalled = ["the daemon stalled"] if result.stalled else []
    return [f"round {number}: {text}" for text in [*(f"answered {code}" for code in codes), *stalled]]


async def _count(connection: asyncpg.Connection, tenant: UUID, number: int, accepted: int) -> tuple[str, ...]:
    """What is amiss with the rows of a round; then its raw bytes go."""
    row = await connection.fetchrow(
        """
        SELECT (SELECT count(*) FROM messages WHERE tenant_id = $1) AS messages,
               (SELECT count(*) FROM receipts WHERE tenant_id = $1) AS receipts,
               (SELECT count(*) FROM raws WHERE tenant_id = $1) AS raws,
               (SELECT count(*) FROM dead_letters) AS dead_letters
        """,
        tenant,
    )
    if row is None:
        raise AssertionError("an aggregate gives one row")
    await connection.execute("TRUNCATE raws")
    counts = {name: row[name] for name in ("messages", "receipts", "raws") if row[name] != accepted}
    out = [f"round {number}: {accepted} answered yes, {count} {name}" for name, count in counts.items()]
    return tuple(out + ([f"round {number}: {row['dead_letters']} dead letters"] if row["dead_letters"] else []))


def _progress(number: int, one: Round, seconds: float, console: Console) -> None:
    console.print(
        f"{seconds:4.0f} s, round {number}: {one.rate:,.0f} mails/s, "
        f"{one.daemon_ms:.2f} + {one.postgres_ms:.2f} CPU-ms, "
        f"{one.pss:.1f} MiB, {one.descriptors} descriptors, {one.tasks} tasks"
        + (", [red]LOSS[/]" if one.problems else ""),
        style="dim",
        highlight=False,
    )
