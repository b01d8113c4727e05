"""Mode `e2e`: the whole way, from a socket to committed rows, at several numbers of connections, with two baselines.

Runs are interleaved (every contestant at 1, at 10, at 50 connections, and all again), each on a fresh database or queue
and a fresh process; a figure is the median. All get the same octets from the same driver.
"""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.bench import corpus as corpora
from tests.bench.contestants import Name, invite
from tests.bench.corpus import Corpus
from tests.bench.driver import CLIENTS, Plan, Result, run_apart
from tests.bench.measure import describe_machine, tree_cpu, watch_memory
from tests.bench.postfix import find as find_postfix
from tests.bench.report import FORMAT, Figures, Report, Run, Setting, medians
from tests.bench.sink import sink
from tests.bench.subject import POSTGRES_OPTIONS, BenchError, Server, postgres
from tests.nameserver import NameServer, in_thread
from tests.zones import Zone

MEMORY_FILESYSTEMS = ("tmpfs", "ramfs")
CEILING_MARGIN = 3.0
"""The driver should reach this many times what the daemon does, or it is part of what is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says."""

    seed: int
    mails: int
    warm_up: int
    contestants: tuple[Name, ...]
    connections: tuple[int, ...]
    workers: int
    runs: int
    reuse: int
    cache: Path
    directory: Path | None


def run(options: Options, console: Console) -> Report:
    """Measure. Raises BenchError where there is nothing to measure; loss is in the report."""
    if Name.POSTFIX in options.contestants:
        find_postfix()  # before minutes of work
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
            for connections, name in product(options.connections, options.contestants):
                if name.baseline and connections == 1:
                    continue  # no ratio is taken there, and it takes long
                one = _measure(server, corpus, options, name, connections, number)
                runs.append(one)
                _progress(one, ceilings[connections], console)
    return Report(
        mode="e2e",
        format=FORMAT,
        setting=_setting(options, corpus, server),
        machine=machine,
        ceilings=ceilings,
        medians=medians(runs),
        runs=tuple(runs),
    )


def zone_of(corpus: Corpus) -> Zone:
    """The records of the senders and the names of their hosts, for a name server on the loopback."""
    records: dict[str, list[Any]] = {name: [("TXT", text) for text in texts] for name, texts in corpus.zone.items()}
    for client in CLIENTS:
        host = f"out-{client.rpartition('.')[2]}.bigmail.example"
        records[ip_address(client).reverse_pointer] = [("PTR", f"{host}.")]
        records[host] = [("A", client)]
    return Zone(records)


def _plan(corpus: Corpus, options: Options, *, port: int, connections: int) -> Plan:
    return Plan(
        host="127.0.0.1",
        port=port,
        corpus=corpus,
        first=options.warm_up,
        count=options.mails,
        connections=connections,
        reuse=options.reuse,
        proxied=True,
    )


def _ceilings(corpus: Corpus, options: Options) -> dict[int, Figures]:
    with sink() as port:
        plans = {one: _plan(corpus, options, port=port, connections=one) for one in options.connections}
        return {one: _figures(run_apart(replace(plan, proxied=False))) for one, plan in plans.items()}


def _measure(server: Server, corpus: Corpus, options: Options, name: Name, connections: int, number: int) -> Run:
    """One run: a fresh place, a fresh process, warm-up, load, then the loss count over all that was sent."""
    options = replace(options, mails=max(1, options.mails // name.share))
    sent = replace(corpus, mails=corpus.mails[: options.warm_up + options.mails])
    with (
        tempfile.TemporaryDirectory() as scratch,
        in_thread(NameServer(zone=zone_of(corpus))) as names,
        invite(
            name, server, workers=options.workers, nameserver=names.address, log=Path(scratch) / "log"
        ) as contestant,
    ):
        with contestant.serve() as subject:
            plan = _plan(sent, options, port=subject.port, connections=connections)
            warm = run_apart(_warm_up(plan, options)).answers if options.warm_up else ()
            with watch_memory(subject.pid) as memory:
                before = tree_cpu(subject.pid), tree_cpu(server.pid)
                result = run_apart(plan)
                after = tree_cpu(subject.pid), tree_cpu(server.pid)
        counted = contestant.count(sent, warm + result.answers)
    figures = _figures(
        result,
        daemon=after[0] - before[0],
        postgres=after[1] - before[1],
        idle_pss=memory.idle_pss,
        peak_pss=memory.peak_pss,
        peak_rss=memory.peak_rss,
    )
    return Run(
        contestant=name,
        connections=connections,
        number=number,
        figures=figures,
        stored=counted.stored,
        rows=counted.rows,
        problems=counted.problems,
    )


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
        f"run {run.number}, {run.connections} connections, {run.contestant}: {figures.mails_per_second:,.0f} mails/s, "
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
