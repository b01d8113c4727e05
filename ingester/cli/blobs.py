"""`ingester blobs`: the object store that holds the raw mails, where INGESTER_BLOBS names one."""

from typing import TYPE_CHECKING

import click

from ingester.cli.context import Fail, json_option, print_facts, print_json, run, with_database

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingester.settings import Settings
    from ingester.store.sweeping import Swept
    from ingester.store.trash import Emptied


@click.group()
def blobs() -> None:
    """The object store that holds the raw mails."""


@blobs.command()
@click.option("--apply", is_flag=True, help="Do it; without this objects are only counted.")
@click.option("--force", is_flag=True, help="Delete also where most of what lies there has no mail.")
@json_option
@click.pass_context
def sweep(context: click.Context, *, apply: bool, force: bool, as_json: bool) -> None:
    """Delete the objects of deleted mails, and those without a mail. A dry run unless --apply.

    Objects without a mail are left behind by crashes, and by mail that came twice; INGESTER_STORE__ORPHAN_HOURS says
    how old they must be. The daemon does the same by itself.
    """
    from rich.console import Console
    from rich.progress import Progress

    from ingester.store.sweeping import NotOurs

    settings = with_database(context)
    screen = Console(stderr=True)
    with Progress(console=screen, transient=True, disable=as_json or not screen.is_terminal) as progress:
        task = progress.add_task("objects", total=None)
        try:
            work = _sweep(settings, lambda count: progress.advance(task, count), apply=apply, force=force)
            trash, swept = run(work)
        except NotOurs as error:
            raise Fail(
                f"{error}: is {settings.blobs} the place of another database, or this one an old copy? "
                "If it is right, add --force"
            ) from error
    if as_json:
        print_json({"applied": apply, "trash": trash, "swept": swept})
        return
    facts: dict[str, object] = {"of deleted mails": f"{trash.deleted + trash.left} objects"}
    if swept is not None:
        facts["in the store"] = f"{swept.objects} objects"
        facts["without a mail"] = f"{swept.orphans} objects, {swept.bytes:,} bytes"
    print_facts(facts)
    if not apply:
        click.echo("Nothing was deleted: add --apply to do it.")
    elif trash.left:
        raise Fail(f"{trash.left} objects could not be deleted now: try again later")


async def _sweep(
    settings: "Settings", watch: "Callable[[int], None]", *, apply: bool, force: bool
) -> "tuple[Emptied, Swept | None]":
    from datetime import UTC, datetime, timedelta

    from ingester.store.blobs import Blobs
    from ingester.store.db import Database
    from ingester.store.sweeping import alone
    from ingester.store.sweeping import sweep as go_through
    from ingester.store.trash import Emptied, empty, trashed

    before = datetime.now(UTC) - timedelta(hours=settings.store.orphan_hours)
    database, store = Database(settings), Blobs(settings)
    await database.open()
    try:
        async with alone(database) as free:
            if apply and not free:
                raise Fail("A daemon is at it at this moment: try again later")
            if apply:
                trash = await empty(database, store)
            else:
                async with database.connection() as connection:
                    trash = Emptied(deleted=0, left=await trashed(connection))
            if not store.on:
                return trash, None
            return trash, await go_through(database, store, before=before, apply=apply, force=force, watch=watch)
    finally:
        await store.close()
        await database.close()
