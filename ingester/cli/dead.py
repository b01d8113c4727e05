"""`ingester dead`: mails that our code could not digest. Look at them, try them again, put them away."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import click

from ingester import __version__
from ingester.cli.context import (
    Fail,
    json_option,
    limit_option,
    print_facts,
    print_json,
    print_table,
    query,
    tenant_option,
    utc,
)
from ingester.cli.naming import letter_named, tenant_named
from ingester.cli.since import since_option, until_option

if TYPE_CHECKING:
    from ingester.cli.burying import Chosen, Done
    from ingester.store.db import Connection
    from ingester.store.letters import Buried, Which

Command = TypeVar("Command", bound=Callable[..., Any])

_ENDINGS = {
    "stored": "stored",
    "duplicate": "a duplicate of a message that is stored already",
    "discarded": "discarded, refused",
    "put_away": "discarded",
    "erased": "discarded, its bytes erased",
    "deferred": "left as it is, deferred",
    "still_dead": "still dead",
    "not_dead": "left as it is, it is not dead",
}
_DONE = ("stored", "duplicate", "discarded", "put_away", "erased")
TOLD_ONE_BY_ONE = 50
"""Of more letters than this, those that were done are only counted."""


def _rate(text: str) -> float:
    number, _, unit = text.partition("/")
    try:
        rate = float(number) / {"": 1, "s": 1, "m": 60, "h": 3600}[unit]
    except (ValueError, KeyError):
        rate = -1.0
    if not 0 <= rate <= 10_000:
        raise click.BadParameter(f"{text!r} is no rate like 20, 20/s or 100/m (0 is as fast as it goes)")
    return rate


def _filters(command: Command) -> Command:
    """Which letters are meant."""
    options = (
        tenant_option,
        click.option("--reason", metavar="R", help="Only this reason, such as scan_failed."),
        since_option,
        until_option,
        click.option("--buried-by", metavar="VERSION", help="Only what this version buried (`unknown`: none said so)."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _choice(command: Command) -> Command:
    """How `redrive` and `discard` are told what to do, and how fast."""
    options = (
        click.argument("ids", metavar="[ID]...", nargs=-1, type=click.UUID),
        click.option("--all", "everything", is_flag=True, help="Every letter that is dead."),
        _filters,
        click.option("--rate", type=_rate, default="20/s", show_default=True, metavar="N/s", help="At most so many."),
        click.option("--apply", is_flag=True, help="Do it; without this it is only tried, and nothing is written."),
        json_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group()
def dead() -> None:
    """Dead letters: mails that our code could not digest, kept whole."""


@dead.command("list")
@_filters
@click.option("--state", type=click.Choice(["dead", "redriven", "discarded", "all"]), default="dead", show_default=True)
@limit_option(100)
@json_option
@click.pass_context
def list_(context: click.Context, /, *, state: str, limit: int, as_json: bool, **which: Any) -> None:
    """List dead letters, newest first."""
    from ingester.store import letters

    async def work(connection: "Connection") -> tuple[list["Buried"], dict[str, int]]:
        meant = await _which(connection, **which)
        found = await letters.letters(connection, meant, state=None if state == "all" else state, limit=limit)
        return found, letters.versions(await letters.piles(connection, meant), but=__version__)

    found, others = query(context, work)
    if as_json:
        print_json(found)
        return
    columns = ("id", "created", "state", "reason", "detail", "from", "to", "bytes", "attempts", "buried by")
    print_table(columns, [_row(one) for one in found], empty="There are no dead letters.")
    for version, count in others.items():
        click.echo(_offer(version, count))


def _row(one: "Buried") -> tuple[object, ...]:
    created = f"{one.created_at:%Y-%m-%d %H:%M:%S}"
    return one.id, created, one.state, one.reason, one.detail, *_ends(one), one.size, one.attempts, one.buried_by


def _offer(version: str, count: int) -> str:
    """A newer version may digest what an older one could not."""
    letters = "1 letter was" if count == 1 else f"{count:,} letters were"
    by = "a version that did not say so" if version == "unknown" else version
    return f"{letters} buried by {by}, this is {__version__}: try `ingester dead redrive --buried-by {version}`"


def _ends(letter: "Buried") -> tuple[str, str]:
    return f"<{letter.envelope['envelope_from']}>", ", ".join(letter.envelope["recipients"])


async def _which(
    connection: "Connection",
    *,
    tenant: str | None,
    reason: str | None,
    since: datetime | None,
    until: datetime | None,
    buried_by: str | None,
) -> "Which":
    from ingester.store.letters import Which

    tenant_id = None if tenant is None else (await tenant_named(connection, tenant)).id
    return Which(tenant_id=tenant_id, reason=reason, since=since, until=until, buried_by=buried_by)


@dead.command()
@click.argument("letter_id", metavar="ID", type=click.UUID)
@json_option
@click.pass_context
def show(context: click.Context, *, letter_id: UUID, as_json: bool) -> None:
    """Show a dead letter. Its bytes: `ingester raw ID`."""
    letter = query(context, lambda connection: letter_named(connection, letter_id))
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
        "size": f"{letter.size:,} bytes" if letter.size else "its bytes are gone",
        "attempts": letter.attempts,
        "buried by": letter.buried_by,
        "created": utc(letter.created_at),
        "settled": utc(letter.settled_at),
        "settled by": letter.settled_by,
        "why": letter.why,
    }
    print_facts(facts)


@dead.command()
@_choice
@click.pass_context
def redrive(context: click.Context, /, *, apply: bool, as_json: bool, **choice: Any) -> None:
    """Try dead letters again, oldest first, with today's code and directory. A dry run unless --apply.

    Exit status 1 when any of them stays dead. What is refused now is discarded; nothing ever bounces. It may be ended
    at any time: what was done is done, and the rest waits.
    """
    from ingester.cli.burying import redrive_all

    chosen = _chosen(**choice)
    _report(redrive_all(context, chosen, apply=apply, quiet=as_json), apply=apply, as_json=as_json)


@dead.command()
@_choice
@click.option("--why", metavar="TEXT", help="Why, for the record.")
@click.option("--erase", is_flag=True, help="Delete the bytes of the mail too; otherwise `ingester raw ID` has them.")
@click.pass_context
def discard(
    context: click.Context, /, *, apply: bool, as_json: bool, why: str | None, erase: bool, **choice: Any
) -> None:
    """Put dead letters away for good, without an answer to anybody. A dry run unless --apply.

    The row stays, with who did it and why; its bytes stay too, unless --erase. A sender who brings the mail once more
    is heard as if it were new.
    """
    from ingester.cli.burying import discard_all

    chosen = _chosen(**choice)
    done = discard_all(context, chosen, apply=apply, why=why, erase=erase, quiet=as_json)
    _report(done, apply=apply, as_json=as_json)


def _chosen(*, ids: Sequence[UUID], everything: bool, rate: float, **which: Any) -> "Chosen":
    from ingester.cli.burying import Chosen

    filtered = any(value is not None for value in which.values())
    if bool(ids) == (everything or filtered):
        raise click.UsageError("Name the dead letters, or take --all or filters.")
    return Chosen(ids=tuple(dict.fromkeys(ids)), which=lambda connection: _which(connection, **which), rate=rate)


def _report(ended: "Sequence[Done]", *, apply: bool, as_json: bool) -> None:
    left = [one for one in ended if one.ending not in _DONE]
    if as_json:
        print_json({"applied": apply, "letters": ended})
    elif not ended:
        click.echo("There are no dead letters.")
    else:
        for one in ended if len(ended) <= TOLD_ONE_BY_ONE else left:
            ids = "".join(f" {message_id}" for message_id in one.message_ids)
            reason = "" if one.reason in ("accepted", "duplicate", "") else f" ({one.reason})"
            click.echo(f"{one.id}: {'' if apply else 'would be '}{_ENDINGS[one.ending]}{reason}{ids}")
        if len(ended) > TOLD_ONE_BY_ONE:
            click.echo(f"{len(ended) - len(left):,} {'were' if apply else 'would be'} done.")
        if not apply:
            click.echo("Nothing was written: add --apply to do it.")
    if left:
        raise Fail(f"{len(left)} of {len(ended)} dead letters {'were' if apply else 'would be'} left as they are")
