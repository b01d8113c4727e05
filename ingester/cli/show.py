"""`ingester show`: one stored message for human eyes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import click

from ingester.cli.context import (
    Fail,
    console,
    json_option,
    plain,
    print_heading,
    print_json,
    query,
    settings_of,
    short,
    utc,
)
from ingester.cli.details import detail_lines
from ingester.cli.naming import located

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ingester.store.db import Connection
    from ingester.store.delivery_events import DeliveryEvent
    from ingester.store.reading import StoredMessage, StoredPart, StoredReceipt, StoredThread, ThreadLine

THREAD_LINES = 20
TEXT_LINES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """All that is shown, and the shape of `--json`."""

    message: "StoredMessage"
    decision: list[str]
    parts: "list[StoredPart]"
    receipts: "list[StoredReceipt]"
    delivery_events: "list[DeliveryEvent]"
    """What a provider told of a message of ours."""
    thread: "StoredThread | None"
    thread_messages: "list[ThreadLine]"
    authentication_results: str | None
    """Our own field (RFC 8601) for the first arrival; None where it was not judged."""


@click.command()
@click.argument("message_id", type=click.UUID)
@json_option
@click.pass_context
def show(context: click.Context, *, message_id: UUID, as_json: bool) -> None:
    """Show a stored message: header facts, verdicts, why it is where it is, parts, receipts, thread.

    The arrival id that an SMTP reply gives ("stored as ...") will do, where it stands for one message.
    """
    name = _authserv_id(context)
    shown = query(context, lambda connection: _read(connection, message_id, name))
    if as_json:
        print_json(shown)
    else:
        _print(shown)


def _authserv_id(context: click.Context) -> str:
    from ingester.configured import rules

    return rules(settings_of(context)).authserv_id


def _field(receipts: "list[StoredReceipt]", authserv_id: str) -> str | None:
    from ingester.auth.results import authentication_results
    from ingester.cli.verdicts import stored_report

    report = stored_report(receipts[0].auth_report) if receipts else None
    return None if report is None else authentication_results(report, authserv_id)


async def _read(connection: "Connection", message_id: UUID, authserv_id: str) -> Shown:
    from ingester.cli.words import trail
    from ingester.store import reading
    from ingester.store.delivery_events import events_of

    async with connection.transaction(isolation="repeatable_read", readonly=True):
        one = await located(connection, message_id)
        if one.message_id is None:
            raise Fail(f"That is a dead letter: see `ingester dead show {one.dead_letter_id}`")
        message = await reading.message(connection, one.tenant_id, one.message_id)
        if message is None:
            raise Fail(f"The message {one.message_id} is gone")
        receipts = await reading.receipts(connection, one.tenant_id, message.id)
        return Shown(
            message=message,
            decision=trail(message),
            parts=await reading.parts(connection, one.tenant_id, message.id),
            receipts=receipts,
            delivery_events=list(await events_of(connection, one.tenant_id, message.id)),
            thread=await reading.thread(connection, one.tenant_id, message.thread_id),
            thread_messages=await reading.thread_lines(connection, one.tenant_id, message.thread_id, THREAD_LINES),
            authentication_results=_field(receipts, authserv_id),
        )


# -- printing ---------------------------------------------------------------------------------------------------------


def _print(shown: Shown) -> None:
    screen = console()
    print_heading(shown.message.subject or "(no subject)")
    screen.print(_facts(shown.message, shown.receipts))
    print_heading("Decision")
    for line in shown.decision:
        screen.print(plain(line), soft_wrap=True)
    _print_verdicts(screen, shown)
    if detail := detail_lines(shown.message.details):
        print_heading("Details")
        for line in detail:
            screen.print(plain(line), soft_wrap=True)
    print_heading("Text")
    screen.print(_excerpt(shown.message), soft_wrap=True)
    print_heading("Parts")
    screen.print(_parts(shown.parts))
    print_heading("Receipts")
    screen.print(_receipts(shown.receipts))
    if shown.delivery_events:
        print_heading("Delivery")
        screen.print(_events(shown.delivery_events))
    if shown.thread is not None:
        count = shown.thread.message_count
        print_heading(f"Thread {shown.thread.id}, {count} message{'' if count == 1 else 's'}")
        screen.print(_thread(shown.thread_messages, shown.message.id))


def _print_verdicts(screen: "Console", shown: Shown) -> None:
    """Who sent it, by the first receipt: the others are in the JSON."""
    from ingester.cli.verdicts import branches, stored_report

    report = stored_report(shown.receipts[0].auth_report) if shown.receipts else None
    if report is None or shown.authentication_results is None:
        return
    print_heading("Who sent it")
    for title, lines in branches(report):
        screen.print(plain(title), soft_wrap=True)
        for line in lines:
            screen.print(f"  {plain(line)}", soft_wrap=True)
    for line in shown.authentication_results.expandtabs(4).splitlines():
        screen.print(plain(line), style="dim", soft_wrap=True)


def _facts(message: "StoredMessage", receipts: "list[StoredReceipt]") -> "Table":
    told = f"<{message.envelope_from}>" if message.envelope_from else None
    sender = f"{message.from_name} <{message.from_address}>" if message.from_name else message.from_address
    facts = {
        "id": message.id,
        "tenant": message.tenant,
        "mailbox": f"{message.mailbox} ({message.delivery_role})" if message.delivery_role else message.mailbox,
        "kind": f"{message.direction} {message.kind}, {message.reply_match_status}",
        "status": message.status if message.direction == "outbound" else None,
        "from": sender,
        "to": ", ".join(message.to_addresses),
        "cc": ", ".join(message.cc_addresses),
        "reply to": ", ".join(message.reply_to_addresses),
        "envelope from": next((one.return_path for one in receipts if one.return_path), told),
        "message id": f"<{message.rfc_message_id}>",
        "in reply to": f"<{message.in_reply_to}>" if message.in_reply_to else None,
        "sent": utc(message.sent_at),
        "received": utc(message.received_at),
        "size": f"{message.size:,} bytes{_bytes_gone(message)}",
        "verdicts": f"spf {message.spf}, dkim {message.dkim}, dmarc {message.dmarc}, arc {message.arc}",
        "flags": ", ".join([*message.flags, *(["quarantined"] if message.quarantined else [])]),
    }
    table = _table()
    table.show_header = False
    for name, value in facts.items():
        if value:
            table.add_row(name, plain(str(value)))
    return table


def _bytes_gone(message: "StoredMessage") -> str:
    return "" if message.raw_kept or message.raw_id is None else ", which are gone: no part can be read any more"


def _excerpt(message: "StoredMessage") -> str:
    lines = plain(message.reply_text or message.body_text, lines=True).strip("\n").split("\n")
    more = f"\n... {len(lines) - TEXT_LINES} more lines" if len(lines) > TEXT_LINES else ""
    return ("\n".join(lines[:TEXT_LINES]) or "(none)") + more


def _parts(parts: "list[StoredPart]") -> "Table":
    table = _table("part", "path", "role", "type", "filename", "bytes", "offset", "encoding", "sha256", "flags")
    for part in parts:
        kind = f"{part.content_type}; charset={part.charset}" if part.charset else part.content_type
        row = (part.ordinal, part.path, part.role, kind, part.filename, part.decoded_size, part.offset, part.encoding)
        table.add_row(*(_cell(value) for value in row), part.sha256[:12], _cell(", ".join(part.flags)))
    return table


def _receipts(receipts: "list[StoredReceipt]") -> "Table":
    table = _table("received", "door", "from", "to", "client", "helo", "tls", "arrival", "")
    for one in receipts:
        row = (one.return_path, ", ".join(one.envelope_to), one.client_ip, one.helo, one.tls, one.arrival_id)
        what = "duplicate" if one.duplicate else ("redriven" if one.dead_letter_id else "")
        table.add_row(utc(one.received_at), one.door, *(_cell(value) for value in row), what)
    return table


def _events(events: "list[DeliveryEvent]") -> "Table":
    """Of a refusal the first reason: the others are in the JSON."""
    table = _table("time", "event", "makes it", "for", "by", "detail")
    for one in events:
        first: dict[str, str] = next(iter(one.detail.get("recipients", ())), {})
        why = first.get("diagnostic") or one.detail.get("smtp_response") or one.detail.get("type")
        recipients = short(", ".join(one.recipients))
        row = (one.kind, one.status, recipients, one.provider, None if why is None else short(str(why)))
        table.add_row(utc(one.occurred_at), *(_cell(value) for value in row))
    return table


def _thread(lines: "list[ThreadLine]", here: UUID) -> "Table":
    table = _table("", "received", "from", "subject", "", "id")
    for one in lines:
        mark = ">" if one.id == here else ""
        row = (one.from_address, one.subject, one.reply_match_status, one.id)
        table.add_row(mark, utc(one.received_at), *(_cell(value) for value in row))
    return table


def _table(*columns: str) -> "Table":
    from rich.table import Table

    return Table(*columns, box=None, pad_edge=False, header_style="dim")


def _cell(value: object) -> str:
    return plain("-" if value in (None, "") else str(value))
