"""`ingester retention`: what is over its time, and its removal by hand. The daemon does the same by itself."""

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import click

from ingester.cli.context import Fail, json_option, print_json, print_table, run, with_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ingester.retaining import Due, Retaining
    from ingester.settings import Settings

_OTHERS = {"letters": "dead letters", "raws": "raw bytes", "parts": "parts with bytes of their own"}


@click.command()
@click.option("--apply", is_flag=True, help="Remove it now; without this it is only counted.")
@json_option
@click.pass_context
def retention(context: click.Context, *, apply: bool, as_json: bool) -> None:
    """Show what each tenant has that is over its time. A dry run unless --apply.

    `ingester tenant set SLUG --retention 365d --attachments 90d` sets the times; the daemon looks every ten minutes.
    """
    settings = with_database(context)
    if not apply:
        due = run(_due(settings))
        if as_json:
            print_json({"applied": False, "due": due})
            return
        rows = [(one.tenant, one.messages, ", ".join(_OTHERS.get(name, name) for name in one.others)) for one in due]
        print_table(("tenant", "messages over their time", "and"), rows, empty="Nothing is over its time.")
        return
    removed = run(_finish(settings))
    if removed is None:
        raise Fail("A daemon is at it at this moment: try again later")
    if as_json:
        print_json({"applied": True, "removed": removed})
    else:
        print_table(("what", "removed"), sorted(removed.items()), empty="Nothing was over its time.")


async def _due(settings: "Settings") -> "list[Due]":
    async with _retaining(settings) as retaining:
        return await retaining.due()


async def _finish(settings: "Settings") -> dict[str, int] | None:
    async with _retaining(settings) as retaining:
        rows = await retaining.finish()
    return None if rows is None else dict(rows)


@asynccontextmanager
async def _retaining(settings: "Settings") -> "AsyncIterator[Retaining]":
    from datetime import UTC, datetime

    from ingester.retaining import Retaining
    from ingester.store.db import Database

    database = Database(settings)
    await database.open()
    try:
        yield Retaining(settings=settings, database=database, now=lambda: datetime.now(UTC))
    finally:
        await database.close()
