"""`ingester thread`: one conversation for human eyes, and why each message is in it."""

from collections.abc import Mapping, Sequence
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
from ingester.cli.naming import located

if TYPE_CHECKING:
    from ingester.store.db import Connection
    from ingester.store.threads import Conversation, Participant, Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """All that is shown, and the shape of `--json`."""

    thread: "Conversation"
    messages: "list[Turn]"
    participants: "list[Participant]"


@click.group()
def thread() -> None:
    """Conversations: what was written in them, by whom, and what answers what."""


@thread.command()
@click.argument("any_id", metavar="ID|MESSAGE_ID", type=click.UUID)
@limit_option(1000)
@json_option
@click.pass_context
def show(context: click.Context, *, any_id: UUID, limit: int, as_json: bool) -> None:
    """Show a conversation, by its own id or that of one of its messages: every message, oldest first."""
    shown = query(context, lambda connection: _read(connection, any_id, limit))
    if as_json:
        print_json(shown)
    else:
        _print(shown)


async def _read(connection: "Connection", any_id: UUID, limit: int) -> Shown:
    from ingester.store import threads

    async with connection.transaction(isolation="repeatable_read", readonly=True):
        tenant_id, thread_id = await _find(connection, any_id)
        found = await threads.conversation(connection, tenant_id, thread_id)
        if found is None:
            raise Fail(f"The conversation {thread_id} is gone")
        return Shown(
            thread=found,
            messages=await threads.turns(connection, tenant_id, thread_id, limit),
            participants=await threads.participants(connection, tenant_id, thread_id, limit),
        )


async def _find(connection: "Connection", any_id: UUID) -> tuple[UUID, UUID]:
    """The tenant and the thread that the id of a thread, a message or an arrival stands for."""
    from ingester.store import threads

    tenant_id = await threads.owner(connection, any_id)
    if tenant_id is not None:
        return tenant_id, any_id
    one = await located(connection, any_id, what="conversation or message")
    if one.message_id is None:
        raise Fail(f"That is a dead letter, in no conversation: see `ingester dead show {one.dead_letter_id}`")
    thread_id = await threads.thread_of(connection, one.tenant_id, one.message_id)
    if thread_id is None:
        raise Fail(f"The message {one.message_id} is gone")
    return one.tenant_id, thread_id


# -- printing ---------------------------------------------------------------------------------------------------------


def _print(shown: Shown) -> None:
    one = shown.thread
    print_heading(one.subject or "(no subject)")
    print_facts(
        {
            "id": one.id,
            "tenant": one.tenant,
            "mailbox": one.mailbox,
            "state": _state(one),
            "last message": utc(one.last_message_at),
        }
    )
    older = one.message_count - len(shown.messages)
    print_heading(f"Messages, the newest {len(shown.messages)}: {older} more with --limit" if older > 0 else "Messages")
    _print_messages(shown.messages, first=max(older, 0) + 1)
    print_heading("Who takes part")
    print_table(
        ("address", "role", "since", "contact"),
        [(short(who.address), who.role, utc(who.added_at), who.contact_id) for who in shown.participants],
        empty="Nobody yet: nobody was written to, and no sender was verified.",
    )


def _state(one: "Conversation") -> str:
    whose = "holds mail of ours" if one.has_outbound else "no mail of ours"
    return f"{one.message_count} messages, {'read' if one.is_read else 'unread'}, {whose}"


def _print_messages(messages: "Sequence[Turn]", *, first: int) -> None:
    numbers = {one.id: number for number, one in enumerate(messages, first)}
    print_table(
        ("", "time", "direction", "kind", "from", "sender", "match", "answers", "subject", "id"),
        [
            (
                numbers[one.id],
                utc(one.received_at),
                one.direction,
                f"{one.kind}, quarantined" if one.quarantined else one.kind,
                None if one.from_address is None else short(one.from_address),
                _sender(one),
                _match(one),
                _answered(one, numbers),
                short(one.subject),
                one.id,
            )
            for one in messages
        ],
        empty="There are no messages.",
    )


def _sender(one: "Turn") -> str | None:
    """Whether the sender is sure, and whether a word from there was to be expected. Of our own mail nobody asks."""
    if one.direction == "outbound":
        return None
    verified = "verified" if one.sender_verified else "not verified"
    return f"{verified}, {'expected' if one.sender_expected else 'not expected'}"


def _match(one: "Turn") -> str | None:
    if one.reply_match_status == "matched":
        return f"matched, {one.reply_match_method}"
    return None if one.direction == "outbound" else "unmatched"


def _answered(one: "Turn", numbers: Mapping[UUID, int]) -> str | None:
    """The number of the answered message in this list, or its id where it is not in it."""
    answered = one.reply_to_email_id
    if answered is None:
        return None
    return str(numbers[answered]) if answered in numbers else str(answered)
