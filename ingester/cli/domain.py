"""`ingester domain`: the receiving domains."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import click

from ingester.cli.context import (
    Fail,
    json_option,
    new_id,
    print_facts,
    print_json,
    print_table,
    query,
    run,
    settings_of,
    tenant_option,
)
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
        if made.status == "pending":
            _print_challenge(made)


@domain.command()
@click.argument("name", type=domain_type, metavar="NAME")
@_required_tenant
@json_option
@click.pass_context
def challenge(context: click.Context, *, name: str, tenant: str, as_json: bool) -> None:
    """Show the record by which a tenant proves in DNS that a domain is theirs."""
    held = query(context, lambda connection: _held(connection, name, tenant))
    if as_json:
        print_json({"domain": held.name, "tenant": held.tenant, "status": held.status, **_record(held)})
    else:
        _print_challenge(held)


@domain.command()
@click.argument("name", type=domain_type, metavar="NAME")
@_required_tenant
@click.option("--mx", "hosts", multiple=True, metavar="HOST", help="A host of ours, besides INGESTER_SMTP__HOSTNAME.")
@click.option("--trust", is_flag=True, help="Believe it without asking DNS.")
@json_option
@click.pass_context
def verify(
    context: click.Context, *, name: str, tenant: str, hosts: tuple[str, ...], trust: bool, as_json: bool
) -> None:
    """Make a pending domain verified: mail is taken from now on.

    DNS is asked, live and not from a cache, for the record of `ingester domain challenge` and for MX records that lead
    to us: the name servers of the domain itself, or the resolver where those do not answer.
    """
    held = query(context, lambda connection: _free(connection, name, tenant))
    if not trust and held.status != "verified":
        _prove(context, held, hosts)

    async def work(connection: "Connection") -> "Domain":
        from ingester.store.registry import verify_domain

        return await verify_domain(connection, held.tenant_id, name) or await _refuse(connection, name, tenant)

    verified = query(context, work)
    if as_json:
        print_json(verified)
    else:
        click.echo(f"verified domain {verified.name} of tenant {verified.tenant}")


def _prove(context: click.Context, held: "Domain", hosts: Sequence[str]) -> None:
    """Fail with all that is missing in DNS."""
    from ingester.doctor.ownership import missing

    lacking = run(missing(settings_of(context), held.name, _secret(held), hosts))
    if lacking:
        raise Fail("\n  ".join([f"{held.name} is not proved to be of the tenant {held.tenant} yet:", *lacking]))


def _secret(held: "Domain") -> str:
    from ingester.core.challenge import challenge_of

    return challenge_of(held.tenant_id, held.name, held.created_at)


def _record(held: "Domain") -> dict[str, str]:
    """The TXT record to publish."""
    from ingester.core.challenge import owner_name, record_text

    return {"name": owner_name(held.name), "type": "TXT", "value": record_text(_secret(held))}


def _print_challenge(held: "Domain") -> None:
    record = _record(held)
    click.echo("To prove that it is theirs, the tenant publishes this in DNS, beside an MX record that leads here:")
    print_facts({"name": record["name"], "type": record["type"], "value": record["value"]})
    click.echo(f"Then: ingester domain verify {held.name} --tenant {held.tenant}")


async def _free(connection: "Connection", name: str, tenant: str) -> "Domain":
    """The same, where nobody else has it verified: nobody needs to publish a record in vain."""
    from ingester.store.registry import owners

    held = await _held(connection, name, tenant)
    if any(one.status == "verified" and one.tenant_id != held.tenant_id for one in await owners(connection, name)):
        await _refuse(connection, name, tenant)
    return held


async def _held(connection: "Connection", name: str, tenant: str) -> "Domain":
    """The domain as this tenant has it."""
    from ingester.store.registry import owners

    tenant_id = await owner_of(connection, name, tenant)
    held = next((one for one in await owners(connection, name) if one.tenant_id == tenant_id), None)
    return held or await _refuse(connection, name, tenant)


async def _refuse(connection: "Connection", name: str, tenant: str) -> NoReturn:
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
