"""The work of `ingester dead redrive` and `discard`: one letter after the other, in step, with a bar on a long way."""

import getpass
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import click
import structlog
from rich.console import Console
from rich.progress import Progress

from ingester.app import App
from ingester.cli.context import run, with_database
from ingester.cli.naming import letter_named
from ingester.redrive import Pace, discard, each, redrive
from ingester.settings import Settings
from ingester.store.db import Connection, Database
from ingester.store.letters import Buried, Which, piles

MANY: Final = 20
"""From so many letters on there is a bar, on a terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The letters that are named, or those that are meant, and how many a second."""

    ids: tuple[UUID, ...]
    which: Callable[[Connection], Awaitable[Which]]
    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of one letter, or would."""

    id: UUID
    ending: str
    reason: str
    message_ids: tuple[UUID, ...] = ()


def redrive_all(context: click.Context, chosen: Chosen, *, apply: bool, quiet: bool) -> list[Done]:
    """Try them again. Ctrl-C ends after the letter at hand was left alone."""
    # What the daemon would log is told by the report; on stdout it would break --json.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    return run(_redrive_all(with_database(context), chosen, apply=apply, quiet=quiet))


async def _redrive_all(settings: Settings, chosen: Chosen, *, apply: bool, quiet: bool) -> list[Done]:
    app = App(settings)
    await app.open()

    async def once(letter: Buried) -> Done:
        done = await redrive(app.pipeline, app.database, app.raws, letter, apply=apply, by=operator())
        return Done(id=done.id, ending=done.ending.value, reason=done.reason, message_ids=done.message_ids)

    try:
        return await _one_by_one(app.database, chosen, once, "redriving", quiet=quiet)
    finally:
        await app.close()


def discard_all(
    context: click.Context, chosen: Chosen, *, apply: bool, why: str | None, erase: bool, quiet: bool
) -> list[Done]:
    """Put them away."""
    return run(_discard_all(with_database(context), chosen, apply=apply, why=why, erase=erase, quiet=quiet))


async def _discard_all(
    settings: Settings, chosen: Chosen, *, apply: bool, why: str | None, erase: bool, quiet: bool
) -> list[Done]:
    database = Database(settings)
    await database.open()

    async def once(letter: Buried) -> Done:
        if letter.state != "dead":
            return Done(id=letter.id, ending="not_dead", reason=letter.state)
        if apply:
            async with database.connection() as connection:
                if not await discard(connection, letter, by=operator(), why=why, erase=erase):
                    return Done(id=letter.id, ending="not_dead", reason="somebody else was faster")
        return Done(id=letter.id, ending="erased" if erase else "put_away", reason="")

    try:
        return await _one_by_one(database, chosen, once, "discarding", quiet=quiet)
    finally:
        await database.close()


async def _one_by_one(
    database: Database, chosen: Chosen, once: Callable[[Buried], Awaitable[Done]], doing: str, *, quiet: bool
) -> list[Done]:
    async with database.connection() as connection:
        which = await chosen.which(connection)
        named = [await letter_named(connection, letter_id) for letter_id in chosen.ids]
        total = len(named) or sum(pile.count for pile in await piles(connection, which))
    pace = Pace(chosen.rate)
    screen = Console(stderr=True)
    with Progress(console=screen, transient=True, disable=quiet or total < MANY or not screen.is_terminal) as progress:
        task = progress.add_task(doing, total=total)
        ended: list[Done] = []
        async for letter in _in_step(named, pace) if named else each(database, which, pace):
            ended.append(await once(letter))
            progress.advance(task)
    return ended


async def _in_step(letters: Sequence[Buried], pace: Pace) -> AsyncIterator[Buried]:
    for letter in letters:
        await pace.turn()
        yield letter


def operator() -> str:
    """Who does it, as far as the machine knows."""
    name = "somebody"
    with suppress(OSError, KeyError, ImportError):
        name = getpass.getuser()
    return f"{name}@{socket.gethostname()}"
