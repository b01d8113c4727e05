"""`ingester quota`: how much mail a tenant or a mailbox takes in a day."""

from typing import TYPE_CHECKING
from uuid import UUID

import click

from ingester.cli.context import Fail, json_option, print_json, print_table, query, tenant_option
from ingester.cli.naming import address_type, customer_named, mailbox_named, tenants_named
from ingester.core.address import Address

if TYPE_CHECKING:
    from ingester.store.db import Connection
    from ingester.store.quotas import QuotaState


@click.group()
def quota() -> None:
    """Quotas a day (UTC), per tenant and per mailbox: what is over them is deferred with 452."""


@quota.command("set")
@tenant_option
@click.option("--mailbox", type=address_type, metavar="ADDRESS", help="Of this mailbox alone.")
@click.option("--mails", type=click.IntRange(0), metavar="N", help="Mails a day. Without it there is no limit.")
@click.option("--bytes", "size", type=click.IntRange(0), metavar="N", help="Bytes a day. Without it there is no limit.")
@click.option(
    "--matched-share",
    type=click.IntRange(0, 100),
    default=0,
    show_default=True,
    metavar="PERCENT",
    help="What of it is left to mail that joins a conversation.",
)
@json_option
@click.pass_context
def set_(
    context: click.Context,
    /,
    *,
    tenant: str | None,
    mailbox: Address | None,
    mails: int | None,
    size: int | None,
    matched_share: int,
    as_json: bool,
) -> None:
    """Set a quota, or with neither --mails nor --bytes remove it."""

    async def work(connection: "Connection") -> None:
        from ingester.store.quotas import set_quota

        tenant_id, mailbox_id = await _whose(connection, tenant, mailbox)
        await set_quota(
            connection,
            tenant_id=tenant_id,
            mailbox_id=mailbox_id,
            mails=mails,
            size=size,
            matched_share=matched_share,
        )

    query(context, work)
    whose = str(mailbox) if mailbox else f"tenant {tenant}"
    if as_json:
        print_json({"of": whose, "mails": mails, "bytes": size, "matched_share": matched_share})
    elif mails is None and size is None:
        click.echo(f"removed the quota of {whose}")
    else:
        click.echo(f"set the quota of {whose}")


@quota.command("list")
@tenant_option
@json_option
@click.pass_context
def list_(context: click.Context, *, tenant: str | None, as_json: bool) -> None:
    """List the quotas, and what of them is used today."""

    async def work(connection: "Connection") -> "list[QuotaState]":
        from ingester.clock import now
        from ingester.store.quotas import quotas

        return await quotas(connection, await tenants_named(connection, tenant), now().date())

    found = query(context, work)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            one.tenant,
            one.mailbox or "(all mailboxes)",
            _of(one.used_mails, one.mails),
            _of(one.used_bytes, one.bytes),
            f"{one.matched_share} %",
        )
        for one in found
    ]
    print_table(
        ("tenant", "mailbox", "mails today", "bytes today", "matched share"), rows, empty="There are no quotas."
    )


def _of(used: int, limit: int | None) -> str:
    return f"{used:,}" if limit is None else f"{used:,} of {limit:,}"


async def _whose(connection: "Connection", tenant: str | None, mailbox: Address | None) -> tuple[UUID, UUID | None]:
    if mailbox is not None:
        found = await mailbox_named(connection, mailbox, tenant)
        return found.tenant_id, found.id
    if tenant is None:
        raise Fail("Say whose: --tenant SLUG, or --mailbox ADDRESS")
    return (await customer_named(connection, tenant)).id, None
