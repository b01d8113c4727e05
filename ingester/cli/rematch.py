"""`ingester rematch`: judge stored unmatched mail again."""

from datetime import datetime
from typing import TYPE_CHECKING

import click

from ingester.cli.context import (
    Fail,
    json_option,
    plain,
    print_json,
    print_table,
    query,
    short,
    tenant_option,
    with_database,
)
from ingester.cli.naming import tenants_named
from ingester.cli.since import since_option

if TYPE_CHECKING:
    from ingester.rematch import Rematched
    from ingester.store.db import Connection


@click.command()
@since_option
@tenant_option
@click.option("--apply", is_flag=True, help="Match them; without it only the difference is printed.")
@json_option
@click.pass_context
def rematch(context: click.Context, *, since: datetime | None, tenant: str | None, apply: bool, as_json: bool) -> None:
    """Judge stored unmatched mail again, with today's outbound messages and secrets.

    For mail that came before its outbound message was registered, or while a secret was missing. The verdicts on its
    sender stay those of its arrival.
    """
    if since is None:
        raise Fail("Say from when: --since 7d, or --since 2026-11-20")
    settings = with_database(context)

    async def work(connection: "Connection") -> "list[Rematched]":
        from rich.console import Console
        from rich.progress import Progress

        from ingester import rematch as room
        from ingester.configured import bounds
        from ingester.store.blobs import Blobs
        from ingester.store.raws import Raws

        tenant_ids = await tenants_named(connection, tenant)
        blobs = Blobs(settings)
        screen = Console(stderr=True)
        with Progress(console=screen, transient=True, disable=as_json or not screen.is_terminal) as progress:
            task = progress.add_task("judging again", total=None)
            found = room.rematch(
                connection,
                Raws(blobs),
                tenant_ids,
                since,
                bounds=bounds(settings),
                secrets=settings.token_secrets,
                apply=apply,
                watch=lambda count: progress.advance(task, count),
                lost=lambda message_id: click.echo(f"The raw mail of {message_id} is gone: not judged", err=True),
            )
            return [one async for one in found]

    found = query(context, work)
    if as_json:
        print_json(found)
        return
    rows = [
        (one.id, one.tenant, one.from_address, short(plain(one.subject)), one.was, one.method, one.reply_to_email_id)
        for one in found
    ]
    columns = ("message", "tenant", "from", "subject", "was", "matched by", "answers")
    print_table(columns, rows, empty="Nothing would be matched now.")
    if found and not apply:
        click.echo("Nothing was written: add --apply to do it.")
