"""`ingester erase`: remove a tenant, or a person, from every table and every object, and print a receipt."""

from typing import TYPE_CHECKING

import click

from ingester.cli.context import (
    Fail,
    json_option,
    new_id,
    print_facts,
    print_heading,
    print_json,
    print_table,
    run,
    tenant_option,
    utc,
    with_database,
)
from ingester.cli.naming import address_type, customer_named, tenant_named
from ingester.core.address import Address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingester.erasure import Receipt
    from ingester.settings import Settings
    from ingester.store.db import Connection
    from ingester.store.registry import Tenant


@click.command()
@tenant_option
@click.option("--address", type=address_type, metavar="ADDRESS", help="A person, by mail address.")
@click.option("--tags", is_flag=True, help="With --address: also its plus-tags, like name+shop@example.com.")
@click.option("--apply", is_flag=True, help="Do it; without this nothing is written.")
@json_option
@click.pass_context
def erase(
    context: click.Context, *, tenant: str | None, address: Address | None, tags: bool, apply: bool, as_json: bool
) -> None:
    """Remove a tenant (--tenant), or a person (--address) of all tenants or of one. A dry run unless --apply.

    A tenant goes with everything: mail, directory, keys, tokens, objects. From the first moment on it takes nothing
    more. It cannot be undone.

    Of a person goes what was sent by it, what we sent to it alone, reports about that, its contact, and its places in
    conversations, rules and dead letters. Mail that somebody else wrote stays: the address is taken out of its address
    columns; where subject, text or bytes name it, the message is listed. Receipts and refusals stay without the person.

    Killed half-way, or with an object store that is away, it is run again. The receipt has a checksum.
    """
    if address is None and (tenant is None or tags):
        raise click.UsageError("Say what to erase: --tenant SLUG, or --address ADDRESS.")
    receipt = run(_erase(with_database(context), tenant, address, tags=tags, apply=apply))
    if as_json:
        print_json(receipt)
    else:
        _print(receipt)
    if apply and not receipt.complete:
        raise Fail("Not all of it is done: run the same command again")


async def _erase(
    settings: "Settings", slug: str | None, address: Address | None, *, tags: bool, apply: bool
) -> "Receipt":
    from datetime import UTC, datetime

    from ingester.core.person import Person
    from ingester.erasure import erase_person, erase_tenant
    from ingester.store.blobs import Blobs
    from ingester.store.db import Database
    from ingester.store.registry import tenants

    database, blobs = Database(settings), Blobs(settings)
    await database.open()
    try:
        async with database.connection() as connection:
            if address is None:
                (whom,) = [await customer_named(connection, slug or "")]
            else:
                where = [await tenant_named(connection, slug)] if slug else await tenants(connection)
                await _check_stranger(connection, where, address)
        if address is None:
            return await erase_tenant(database, blobs, whom, apply=apply, new_id=new_id, now=lambda: datetime.now(UTC))
        return await erase_person(
            database,
            blobs,
            Person(address, tags),
            where,
            apply=apply,
            new_id=new_id,
            now=lambda: datetime.now(UTC),
        )
    finally:
        await blobs.close()
        await database.close()


async def _check_stranger(connection: "Connection", where: "Sequence[Tenant]", address: Address) -> None:
    """An address that leads to a mailbox is not a stranger's: everything there was sent to it."""
    from ingester.store.forgetting import own_mailboxes

    locals_ = sorted({address.key, address.split_tag()[0]})
    for slug, mailbox in await own_mailboxes(connection, [one.id for one in where], locals_, address.domain):
        raise Fail(f"{address} leads to the mailbox {mailbox} of the tenant {slug}: remove the route, or say --tenant")


def _print(receipt: "Receipt") -> None:
    print_facts(
        {
            "erased" if receipt.applied else "would be erased": receipt.address or f"tenant {receipt.tenants[0]}",
            "tenants": ", ".join(receipt.tenants) if receipt.address else None,
            "objects": f"{receipt.objects.queued}, not deleted yet {receipt.objects.left}",
            "at": utc(receipt.at),
            "receipt": receipt.id,
            "sha256": receipt.sha256,
        }
    )
    rows = [(table, many, receipt.changed.get(table, 0)) for table, many in receipt.removed.items()]
    rows += [(table, 0, many) for table, many in receipt.changed.items() if table not in receipt.removed]
    print_heading("Rows")
    print_table(("table", "removed", "changed"), sorted(rows), empty="None.")
    if receipt.address:
        print_heading("What others wrote and names the address")
        listed = [(one.tenant, one.table, one.id, ", ".join(one.where)) for one in receipt.mentions]
        print_table(("tenant", "table", "id", "where"), listed, empty="Nothing.")
    print_heading("What stays")
    for sentence in receipt.kept:
        click.echo(f"- {sentence}")
    if not receipt.applied:
        click.echo("\nNothing was erased: add --apply to do it.")
