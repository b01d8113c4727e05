"""`ingester token`: mint reply tokens, and say what one is worth. Secrets are numbered, never printed."""

from typing import TYPE_CHECKING
from uuid import UUID

import click

from ingester.cli.context import Fail, json_option, print_json, settings_of
from ingester.cli.naming import domain_type
from ingester.cli.secret import with_known_secret
from ingester.core.token import mint, signing_secret, token_in_id

if TYPE_CHECKING:
    from collections.abc import Sequence

tenant_option = click.option("--tenant", metavar="SLUG", required=True, help="The tenant, by its slug.")
domain_option = click.option("--domain", type=domain_type, metavar="D", required=True, help="The reply domain.")

_FORMS = {"minted": "minted (base32, 26 + 26)", "legacy": "legacy (OpenSend's, 32 + 24 hex digits)"}


@click.group()
def token() -> None:
    """Reply tokens: the signed part of the addresses that answers come back to.

    The secrets are those of INGESTER_REPLY_TOKEN_SECRETS: the first mints, all verify. The database is not asked.
    """


@token.command("mint")
@click.option("--message", type=click.UUID, metavar="ID", required=True, help="The outbound message.")
@tenant_option
@domain_option
@json_option
@click.pass_context
def mint_(context: click.Context, *, message: UUID, tenant: str, domain: str, as_json: bool) -> None:
    """Mint the token of an outbound message; print it, the reply address and the Message-ID to use."""
    made = mint(_secrets(context)[0], tenant=tenant, message_id=message, domain=domain)
    said = {
        "token": made.text,
        "reply_address": f"reply+{made.text}@{domain}",
        "rfc_message_id": f"{made.text}@{domain}",
    }
    if as_json:
        print_json(said)
        return
    click.echo(f"token          {said['token']}")
    click.echo(f"reply address  {said['reply_address']}")
    click.echo(f"Message-ID     <{said['rfc_message_id']}>")


@token.command()
@click.argument("text")
@tenant_option
@domain_option
@json_option
@click.pass_context
def inspect(context: click.Context, *, text: str, tenant: str, domain: str, as_json: bool) -> None:
    """Say what a token is worth. TEXT is a token, or a reply address or a Message-ID that holds one.

    Exit status 0 whether it verifies or not; 1 where TEXT holds no token.
    """
    secrets = _secrets(context)
    found = token_in_id(text.strip().removeprefix("<").removesuffix(">"))
    if found is None:
        raise Fail("This is no reply token, and no reply address or Message-ID that holds one")
    place = signing_secret(found, secrets, tenant=tenant, domain=domain)
    number = None if place is None else place + 1
    form = "legacy" if found.legacy else "minted"
    if as_json:
        print_json({"form": form, "id": found.id, "verifies": number is not None, "secret": number})
        return
    click.echo(f"form      {_FORMS[form]}")
    click.echo(f"message   {found.id}")
    click.echo(f"verifies  {_verdict(number, len(secrets), f'tenant {tenant} and {domain}')}")


def _verdict(number: int | None, count: int, scope: str) -> str:
    if number is not None:
        return f"yes, for {scope}, with secret {number} of {count}"
    secrets = "the only secret" if count == 1 else f"any of {count} secrets"
    return f"no, not for {scope} with {secrets}"


def _secrets(context: click.Context) -> "Sequence[bytes]":
    """The live secrets, at least one."""
    secrets = with_known_secret(settings_of(context)).reply_token_secrets
    if not secrets:
        raise Fail("There is no secret to sign with: set INGESTER_REPLY_TOKEN_SECRETS, the first of the list mints")
    return [secret.get_secret_value().encode() for secret in secrets]
