"""The figures of a run, as values, as JSON, as a table, and as ratios to those of another run."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeAlias

import msgspec
from rich.console import Console
from rich.table import Table

from tests.bench.audit import Rows
from tests.bench.contestants import Name

BUSY_LOAD = 0.7
"""Load average beyond which somebody else is at work on the machine."""
FORMAT = 2
"""Of the JSON. Raise it when a name changes its meaning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One measured run. CPU is in seconds per 1,000 mails, memory in MiB, latency from MAIL to the reply to the dot."""

    mails_per_second: float
    mb_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_daemon: float
    cpu_postgres: float
    cpu_driver: float
    idle_pss: float
    peak_pss: float
    peak_rss: float


Medians: TypeAlias = dict[Name, dict[int, Figures]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run with its loss count. `problems` empty: nothing lost, nothing invented. `rows` only of the daemon."""

    contestant: Name
    connections: int
    number: int
    figures: Figures
    stored: int
    rows: Rows | None
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What was run, as far as it decides whether two reports compare."""

    corpus_version: int
    seed: int
    mails: int
    warm_up: int
    mean_bytes: int
    workers: int
    reuse: int
    runs: int
    postgres: str
    postgres_options: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A whole benchmark. `medians` are by contestant and connections, `ceilings` (the driver against the sink) by the
    latter.
    """

    mode: str
    format: int
    setting: Setting
    machine: dict[str, str | int | float]
    ceilings: dict[int, Figures]
    medians: Medians
    runs: tuple[Run, ...]

    @property
    def problems(self) -> list[str]:
        return [
            f"{run.contestant}, {run.connections} connections, run {run.number}: {text}"
            for run in self.runs
            for text in run.problems
        ]


def medians(runs: Sequence[Run]) -> Medians:
    """Of all runs, by contestant and connections, in the order in which they first ran."""
    kinds = dict.fromkeys((run.contestant, run.connections) for run in runs)
    found: Medians = {name: {} for name, _ in kinds}
    for name, connections in kinds:
        of_kind = [run.figures for run in runs if (run.contestant, run.connections) == (name, connections)]
        found[name][connections] = median(of_kind)
    return found


def median(runs: Sequence[Figures]) -> Figures:
    """Each figure's own median."""
    return Figures(**{one.name: statistics.median(getattr(run, one.name) for run in runs) for one in fields(Figures)})


def save(report: Report, path: Path) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


def load(path: Path) -> Report:
    """Read a stored report. Raises ValueError with a sentence for the operator."""
    try:
        data = path.read_bytes()
        written = msgspec.json.decode(data, type=_Head).format
        if written == FORMAT:
            return msgspec.json.decode(data, type=Report)
    except (OSError, msgspec.DecodeError) as error:
        raise ValueError(f"{path} is not a stored report of this benchmark: {error}") from error
    raise ValueError(f"{path} has format {written}, this benchmark writes {FORMAT}")


class _Head(msgspec.Struct):
    """What a report of any format has."""

    format: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    head: str
    name: str
    digits: int
    more_is_better: bool = False


_COLUMNS = (
    _Column(head="mails/s", name="mails_per_second", digits=0, more_is_better=True),
    _Column(head="MB/s", name="mb_per_second", digits=1, more_is_better=True),
    _Column(head="p50 ms", name="p50_ms", digits=2),
    _Column(head="p99 ms", name="p99_ms", digits=1),
    _Column(head="server", name="cpu_daemon", digits=2),
    _Column(head="Postgres", name="cpu_postgres", digits=2),
    _Column(head="driver", name="cpu_driver", digits=2),
    _Column(head="idle", name="idle_pss", digits=0),
    _Column(head="peak", name="peak_pss", digits=0),
    _Column(head="RSS", name="peak_rss", digits=0),
)


def show(report: Report, console: Console) -> None:
    """The table, then what was lost, if anything."""
    setting, machine = report.setting, report.machine
    console.print(
        f"{setting.mails} mails of {setting.mean_bytes / 1000:.0f} KB on average (the plain one gets "
        f"{setting.mails // Name.PLAIN.share}), seed {setting.seed}, {setting.workers} workers, "
        f"median of {setting.runs}; Postgres {setting.postgres} with fsync on, "
        f"{machine['cpus']} cores, {machine['filesystem']}, fdatasync {machine['fdatasync_ms']} ms",
        highlight=False,
    )
    if float(machine["load_before"]) > BUSY_LOAD:
        console.print(f"[yellow]the machine was busy[/]: load {machine['load_before']} before the run", highlight=False)
    table = Table(
        caption="server, Postgres, driver: CPU-seconds per 1,000 mails; idle and peak: the server's PSS in MiB"
    )
    table.add_column("")
    for head in ("conn.", *(column.head for column in _COLUMNS), "spread"):
        table.add_column(head, justify="right")
    for name, of_name in report.medians.items():
        for connections, figures in of_name.items():
            values = (getattr(figures, column.name) for column in _COLUMNS)
            cells = (f"{value:,.{column.digits}f}" for value, column in zip(values, _COLUMNS, strict=True))
            table.add_row(name, str(connections), *cells, _spread(report, name, connections))
    console.print(table)
    for connections, ceiling in report.ceilings.items():
        console.print(
            f"driver against a sink, {connections} connections: {ceiling.mails_per_second:,.0f} mails/s, "
            f"{ceiling.mb_per_second:,.0f} MB/s, {ceiling.cpu_driver:.2f} CPU-seconds per 1,000 mails",
            highlight=False,
        )
    _show_rows(report, console)


def _spread(report: Report, name: Name, connections: int) -> str:
    """How far apart the runs were in mails per second, against the median: the noise that a ratio must exceed."""
    kind = (name, connections)
    rates = [run.figures.mails_per_second for run in report.runs if (run.contestant, run.connections) == kind]
    middle = report.medians[name][connections].mails_per_second
    return f"{100 * (max(rates) - min(rates)) / middle:.0f} %" if middle else "-"


def _show_rows(report: Report, console: Console) -> None:
    for run in report.runs:
        where = f"{run.contestant}, {run.connections} connections, run {run.number}"
        console.print(f"{where}: {run.stored} mails stored", end="", highlight=False)
        console.print(f", {_rows(run.rows)}" if run.rows else "", highlight=False, soft_wrap=True)
    for problem in report.problems:
        console.print(f"[bold red]LOSS[/] {problem}", highlight=False)
    if not report.problems:
        console.print("[green]nothing lost, nothing invented[/]")


def _rows(rows: Rows) -> str:
    text = f"{rows.receipts} receipts, {rows.raws} raws of {rows.raw_bytes / 1e6:.1f} MB, {rows.parts} parts"
    if (rows.matched, rows.threads) != (rows.matched_expected, rows.threads_expected):
        text += f"; [yellow]conversations differ[/]: {rows.matched} matched of {rows.matched_expected}, "
        text += f"{rows.threads} threads of {rows.threads_expected}"
    if rows.deadlocks:
        text += f"; [yellow]{rows.deadlocks} deadlocks[/]: each held its mails up for a second"
    return text


def show_ratios(report: Report, stored: Report, console: Console) -> None:
    """This run over the stored one, figure by figure. Only like is compared: what differs is said first."""
    for name in ("corpus_version", "seed", "mails", "workers", "reuse", "postgres", "postgres_options"):
        ours, theirs = getattr(report.setting, name), getattr(stored.setting, name)
        if ours != theirs:
            console.print(f"[yellow]not alike[/]: {name} is {ours}, in the stored run {theirs}", highlight=False)
    for name in ("cpu", "cpus", "filesystem"):
        if report.machine.get(name) != stored.machine.get(name):
            console.print(f"[yellow]another machine[/]: {name} was {stored.machine.get(name)}", highlight=False)
    table = Table(title="ratio to the stored run", caption="green: better than stored by more than 5 %, red: worse")
    table.add_column("")
    for head in ("conn.", *(column.head for column in _COLUMNS)):
        table.add_column(head, justify="right")
    for name, of_name in report.medians.items():
        before = stored.medians.get(name, {})
        for connections in sorted(of_name.keys() & before.keys()):
            ours, theirs = of_name[connections], before[connections]
            table.add_row(name, str(connections), *(_ratio(ours, theirs, column) for column in _COLUMNS))
    console.print(table)


def _ratio(ours: Figures, theirs: Figures, column: _Column) -> str:
    before = getattr(theirs, column.name)
    if not before:
        return "-"
    ratio: float = getattr(ours, column.name) / before
    better = ratio if column.more_is_better else 1 / ratio if ratio else 2.0
    colour = "green" if better > 1.05 else "red" if better < 0.95 else "white"
    return f"[{colour}]{ratio:.2f}[/]"
