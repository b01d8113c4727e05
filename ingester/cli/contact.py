"""`ingester contact`: whom a tenant knows by address, what came from there, and in which conversations."""

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import click

from ingester.cli.context import (
    Fail,
    json_option,
    limit_option,
    print_facts,
    print_heading,
    print_json,
    print_table,
    query,
    short,
    utc,
)
from ingester.cli.naming import tenant_named
from ingester.core.address import Address, parse_path

if TYPE_CHECKING:
    from ingester.store.contacts import Contact, ContactMessage, ContactThread
    from ingester.store.db import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """All that is shown, and the shape of `--json`."""

    contact: "Contact"
    messages: "list[ContactMessage]"
    threads: "list[ContactThread]"


def _wanted(text: str) -> UUID | tuple[str, ...]:
    """For click: a contact's id, or an address in the spellings that a contact may be known by; or a usage error."""
    if "@" not in text:
        try:
            return UUID(text)
        except ValueError:
            raise click.BadParameter(f"{text!r} is neither an address like name@example.com nor an id") from None
    # As a header said it, and as an envelope would: a domain has two forms (RFC 5890, 2.3.2.1).
    text = text[1:-1] if text.startswith("<") and text.endswith(">") else text
    address = parse_path(text)
    spelt = () if address is None else (str(Address(local=address.key, domain=address.domain)),)
    return tuple(dict.fromkeys((text.lower(), *spelt)))


@click.group()
def contact() -> None:
    """Contacts: verified senders, and those that were written to."""


@contact.command()
@click.argument("wanted", metavar="ADDRESS|ID", type=_wanted)
@click.option("--tenant", metavar="SLUG", required=True, help="The tenant, by its slug.")
@limit_option(20)
@json_option
@click.pass_context
def show(context: click.Context, *, wanted: UUID | tuple[str, ...], tenant: str, limit: int, as_json: bool) -> None:
    """Show a contact of a tenant: since when, its last messages, and its conversations."""
    shown = query(context, lambda connection: _read(connection, wanted, tenant, limit))
    if as_json:
        print_json(shown)
    else:
        _print(shown, tenant)


async def _read(connection: "Connection", wanted: UUID | tuple[str, ...], tenant: str, limit: int) -> Shown:
    from ingester.store import contacts

    async with connection.transaction(isolation="repeatable_read", readonly=True):
        tenant_id = (await tenant_named(connection, tenant)).id
        found = await (
            contacts.by_id(connection, tenant_id, wanted)
            if isinstance(wanted, UUID)
            else contacts.by_address(connection, tenant_id, wanted)
        )
        if found is None:
            named = wanted if isinstance(wanted, UUID) else wanted[0]
            raise Fail(
                f"The tenant {tenant} has no contact {named}: a contact is a verified sender, or whom it wrote to"
            )
        return Shown(
            contact=found,
            messages=await contacts.messages_from(connection, tenant_id, found.id, limit),
            threads=await contacts.threads_with(connection, tenant_id, found.id, limit),
        )


# -- printing ---------------------------------------------------------------------------------------------------------


def _print(shown: Shown, tenant: str) -> None:
    one = shown.contact
    print_heading(one.address)
    print_facts({"id": one.id, "tenant": tenant, "name": one.name, "since": utc(one.created_at)})
    print_heading("Last messages from there")
    print_table(
        ("time", "mailbox", "kind", "sender", "match", "subject", "id"),
        [
            (
                utc(message.received_at),
                message.mailbox,
                message.kind,
                "verified" if message.sender_verified else "not verified",
                message.reply_match_status,
                short(message.subject),
                message.id,
            )
            for message in shown.messages
        ],
        empty="None.",
    )
    print_heading("Conversations")
    print_table(
        ("last message", "mailbox", "role", "messages", "subject", "id"),
        [
            (utc(it.last_message_at), it.mailbox, it.role, it.message_count, short(it.subject), it.thread_id)
            for it in shown.threads
        ],
        empty="None.",
    )
