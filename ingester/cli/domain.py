"""`ingester domain`: the receiving domains."""

from typing import TYPE_CHECKING

import click

from ingester.cli.context import Fail, json_option, new_id, print_json, print_table, query, tenant_option
from ingester.cli.naming import customer_named, domain_type, owner_of, tenants_named

if TYPE_CHECKING:
    from ingester.store.db import Connection
    from ingester.store.registry import Domain

_required_tenant = click.option("--tenant", metavar="SLUG", required=True, help="The tenant that owns it.")


@click.group()
def domain() -> None:
    """Receiving domains. Mail is taken for verified ones; a pending one answers 450."""


@domain.command()
@click.argument("name", type=domain_type, metavar="NAME")
@_required_tenant
@click.option("--verified", is_flag=True, help="The tenant has shown that the domain is theirs.")
@json_option
@click.pass_context
def add(context: click.Context, *, name: str, tenant: str, verified: bool, as_json: bool) -> None:
    """Add a domain with its system mailboxes, postmaster and reply."""

    async def work(connection: "Connection") -> "Domain":
        from ingester.store.registry import add_domain

        owner = await customer_named(connection, tenant)
        ids = (new_id(), new_id())
        made = await add_domain(connection, tenant_id=owner.id, name=name, verified=verified, system_ids=ids)
        return made or await _refuse(connection, name, tenant)

    made = query(context, work)
    if as_json:
        print_json(made)
    else:
        click.echo(f"added domain {made.name} to tenant {made.tenant}: {made.status}")


@domain.command()
@click.argument("name", type=domain_type, metavar="NAME")
@_required_tenant
@json_option
@click.pass_context
def verify(context: click.Context, *, name: str, tenant: str, as_json: bool) -> None:
    """Mark a domain as verified: its owner has shown that it is theirs. Mail is taken from now on."""

    async def work(connection: "Connection") -> "Domain":
        from ingester.store.registry import verify_domain

        tenant_id = await owner_of(connection, name, tenant)
        return await verify_domain(connection, tenant_id, name) or await _refuse(connection, name, tenant)

    verified = query(context, work)
    if as_json:
        print_json(verified)
    else:
        click.echo(f"verified domain {verified.name} of tenant {verified.tenant}")


async def _refuse(connection: "Connection", name: str, tenant: str) -> "Domain":
    """Say why a domain could not be added or verified."""
    from ingester.store.registry import owners

    found = await owners(connection, name)
    for one in found:
        if one.status == "verified" and one.tenant != tenant:
            raise Fail(f"{name} is verified for another tenant ({one.tenant}): a name has one verified owner")
    if any(one.tenant == tenant for one in found):
        raise Fail(f"The tenant {tenant} has the domain {name} already: see `ingester domain verify`")
    raise Fail(f"The domain {name} was changed by somebody else meanwhile: try again")


@domain.command("list")
@tenant_option
@json_option
@click.pass_context
def list_(context: click.Context, *, tenant: str | None, as_json: bool) -> None:
    """List the domains of a tenant, or of all."""

    async def work(connection: "Connection") -> "list[Domain]":
        from ingester.store.registry import domains

        return await domains(connection, await tenants_named(connection, tenant))

    found = query(context, work)
    if as_json:
        print_json(found)
        return
    rows = [(one.name, one.tenant, one.status) for one in found]
    print_table(("domain", "tenant", "status"), rows, empty="There are no domains.")


@domain.command()
@click.argument("name", type=domain_type, metavar="NAME")
@_required_tenant
@json_option
@click.pass_context
def remove(context: click.Context, *, name: str, tenant: str, as_json: bool) -> None:
    """Remove a domain that no route names any more. Its mailboxes and their mail stay."""

    async def work(connection: "Connection") -> None:
        from ingester.store.registry import remove_domain

        tenant_id = await owner_of(connection, name, tenant)
        if not await remove_domain(connection, tenant_id, name):
            raise Fail(f"Routes still name {name}: remove them first, see `ingester route list --tenant {tenant}`")

    query(context, work)
    if as_json:
        print_json({"removed": name, "tenant": tenant})
    else:
        click.echo(f"removed domain {name} of tenant {tenant}")
