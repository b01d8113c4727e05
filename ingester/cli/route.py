"""`ingester route`: how addresses reach mailboxes."""

from typing import TYPE_CHECKING

import click

from ingester.cli.context import Fail, json_option, new_id, print_json, print_table, query, tenant_option
from ingester.cli.naming import address_type, domain_type, mailbox_named, owner_of, tenants_named
from ingester.core.address import Address

if TYPE_CHECKING:
    from ingester.store.db import Connection
    from ingester.store.mailboxes import RouteEntry

_kind = click.argument("kind", type=click.Choice(["exact", "alias", "catch_all"]))
_address = click.argument("address", metavar="ADDRESS|DOMAIN")


@click.group()
def route() -> None:
    """Routes: an address is looked up as exact, then as alias, then in the catch_all of its domain."""


@route.command()
@_kind
@_address
@click.option("--to", type=address_type, required=True, metavar="ADDRESS", help="The mailbox that it leads to.")
@tenant_option
@json_option
@click.pass_context
def add(context: click.Context, *, kind: str, address: str, to: Address, tenant: str | None, as_json: bool) -> None:
    """Add a route: `alias ADDRESS --to MAILBOX` or `catch_all DOMAIN --to MAILBOX`, within one tenant.

    `mailbox add` makes the exact route of a mailbox; `exact` here puts one back that was removed.
    """
    wanted = _wanted(kind, address)

    async def work(connection: "Connection") -> None:
        from ingester.store.mailboxes import add_route

        mailbox = await mailbox_named(connection, to, tenant)
        tenant_id = await owner_of(connection, wanted.domain, tenant)
        if tenant_id != mailbox.tenant_id:
            raise Fail(f"{wanted.domain} and {to} belong to different tenants: a route never crosses tenants")
        made = await add_route(
            connection, tenant_id=tenant_id, route_id=new_id(), kind=kind, address=wanted, mailbox_id=mailbox.id
        )
        if not made:
            raise Fail(f"There is a route {kind} {_text(wanted)} already: remove it first")

    query(context, work)
    if as_json:
        print_json({"kind": kind, "address": _text(wanted), "to": str(to)})
    else:
        click.echo(f"added route {kind} {_text(wanted)} to {to}")


@route.command("list")
@tenant_option
@json_option
@click.pass_context
def list_(context: click.Context, *, tenant: str | None, as_json: bool) -> None:
    """List the routes of a tenant, or of all, in the order in which they are tried."""

    async def work(connection: "Connection") -> "list[RouteEntry]":
        from ingester.store.mailboxes import routes

        return await routes(connection, await tenants_named(connection, tenant))

    found = query(context, work)
    if as_json:
        print_json(found)
        return
    rows = [(one.kind, one.address, one.to, one.tenant) for one in found]
    print_table(("kind", "address", "to", "tenant"), rows, empty="There are no routes.")


@route.command()
@_kind
@_address
@tenant_option
@json_option
@click.pass_context
def remove(context: click.Context, *, kind: str, address: str, tenant: str | None, as_json: bool) -> None:
    """Remove a route. The mailbox and its mail stay; the address is unknown from now on."""
    wanted = _wanted(kind, address)

    async def work(connection: "Connection") -> None:
        from ingester.store.mailboxes import remove_route

        tenant_id = await owner_of(connection, wanted.domain, tenant)
        if not await remove_route(connection, tenant_id=tenant_id, kind=kind, address=wanted):
            raise Fail(f"There is no route {kind} {_text(wanted)}: see `ingester route list`")

    query(context, work)
    if as_json:
        print_json({"removed": _text(wanted), "kind": kind})
    else:
        click.echo(f"removed route {kind} {_text(wanted)}")


def _wanted(kind: str, text: str) -> Address:
    """What a route is for: an address or, for a catch_all, a domain (also written `@domain`)."""
    if kind == "catch_all":
        return Address(local="", domain=domain_type(text.removeprefix("@")))
    address = address_type(text)
    return Address(local=address.key, domain=address.domain)


def _text(wanted: Address) -> str:
    return str(wanted) if wanted.local else f"@{wanted.domain}"
