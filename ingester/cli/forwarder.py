"""`ingester forwarder`: whose word counts for mail that fails DMARC because it was forwarded."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING
from uuid import UUID

import click

from ingester.cli.context import Fail, json_option, print_json, print_table, query, tenant_option
from ingester.cli.naming import customer_named, domain_type, tenants_named
from ingester.core.ids import SYSTEM_TENANT

if TYPE_CHECKING:
    from ingester.store.db import Connection
    from ingester.store.senders import Forwarder


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not an address or a network like 192.0.2.0/24") from None


_kind = click.argument("kind", type=click.Choice(["arc", "authserv_id"]))
_name = click.argument("name", type=domain_type, metavar="DOMAIN")


@click.group()
def forwarder() -> None:
    """Trusted forwarders: `arc` a sealer's domain, `authserv_id` an upstream's name in Authentication-Results."""


@forwarder.command()
@_kind
@_name
@click.option(
    "--network",
    "networks",
    type=_network,
    multiple=True,
    metavar="NETWORK",
    help="For authserv_id: whence the upstream hands mail in. Anybody can write its header. "
    "amazonses.com needs none: then it counts at the door of SES alone.",
)
@tenant_option
@json_option
@click.pass_context
def add(
    context: click.Context,
    *,
    kind: str,
    name: str,
    networks: tuple[IPv4Network | IPv6Network, ...],
    tenant: str | None,
    as_json: bool,
) -> None:
    """Trust a forwarder: for one tenant, or without --tenant for all."""
    from ingester.auth.results import SES_ID

    has_own_door = kind == "authserv_id" and name == SES_ID
    if (kind == "authserv_id") != bool(networks) and not has_own_door:
        raise click.UsageError("--network belongs to authserv_id, which needs at least one.")

    async def work(connection: "Connection") -> None:
        from ingester.store.senders import add_forwarder

        tenant_id = await _owner(connection, tenant)
        if not await add_forwarder(connection, tenant_id=tenant_id, kind=kind, name=name, networks=networks):
            raise Fail(f"{kind} {name} is trusted already: remove it first to change its networks")

    query(context, work)
    _say("trusted", kind, name, tenant, as_json=as_json)


@forwarder.command("list")
@tenant_option
@json_option
@click.pass_context
def list_(context: click.Context, *, tenant: str | None, as_json: bool) -> None:
    """List the trusted forwarders; the tenant `system` stands for all."""

    async def work(connection: "Connection") -> "list[Forwarder]":
        from ingester.store.senders import forwarders

        return await forwarders(connection, await tenants_named(connection, tenant))

    found = query(context, work)
    if as_json:
        print_json(found)
        return
    rows = [(one.kind, one.name, ", ".join(one.networks) or None, one.tenant) for one in found]
    print_table(("kind", "name", "networks", "tenant"), rows, empty="No forwarder is trusted.")


@forwarder.command()
@_kind
@_name
@tenant_option
@json_option
@click.pass_context
def remove(context: click.Context, *, kind: str, name: str, tenant: str | None, as_json: bool) -> None:
    """Trust a forwarder no longer."""

    async def work(connection: "Connection") -> None:
        from ingester.store.senders import remove_forwarder

        if not await remove_forwarder(connection, tenant_id=await _owner(connection, tenant), kind=kind, name=name):
            raise Fail(f"{kind} {name} is not trusted there: see `ingester forwarder list`")

    query(context, work)
    _say("no longer trusted", kind, name, tenant, as_json=as_json)


async def _owner(connection: "Connection", tenant: str | None) -> UUID:
    return SYSTEM_TENANT if tenant is None else (await customer_named(connection, tenant)).id


def _say(verb: str, kind: str, name: str, tenant: str | None, *, as_json: bool) -> None:
    if as_json:
        print_json({"done": verb, "kind": kind, "name": name, "tenant": tenant})
    else:
        click.echo(f"{verb}: {kind} {name} for {'all tenants' if tenant is None else f'tenant {tenant}'}")
