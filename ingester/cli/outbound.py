"""`ingester outbound`: tell the daemon of mail that an application sends, so that replies find home."""

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import click

from ingester.cli.context import Fail, json_option, new_id, print_json, query, tenant_option, with_database
from ingester.cli.naming import address_type, located, mailbox_named
from ingester.core.address import Address

if TYPE_CHECKING:
    from ingester.store.db import Connection
    from ingester.store.outbound import Registered


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """What was noted of a message that was sent."""

    message_id: UUID
    provider_message_id: str | None
    rfc_message_id: str | None


def _bare(text: str) -> str:
    """For click: a Message-ID without brackets."""
    return text.strip().removeprefix("<").removesuffix(">")


@click.group()
def outbound() -> None:
    """Outbound messages: registered before they are sent, with all that their headers need."""


@outbound.command()
@click.argument("mailbox", type=address_type, metavar="MAILBOX")
@click.option("--to", type=address_type, multiple=True, metavar="ADDRESS", help="A recipient. Repeatable.")
@click.option("--cc", type=address_type, multiple=True, metavar="ADDRESS")
@click.option("--bcc", type=address_type, multiple=True, metavar="ADDRESS")
@click.option("--subject", default="", metavar="TEXT")
@click.option("--thread", "thread_id", type=click.UUID, metavar="ID", help="The conversation that it belongs to.")
@click.option("--in-reply-to", type=_bare, metavar="MESSAGE-ID", help="The message that it answers.")
@click.option("--key", "idempotency_key", metavar="TEXT", help="The same key gives the same answer, however often.")
@click.option("--sent-id", type=click.UUID, metavar="ID", help="Sent already by another system: its id there.")
@click.option("--sent-message-id", type=_bare, metavar="MESSAGE-ID", help="Sent already: the Message-ID it has.")
@click.option("--sent-token", metavar="TOKEN", help="Sent already: the reply token it carries.")
@click.option("--sent-provider-id", metavar="TEXT", help="Sent already: what the provider calls it.")
@click.option("--expires-in", type=click.IntRange(1), metavar="DAYS", help="How long its reply token is to count.")
@tenant_option
@json_option
@click.pass_context
def register(
    context: click.Context,
    *,
    mailbox: Address,
    to: tuple[Address, ...],
    cc: tuple[Address, ...],
    bcc: tuple[Address, ...],
    subject: str,
    thread_id: UUID | None,
    in_reply_to: str | None,
    idempotency_key: str | None,
    sent_id: UUID | None,
    sent_message_id: str | None,
    sent_token: str | None,
    sent_provider_id: str | None,
    expires_in: int | None,
    tenant: str | None,
    as_json: bool,
) -> None:
    """Register a message that MAILBOX is about to send, and print the headers and addresses to send it with."""
    settings = with_database(context)
    before = (sent_id, sent_message_id, sent_token, sent_provider_id)

    async def work(connection: "Connection") -> "Registered":
        from ingester.clock import now
        from ingester.store import outbound as store

        found = await mailbox_named(connection, mailbox, tenant)
        new = store.NewOutbound(
            tenant_id=found.tenant_id,
            tenant_slug=found.tenant,
            mailbox_id=found.id,
            to=tuple(map(str, to)),
            cc=tuple(map(str, cc)),
            bcc=tuple(map(str, bcc)),
            subject=subject,
            thread_id=thread_id,
            in_reply_to=in_reply_to,
            idempotency_key=idempotency_key,
            expires_at=None if expires_in is None else now() + timedelta(days=expires_in),
            sent=None
            if not any(before)
            else store.Sent(
                id=sent_id,
                rfc_message_id=sent_message_id,
                token=sent_token,
                provider_message_id=sent_provider_id,
            ),
        )
        try:
            return await store.register(connection, new, secrets=settings.token_secrets, new_id=new_id, now=now())
        except store.OutboundError as error:
            raise Fail(str(error)) from error

    one = query(context, work)
    if as_json:
        print_json(one)
        return
    click.echo(f"{'registered' if one.created else 'was registered before:'} message {one.message_id}")
    click.echo(f"thread {one.thread_id}")
    click.echo(f"envelope sender {one.envelope_sender}")
    click.echo(f"Reply-To: {one.reply_address}")
    for name, value in one.headers.items():
        click.echo(f"{name}: {value}")


@outbound.command()
@click.argument("message_id", type=click.UUID)
@click.option("--provider-id", metavar="TEXT", help="What the provider calls it.")
@click.option("--message-id", "rfc_id", type=_bare, metavar="MESSAGE-ID", help="The Message-ID it put instead of ours.")
@json_option
@click.pass_context
def sent(
    context: click.Context, *, message_id: UUID, provider_id: str | None, rfc_id: str | None, as_json: bool
) -> None:
    """Note that a registered message was sent, and under which ids: replies to either are matched."""

    async def work(connection: "Connection") -> None:
        from ingester.clock import now
        from ingester.store.outbound import record_sent

        one = await located(connection, message_id)
        found = one.message_id is not None and await record_sent(
            connection,
            one.tenant_id,
            one.message_id,
            provider_message_id=provider_id,
            rfc_message_id=rfc_id,
            at=now(),
        )
        if not found:
            raise Fail(f"{message_id} is no outbound message")

    query(context, work)
    if as_json:
        print_json(Noted(message_id=message_id, provider_message_id=provider_id, rfc_message_id=rfc_id))
    else:
        click.echo(f"noted that message {message_id} was sent")
