"""Mode `e2e`: the whole way, from a socket to committed rows, at several numbers of connections.

Runs are interleaved (1, 10, 50, 1, 10, 50, ...), each on a fresh database and a fresh daemon; a figure is the median.
"""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from tests.bench import corpus as corpora
from tests.bench.audit import audit
from tests.bench.corpus import Corpus
from tests.bench.driver import Plan, Result, run_apart
from tests.bench.measure import describe_machine, tree_cpu, watch_memory
from tests.bench.report import FORMAT, Figures, Report, Run, Setting, median
from tests.bench.sink import sink
from tests.bench.subject import POSTGRES_OPTIONS, BenchError, Server, daemon, fresh_database, postgres, query
from tests.nameserver import NameServer, in_thread

MEMORY_FILESYSTEMS = ("tmpfs", "ramfs")
CEILING_MARGIN = 3.0
"""The driver should reach this many times what the daemon does, or it is part of what is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says."""

    seed: int
    mails: int
    warm_up: int
    connections: tuple[int, ...]
    workers: int
    runs: int
    reuse: int
    cache: Path
    directory: Path | None


def run(options: Options, console: Console) -> Report:
    """Measure. Raises BenchError where there is nothing to measure; loss is in the report."""
    console.print("composing or reading the corpus ...", style="dim")
    corpus = corpora.load(seed=options.seed, count=options.warm_up + options.mails, cache=options.cache)
    console.print("driver against the sink ...", style="dim")
    ceilings = _ceilings(corpus, options)
    runs: list[Run] = []
    with postgres(options.directory) as server:
        machine = describe_machine(server.directory)
        if machine["filesystem"] in MEMORY_FILESYSTEMS:
            raise BenchError(f"{server.directory} is in memory, where fsync means nothing: give --data a disk")
        for number in range(1, options.runs + 1):
            for connections in options.connections:
                one = _measure(server, corpus, options, connections, number)
                runs.append(one)
                _progress(one, ceilings[connections], console)
    return Report(
        mode="e2e",
        format=FORMAT,
        setting=_setting(options, corpus, server),
        machine=machine,
        ceilings=ceilings,
        medians={
            connections: median([one.figures for one in runs if one.connections == connections])
            for connections in options.connections
        },
        runs=tuple(runs),
    )


def _zone(corpus: Corpus) -> dict[str, list[dict[str, str]]]:
    """The records of the senders, for a name server on the loopback."""
    return {name: [{"TXT": text} for text in texts] for name, texts in corpus.zone.items()}


def _plan(corpus: Corpus, options: Options, *, port: int, connections: int) -> Plan:
    return Plan(
        host="127.0.0.1",
        port=port,
        corpus=corpus,
        first=options.warm_up,
        count=options.mails,
        connections=connections,
        reuse=options.reuse,
    )


def _ceilings(corpus: Corpus, options: Options) -> dict[int, Figures]:
    with sink() as port:
        plans = {one: _plan(corpus, options, port=port, connections=one) for one in options.connections}
        return {one: _figures(run_apart(plan)) for one, plan in plans.items()}


def _measure(server: Server, corpus: Corpus, options: Options, connections: int, number: int) -> Run:
    """One run: fresh database, fresh daemon, warm-up, load, then the loss count over all that was sent."""
    with tempfile.TemporaryDirectory() as scratch, fresh_database(server) as url:
        log = Path(scratch) / "daemon.log"
        with (
            in_thread(NameServer(zone=_zone(corpus))) as names,
            daemon(url, workers=options.workers, log=log, nameserver=names.address) as subject,
        ):
            plan = _plan(corpus, options, port=subject.port, connections=connections)
            warm = run_apart(_warm_up(plan, options)).answers if options.warm_up else ()
            with watch_memory(subject.pid) as memory:
                before = tree_cpu(subject.pid), tree_cpu(server.pid)
                result = run_apart(plan)
                after = tree_cpu(subject.pid), tree_cpu(server.pid)
        counted = query(url, lambda connection: audit(connection, corpus, warm + result.answers))
    figures = _figures(
        result,
        daemon=after[0] - before[0],
        postgres=after[1] - before[1],
        idle_pss=memory.idle_pss,
        peak_pss=memory.peak_pss,
        peak_rss=memory.peak_rss,
    )
    return Run(connections=connections, number=number, figures=figures, rows=counted.rows, problems=counted.problems)


def _warm_up(plan: Plan, options: Options) -> Plan:
    return replace(plan, first=0, count=options.warm_up)


def _figures(
    result: Result,
    *,
    daemon: float = 0.0,
    postgres: float = 0.0,
    idle_pss: float = 0.0,
    peak_pss: float = 0.0,
    peak_rss: float = 0.0,
) -> Figures:
    took = sorted(answer.ended - answer.started for answer in result.answers if answer.accepted)
    thousands = len(took) / 1000 or math.inf
    return Figures(
        mails_per_second=result.rate,
        mb_per_second=result.bytes_accepted / 1e6 / result.seconds if result.seconds else 0.0,
        p50_ms=1000 * percentile(took, 50),
        p99_ms=1000 * percentile(took, 99),
        cpu_daemon=daemon / thousands,
        cpu_postgres=postgres / thousands,
        cpu_driver=result.cpu_seconds / thousands,
        idle_pss=idle_pss,
        peak_pss=peak_pss,
        peak_rss=peak_rss,
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Nearest rank; 0.0 of nothing."""
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)] if ordered else 0.0


def _progress(run: Run, ceiling: Figures, console: Console) -> None:
    figures = run.figures
    console.print(
        f"run {run.number}, {run.connections} connections: {figures.mails_per_second:,.0f} mails/s, "
        f"p50 {figures.p50_ms:.1f} ms, p99 {figures.p99_ms:.1f} ms" + (", [red]LOSS[/]" if run.problems else ""),
        style="dim",
        highlight=False,
    )
    if figures.mails_per_second * CEILING_MARGIN > ceiling.mails_per_second:
        console.print("the driver's ceiling is near: it is part of what was measured", style="yellow")


def _setting(options: Options, corpus: Corpus, server: Server) -> Setting:
    return Setting(
        corpus_version=corpora.VERSION,
        seed=options.seed,
        mails=options.mails,
        warm_up=options.warm_up,
        mean_bytes=round(corpus.mean_bytes),
        workers=options.workers,
        reuse=options.reuse,
        runs=options.runs,
        postgres=server.version,
        postgres_options=POSTGRES_OPTIONS,
    )
