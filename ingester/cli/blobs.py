"""`ingester blobs`: raw mails outside Postgres, in the object store or the directory that INGESTER_BLOBS names."""

from contextlib import suppress
from typing import TYPE_CHECKING

import click

from ingester.cli.context import Fail, json_option, print_facts, print_json, run, settings_of, with_database

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingester.settings import Settings
    from ingester.store.segments.relinking import Relinked
    from ingester.store.segments.shelf import Health, Shelf
    from ingester.store.sweeping import Swept
    from ingester.store.trash import Emptied


@click.group()
def blobs() -> None:
    """The object store, or the directory of segments, that holds the raw mails."""


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


@blobs.command()
@json_option
@click.pass_context
def verify(context: click.Context, *, as_json: bool) -> None:
    """Read every segment of INGESTER_BLOBS on this host and hold it against its checksums. Nothing is changed.

    Exit status 1 where anything is damaged. What is torn at the end of a segment that nobody has sealed is no damage.
    """
    shelf = _shelf(settings_of(context))
    found = run(_examined(shelf))
    damaged = [one for one in found if one.sealed and not one.well]
    if as_json:
        print_json(found)
    else:
        facts: dict[str, object] = {
            "segments": f"{len(found)}, {sum(one.sealed for one in found)} of them sealed",
            "mails": f"{sum(one.records - one.dead for one in found)}",
            "erased": f"{sum(one.dead for one in found)}",
        }
        print_facts(facts)
        for one in damaged:
            seal = "" if one.seal_fits else ", its seal does not fit"
            click.echo(f"{one.segment}: {one.damaged} mails are damaged, {one.gaps:,} bytes are no mail{seal}")
    if damaged:
        raise Fail(f"{len(damaged)} segments are damaged: what a backup has of them is better")


@blobs.command()
@click.option("--apply", is_flag=True, help="Do it; without this rows are only counted.")
@json_option
@click.pass_context
def relink(context: click.Context, *, apply: bool, as_json: bool) -> None:
    """Let rows name the segments that hold their mails, where nothing is at the place that they name.

    After a restore, or when the directory was moved. A dry run unless --apply.
    """
    settings = with_database(context)
    done = run(_relinked(settings, _shelf(settings), apply=apply))
    if as_json:
        print_json(done)
        return
    print_facts({"mails in segments": f"{done.records:,}", "rows that name another place": f"{done.rows:,}"})
    if not apply:
        click.echo("Nothing was changed: add --apply to do it.")


async def _relinked(settings: "Settings", shelf: "Shelf", *, apply: bool) -> "Relinked":
    from ingester.store.db import Database
    from ingester.store.segments.relinking import relink

    database = Database(settings)
    await database.open()
    try:
        return await relink(database, shelf, apply=apply)
    finally:
        await database.close()


def _shelf(settings: "Settings") -> "Shelf":
    """The directory of the settings. Fails where they name none."""
    from pathlib import Path

    from ingester.store.hosts import FILES
    from ingester.store.segments.shelf import Shelf

    if not settings.blobs.startswith(FILES):
        raise Fail("INGESTER_BLOBS names no directory of segments")
    return Shelf(Path(settings.blobs.removeprefix(FILES)))


async def _examined(shelf: "Shelf") -> "list[Health]":
    import asyncio

    from ingester.store.objects import ObjectMissing

    found = []
    for segment in await asyncio.to_thread(shelf.segments):
        with suppress(ObjectMissing):  # compacted meanwhile
            found.append(await asyncio.to_thread(shelf.examine, segment))
    return found
