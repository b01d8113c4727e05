"""A sheet of figures with their bounds: what the modes beside `e2e` report. As JSON, as a table, as ratios to another.

It measures nothing. A figure that breaks its bound is a problem of the sheet, and a sheet with problems is the exit
status 1 of its command.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from tests.bench.report import BUSY_LOAD

FORMAT = 1
"""Of the JSON. Raise it when a name changes its meaning."""
_LIKE = 0.05
"""A ratio to a stored run that differs from 1 by less says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure. `least` and `most` are bounds that it must keep; more is better where `least` or `more` says so.

    `group` is the heading that it stands under, `of` what it is measured against, in words, for the reader.
    """

    name: str
    value: float
    unit: str
    group: str = ""
    least: float | None = None
    most: float | None = None
    more: bool = False
    of: str = ""

    @property
    def more_is_better(self) -> bool:
        return self.more or self.least is not None

    @property
    def problem(self) -> str:
        """What bound is broken, in a sentence, or nothing."""
        told = " ".join(filter(None, (self.group, self.name)))
        if self.least is not None and self.value < self.least:
            return f"{told}: {number(self.value)} {self.unit}, not {number(self.least)}".replace(" ,", ",")
        if self.most is not None and self.value > self.most:
            return f"{told}: {number(self.value)} {self.unit}, more than {number(self.most)}".replace(" ,", ",")
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """The report of one mode. `setting` is what decides whether two compare, `lost` what must not happen at all."""

    mode: str
    format: int
    setting: dict[str, str | int | float]
    machine: dict[str, str | int | float]
    figures: tuple[Figure, ...]
    lost: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def problems(self) -> list[str]:
        return [*self.lost, *(figure.problem for figure in self.figures if figure.problem)]


def save(sheet: Sheet, path: Path) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(sheet), indent=2) + b"\n")


def load(path: Path, mode: str) -> Sheet:
    """Read a stored sheet of this mode. Raises ValueError with a sentence for the operator."""
    try:
        sheet = msgspec.json.decode(path.read_bytes(), type=Sheet)
    except (OSError, msgspec.DecodeError) as error:
        raise ValueError(f"{path} is not a stored run of this benchmark: {error}") from error
    if (sheet.mode, sheet.format) != (mode, FORMAT):
        raise ValueError(f"{path} is of mode {sheet.mode} in format {sheet.format}, not {mode} in {FORMAT}")
    return sheet


def number(value: float) -> str:
    """With as many digits as say something."""
    size = abs(value)
    return f"{value:,.{0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 or not size else 3}f}"


def show(sheet: Sheet, console: Console) -> None:
    """The table, the notes, then what is broken or lost."""
    setting = ", ".join(f"{name} {value}" for name, value in sheet.setting.items())
    console.print(f"[bold]{sheet.mode}[/]: {setting}", highlight=False)
    if float(sheet.machine.get("load_before", 0.0)) > BUSY_LOAD:
        console.print(f"[yellow]the machine was busy[/]: load {sheet.machine['load_before']} before", highlight=False)
    table = Table()
    for head in ("what", "figure", "unit", "bound", "against"):
        table.add_column(head, justify="right" if head == "figure" else "left")
    group = ""
    for figure in sheet.figures:
        if figure.group != group:
            table.add_section()
            group = figure.group
        value = f"[red]{number(figure.value)}[/]" if figure.problem else number(figure.value)
        name = f"{figure.group}: {figure.name}" if figure.group else figure.name
        table.add_row(name, value, figure.unit, _bound(figure), figure.of)
    console.print(table)
    for note in sheet.notes:
        console.print(note, highlight=False, soft_wrap=True, markup=False)
    for problem in sheet.problems:
        console.print(f"[bold red]BROKEN[/] {problem}", highlight=False, soft_wrap=True)
    if not sheet.problems:
        console.print("[green]all bounds hold[/]")


def _bound(figure: Figure) -> str:
    bounds = [f"at least {number(figure.least)}"] if figure.least is not None else []
    return ", ".join(bounds + ([f"at most {number(figure.most)}"] if figure.most is not None else []))


def show_ratios(sheet: Sheet, stored: Sheet, console: Console) -> None:
    """This run over the stored one, figure by figure. What is not alike is said first."""
    for name, value in sheet.setting.items():
        if stored.setting.get(name) != value:
            console.print(f"[yellow]not alike[/]: {name} is {value}, there {stored.setting.get(name)}", highlight=False)
    for name in ("cpu", "cpus", "filesystem"):
        if sheet.machine.get(name) != stored.machine.get(name):
            console.print(f"[yellow]another machine[/]: {name} was {stored.machine.get(name)}", highlight=False)
    before = {(one.group, one.name): one.value for one in stored.figures}
    table = Table(title="ratio to the stored run", caption="green: better than stored by more than 5 %, red: worse")
    table.add_column("what")
    table.add_column("ratio", justify="right")
    for figure in sheet.figures:
        if before.get((figure.group, figure.name)):
            name = f"{figure.group}: {figure.name}" if figure.group else figure.name
            table.add_row(name, _ratio(figure, before[figure.group, figure.name]))
    console.print(table)


def _ratio(figure: Figure, before: float) -> str:
    ratio = figure.value / before
    better = ratio if figure.more_is_better else 1 / ratio if ratio else 2.0
    colour = "green" if better > 1 + _LIKE else "red" if better < 1 - _LIKE else "white"
    return f"[{colour}]{ratio:.2f}[/]"


def finish(sheet: Sheet, console: Console, *, json_file: Path | None, stored: Sheet | None) -> Sequence[str]:
    """Show, keep and compare; gives the problems."""
    show(sheet, console)
    if json_file:
        save(sheet, json_file)
    if stored:
        show_ratios(sheet, stored, console)
    return sheet.problems
