"""`ingester intake`: tokens with which providers hand in mail over HTTP."""

import re
from typing import TYPE_CHECKING
from uuid import UUID

import click

from ingester.cli.context import Fail, json_option, new_id, print_json, print_table, query, tenant_option, utc
from ingester.cli.naming import customer_named, domain_type, label, owner_of, tenants_named

if TYPE_CHECKING:
    from ingester.store.db import Connection
    from ingester.store.intake_tokens import IntakeToken

_PROVIDER = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def _provider(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
    if text is not None and not _PROVIDER.fullmatch(text):
        raise click.BadParameter("a provider is named in a-z, 0-9, `.`, `_` and `-`")
    return text


@click.group()
def intake() -> None:
    """Tokens for POST /events/inbound: made and shown once, stored as a hash, revoked at once."""


@intake.command()
@click.argument("name", metavar="NAME", callback=label)
@click.option(
    "--provider", metavar="NAME", callback=_provider, help="Events are claimed under this name, and no other."
)
@click.option("--tenant", metavar="SLUG", help="Only mail of this tenant.")
@click.option("--domain", "domains", type=domain_type, multiple=True, metavar="NAME", help="Only mail of this domain.")
@click.option("--may-assert-envelope", is_flag=True, help="Its word on client address, sender and HELO counts.")
@json_option
@click.pass_context
def add(
    context: click.Context,
    *,
    name: str,
    provider: str | None,
    tenant: str | None,
    domains: tuple[str, ...],
    may_assert_envelope: bool,
    as_json: bool,
) -> None:
    """Make a token and print it. It is not shown again. Without --tenant and --domain it is for everybody's mail."""
    import secrets
    from datetime import UTC, datetime

    from ingester.store.intake_tokens import NewToken, token_text
    from ingester.store.secret import ENTROPY_BYTES

    token_id, text = new_id(), token_text(secrets.token_bytes(ENTROPY_BYTES))

    async def work(connection: "Connection") -> None:
        from ingester.store.intake_tokens import add_token

        owner = None if tenant is None else await customer_named(connection, tenant)
        for domain in domains:
            await owner_of(connection, domain, tenant)
        await add_token(
            connection,
            NewToken(
                id=token_id,
                text=text,
                name=name,
                provider=provider,
                tenant_id=None if owner is None else owner.id,
                domains=domains,
                may_assert_envelope=may_assert_envelope,
                created_at=datetime.now(UTC),
            ),
        )

    query(context, work)
    if as_json:
        print_json({"id": token_id, "name": name, "tenant": tenant, "domains": domains, "token": text})
        return
    click.echo(text)
    click.echo(f"This is intake token {token_id}; it is not shown again.", err=True)


@intake.command("list")
@tenant_option
@json_option
@click.pass_context
def list_(context: click.Context, *, tenant: str | None, as_json: bool) -> None:
    """List tokens by id and name, revoked ones included."""

    async def work(connection: "Connection") -> "list[IntakeToken]":
        from ingester.store.intake_tokens import tokens

        return await tokens(connection, None if tenant is None else await tenants_named(connection, tenant))

    found = query(context, work)
    if as_json:
        print_json(found)
        return
    columns = ("id", "name", "provider", "tenant", "domains", "envelope", "made", "last used", "revoked")
    print_table(columns, [_row(one) for one in found], empty="There is no intake token.")


def _row(one: "IntakeToken") -> tuple[object, ...]:
    return (
        one.id,
        one.name,
        one.provider,
        one.tenant,
        ", ".join(one.domains) or None,
        "yes" if one.may_assert_envelope else "no",
        utc(one.created_at),
        utc(one.last_used_at),
        utc(one.revoked_at),
    )


@intake.command()
@click.argument("token_id", type=click.UUID, metavar="ID")
@json_option
@click.pass_context
def revoke(context: click.Context, *, token_id: UUID, as_json: bool) -> None:
    """Revoke a token: the next mail with it is refused."""
    from datetime import UTC, datetime

    async def work(connection: "Connection") -> "IntakeToken":
        from ingester.store.intake_tokens import revoke_token

        found = await revoke_token(connection, token_id, datetime.now(UTC))
        if found is None:
            raise Fail(f"There is no intake token {token_id}: see `ingester intake list`")
        return found

    found = query(context, work)
    if as_json:
        print_json(found)
    else:
        click.echo(f"revoked: {found.name}")
