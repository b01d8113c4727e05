"""`ingester tenant`: the customers."""

import re
from typing import TYPE_CHECKING

import click

from ingester.cli.context import (
    Fail,
    json_option,
    new_id,
    print_facts,
    print_json,
    print_table,
    query,
    settings_of,
)
from ingester.cli.naming import customer_named, tenant_named

if TYPE_CHECKING:
    from datetime import timedelta

    from ingester.store.db import Connection
    from ingester.store.registry import Tenant
    from ingester.store.terms import Days, Terms

_DAYS = re.compile(r"[1-9][0-9]{0,4}d?")

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
    rows = [
        (one.slug, one.name, one.status, _days(one.retention_days), _days(one.attachment_days), one.id) for one in found
    ]
    columns = ("slug", "name", "status", "mail kept", "attachments kept", "id")
    print_table(columns, rows, empty="There are no tenants.")


def _days(days: int | None) -> str:
    """For how long something is kept, as it was set."""
    if days is None:
        return "default"
    return f"{days}d" if days else "forever"


@tenant.command()
@click.argument("slug")
@json_option
@click.pass_context
def show(context: click.Context, *, slug: str, as_json: bool) -> None:
    """Show a tenant, and how long its mail is kept."""
    from datetime import UTC, datetime

    from ingester.retaining import defaults_of
    from ingester.store.due import due_messages
    from ingester.store.terms import terms as terms_of

    defaults, now = defaults_of(settings_of(context)), datetime.now(UTC)

    async def work(connection: "Connection") -> "tuple[Tenant, Terms, int]":
        found = await tenant_named(connection, slug)
        (terms,) = await terms_of(connection, defaults, found.id)
        before = None if terms.messages is None else now - terms.messages
        return found, terms, await due_messages(connection, found.id, before)

    one, terms, due = query(context, work)
    if as_json:
        print_json({"tenant": one, "kept": {"messages": terms.messages, "attachments": terms.attachments}, "due": due})
        return
    facts = {
        "tenant": one.slug,
        "id": one.id,
        "name": one.name,
        "status": one.status,
        "mail kept": f"{_days(one.retention_days)}{_meaning(one.retention_days, terms.messages)}",
        "attachments kept": f"{_days(one.attachment_days)}{_meaning(one.attachment_days, terms.attachments)}",
        "over their time": f"{due} messages" if due else None,
    }
    print_facts(facts)


def _meaning(days: int | None, kept: "timedelta | None") -> str:
    """What stands behind a default, or what is stricter than what was set."""
    said = _days(kept.days if kept else 0)
    return "" if said == _days(days) else f" ({said})"


def _kept(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    days = value or ""
    if value in (None, "forever", "default") or _DAYS.fullmatch(days):
        return value
    raise click.BadParameter("days are wanted, like 365d, or `forever`, or `default`")


@tenant.command("set")
@click.argument("slug")
@click.option("--retention", metavar="DAYS", callback=_kept, help="How long mail is kept: 365d, forever or default.")
@click.option(
    "--attachments", metavar="DAYS", callback=_kept, help="How long its raw bytes are: 90d, forever or default."
)
@json_option
@click.pass_context
def set_(context: click.Context, *, slug: str, retention: str | None, attachments: str | None, as_json: bool) -> None:
    """Set how long the mail of a tenant is kept; the daemon removes what is older.

    --retention: messages go with all that is theirs, and conversations and contacts with the last of them.
    --attachments: raw bytes go earlier, and all attachments with them, which are views on them. Texts, decisions and
    the list of the parts stay; `ingester raw` and `rematch` then lack the bytes.
    `default` is what INGESTER_RETENTION__DAYS and INGESTER_RETENTION__ATTACHMENT_DAYS say for all tenants.
    """
    if retention is None and attachments is None:
        raise click.UsageError("Say what to set: --retention, --attachments.")

    async def change(connection: "Connection") -> "Tenant":
        from ingester.store.terms import set_terms

        found = await tenant_named(connection, slug)
        await set_terms(connection, found.id, messages=_term(retention), attachments=_term(attachments))
        return await tenant_named(connection, slug)

    _say(query(context, change), "set", as_json=as_json)


def _term(text: str | None) -> "Days | None":
    from ingester.store.terms import Days

    if text is None:
        return None
    named: dict[str, int | None] = {"forever": 0, "default": None}
    return Days(days=named[text] if text in named else int(text.removesuffix("d")))


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
        raise Fail(f"The tenant {slug} was removed meanwhile, or is being erased")
    return changed


def _say(one: "Tenant", verb: str, *, as_json: bool) -> None:
    if as_json:
        print_json(one)
    else:
        click.echo(f"{verb} tenant {one.slug} ({one.id})")
