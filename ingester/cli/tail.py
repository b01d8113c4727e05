"""`ingester tail`: the options. What it does is in `tailing`, which the help need not wait for."""

import errno
from contextlib import suppress
from datetime import datetime

import click

from ingester.cli.context import json_option, run, tenant_option, with_database
from ingester.cli.naming import address_type, domain_type
from ingester.cli.since import since_option
from ingester.core.address import Address
from ingester.core.envelope import Door
from ingester.core.outcome import Reason

_REFUSALS = {reason.value for reason in Reason if reason not in (Reason.ACCEPTED, Reason.DUPLICATE)}


def _reason(text: str) -> str:
    from ingester.cli.words import REASONS

    known = {*_REFUSALS, *REASONS, "scan_failed", "decide_failed", "commit_failed"}
    if text not in known:
        raise click.BadParameter(f"{text!r} is none of {', '.join(sorted(known))}")
    return text


@click.command()
@tenant_option
@click.option("--domain", type=domain_type, metavar="NAME", help="Only mail to this domain.")
@click.option("--mailbox", type=address_type, metavar="ADDRESS", help="Only mail to this mailbox or address.")
@click.option("--door", type=click.Choice([door.value for door in Door]), help="Only this door.")
@click.option("--matched/--unmatched", "matched", default=None, help="Only what was matched, or was not.")
@click.option("--reason", type=_reason, metavar="R", help="Only this reason, of a decision, refusal or dead letter.")
@click.option("--refusals", is_flag=True, help="Refusals too.")
@since_option
@click.option("-n", "--last", type=click.IntRange(0, 10_000), metavar="N", help="Begin with the last N (default 10).")
@click.option("--follow/--no-follow", default=True, help="Go on with what arrives (the default), or end there.")
@json_option
@click.pass_context
def tail(
    context: click.Context,
    *,
    tenant: str | None,
    domain: str | None,
    mailbox: Address | None,
    door: str | None,
    matched: bool | None,
    reason: str | None,
    refusals: bool,
    since: datetime | None,
    last: int | None,
    follow: bool,
    as_json: bool,
) -> None:
    """Show mails as they arrive, at any daemon of this database; Ctrl-C ends it.

    A line tells when, from whom, to whom, the subject, what became of it, the door and the size, and, where the
    terminal is wide enough, the id that `ingester show` takes. With --since it begins there, otherwise with the last
    few. --json prints an object a line.
    """
    from ingester.cli.tailing import Screen, Tail, Wanted

    wanted = Wanted(
        domain=domain,
        mailbox=mailbox,
        door=door,
        status=None if matched is None else "matched" if matched else "unmatched",
        reason=reason,
        refusals=refusals or reason in _REFUSALS,
    )
    screen = Screen(as_json=as_json, with_tenant=tenant is None)
    tailing = Tail(with_database(context), wanted, screen)
    with suppress(KeyboardInterrupt):  # how it is ended
        run(tailing.run(tenant, since=since, last=last, follow=follow))
    if screen.closed:
        raise BrokenPipeError(errno.EPIPE, "the reader has seen enough")
