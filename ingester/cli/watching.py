"""The screen of `ingester top`: frames drawn over each other on a terminal, one after the other anywhere else."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime

import click
import msgspec
from rich.console import Console
from rich.live import Live

from ingester.cli.arrivals import object_of
from ingester.cli.frame import Frame
from ingester.cli.overview import Overview, Watch
from ingester.following import keep_looking
from ingester.settings import Settings
from ingester.store.db import Connection, Database


class Stage:
    """Where frames go."""

    def __init__(self, *, once: bool, as_json: bool) -> None:
        self._console = Console(highlight=False)
        self._as_json = as_json
        self._frame = Frame(overview=None)
        self._live: Live | None = None
        self.once = once
        self.closed = False
        self._over = not (once or as_json or not self._console.is_terminal or self._console.is_dumb_terminal)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Draw within the block. The terminal is left as it was found, however it ends."""
        if not self._over:
            yield
            return
        with Live(console=self._console, screen=True, auto_refresh=False) as self._live, _keys(self._draw):
            self._draw()
            yield

    def show(self, overview: Overview) -> None:
        """Show how it goes now."""
        self._frame = Frame(overview=overview)
        if self._live is not None:
            self._draw()
            return
        try:
            click.echo(self._text(overview))
        except BrokenPipeError:
            self.closed = True

    def away(self, away: bool) -> None:
        """Show that the database has gone; the next frame shows that it is back."""
        if self._live is None:
            click.echo("The database is away; waiting for it." if away else "The database is back.", err=True)
        elif away:
            self._frame = replace(self._frame, away=datetime.now(UTC))
            self._draw()

    def _draw(self) -> None:
        if self._live is not None:
            self._live.update(self._frame, refresh=True)

    def _text(self, overview: Overview) -> str:
        if self._as_json:
            told = {name: getattr(overview, name) for name in overview.__slots__}
            told["last"] = [object_of(one) for one in overview.last]
            return msgspec.json.encode(told).decode()
        with self._console.capture() as capture:
            self._console.print(self._frame, end="")
        return capture.get().rstrip()


@contextmanager
def _keys(redraw: Callable[[], None]) -> Iterator[None]:
    """Let q end it, and a terminal of another size be drawn at once."""
    import termios
    import tty

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGWINCH, redraw)
    before = None
    try:
        if sys.stdin.isatty():
            number = sys.stdin.fileno()
            before = termios.tcgetattr(number)
            tty.setcbreak(number)
            loop.add_reader(number, _read, number)
        yield
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)
        if before is not None:
            loop.remove_reader(number)
            termios.tcsetattr(number, termios.TCSADRAIN, before)


def _read(number: int) -> None:
    if os.read(number, 64)[:1] in (b"q", b"Q"):
        os.kill(os.getpid(), signal.SIGINT)  # the one way to end it


async def watch(settings: Settings, watch: Watch, stage: Stage, *, seconds: float) -> None:
    """Look and show until it is enough. A database that cannot be reached at the start raises."""
    database = Database(settings)
    connection = await database.connect()
    try:
        with stage.opened() if not stage.once else nullcontext():
            stage.show(await watch.look(connection))
            await connection.close()

            async def look(connection: Connection) -> bool:
                stage.show(await watch.look(connection))
                return not stage.closed

            if not (stage.once or stage.closed):
                await asyncio.sleep(seconds)
                await keep_looking(database, look, seconds=seconds, away=stage.away)
    finally:
        await connection.close()
