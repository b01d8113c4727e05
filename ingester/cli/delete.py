"""`ingester delete`: erase a stored message."""

from typing import TYPE_CHECKING
from uuid import UUID

import click

from ingester.cli.context import Fail, json_option, print_facts, print_json, run, with_database
from ingester.cli.naming import located

if TYPE_CHECKING:
    from ingester.settings import Settings
    from ingester.store.erasing import Erased


@click.command()
@click.argument("message_id", type=click.UUID)
@click.option("--apply", is_flag=True, help="Do it; without this nothing is written.")
@json_option
@click.pass_context
def delete(context: click.Context, *, message_id: UUID, apply: bool, as_json: bool) -> None:
    """Erase a message: its text, its parts and, where nothing else needs them, its raw bytes. A dry run unless --apply.

    What stays is that it came: the receipts (who brought it, when, its hash) and the claims that make a second arrival
    a duplicate. Answers to it stay in the conversation.
    """
    erased, gone = run(_delete(with_database(context), message_id, apply=apply))
    if as_json:
        print_json({"applied": apply, "erased": erased, "object_deleted": gone})
        return
    facts = {
        "message": erased.message_id,
        "parts": erased.parts,
        "raw bytes": _raw_bytes(erased),
        "object": erased.blob_key,
        "answers to it": erased.answers,
        "thread": f"{erased.thread_id}{'' if erased.left else ' (empty then, erased too)'}",
    }
    print_facts(facts)
    if not apply:
        click.echo("Nothing was erased: add --apply to do it.")
    elif not gone:
        click.echo("The object store is away: the object is deleted when it is back.")


def _raw_bytes(erased: "Erased") -> str | None:
    if erased.raw_id is not None:
        return f"{erased.size:,}"
    return "are needed by another message" if erased.size else None  # a message of ours has none


async def _delete(settings: "Settings", any_id: UUID, *, apply: bool) -> "tuple[Erased, bool]":
    """Erase, and delete the object. Gives whether none is left."""
    from ingester.store.blobs import Blobs
    from ingester.store.db import Database
    from ingester.store.erasing import erase, preview
    from ingester.store.trash import empty, waits

    database, blobs = Database(settings), Blobs(settings)
    await database.open()
    try:
        async with database.connection() as connection:
            one = await located(connection, any_id)
            if one.message_id is None:
                raise Fail(f"{any_id} is a dead letter: only messages are erased")
            work = erase if apply else preview
            erased = await work(connection, one.tenant_id, one.message_id)
        if erased is None:
            raise Fail(f"The message {one.message_id} has been erased")
        if not (apply and erased.raw_id and erased.blob_key):
            return erased, True
        await empty(database, blobs)
        async with database.connection() as connection:
            return erased, not await waits(connection, erased.tenant_id, erased.raw_id)
    finally:
        await blobs.close()
        await database.close()
