"""From what an operator names (a slug, a domain, an address, an id) to the row it means; or a sentence."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

import click

from ingester.cli.context import Fail
from ingester.core.address import Address, normalise_domain, parse_path

if TYPE_CHECKING:
    from ingester.store.db import Connection
    from ingester.store.letters import Buried
    from ingester.store.mailboxes import Mailbox
    from ingester.store.reading import Located
    from ingester.store.registry import Tenant


MAX_LABEL = 100


def label(_: click.Context, __: click.Parameter, text: str) -> str:
    """For click: the name of a key or a token, chosen freely, or a usage error."""
    if not (text.strip() and text.isprintable() and len(text) <= MAX_LABEL):
        raise click.BadParameter(f"a name has 1 to {MAX_LABEL} printable characters")
    return text.strip()


def address_type(text: str) -> Address:
    """For click: an envelope address with a domain (RFC 5321, 4.1.2), or a usage error."""
    address = parse_path(text[1:-1] if text.startswith("<") and text.endswith(">") else text)
    if address is None or not address.domain:
        raise click.BadParameter(f"{text!r} is not an address like name@example.com")
    return address


def domain_type(text: str) -> str:
    """For click: a domain name in its lower-case A-label form, or a usage error."""
    domain = normalise_domain(text)
    if domain is None:
        raise click.BadParameter(f"{text!r} is not a domain name")
    return domain


async def tenant_named(connection: "Connection", slug: str) -> "Tenant":
    """The tenant of a slug."""
    from ingester.store.registry import tenant

    found = await tenant(connection, slug)
    if found is None:
        raise Fail(f"There is no tenant {slug}: see `ingester tenant list`")
    return found


async def customer_named(connection: "Connection", slug: str) -> "Tenant":
    """The tenant of a slug, which must not be the system's own."""
    from ingester.core.ids import SYSTEM_TENANT

    found = await tenant_named(connection, slug)
    if found.id == SYSTEM_TENANT:
        raise Fail(f"The tenant {slug} belongs to the program itself and cannot be changed")
    return found


async def tenants_named(connection: "Connection", slug: str | None) -> list[UUID]:
    """The ids of one tenant, or of all where none is named."""
    from ingester.store.registry import tenants

    if slug is not None:
        return [(await tenant_named(connection, slug)).id]
    return [one.id for one in await tenants(connection)]


async def owner_of(connection: "Connection", domain: str, slug: str | None) -> UUID:
    """The tenant that a domain means: the one named, else the verified owner, else the only one."""
    from ingester.store.registry import owners

    wanted = None if slug is None else await tenant_named(connection, slug)
    found = await owners(connection, domain)
    if not found:
        raise Fail(f"There is no domain {domain}: add it with `ingester domain add {domain} --tenant SLUG`")
    if wanted is not None:
        if all(one.tenant_id != wanted.id for one in found):
            raise Fail(f"The tenant {wanted.slug} does not have the domain {domain}")
        return wanted.id
    if found[0].status != "verified" and len(found) > 1:
        slugs = ", ".join(one.tenant for one in found)
        raise Fail(f"Several tenants have {domain} pending ({slugs}): say which with --tenant")
    return found[0].tenant_id


async def mailbox_named(connection: "Connection", address: Address, slug: str | None) -> "Mailbox":
    """The mailbox of an address."""
    from ingester.store.mailboxes import mailbox

    tenant_id = await owner_of(connection, address.domain, slug)
    found = await mailbox(connection, tenant_id, address)
    if found is None:
        raise Fail(f"There is no mailbox {address}: see `ingester mailbox list`")
    return found


async def letter_named(connection: "Connection", letter_id: UUID) -> "Buried":
    """The dead letter of an id."""
    from ingester.store.letters import letter

    found = await letter(connection, letter_id)
    if found is None:
        raise Fail(f"No dead letter has the id {letter_id}")
    return found


async def located(connection: "Connection", any_id: UUID, *, what: str = "message") -> "Located":
    """The one message, or the dead letter, that the id of a message, an arrival or a dead letter stands for."""
    from ingester.store.reading import locate

    found = await locate(connection, any_id)
    if not found:
        raise Fail(f"No {what} has the id {any_id}")
    if len(found) > 1:
        raise Fail(f"The arrival {any_id} stands for {len(found)} rows, name one: {_ids(found)}")
    return found[0]


def _ids(found: "Sequence[Located]") -> str:
    return ", ".join(str(one.message_id or f"dead letter {one.dead_letter_id}") for one in found)
