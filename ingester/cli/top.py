"""`ingester top`: the options and the screen. What is told is gathered in `overview`, how it looks is in `frame`."""

import errno
from contextlib import suppress
from datetime import timedelta

import click

from ingester.cli.context import json_option, run, with_database


@click.command()
@click.option(
    "--metrics",
    "urls",
    multiple=True,
    metavar="URL",
    help="A daemon's listener, such as http://10.0.0.5:9090/metrics; INGESTER_METRICS__LISTEN by default. Repeatable.",
)
@click.option(
    "--window", type=click.IntRange(10, 600), default=60, show_default=True, metavar="S", help="Seconds seen."
)
@click.option(
    "--interval", type=click.FloatRange(0.5, 60), default=2, show_default=True, metavar="S", help="Of frames."
)
@click.option("--once", is_flag=True, help="Print one frame and end.")
@json_option
@click.pass_context
def top(
    context: click.Context, *, urls: tuple[str, ...], window: int, interval: float, once: bool, as_json: bool
) -> None:
    """Show how it goes, live: rate, outcomes, latency, refusals, dead letters, the last mails. q or Ctrl-C ends it.

    Numbers are of all daemons of this database. Latency and load are told by the daemons whose listeners answer;
    without one, latency is that from the arrival to the write. --json prints an object a line, with --once one.
    """
    from ingester.cli.overview import Watch
    from ingester.cli.watching import Stage, watch

    settings = with_database(context)
    stage = Stage(once=once, as_json=as_json)
    with suppress(KeyboardInterrupt):  # how it is ended
        run(watch(settings, Watch(settings, timedelta(seconds=window), urls), stage, seconds=interval))
    if stage.closed:
        raise BrokenPipeError(errno.EPIPE, "the reader has seen enough")
