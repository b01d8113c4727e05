"""`ingester key`: API keys, with which an application registers what a tenant sends."""

from typing import TYPE_CHECKING
from uuid import UUID

import click

from ingester.cli.context import Fail, json_option, new_id, print_json, print_table, query, tenant_option, utc
from ingester.cli.naming import customer_named, label, tenants_named

if TYPE_CHECKING:
    from ingester.store.db import Connection
    from ingester.store.keys import ApiKey


@click.group()
def key() -> None:
    """API keys: made and shown once, stored as a hash, revoked at once."""


@key.command()
@click.option("--tenant", metavar="SLUG", required=True, help="The tenant, by its slug.")
@click.option("--name", metavar="NAME", required=True, callback=label, help="What the key is for.")
@json_option
@click.pass_context
def add(context: click.Context, *, tenant: str, name: str, as_json: bool) -> None:
    """Make a key and print it. It is not shown again."""
    import secrets
    from datetime import UTC, datetime

    from ingester.store.keys import key_text
    from ingester.store.secret import ENTROPY_BYTES

    key_id, text = new_id(), key_text(secrets.token_bytes(ENTROPY_BYTES))

    async def work(connection: "Connection") -> None:
        from ingester.store.keys import add_key

        owner = await customer_named(connection, tenant)
        await add_key(connection, key_id=key_id, tenant_id=owner.id, name=name, text=text, at=datetime.now(UTC))

    query(context, work)
    if as_json:
        print_json({"id": key_id, "tenant": tenant, "name": name, "key": text})
        return
    click.echo(text)
    click.echo(f"This is key {key_id} of the tenant {tenant}; it is not shown again.", err=True)


@key.command("list")
@tenant_option
@json_option
@click.pass_context
def list_(context: click.Context, *, tenant: str | None, as_json: bool) -> None:
    """List keys by id and name, revoked ones included."""

    async def work(connection: "Connection") -> "list[ApiKey]":
        from ingester.store.keys import keys

        return await keys(connection, await tenants_named(connection, tenant))

    found = query(context, work)
    if as_json:
        print_json(found)
        return
    rows = [
        (one.id, one.tenant, one.name, utc(one.created_at), utc(one.last_used_at), utc(one.revoked_at)) for one in found
    ]
    print_table(("id", "tenant", "name", "made", "last used", "revoked"), rows, empty="There is no key.")


@key.command()
@click.argument("key_id", type=click.UUID, metavar="ID")
@json_option
@click.pass_context
def revoke(context: click.Context, *, key_id: UUID, as_json: bool) -> None:
    """Revoke a key: the next call with it is refused."""
    from datetime import UTC, datetime

    async def work(connection: "Connection") -> "ApiKey":
        from ingester.store.keys import revoke_key

        found = await revoke_key(connection, key_id, datetime.now(UTC))
        if found is None:
            raise Fail(f"There is no key {key_id}: see `ingester key list`")
        return found

    found = query(context, work)
    if as_json:
        print_json(found)
    else:
        click.echo(f"revoked: {found.name} of the tenant {found.tenant}")
