"""`ingester roles`: a role for the daemon that can change rows but no tables, and a wall around tenants for the API."""

from collections.abc import Sequence
from typing import IO, TYPE_CHECKING

import click

from ingester.cli.context import Fail, json_option, print_json, query

if TYPE_CHECKING:
    from ingester.store.db import Connection
    from ingester.store.roles import Plan

_USUAL = "[default: the one in use, else ingester_{}]"


def _role_name(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Postgres cuts longer names, and keeps some for itself."""
    if value is None:
        return None
    if not (0 < len(value.encode()) <= 63 and value.isprintable()):
        raise click.BadParameter("the name of a role has 1 to 63 bytes")
    if value in ("public", "none") or value.startswith("pg_"):
        raise click.BadParameter("Postgres keeps this name for itself")
    return value


@click.command()
@click.option(
    "--runtime", metavar="NAME", callback=_role_name, help=f"Whom the daemon logs in as.  {_USUAL.format('runtime')}"
)
@click.option(
    "--api", metavar="NAME", callback=_role_name, help=f"The API's; each database has its own.  {_USUAL.format('api')}"
)
@click.option("--ask-password", is_flag=True, help="Ask for a new password of the runtime role.")
@click.option("--password-file", type=click.File(), metavar="FILE", help="Read one from a file; - is stdin.")
@click.option("--apply", is_flag=True, help="Do it; else the SQL is printed and nothing is changed.")
@json_option
@click.pass_context
def roles(
    context: click.Context,
    *,
    runtime: str | None,
    api: str | None,
    ask_password: bool,
    password_file: IO[str] | None,
    apply: bool,
    as_json: bool,
) -> None:
    """Make or update the role of the daemon and that of the API: what they need, and no more.

    Run it with the database URL of whoever owns the tables and migrates; give the daemon that of the runtime role.
    Running it again does no harm. Making roles takes CREATEROLE; where they are there already, the owner needs nothing
    more.
    """
    password = click.prompt("Password", hide_input=True, confirmation_prompt=True) if ask_password else None
    if password_file is not None:
        password = password_file.readline().rstrip("\r\n")
    made = None if password is None else _verifier(password)

    async def work(connection: "Connection") -> "Plan":
        from ingester.store.migrate import check
        from ingester.store.roles import RolesError, apply_plan, plan

        if await check(connection):
            raise Fail("The schema is not that of this version: run `ingester migrate` first")
        try:
            found = await plan(connection, runtime=runtime, api=api, verifier=made)
            if apply:
                await apply_plan(connection, found)
        except RolesError as error:
            raise Fail(str(error)) from error
        return found

    _say(query(context, work), applied=apply, as_json=as_json)


def _verifier(password: str) -> str:
    from secrets import token_bytes

    from ingester.store.scram import SALT_BYTES, verifier

    try:
        return verifier(password, token_bytes(SALT_BYTES))
    except ValueError as error:
        raise Fail(str(error)) from error


def _say(found: "Plan", *, applied: bool, as_json: bool) -> None:
    for remark in found.remarks:
        click.echo(f"Note: {remark}.", err=True)
    if as_json:
        print_json({"applied": applied, **{name: getattr(found, name) for name in found.__slots__}})
    elif not (found.admin or found.owner):
        click.echo(f"{found.runtime} and {found.api} have what they need.")
    elif applied:
        click.echo(
            f"{found.runtime} and {found.api} have what they need now: give the daemon the URL of {found.runtime}."
        )
    else:
        _print_scripts("by an administrator of roles (CREATEROLE)", found.admin)
        _print_scripts("by the owner of the tables", found.owner)
        click.echo("Nothing is changed yet: --apply does it.", err=True)


def _print_scripts(who: str, scripts: Sequence[str]) -> None:
    if scripts:
        click.echo("\n".join([f"-- {who}", *scripts]))
