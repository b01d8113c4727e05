"""`ingester sender`: whom a tenant or a mailbox lets in or keeps out."""

from typing import TYPE_CHECKING
from uuid import UUID

import click

from ingester.cli.context import Fail, json_option, print_json, print_table, query, tenant_option
from ingester.cli.naming import address_type, customer_named, mailbox_named, tenants_named
from ingester.core.address import Address
from ingester.core.senders import pattern_of

if TYPE_CHECKING:
    from ingester.store.db import Connection
    from ingester.store.senders import SenderRule


def _pattern(text: str) -> str:
    pattern = pattern_of(text)
    if pattern is None:
        raise click.BadParameter(f"{text!r} is not name@example.com, example.com or *.example.com")
    return pattern


_pattern_argument = click.argument("pattern", type=_pattern, metavar="ADDRESS|DOMAIN|*.DOMAIN")
_mailbox = click.option("--mailbox", type=address_type, metavar="ADDRESS", help="Only for this mailbox.")


@click.group()
def sender() -> None:
    """Sender rules, by the From address: a block wins, an allow counts only for verified senders."""


@sender.command()
@_pattern_argument
@tenant_option
@_mailbox
@json_option
@click.pass_context
def allow(context: click.Context, *, pattern: str, tenant: str | None, mailbox: Address | None, as_json: bool) -> None:
    """Let a sender in where only allowed senders may come (see `sender mode`)."""
    _add(context, "allow", pattern, tenant, mailbox, as_json=as_json)


@sender.command()
@_pattern_argument
@tenant_option
@_mailbox
@json_option
@click.pass_context
def block(context: click.Context, *, pattern: str, tenant: str | None, mailbox: Address | None, as_json: bool) -> None:
    """Refuse a sender's mail (550 5.7.1), and keep a row of each refusal."""
    _add(context, "block", pattern, tenant, mailbox, as_json=as_json)


@sender.command("list")
@tenant_option
@json_option
@click.pass_context
def list_(context: click.Context, *, tenant: str | None, as_json: bool) -> None:
    """List the sender rules of a tenant, or of all."""

    async def work(connection: "Connection") -> "list[SenderRule]":
        from ingester.store.senders import sender_rules

        return await sender_rules(connection, await tenants_named(connection, tenant))

    found = query(context, work)
    if as_json:
        print_json(found)
        return
    rows = [(one.action, one.pattern, one.mailbox or "(all mailboxes)", one.tenant) for one in found]
    print_table(("rule", "sender", "mailbox", "tenant"), rows, empty="There are no sender rules.")


@sender.command()
@click.argument("action", type=click.Choice(["allow", "block"]))
@_pattern_argument
@tenant_option
@_mailbox
@json_option
@click.pass_context
def remove(
    context: click.Context, *, action: str, pattern: str, tenant: str | None, mailbox: Address | None, as_json: bool
) -> None:
    """Remove a sender rule."""

    async def work(connection: "Connection") -> None:
        from ingester.store.senders import remove_rule

        tenant_id, mailbox_id = await _scope(connection, tenant, mailbox)
        if not await remove_rule(
            connection, tenant_id=tenant_id, mailbox_id=mailbox_id, action=action, pattern=pattern
        ):
            raise Fail(f"There is no rule {action} {pattern} there: see `ingester sender list`")

    query(context, work)
    _say("removed", action, pattern, mailbox, as_json=as_json)


@sender.command()
@click.argument("mode", type=click.Choice(["none", "allowlist"]))
@click.option("--tenant", metavar="SLUG", required=True, help="The tenant, by its slug.")
@json_option
@click.pass_context
def mode(context: click.Context, *, mode: str, tenant: str, as_json: bool) -> None:
    """Take mail of allowed senders only (`allowlist`) in all mailboxes of a tenant, or of any again (`none`).

    One mailbox alone: `ingester mailbox set ADDRESS --sender-mode allowlist`.
    """

    async def work(connection: "Connection") -> None:
        from ingester.store.senders import set_tenant_mode

        await set_tenant_mode(connection, (await customer_named(connection, tenant)).id, mode)

    query(context, work)
    if as_json:
        print_json({"tenant": tenant, "sender_mode": mode})
    else:
        click.echo(f"tenant {tenant} now has the sender mode {mode}")


def _add(
    context: click.Context, action: str, pattern: str, tenant: str | None, mailbox: Address | None, *, as_json: bool
) -> None:
    async def work(connection: "Connection") -> None:
        from ingester.store.senders import add_rule

        tenant_id, mailbox_id = await _scope(connection, tenant, mailbox)
        if not await add_rule(connection, tenant_id=tenant_id, mailbox_id=mailbox_id, action=action, pattern=pattern):
            raise Fail(f"There is a rule {action} {pattern} there already")

    query(context, work)
    _say("added", action, pattern, mailbox, as_json=as_json)


async def _scope(connection: "Connection", tenant: str | None, mailbox: Address | None) -> tuple[UUID, UUID]:
    """Whose rule it is: a mailbox's, or a whole tenant's."""
    from ingester.store.senders import WHOLE_TENANT

    if mailbox is not None:
        found = await mailbox_named(connection, mailbox, tenant)
        return found.tenant_id, found.id
    if tenant is None:
        raise Fail("Say for whom: --tenant SLUG, or --mailbox ADDRESS")
    return (await customer_named(connection, tenant)).id, WHOLE_TENANT


def _say(verb: str, action: str, pattern: str, mailbox: Address | None, *, as_json: bool) -> None:
    where = None if mailbox is None else str(mailbox)
    if as_json:
        print_json({"done": verb, "action": action, "pattern": pattern, "mailbox": where})
    else:
        click.echo(f"{verb} rule: {action} {pattern} in {where or 'all mailboxes'}")
