"""The commands of the modes beside `e2e`: parse, call, print. Each ends with 1 where a bound is broken."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import click
from rich.console import Console

from ingester.store.embedded import LocalPostgresError
from tests.bench import big as large
from tests.bench import corpus as corpora
from tests.bench import post, raws, sheet
from tests.bench import scale as scaling
from tests.bench import soak as soaking
from tests.bench import stages as rooms
from tests.bench.sheet import Sheet
from tests.bench.subject import BenchError

Command = TypeVar("Command", bound=Callable[..., None])


def numbers(_: click.Context, __: click.Parameter, value: str) -> tuple[int, ...]:
    """A comma-separated list of positive numbers, each once."""
    pieces = [piece.strip() for piece in value.split(",")]
    if not all(piece.isdecimal() and int(piece) for piece in pieces):
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 1,10,50")
    return tuple(dict.fromkeys(map(int, pieces)))


_seed = click.option("--seed", default=1, show_default=True, help="What the mails are made from.")
_workers = click.option(
    "--workers",
    type=click.IntRange(1),
    default=lambda: len(os.sched_getaffinity(0)),
    help="Processes of the daemon. [default: one per core]",
)


def _blobs(kinds: Sequence[str]) -> Callable[[Command], Command]:
    """Where the raw bytes go, one of these."""
    return click.option(
        "--blobs",
        type=click.Choice(kinds),
        default="postgres",
        show_default=True,
        help="Where the daemon keeps the raw bytes.",
    )


_runs = click.option("--runs", default=3, show_default=True, type=click.IntRange(1), help="Runs; medians are shown.")
_kept = (
    click.option(
        "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Also write the figures here."
    ),
    click.option(
        "--compare", type=click.Path(dir_okay=False, exists=True, path_type=Path), help="Ratios to a stored run."
    ),
    click.option(
        "--data",
        type=click.Path(file_okay=False, exists=True, path_type=Path),
        help="Where Postgres's data goes for the time of the run; a disk, not memory. [default: /var/tmp]",
    ),
    click.option(
        "--cache",
        type=click.Path(file_okay=False, path_type=Path),
        default=corpora.default_cache,
        help="Where corpora are kept between runs. [default: ~/.cache/ingester-bench]",
    ),
)


def _with_kept(command: Command) -> Command:
    """What every mode has: where figures go, what they are compared with, where the data lies."""
    for option in reversed(_kept):
        command = option(command)
    return command


def _report(mode: str, measure: Callable[[Console], Sheet], json_file: Path | None, compare: Path | None) -> None:
    """Measure and tell; ends the process with 1 where something is broken."""
    console = Console(width=None if sys.stdout.isatty() else 130)
    try:
        stored = sheet.load(compare, mode) if compare else None
        made = measure(console)
    except (BenchError, LocalPostgresError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if sheet.finish(made, console, json_file=json_file, stored=stored):
        sys.exit(1)


@click.command()
@_seed
@click.option("--mails", default=500, show_default=True, type=click.IntRange(20), help="Mails of the corpus.")
@_runs
@click.option("--crafted/--no-crafted", default=True, show_default=True, help="Whether crafted input is measured too.")
@_with_kept
def stages(
    seed: int,
    mails: int,
    runs: int,
    crafted: bool,
    json_file: Path | None,
    compare: Path | None,
    data: Path | None,
    cache: Path,
) -> None:
    """Each stage of a mail's way alone, in CPU, against the library it replaces; and how cost grows with crafted input.

    Exit status 1 when a stage is slower than its library, or its cost grows faster than its input.
    """
    options = rooms.Options(seed=seed, mails=mails, runs=runs, crafted=crafted, cache=cache, directory=data)
    _report("stages", lambda console: rooms.run(options, console), json_file, compare)


@click.command()
@_seed
@click.option("--mails", default=2000, show_default=True, type=click.IntRange(1), help="Replies in each run.")
@click.option(
    "--connections", metavar="N,N,...", callback=numbers, default="10,50", show_default=True, help="To run with."
)
@_workers
@_runs
@_with_kept
def http(
    seed: int,
    mails: int,
    connections: tuple[int, ...],
    workers: int,
    runs: int,
    json_file: Path | None,
    compare: Path | None,
    data: Path | None,
    cache: Path,
) -> None:
    """The POST door against the SMTP door, on the replies of the corpus, in turns.

    Exit status 1 when a mail was lost, or the POST door is not as much faster as it is meant to be.
    """
    options = post.Options(
        seed=seed,
        mails=mails,
        warm_up=100,
        connections=connections,
        workers=workers,
        runs=runs,
        cache=cache,
        directory=data,
    )
    _report("http", lambda console: post.run(options, console), json_file, compare)


@click.command()
@_seed
@click.option("--mails", default=24, show_default=True, type=click.IntRange(1), help="Big mails in each run.")
@click.option("--size", default=large.SIZE, show_default=True, type=click.IntRange(10_000), help="Bytes of each.")
@click.option("--connections", default=4, show_default=True, type=click.IntRange(1), help="Big mails at once.")
@_workers
@_blobs(raws.LOCAL)
@_runs
@_with_kept
def big(
    seed: int,
    mails: int,
    size: int,
    connections: int,
    workers: int,
    blobs: str,
    runs: int,
    json_file: Path | None,
    compare: Path | None,
    data: Path | None,
    cache: Path,
) -> None:
    """Mails of 25 MB, several at once, into committed rows; memory, the loop's lag, and small mails meanwhile.

    Exit status 1 when a mail was lost or a bound is broken.
    """
    options = large.Options(
        seed=seed,
        mails=mails,
        size=size,
        connections=connections,
        workers=workers,
        runs=runs,
        blobs=blobs,
        cache=cache,
        directory=data,
    )
    _report("big", lambda console: large.run(options, console), json_file, compare)


@click.command()
@_seed
@click.option("--minutes", default=10.0, show_default=True, type=click.FloatRange(0.01), help="How long.")
@click.option("--mails", default=2000, show_default=True, type=click.IntRange(1), help="Mails in each round.")
@click.option("--connections", default=10, show_default=True, type=click.IntRange(1), help="To run with.")
@click.option("--rate", default=0.0, show_default=True, type=click.FloatRange(0), help="Mails a second; 0: full tilt.")
@_workers
@_blobs(raws.LOCAL)
@_with_kept
def soak(
    seed: int,
    minutes: float,
    mails: int,
    connections: int,
    rate: float,
    workers: int,
    blobs: str,
    json_file: Path | None,
    compare: Path | None,
    data: Path | None,
    cache: Path,
) -> None:
    """Minutes of mixed mail: whether memory, descriptors, tasks or the cost of a mail grow.

    Exit status 1 when they do, or a mail was lost.
    """
    options = soaking.Options(
        seed=seed,
        minutes=minutes,
        mails=mails,
        connections=connections,
        rate=rate,
        workers=workers,
        blobs=blobs,
        cache=cache,
        directory=data,
    )
    _report("soak", lambda console: soaking.run(options, console), json_file, compare)


@click.command()
@_seed
@click.option("--mails", default=2000, show_default=True, type=click.IntRange(1), help="Mails in each run.")
@click.option("--warm-up", default=100, show_default=True, type=click.IntRange(0), help="Mails before, not measured.")
@click.option("--daemons", callback=numbers, default="1,2,4", show_default=True, help="To run with, on one database.")
@click.option("--connections", default=48, show_default=True, type=click.IntRange(1), help="Shared by the daemons.")
@_runs
@_blobs(raws.KINDS)
@_with_kept
def scale(
    seed: int,
    mails: int,
    warm_up: int,
    daemons: tuple[int, ...],
    connections: int,
    runs: int,
    blobs: str,
    json_file: Path | None,
    compare: Path | None,
    data: Path | None,
    cache: Path,
) -> None:
    """One, two and four daemons of one worker on one Postgres: what a mail costs, and what they wait for.

    Exit status 1 when a mail was lost, or daemons wait for each other's locks.
    """
    options = scaling.Options(
        seed=seed,
        mails=mails,
        warm_up=warm_up,
        daemons=daemons,
        connections=connections,
        runs=runs,
        blobs=blobs,
        cache=cache,
        directory=data,
    )
    _report("scale", lambda console: scaling.run(options, console), json_file, compare)


COMMANDS = (stages, http, big, soak, scale)
