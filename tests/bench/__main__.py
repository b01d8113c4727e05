"""The command line of the benchmark: parse, call, print. One command per mode; later modes stand beside these."""

import os
import sys
from collections import Counter, defaultdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from ingester.store.embedded import LocalPostgresError
from tests.bench import auth as judging
from tests.bench import corpus as corpora
from tests.bench import e2e as whole
from tests.bench import mime as reading
from tests.bench import report as reports
from tests.bench import targets
from tests.bench.contestants import Name
from tests.bench.modes import COMMANDS, numbers
from tests.bench.subject import BenchError

VOID = 3
"""Exit status of a run whose baselines were too slow; 2 is click's own."""


def _contestants(_: click.Context, __: click.Parameter, value: str) -> tuple[Name, ...]:
    """A comma-separated list of contestants, each once."""
    try:
        return tuple(dict.fromkeys(Name(piece.strip()) for piece in value.split(",")))
    except ValueError as error:
        raise click.BadParameter(f"{error}: choose of {','.join(Name)}") from error


_seed = click.option("--seed", default=1, show_default=True, help="What the corpus is made from.")
_mails = click.option("--mails", default=2000, show_default=True, type=click.IntRange(1), help="Mails in each run.")
_cache = click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    default=corpora.default_cache,
    help="Where corpora are kept between runs. [default: ~/.cache/ingester-bench]",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """What a change costs: the daemon under a seeded corpus of real-life shapes, with fsync on.

    \b
    python -m tests.bench e2e                      the table
    python -m tests.bench e2e --json before.json   and the same as JSON
    python -m tests.bench e2e --compare before.json
    python -m tests.bench mime                     reading alone, against the standard library
    python -m tests.bench stages                   each stage alone, against the library that it replaces
    python -m tests.bench http                     the POST door against the SMTP door
    python -m tests.bench big                      mails of 25 MB, several at once
    python -m tests.bench soak                     ten minutes: does anything grow?
    """


@main.command()
@_seed
@_mails
@click.option(
    "--connections", metavar="N,N,...", callback=numbers, default="1,10,50", show_default=True, help="To run with."
)
@click.option(
    "--contestants",
    metavar="NAME,NAME,...",
    callback=_contestants,
    default=",".join(Name),
    show_default=True,
    help="Who runs: the daemon with the raw bytes in Postgres or in segments, plain Python, Postfix that only queues.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=lambda: len(os.sched_getaffinity(0)),
    help="Processes of the daemon. [default: one per core]",
)
@click.option(
    "--runs", default=3, show_default=True, type=click.IntRange(1), help="Interleaved runs; medians are shown."
)
@click.option(
    "--warm-up", default=100, show_default=True, type=click.IntRange(0), help="Mails sent before, not measured."
)
@click.option("--reuse", default=0, show_default=True, type=click.IntRange(0), help="Mails per connection, 0: all.")
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Also write the figures here."
)
@click.option("--compare", type=click.Path(dir_okay=False, exists=True, path_type=Path), help="Ratios to a stored run.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Where Postgres's data goes for the time of the run; a disk, not memory. [default: /var/tmp]",
)
@_cache
def e2e(
    seed: int,
    mails: int,
    connections: tuple[int, ...],
    contestants: tuple[Name, ...],
    workers: int,
    runs: int,
    warm_up: int,
    reuse: int,
    json_file: Path | None,
    compare: Path | None,
    data: Path | None,
    cache: Path,
) -> None:
    """The whole way: from the socket of `ingester serve` to committed rows, and two baselines in the same run.

    Starts a Postgres and the daemon, sends the corpus over N connections, and compares every mail with its rows. Plain
    Python and Postfix that only queues take turns with it; the ratios to them are what counts. Exit status 1 when a
    mail was lost, invented, not accepted or not checked, 3 when the baselines were so slow that the run is void.
    """
    console = Console(width=None if sys.stdout.isatty() else 130)
    options = whole.Options(
        seed=seed,
        mails=mails,
        warm_up=warm_up,
        contestants=contestants,
        connections=connections,
        workers=workers,
        runs=runs,
        reuse=reuse,
        cache=cache,
        directory=data,
    )
    try:
        stored = reports.load(compare) if compare else None
        report = whole.run(options, console)
    except (BenchError, LocalPostgresError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    reports.show(report, console)
    targets.show(report.medians, console)
    if json_file:
        reports.save(report, json_file)
    if stored:
        reports.show_ratios(report, stored, console)
    if report.problems:
        sys.exit(1)
    if targets.find_void(report.medians):
        sys.exit(VOID)


@main.command()
@_seed
@click.option("--mails", default=500, show_default=True, type=click.IntRange(1), help="Mails in each run.")
@click.option("--runs", default=3, show_default=True, type=click.IntRange(1), help="Runs; medians are shown.")
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Also write the figures here."
)
@_cache
def mime(seed: int, mails: int, runs: int, json_file: Path | None, cache: Path) -> None:
    """Reading alone: scan and decode against the standard library's compat32, large mails, crafted mails.

    Exit status 1 when a bound is broken.
    """
    console = Console(width=None if sys.stdout.isatty() else 130)
    report = reading.run(seed=seed, mails=mails, runs=runs, cache=cache)
    reading.show(report, console)
    if json_file:
        reading.save(report, json_file)
    if report.problems:
        sys.exit(1)


@main.command()
@_seed
@click.option(
    "--mails", default=500, show_default=True, type=click.IntRange(1), help="Mails of the corpus; its replies."
)
@click.option("--runs", default=5, show_default=True, type=click.IntRange(1), help="Runs; medians are shown.")
@_cache
def auth(seed: int, mails: int, runs: int, cache: Path) -> None:
    """The verdicts alone: SPF, DKIM and DMARC per reply with warm caches, DKIM on large mails, dkimpy and pyspf beside.

    Exit status 1 when a bound is broken.
    """
    console = Console(width=None if sys.stdout.isatty() else 130)
    try:
        report = judging.run(seed=seed, mails=mails, runs=runs, cache=cache)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    judging.show(report, console)
    if report.problems:
        sys.exit(1)


@main.command()
@_seed
@_mails
@_cache
def corpus(seed: int, mails: int, cache: Path) -> None:
    """Compose the corpus (or read it from the cache) and say what is in it."""
    made = corpora.load(seed=seed, count=mails, cache=cache)
    sizes: dict[str, list[int]] = defaultdict(list)
    parts: Counter[str] = Counter()
    for mail in made.mails:
        sizes[mail.shape].append(mail.size)
        parts[mail.shape] += mail.parts
    table = Table(caption=f"{made.wire}: mean {made.mean_bytes / 1000:.1f} KB")
    for head in ("shape", "mails", "least KB", "mean KB", "most KB", "share of bytes", "parts"):
        table.add_column(head, justify="left" if head == "shape" else "right")
    total = sum(sum(of_shape) for of_shape in sizes.values())
    for shape, of_shape in sizes.items():
        kilobytes = (min(of_shape), sum(of_shape) / len(of_shape), max(of_shape))
        share = f"{100 * sum(of_shape) / total:.0f} %"
        table.add_row(
            shape, str(len(of_shape)), *(f"{size / 1000:,.1f}" for size in kilobytes), share, str(parts[shape])
        )
    Console().print(table)


for command in COMMANDS:
    main.add_command(command)


if __name__ == "__main__":
    main(prog_name="python -m tests.bench")
