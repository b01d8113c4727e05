"""`ingester tenant`: the customers."""

import re
from typing import TYPE_CHECKING

import click

from ingester.cli.context import Fail, json_option, new_id, print_json, print_table, query
from ingester.cli.naming import customer_named

if TYPE_CHECKING:
    from ingester.store.db import Connection
    from ingester.store.registry import Tenant

_SLUG = re.compile(r"[a-z0-9_][a-z0-9_-]{0,62}")


def _slug(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if _SLUG.fullmatch(value) is None:
        raise click.BadParameter("1 to 63 lower-case letters, digits, - and _ are wanted, not beginning with -")
    return value


@click.group()
def tenant() -> None:
    """Tenants: the customers, and the wall between them that nothing crosses."""


@tenant.command()
@click.argument("slug", callback=_slug)
@click.option("--name", help="The name to show; the slug where it is not given.")
@json_option
@click.pass_context
def add(context: click.Context, *, slug: str, name: str | None, as_json: bool) -> None:
    """Add a tenant. Its slug never changes: reply tokens are signed with it."""
    from ingester.store.registry import add_tenant

    made = query(context, lambda connection: add_tenant(connection, tenant_id=new_id(), slug=slug, name=name or slug))
    if made is None:
        raise Fail(f"There is a tenant {slug} already")
    _say(made, "added", as_json=as_json)


@tenant.command("list")
@json_option
@click.pass_context
def list_(context: click.Context, *, as_json: bool) -> None:
    """List the tenants."""
    from ingester.store.registry import tenants

    found = query(context, tenants)
    if as_json:
        print_json(found)
        return
    rows = [(one.slug, one.name, one.status, one.id) for one in found]
    print_table(("slug", "name", "status", "id"), rows, empty="There are no tenants.")


@tenant.command()
@click.argument("slug")
@json_option
@click.pass_context
def suspend(context: click.Context, *, slug: str, as_json: bool) -> None:
    """Stop taking mail for a tenant: 4xx for three days, then 5xx."""
    _say(_set(context, slug, "suspended"), "suspended", as_json=as_json)


@tenant.command()
@click.argument("slug")
@json_option
@click.pass_context
def resume(context: click.Context, *, slug: str, as_json: bool) -> None:
    """Take mail for a tenant again."""
    _say(_set(context, slug, "active"), "resumed", as_json=as_json)


def _set(context: click.Context, slug: str, status: str) -> "Tenant":
    async def change(connection: "Connection") -> "Tenant | None":
        from ingester.store.registry import set_tenant_status

        found = await customer_named(connection, slug)
        return await set_tenant_status(connection, found.id, status)

    changed = query(context, change)
    if changed is None:
        raise Fail(f"The tenant {slug} was removed meanwhile")
    return changed


def _say(one: "Tenant", verb: str, *, as_json: bool) -> None:
    if as_json:
        print_json(one)
    else:
        click.echo(f"{verb} tenant {one.slug} ({one.id})")
