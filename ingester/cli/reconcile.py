"""`ingester reconcile`: hand in the mail that lies in a bucket and that no notification has brought."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from ingester.cli.context import Fail, json_option, print_json, print_table, run, utc, with_database
from ingester.cli.since import since_option

if TYPE_CHECKING:
    from ingester.settings import Settings
    from ingester.transport.ses.reconcile import Reconciled, Search


@click.group()
def reconcile() -> None:
    """What lies with a provider and has not arrived here."""


@reconcile.command()
@since_option
@click.option("--apply", is_flag=True, help="Do it; without this it is only looked for, and nothing is fetched.")
@json_option
@click.pass_context
def s3(context: click.Context, *, since: datetime | None, apply: bool, as_json: bool) -> None:
    """Search the buckets of INGESTER_SES__BUCKETS for mail that has not arrived. A dry run unless --apply.

    The last INGESTER_SES__RECONCILE_DAYS are searched, but for the last minutes: a notification may still come. Exit
    status 1 when mail is left to be tried again.
    """
    settings = with_database(context)
    if not settings.ses.buckets:
        raise Fail("INGESTER_SES__BUCKETS is not set: there is nothing to search")
    search = run(_search(settings, since, apply=apply, quiet=as_json))
    if as_json:
        print_json({"applied": apply, "objects": search.found})
    elif search.found or search.stopped is None:
        _print(search.found, apply=apply)
    if search.stopped is not None:
        raise Fail(search.stopped)
    left = sum(one.ending == "deferred" for one in search.found)
    if left:
        raise Fail(f"{left} of {len(search.found)} mails were deferred: they are tried again later")


async def _search(settings: "Settings", since: datetime | None, *, apply: bool, quiet: bool) -> "Search":
    import logging

    import structlog
    from rich.console import Console
    from rich.progress import Progress

    from ingester.app import App

    # What the daemon would log is told by the report here; on stdout it would break --json.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    app = App(settings)
    await app.open()
    screen = Console(stderr=True)
    try:
        with Progress(console=screen, transient=True, disable=quiet or not screen.is_terminal) as progress:
            task = progress.add_task("searching", total=None)
            return await app.reconciler.search_all(
                since=since, apply=apply, watch=lambda count: progress.advance(task, count)
            )
    finally:
        await app.close()


def _print(found: Sequence["Reconciled"], *, apply: bool) -> None:
    print_table(
        ("object", "written", "bytes", "ending", "reason", "messages"),
        [
            (
                one.source,
                utc(one.modified),
                one.size,
                one.ending,
                one.reason,
                ", ".join(map(str, one.message_ids)) or None,
            )
            for one in found
        ],
        empty="All that lies in the buckets has arrived.",
    )
    if found and not apply:
        click.echo("Nothing was fetched: add --apply to do it.")
