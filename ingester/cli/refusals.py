"""`ingester refusals`: why a mail was not taken, with the reply that its sender was given."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING

import click

from ingester.cli.context import json_option, limit_option, print_json, print_table, query, short, tenant_option, utc
from ingester.cli.naming import tenants_named
from ingester.cli.since import since_option
from ingester.core.envelope import Door
from ingester.core.outcome import CODES, FINAL_CODES, Reason

if TYPE_CHECKING:
    from ingester.store.db import Connection
    from ingester.store.refused import RefusalRow

_REASONS = [reason.value for reason in Reason if reason not in (Reason.ACCEPTED, Reason.DUPLICATE)]
_SMTP_DOORS = (Door.SMTP.value, Door.LMTP.value)
SHOWN = 3
"""Senders and recipients of a row that are told; the others are in the JSON."""


@click.group()
def refusals() -> None:
    """Refusals: mails and recipients that were not taken, for good or for now."""


@refusals.command("list")
@tenant_option
@since_option
@click.option("--reason", type=click.Choice(_REASONS), metavar="R", help="Only this reason.")
@limit_option(100)
@json_option
@click.pass_context
def list_(
    context: click.Context, *, tenant: str | None, since: datetime | None, reason: str | None, limit: int, as_json: bool
) -> None:
    """List refusals, newest first: what the door said to whom, and why.

    Unknown domains belong to the tenant `system`. Those before DATA are counted by the minute and written within
    seconds; of each minute the first senders and recipients are kept.
    """

    async def work(connection: "Connection") -> "list[RefusalRow]":
        from ingester.store import refused

        tenant_ids = await tenants_named(connection, tenant)
        return await refused.refusals(connection, tenant_ids, since=since, reason=reason, limit=limit)

    found = query(context, work)
    if as_json:
        print_json([asdict(one) | {"reply": reply(one)} for one in found])
        return
    print_table(
        ("time", "tenant", "door", "reason", "reply", "client", "count", "from", "to", "detail"),
        [
            (
                _time(one),
                one.tenant,
                one.door,
                one.reason,
                reply(one),
                one.client_prefix,
                one.count,
                _some(_sender(attempt.mail_from, one) for attempt in one.attempts),
                _some(name for attempt in one.attempts for name in attempt.recipients),
                _some(attempt.detail for attempt in one.attempts),
            )
            for one in found
        ],
        empty="There are no refusals.",
    )


def _time(one: "RefusalRow") -> str | None:
    """To the second where it was one, else the minute."""
    return utc(one.attempts[0].at) if one.count == 1 and one.attempts else f"{one.minute:%Y-%m-%d %H:%M} UTC"


def reply(one: "RefusalRow") -> str:
    """What the client was told, from the table of reasons; nothing of a reason that this version does not know."""
    if one.reason not in _REASONS:
        return ""
    reason = Reason(one.reason)
    code = CODES[reason]
    if one.door not in _SMTP_DOORS:
        return f"HTTP {code.http} {code.words}"
    if reason is Reason.OVERLOADED and not any(attempt.recipients for attempt in one.attempts):
        from ingester.transport.command import TOO_MANY_CONNECTIONS

        return TOO_MANY_CONNECTIONS  # refused at the connect, before any command
    final = FINAL_CODES.get(reason)
    return code.line if final is None else f"{code.line}; when it has lasted: {final.line}"


def _sender(mail_from: str, one: "RefusalRow") -> str:
    """After DATA an empty one is the null sender; before it, there may have been none yet."""
    return f"<{mail_from}>" if mail_from or one.arrival_id is not None else ""


def _some(texts: Iterable[str]) -> str | None:
    """The first few that differ."""
    told: Sequence[str] = [text for text in dict.fromkeys(texts) if text]
    more = f" and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
    return ", ".join(short(text) for text in told[:SHOWN]) + more or None
