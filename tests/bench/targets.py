"""What the figures must show: ratios to the baselines of the same run, the bounds, and when a run says nothing.

Ratios are of medians. A machine that is too slow or too busy for the baselines is no measure: such a run is void.
"""

from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from tests.bench.contestants import Name
from tests.bench.report import Figures, Medians

MANY, SOME, ONE = 50, 10, 1
LEAST_MAILS_PER_SECOND = {Name.PLAIN: 35.0, Name.POSTFIX: 400.0}
"""What the baselines reach on two cores of this kind with 50 connections, with room for noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One bound. `value` is None where nothing was measured that says it."""

    text: str
    value: float | None
    bound: float
    at_least: bool

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound


def find_void(medians: Medians) -> list[str]:
    """Why the run says nothing, a sentence each; empty where it does."""
    return [
        f"{name} reached {found.mails_per_second:,.0f} mails/s at {MANY} connections, less than {least:,.0f}: "
        "the machine is too slow or too busy"
        for name, least in LEAST_MAILS_PER_SECOND.items()
        if (found := medians.get(name, {}).get(MANY)) and found.mails_per_second < least
    ]


def judge(medians: Medians) -> list[Target]:
    """The bounds of this benchmark, in the order of the table."""

    def ratio(ours: Name, theirs: Name, bound: float) -> Target:
        value = rate_ratio(medians, ours, theirs, MANY)
        return Target(text=f"{ours} to {theirs}, mails/s, {MANY} conn.", value=value, bound=bound, at_least=True)

    def most(name: Name, what: str, connections: int, of: Callable[[Figures], float], bound: float) -> Target:
        figures = medians.get(name, {}).get(connections)
        value = of(figures) if figures else None
        return Target(text=f"{name}, {what}, {connections} conn.", value=value, bound=bound, at_least=False)

    cpu = "CPU-s per 1,000 mails"
    return [
        ratio(Name.POSTGRES, Name.PLAIN, 12),
        ratio(Name.POSTGRES, Name.POSTFIX, 1.1),
        ratio(Name.SEGMENTS, Name.POSTFIX, 1.25),
        most(Name.POSTGRES, cpu, MANY, cpu_of_all, 2.4),
        most(Name.SEGMENTS, cpu, MANY, cpu_of_all, 2.0),
        *(most(name, "p99 ms", SOME, lambda one: one.p99_ms, 120) for name in (Name.POSTGRES, Name.SEGMENTS)),
        *(most(name, "p50 ms", ONE, lambda one: one.p50_ms, 3) for name in (Name.POSTGRES, Name.SEGMENTS)),
    ]


def rate_ratio(medians: Medians, ours: Name, theirs: Name, connections: int) -> float | None:
    """Mails per second over those of a baseline of the same run."""
    one, other = medians.get(ours, {}).get(connections), medians.get(theirs, {}).get(connections)
    return one.mails_per_second / other.mails_per_second if one and other and other.mails_per_second else None


def cpu_of_all(figures: Figures) -> float:
    """The server's and its Postgres's CPU seconds per 1,000 mails."""
    return figures.cpu_daemon + figures.cpu_postgres


def show(medians: Medians, console: Console) -> None:
    """The ratios, the bounds, and whether it counts at all."""
    _show_ratios(medians, console)
    table = Table(title="what it must show")
    for head in ("", "measured", "bound", ""):
        table.add_column(head, justify="right" if head else "left")
    for target in judge(medians):
        value = "-" if target.value is None else f"{target.value:.2f}"
        bound = f"{'at least' if target.at_least else 'at most'} {target.bound:g}"
        said = {True: "[green]met[/]", False: "[red]missed[/]", None: "not measured"}[target.met]
        table.add_row(target.text, value, bound, said)
    console.print(table)
    for reason in find_void(medians):
        console.print(f"[bold red]VOID[/] {reason}", highlight=False)


def _show_ratios(medians: Medians, console: Console) -> None:
    table = Table(title="ratios within this run", caption="CPU: that of the baseline over that of the daemon's side")
    for head in ("", "conn.", "mails/s to plain", "CPU", "mails/s to Postfix", "CPU"):
        table.add_column(head, justify="right" if head else "left")
    for name in (Name.POSTGRES, Name.SEGMENTS):
        for connections, figures in medians.get(name, {}).items():
            cells = []
            for baseline in (Name.PLAIN, Name.POSTFIX):
                rate = rate_ratio(medians, name, baseline, connections)
                other = medians.get(baseline, {}).get(connections)
                spent = cpu_of_all(other) / cpu_of_all(figures) if other and cpu_of_all(figures) else None
                cells += ["-" if value is None else f"{value:.2f}" for value in (rate, spent)]
            if any(cell != "-" for cell in cells):
                table.add_row(name, str(connections), *cells)
    if table.row_count:
        console.print(table)
