"""`ingester dead`: mails that our code could not digest. Look at them, and try them again."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

import click

from ingester.cli.context import (
    Fail,
    json_option,
    limit_option,
    print_facts,
    print_json,
    print_table,
    query,
    run,
    tenant_option,
    utc,
    with_database,
)
from ingester.cli.naming import tenant_named

if TYPE_CHECKING:
    from ingester.redrive import Redriven
    from ingester.settings import Settings
    from ingester.store.db import Connection
    from ingester.store.dead import Buried

ALL = 1_000_000
"""More dead letters than this are redriven in several runs."""

_ENDINGS = {
    "stored": "stored",
    "duplicate": "a duplicate of a message that is stored already",
    "discarded": "discarded, refused",
    "deferred": "left as it is, deferred",
    "still_dead": "still dead",
    "not_dead": "left as it is, it is not dead",
}
_DONE = ("stored", "duplicate", "discarded")


@click.group()
def dead() -> None:
    """Dead letters: mails that our code could not digest, kept whole."""


@dead.command("list")
@tenant_option
@click.option("--state", type=click.Choice(["dead", "redriven", "discarded", "all"]), default="dead", show_default=True)
@limit_option(100)
@json_option
@click.pass_context
def list_(context: click.Context, *, tenant: str | None, state: str, limit: int, as_json: bool) -> None:
    """List dead letters, newest first."""
    wanted = None if state == "all" else state
    found = query(context, lambda connection: _letters(connection, tenant, wanted, limit))
    if as_json:
        print_json(found)
        return
    print_table(
        ("id", "created", "state", "reason", "detail", "from", "to", "bytes", "attempts"),
        [
            (
                one.id,
                f"{one.created_at:%Y-%m-%d %H:%M:%S}",
                one.state,
                one.reason,
                one.detail,
                *_ends(one),
                one.size,
                one.attempts,
            )
            for one in found
        ],
        empty="There are no dead letters.",
    )


def _ends(letter: "Buried") -> tuple[str, str]:
    return f"<{letter.envelope['envelope_from']}>", ", ".join(letter.envelope["recipients"])


async def _letters(connection: "Connection", tenant: str | None, state: str | None, limit: int) -> "Sequence[Buried]":
    from ingester.store.dead import letters

    tenant_id = None if tenant is None else (await tenant_named(connection, tenant)).id
    return await letters(connection, tenant_id=tenant_id, state=state, limit=limit)


@dead.command()
@click.argument("letter_id", metavar="ID", type=click.UUID)
@json_option
@click.pass_context
def show(context: click.Context, *, letter_id: UUID, as_json: bool) -> None:
    """Show a dead letter. Its bytes: `ingester raw ID`."""
    letter = query(context, lambda connection: _letter(connection, letter_id))
    if as_json:
        print_json(letter)
        return
    sender, recipients = _ends(letter)
    facts = {
        "id": letter.id,
        "tenant id": letter.tenant_id,
        "state": letter.state,
        "reason": letter.reason,
        "detail": letter.detail,
        "from": sender,
        "to": recipients,
        "client": letter.envelope["client_ip"],
        "helo": letter.envelope["helo"],
        "door": letter.envelope["door"],
        "arrival": letter.envelope["arrival_id"],
        "size": f"{letter.size:,} bytes",
        "attempts": letter.attempts,
        "created": utc(letter.created_at),
    }
    print_facts(facts)


async def _letter(connection: "Connection", letter_id: UUID) -> "Buried":
    from ingester.store.dead import letter

    found = await letter(connection, letter_id)
    if found is None:
        raise Fail(f"No dead letter has the id {letter_id}")
    return found


@dead.command()
@click.argument("ids", metavar="[ID]...", nargs=-1, type=click.UUID)
@click.option("--all", "everything", is_flag=True, help="Every letter that is dead, oldest first.")
@click.option("--apply", is_flag=True, help="Do it; without this it is only tried, and nothing is written.")
@json_option
@click.pass_context
def redrive(context: click.Context, *, ids: tuple[UUID, ...], everything: bool, apply: bool, as_json: bool) -> None:
    """Try dead letters again, with today's code and directory. A dry run unless --apply.

    Exit status 1 when any of them stays dead. What is refused now is discarded; nothing ever bounces.
    """
    if bool(ids) == everything:
        raise click.UsageError("Name the dead letters, or take --all.")
    ended = run(_redrive(with_database(context), tuple(dict.fromkeys(ids)), apply=apply))
    if as_json:
        print_json({"applied": apply, "letters": ended})
    else:
        _report(ended, apply=apply)
    left = [one for one in ended if one.ending not in _DONE]
    if left:
        raise Fail(f"{len(left)} of {len(ended)} dead letters {'were' if apply else 'would be'} left as they are")


async def _redrive(settings: "Settings", ids: Sequence[UUID], *, apply: bool) -> "list[Redriven]":
    import logging

    import structlog

    from ingester import redrive as redriving
    from ingester.app import App

    # What the daemon would log is told by the report here; on stdout it would break --json.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    app = App(settings)
    await app.open()
    try:
        async with app.database.connection() as connection:
            if ids:
                chosen = [await _letter(connection, letter_id) for letter_id in ids]
            else:
                chosen = list(reversed(await _letters(connection, None, "dead", ALL)))
        return [await redriving.redrive(app.pipeline, app.database, app.raws, letter, apply=apply) for letter in chosen]
    finally:
        await app.close()


def _report(ended: "Sequence[Redriven]", *, apply: bool) -> None:
    for one in ended:
        ids = "".join(f" {message_id}" for message_id in one.message_ids)
        reason = "" if one.reason in ("accepted", "duplicate") else f" ({one.reason})"
        click.echo(f"{one.id}: {'' if apply else 'would be '}{_ENDINGS[one.ending]}{reason}{ids}")
    if not ended:
        click.echo("There are no dead letters.")
    elif not apply:
        click.echo("Nothing was written: add --apply to do it.")
