"""`ingester mailbox`: address identities with their posture and policy."""

from typing import TYPE_CHECKING, Any

import click

from ingester.cli.context import Fail, json_option, new_id, print_json, print_table, query, tenant_option
from ingester.cli.naming import address_type, mailbox_named, owner_of, tenants_named
from ingester.core.address import Address

if TYPE_CHECKING:
    from ingester.store.db import Connection
    from ingester.store.mailboxes import Mailbox


_POLICIES = click.Choice(["off", "monitor", "quarantine", "enforce"])
_MODES = click.Choice(["none", "allowlist"])


@click.group()
def mailbox() -> None:
    """Mailboxes: where mail arrives, with what may come in."""


@mailbox.command()
@click.argument("address", type=address_type, metavar="ADDRESS")
@tenant_option
@click.option("--external-id", metavar="ID", help="What your application calls it.")
@click.option("--email-type", type=click.Choice(["transactional", "marketing"]), default="transactional")
@click.option("--thread-only", is_flag=True, help="Take only what answers mail of its own, no cold inbound.")
@click.option("--unsubscribable", is_flag=True, help="Contacts may unsubscribe from it.")
@click.option("--auth-policy", type=_POLICIES, default="monitor")
@click.option("--strict-senders", is_flag=True, help="Attach a reply only from verified or expected senders.")
@json_option
@click.pass_context
def add(
    context: click.Context,
    *,
    address: Address,
    tenant: str | None,
    external_id: str | None,
    email_type: str,
    thread_only: bool,
    unsubscribable: bool,
    auth_policy: str,
    strict_senders: bool,
    as_json: bool,
) -> None:
    """Add a mailbox and the exact route to it. Its domain says whose it is."""
    if email_type == "marketing" and not unsubscribable:
        raise click.UsageError("A marketing mailbox must be unsubscribable: add --unsubscribable.")

    async def work(connection: "Connection") -> "Mailbox":
        from ingester.store.mailboxes import NewMailbox, add_mailbox

        new = NewMailbox(
            tenant_id=await owner_of(connection, address.domain, tenant),
            id=new_id(),
            address=address,
            external_id=external_id,
            email_type=email_type,
            accepts_cold_inbound=not thread_only,
            unsubscribable=unsubscribable,
            auth_policy=auth_policy,
            strict_senders=strict_senders,
        )
        made = await add_mailbox(connection, new, route_id=new_id())
        if made is None:
            raise Fail(f"There is a mailbox {address} or an exact route for it already: see `ingester route list`")
        return made

    _say(query(context, work), "added", as_json=as_json)


@mailbox.command("list")
@tenant_option
@json_option
@click.pass_context
def list_(context: click.Context, *, tenant: str | None, as_json: bool) -> None:
    """List the mailboxes of a tenant, or of all, the system's own included."""

    async def work(connection: "Connection") -> "list[Mailbox]":
        from ingester.store.mailboxes import mailboxes

        return await mailboxes(connection, await tenants_named(connection, tenant))

    found = query(context, work)
    if as_json:
        print_json(found)
        return
    print_table(
        ("address", "tenant", "status", "posture", "auth policy", "system", "id"),
        [(m.address, m.tenant, m.status, _posture(m), m.auth_policy, m.system, m.id) for m in found],
        empty="There are no mailboxes.",
    )


def _posture(one: "Mailbox") -> str:
    words = ["open" if one.accepts_cold_inbound else "thread-only"]
    words += ["strict senders"] if one.strict_senders else []
    words += ["alignment required"] if one.require_alignment else []
    words += [] if one.accept_forwarded else ["direct only"]
    words += ["allowlist"] if one.sender_mode == "allowlist" else []
    return ", ".join(words)


@mailbox.command("set")
@click.argument("address", type=address_type, metavar="ADDRESS")
@tenant_option
@click.option(
    "--thread-only/--open", "thread_only", default=None, help="Take only what answers mail of its own, or all."
)
@click.option("--auth-policy", type=_POLICIES)
@click.option("--strict-senders/--any-senders", default=None, help="From whom replies are attached.")
@click.option(
    "--require-alignment/--no-alignment",
    default=None,
    help="Under quarantine and enforce: also a domain without DMARC must align.",
)
@click.option("--accept-forwarded/--direct-only", default=None, help="Whether a trusted forwarder's word counts.")
@click.option("--sender-mode", type=_MODES, help="allowlist: only senders that `ingester sender allow` names.")
@json_option
@click.pass_context
def set_(
    context: click.Context,
    /,
    *,
    address: Address,
    tenant: str | None,
    thread_only: bool | None,
    as_json: bool,
    **wanted: Any,
) -> None:
    """Change what a mailbox asks of those who write to it; what is not named stays."""
    if thread_only is not None:
        wanted["accepts_cold_inbound"] = not thread_only
    if all(value is None for value in wanted.values()):
        raise click.UsageError("Say what to change.")

    async def change(connection: "Connection") -> "Mailbox":
        from ingester.store.mailboxes import change_mailbox

        found = await mailbox_named(connection, address, tenant)
        await change_mailbox(connection, found.tenant_id, found.id, **wanted)
        return await mailbox_named(connection, address, found.tenant)

    _say(query(context, change), "changed", as_json=as_json)


@mailbox.command()
@click.argument("address", type=address_type, metavar="ADDRESS")
@tenant_option
@json_option
@click.pass_context
def suspend(context: click.Context, *, address: Address, tenant: str | None, as_json: bool) -> None:
    """Stop taking mail for a mailbox: 4xx for three days, then 5xx."""
    _say(_set(context, address, tenant, "suspended"), "suspended", as_json=as_json)


@mailbox.command()
@click.argument("address", type=address_type, metavar="ADDRESS")
@tenant_option
@json_option
@click.pass_context
def resume(context: click.Context, *, address: Address, tenant: str | None, as_json: bool) -> None:
    """Take mail for a mailbox again."""
    _say(_set(context, address, tenant, "active"), "resumed", as_json=as_json)


def _set(context: click.Context, address: Address, tenant: str | None, status: str) -> "Mailbox":
    async def change(connection: "Connection") -> "Mailbox":
        from ingester.store.mailboxes import set_mailbox_status

        found = await mailbox_named(connection, address, tenant)
        await set_mailbox_status(connection, found.tenant_id, found.id, status)
        return await mailbox_named(connection, address, found.tenant)

    return query(context, change)


def _say(one: "Mailbox", verb: str, *, as_json: bool) -> None:
    if as_json:
        print_json(one)
    else:
        click.echo(f"{verb} mailbox {one.address} of tenant {one.tenant} ({one.id})")
