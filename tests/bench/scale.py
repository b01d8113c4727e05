"""Mode `scale`: one, two and four daemons on one Postgres. What a mail costs, and what daemons wait for in each other.

Each daemon has one worker, a port and a share of the corpus and of the connections; together they send it once. On a
machine with as many cores as daemons the rate would grow; here the cores are shared, so that what says something is the
CPU of a mail and what Postgres' processes wait for: a lock of another daemon's row is contention, the disk is not.
deploy/capacity.md is computed from these costs.
"""

import asyncio
import statistics
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import asyncpg
from rich.console import Console

from tests.bench import corpus as corpora
from tests.bench.audit import audit
from tests.bench.corpus import Corpus
from tests.bench.driver import Answer, Plan, Result, run_apart
from tests.bench.e2e import MEMORY_FILESYSTEMS, zone_of
from tests.bench.measure import describe_machine, tree_cpu
from tests.bench.raws import place
from tests.bench.sheet import FORMAT, Figure, Sheet
from tests.bench.subject import PROXIED, BenchError, Daemon, Server, daemon, fresh_database, postgres, query
from tests.nameserver import NameServer, in_thread

MOST_LOCK_SHARE = 0.1
"""Of the moments in which a process of Postgres is at work, how many it may wait for another's row or lock, where there
are several daemons. The connections of a single one wait for each other too, where a mail and its answer come at once.
"""
_SAMPLE_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says. `connections` are shared out among the daemons."""

    seed: int
    mails: int
    warm_up: int
    daemons: tuple[int, ...]
    connections: int
    runs: int
    blobs: str
    cache: Path
    directory: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run. CPU in milliseconds and bytes per mail; shares of the samples of busy Postgres processes."""

    rate: float
    daemon_ms: float
    postgres_ms: float
    wal_bytes: float
    row_bytes: float
    mails_a_commit: float
    on_cpu: float
    on_disk: float
    on_growth: float
    on_locks: float


def run(options: Options, console: Console) -> Sheet:
    """Measure. Raises BenchError where there is nothing to measure; loss is in the sheet."""
    console.print("composing or reading the corpus ...", style="dim")
    corpus = corpora.load(seed=options.seed, count=options.warm_up + options.mails, cache=options.cache)
    found: dict[int, list[Measured]] = {count: [] for count in options.daemons}
    lost: list[str] = []
    with postgres(options.directory) as server:
        machine = describe_machine(server.directory)
        if machine["filesystem"] in MEMORY_FILESYSTEMS:
            raise BenchError(f"{server.directory} is in memory, where fsync means nothing: give --data a disk")
        for number in range(1, options.runs + 1):
            for count in options.daemons:
                one, problems = _measure(server, corpus, options, count)
                found[count].append(one)
                lost += [f"{count} daemons, run {number}: {problem}" for problem in problems]
                console.print(f"run {number}, {count} daemons: {one.rate:,.0f} mails/s", style="dim", highlight=False)
    return Sheet(
        mode="scale",
        format=FORMAT,
        setting={
            "corpus": corpora.VERSION,
            "seed": options.seed,
            "mails": options.mails,
            "mean bytes": round(corpus.mean_bytes),
            "connections": options.connections,
            "runs": options.runs,
            "blobs": options.blobs,
            "postgres": server.version,
        },
        machine=machine,
        figures=figures({count: _median(runs) for count, runs in found.items()}),
        lost=tuple(lost),
    )


def figures(found: dict[int, Measured]) -> tuple[Figure, ...]:
    """A group for each number of daemons; the ratio to the first is what they cost one another."""
    first = next(iter(found.values()))
    out: list[Figure] = []
    for count, one in found.items():
        group = f"{count} daemon{'s' if count > 1 else ''}"
        out += [
            Figure(group=group, name="rate", value=one.rate, unit="mails/s", more=True),
            Figure(group=group, name="daemon", value=one.daemon_ms, unit="CPU-ms a mail"),
            Figure(group=group, name="Postgres", value=one.postgres_ms, unit="CPU-ms a mail"),
            Figure(
                group=group, name="CPU to the first", unit="times", of="daemon and Postgres together",
                value=(one.daemon_ms + one.postgres_ms) / (first.daemon_ms + first.postgres_ms),
            ),
            Figure(group=group, name="mails a commit", value=one.mails_a_commit, unit=""),
            Figure(group=group, name="write-ahead log", value=one.wal_bytes / 1000, unit="KB a mail"),
            Figure(group=group, name="rows and indexes", value=one.row_bytes / 1000, unit="KB a mail", of="no raws"),
            Figure(group=group, name="at work", value=one.on_cpu, unit="of samples"),
            Figure(group=group, name="waits for the disk", value=one.on_disk, unit="of samples"),
            Figure(group=group, name="waits to make a table larger", value=one.on_growth, unit="of samples"),
            Figure(
                group=group, name="waits for each other", value=one.on_locks, unit="of samples",
                most=MOST_LOCK_SHARE if count > 1 else None, of="rows, transactions, advisory locks",
            ),
        ]  # fmt: skip
    return tuple(out)


def _median(runs: Sequence[Measured]) -> Measured:
    return Measured(**{one.name: statistics.median(getattr(run, one.name) for run in runs) for one in fields(Measured)})


def _measure(server: Server, corpus: Corpus, options: Options, count: int) -> tuple[Measured, tuple[str, ...]]:
    """One run with its loss count."""
    with (
        tempfile.TemporaryDirectory(dir=server.directory) as scratch,
        place(options.blobs, server.directory) as raws,
        fresh_database(server) as url,
    ):
        with ExitStack() as stack:
            names = stack.enter_context(in_thread(NameServer(zone=zone_of(corpus))))
            daemons = [
                stack.enter_context(
                    daemon(
                        url,
                        workers=1,
                        log=Path(scratch) / f"daemon-{number}.log",
                        nameserver=names.address,
                        settings={**PROXIED, **raws.settings},
                    )
                )
                for number in range(count)
            ]
            warm = _send(daemons, corpus, first=0, count=options.warm_up, connections=options.connections)
            measured, results = _load(server, url, daemons, corpus, options)
        answers = tuple(answer for result in (*warm, *results) for answer in result.answers)
        counted = query(url, lambda connection: audit(connection, corpus, answers, s3=raws.s3))
    return measured, counted.problems


def _load(
    server: Server, url: str, daemons: Sequence[Daemon], corpus: Corpus, options: Options
) -> tuple[Measured, list[Result]]:
    before = query(url, _state)
    cpu = [tree_cpu(one.pid) for one in daemons], tree_cpu(server.pid)
    with watch(url) as waits:
        results = _send(daemons, corpus, first=options.warm_up, count=options.mails, connections=options.connections)
    spent = sum(tree_cpu(one.pid) for one in daemons) - sum(cpu[0]), tree_cpu(server.pid) - cpu[1]
    after = query(url, _state)
    mails = sum(len(result.accepted) for result in results) or 1
    samples = waits.total() or 1
    measured = Measured(
        rate=mails / _seconds(results),
        daemon_ms=1000 * spent[0] / mails,
        postgres_ms=1000 * spent[1] / mails,
        wal_bytes=(after.wal - before.wal) / mails,
        row_bytes=(after.rows - before.rows) / mails,
        mails_a_commit=mails / max(1, after.commits - before.commits),
        on_cpu=waits["CPU"] / samples,
        on_disk=waits["IO"] / samples,
        on_growth=waits["extend"] / samples,
        on_locks=waits["Lock"] / samples,
    )
    return measured, results


def _send(daemons: Sequence[Daemon], corpus: Corpus, *, first: int, count: int, connections: int) -> list[Result]:
    """Each daemon's share of `count` mails from `first` on, all at the same time."""
    shares = [(first + count * n // len(daemons), first + count * (n + 1) // len(daemons)) for n in range(len(daemons))]
    plans = [
        Plan(
            host="127.0.0.1",
            port=one.port,
            corpus=corpus,
            first=begin,
            count=end - begin,
            connections=max(1, connections // len(daemons)),
            proxied=True,
        )
        for one, (begin, end) in zip(daemons, shares, strict=True)
        if end > begin
    ]
    with ThreadPoolExecutor(len(daemons)) as threads:
        return list(threads.map(run_apart, plans))


def _seconds(results: Sequence[Result]) -> float:
    """From the first mail of any driver to the last answer to any: their clocks are one."""
    answers: list[Answer] = [answer for result in results for answer in result.answers]
    return max(answer.ended for answer in answers) - min(answer.started for answer in answers)


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """Counters of a database; `rows` are bytes of all tables with their indexes but for the raw mails."""

    wal: int
    rows: int
    commits: int


async def _state(connection: asyncpg.Connection) -> _State:
    row = await connection.fetchrow(
        """
        SELECT pg_current_wal_insert_lsn() - '0/0' AS wal,
               (SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c
                WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND c.relname <> 'raws')::bigint
                   AS rows,
               (SELECT count(DISTINCT xmin::text::bigint) FROM messages) AS commits
        """
    )
    if row is None:
        raise AssertionError("an aggregate gives one row")
    return _State(wal=int(row["wal"]), rows=row["rows"], commits=row["commits"])


@contextmanager
def watch(url: str) -> Iterator[Counter[str]]:
    """What the processes of Postgres are at, as sampled while the block runs."""
    waits: Counter[str] = Counter()
    stop = threading.Event()

    def sample() -> None:
        asyncio.run(_sample(url, waits, stop))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield waits
    finally:
        stop.set()
        thread.join()


async def _sample(url: str, waits: Counter[str], stop: threading.Event) -> None:
    connection = await asyncpg.connect(url)
    try:
        while not stop.is_set():
            rows = await connection.fetch(
                """
                SELECT CASE wait_event WHEN 'extend' THEN 'extend' ELSE coalesce(wait_event_type, 'CPU') END AS at,
                       count(*)
                FROM pg_stat_activity
                WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid() GROUP BY 1
                """
            )
            waits.update({row["at"]: row["count"] for row in rows})
            await asyncio.sleep(_SAMPLE_SECONDS)
    finally:
        await connection.close()
