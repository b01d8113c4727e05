"""Mode `http`: the POST door against the SMTP door, on the replies of the corpus, in turns within one run.

Both doors stand open in both cases, each run has a fresh database and a fresh daemon, and the drivers say the same of
each mail: envelope, client and HELO name.
"""

import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import product
from pathlib import Path

from rich.console import Console

from tests.bench import corpus as corpora
from tests.bench import driver, http_driver
from tests.bench import sink as smtp_sink
from tests.bench.audit import audit
from tests.bench.corpus import Corpus
from tests.bench.driver import Plan, Result
from tests.bench.e2e import CEILING_MARGIN, MEMORY_FILESYSTEMS, percentile, zone_of
from tests.bench.measure import describe_machine, tree_cpu
from tests.bench.shapes import Shape
from tests.bench.sheet import FORMAT, Figure, Sheet
from tests.bench.subject import PROXIED, BenchError, Server, daemon, fresh_database, postgres, query
from tests.nameserver import NameServer, in_thread
from tests.ports import free_port

LEAST_RATIO = 1.2


class Door(StrEnum):
    """The doors in their order."""

    SMTP = "SMTP"
    HTTP = "HTTP"


_SEND: dict[Door, Callable[[Plan], Result]] = {Door.SMTP: driver.run_apart, Door.HTTP: http_driver.run_apart}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says."""

    seed: int
    mails: int
    warm_up: int
    connections: tuple[int, ...]
    workers: int
    runs: int
    cache: Path
    directory: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run through one door: CPU in milliseconds per mail."""

    door: Door
    connections: int
    rate: float
    p50_ms: float
    p99_ms: float
    daemon_ms: float
    postgres_ms: float
    driver_ms: float
    problems: tuple[str, ...]


def run(options: Options, console: Console) -> Sheet:
    """Measure. Raises BenchError where there is nothing to measure; loss is in the sheet."""
    console.print("composing or reading the corpus ...", style="dim")
    corpus = _replies(options)
    ceilings = {connections: _ceilings(corpus, options, connections) for connections in options.connections}
    measured: list[Measured] = []
    with postgres(options.directory) as server:
        machine = describe_machine(server.directory)
        if machine["filesystem"] in MEMORY_FILESYSTEMS:
            raise BenchError(f"{server.directory} is in memory, where fsync means nothing: give --data a disk")
        for number, connections in product(range(1, options.runs + 1), options.connections):
            # Who goes first has the colder machine: they take turns.
            for door in tuple(Door) if number % 2 else tuple(reversed(Door)):
                one = _measure(server, corpus, options, door, connections)
                measured.append(one)
                _progress(number, one, console)
    return Sheet(
        mode="http",
        format=FORMAT,
        setting={
            "corpus": corpora.VERSION,
            "seed": options.seed,
            "replies": options.mails,
            "mean bytes": round(corpus.mean_bytes),
            "workers": options.workers,
            "runs": options.runs,
            "postgres": server.version,
        },
        machine=machine,
        figures=tuple(
            figure
            for connections in options.connections
            for figure in figures(
                [one for one in measured if one.connections == connections], connections, ceilings[connections]
            )
        ),
        lost=tuple(dict.fromkeys(f"{one.door}: {problem}" for one in measured for problem in one.problems)),
        notes=_notes(measured, ceilings),
    )


def figures(runs: Sequence[Measured], connections: int, ceilings: dict[Door, float]) -> list[Figure]:
    """Medians of the runs with so many connections; the ratio is that of neighbours."""
    group = f"{connections} connections"

    def middle(door: Door, name: str) -> float:
        return float(statistics.median(getattr(one, name) for one in runs if one.door is door))

    pairs = zip(
        (one.rate for one in runs if one.door is Door.HTTP),
        (one.rate for one in runs if one.door is Door.SMTP),
        strict=True,
    )
    ratio = statistics.median(http / smtp if smtp else 0.0 for http, smtp in pairs)
    out = [
        Figure(group=group, name="HTTP over SMTP", value=ratio, unit="times", least=LEAST_RATIO, of="mails per second")
    ]
    for door in Door:
        out += [
            Figure(group=group, name=f"{door}", value=middle(door, "rate"), unit="mails/s", more=True),
            Figure(group=group, name=f"{door}, p50", value=middle(door, "p50_ms"), unit="ms"),
            Figure(group=group, name=f"{door}, p99", value=middle(door, "p99_ms"), unit="ms"),
            Figure(group=group, name=f"{door}, daemon", value=middle(door, "daemon_ms"), unit="CPU-ms a mail"),
            Figure(group=group, name=f"{door}, Postgres", value=middle(door, "postgres_ms"), unit="CPU-ms a mail"),
            Figure(group=group, name=f"{door}, driver", value=middle(door, "driver_ms"), unit="CPU-ms a mail"),
            Figure(group=group, name=f"{door}, driver's ceiling", value=ceilings[door], unit="mails/s", more=True),
        ]
    return out


def _notes(runs: Sequence[Measured], ceilings: dict[int, dict[Door, float]]) -> tuple[str, ...]:
    near = {one.door for one in runs if one.rate * CEILING_MARGIN > ceilings[one.connections][one.door]}
    return tuple(f"the ceiling of the {door} driver is near: it is part of what was measured" for door in sorted(near))


def _replies(options: Options) -> Corpus:
    """The first replies of a corpus that has enough: six mails in ten are."""
    wanted = options.warm_up + options.mails
    corpus = corpora.load(seed=options.seed, count=-(-wanted * 10 // 6 // 100) * 100 + 100, cache=options.cache)
    return replace(corpus, mails=tuple(mail for mail in corpus.mails if mail.shape is Shape.REPLY)[:wanted])


def _plan(corpus: Corpus, options: Options, *, port: int, connections: int) -> Plan:
    return Plan(
        host="127.0.0.1",
        port=port,
        corpus=corpus,
        first=options.warm_up,
        count=options.mails,
        connections=connections,
        proxied=True,
    )


def _ceilings(corpus: Corpus, options: Options, connections: int) -> dict[Door, float]:
    with smtp_sink.sink() as port:
        smtp = driver.run_apart(_plan(corpus, options, port=port, connections=connections)).rate
    with http_driver.sink() as port:
        http = http_driver.run_apart(_plan(corpus, options, port=port, connections=connections)).rate
    return {Door.SMTP: smtp, Door.HTTP: http}


def _measure(server: Server, corpus: Corpus, options: Options, door: Door, connections: int) -> Measured:
    """One run: fresh database, fresh daemon, warm-up, load, then the loss count over all that was sent."""
    http = free_port()
    settings = {
        **PROXIED,
        "INGESTER_HTTP__LISTEN": f"127.0.0.1:{http}",
        "INGESTER_INBOUND_TOKEN": http_driver.TOKEN,
    }
    with tempfile.TemporaryDirectory() as scratch, fresh_database(server) as url:
        log = Path(scratch) / "daemon.log"
        with (
            in_thread(NameServer(zone=zone_of(corpus))) as names,
            daemon(url, workers=options.workers, log=log, nameserver=names.address, settings=settings) as subject,
        ):
            port = subject.port if door is Door.SMTP else http
            plan = _plan(corpus, options, port=port, connections=connections)
            warm = _SEND[door](replace(plan, first=0, count=options.warm_up)).answers
            before = tree_cpu(subject.pid), tree_cpu(server.pid)
            result = _SEND[door](plan)
            after = tree_cpu(subject.pid), tree_cpu(server.pid)
        counted = query(url, lambda connection: audit(connection, corpus, warm + result.answers))
    took = sorted(1000 * (one.ended - one.started) for one in result.answers if one.accepted)
    per_mail = 1000 / (len(took) or 1)
    return Measured(
        door=door,
        connections=connections,
        rate=result.rate,
        p50_ms=percentile(took, 50),
        p99_ms=percentile(took, 99),
        daemon_ms=per_mail * (after[0] - before[0]),
        postgres_ms=per_mail * (after[1] - before[1]),
        driver_ms=per_mail * result.cpu_seconds,
        problems=counted.problems,
    )


def _progress(number: int, one: Measured, console: Console) -> None:
    console.print(
        f"run {number}, {one.connections} connections, {one.door}: {one.rate:,.0f} mails/s, "
        f"p99 {one.p99_ms:.1f} ms, daemon {one.daemon_ms:.2f} ms" + (", [red]LOSS[/]" if one.problems else ""),
        style="dim",
        highlight=False,
    )
