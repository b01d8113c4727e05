"""What the commands share: settings, a connection, failing with a sentence, printing. No command's own business.

Imports are inside the functions: the help of a command must not wait for pydantic, asyncpg and rich.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from rich.console import Console

    from ingester.settings import Settings
    from ingester.store.db import Connection

Result = TypeVar("Result")
Command = TypeVar("Command", bound=Callable[..., Any])

UNBOUNDED = 10_000
"""Columns of our tables: rows are never cut, so that an id can be copied; a terminal wraps what is too long for it."""
MAX_CELL = 120
"""Characters of a stranger's text in a cell of a table."""

_UNSAFE = dict.fromkeys([*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd")
_LINE_SAFE = {code: char for code, char in _UNSAFE.items() if code not in (9, 10)}

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
tenant_option = click.option("--tenant", metavar="SLUG", help="The tenant, by its slug.")


def limit_option(default: int) -> Callable[[Command], Command]:
    """How many rows are listed at most, the newest."""
    return click.option(
        "--limit",
        type=click.IntRange(1, 1_000_000),
        default=default,
        show_default=True,
        metavar="N",
        help="The newest so many.",
    )


class Fail(click.ClickException):
    """Refused or failed, in one clear sentence on stderr; exit status 1."""

    exit_code = 1


def settings_of(context: click.Context, **override: Any) -> "Settings":
    """Load the settings; `override` (dotted names with `__`) goes before everything. Fails with every fault."""
    from ingester.settings import SettingsError, load

    config: Path | None = context.find_root().params.get("config")
    try:
        return load(file=config, **override)
    except SettingsError as error:
        raise Fail(unusable(error.faults)) from error


def unusable(faults: Iterable[str]) -> str:
    """Every fault of the settings, one a line."""
    return "\n  ".join(["The settings cannot be used:", *faults])


def with_database(context: click.Context) -> "Settings":
    """The settings with the URL of the database in use: the one that is set, else the one that `ingester dev` runs."""
    from pydantic import SecretStr

    from ingester.cli.secret import with_secret
    from ingester.store.embedded import LocalPostgresError, url_of

    settings = settings_of(context)
    if settings.database_url.get_secret_value():
        return settings
    try:
        url = url_of(settings.dev_dir)
    except LocalPostgresError as error:
        raise Fail(f"INGESTER_DATABASE_URL is not set. {error}") from error
    return with_secret(settings.model_copy(update={"database_url": SecretStr(url)}))


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end. An error of the database becomes a sentence."""
    import uvloop

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)
    except Exception as error:
        sentence = fault_outside(error)
        if sentence is None:
            raise
        raise Fail(sentence) from error


def query(context: click.Context, work: Callable[["Connection"], Awaitable[Result]]) -> Result:
    """Run `work` on one connection to the database in use."""
    from ingester.store.db import Database

    settings = with_database(context)

    async def connected() -> Result:
        connection = await Database(settings).connect()
        try:
            return await work(connection)
        finally:
            await connection.close()

    return run(connected())


_BY_STATE = {
    "3D": "The server of INGESTER_DATABASE_URL has no such database",
    "28": "The server of INGESTER_DATABASE_URL refused the user or the password",
    "42": "The database lacks tables of this version: run `ingester migrate`",
}


def fault_outside(error: Exception) -> str | None:
    """What an error from outside means for the operator, or None for others. No value is quoted."""
    from ingester.auth.dns_servers import NoNameserver
    from ingester.store.db import Unavailable, classify
    from ingester.store.migrate import MigrationError
    from ingester.store.objects import MissingExtra, ObjectsUnavailable

    if isinstance(error, MigrationError | NoNameserver | MissingExtra):
        return str(error)
    if isinstance(error, ObjectsUnavailable):
        return f"The object store did not do it ({error}): check INGESTER_BLOBS and INGESTER_S3__*"
    if classify(error) is None and not isinstance(error, Unavailable):
        return None
    state = getattr(error, "sqlstate", None)
    if state is None:
        why = f"{error.strerror or type(error).__name__}" if isinstance(error, OSError) else type(error).__name__
        return f"The database cannot be reached ({why}): check INGESTER_DATABASE_URL"
    if state == "42501":
        return "The user of INGESTER_DATABASE_URL has no right to do this"
    return _BY_STATE.get(state[:2], f"The database did not do it: {type(error).__name__} (SQLSTATE {state})")


def new_id() -> "UUID":
    """A fresh UUIDv7. `app` has the daemon's; importing the daemon to add a tenant would take most of a second."""
    import os
    import time

    from ingester.core.ids import uuid7

    return uuid7(unix_ms=time.time_ns() // 1_000_000, entropy=os.urandom(10))


# -- printing ---------------------------------------------------------------------------------------------------------


def plain(text: str, *, lines: bool = False) -> str:
    """Text for a terminal: a stranger's control and direction characters are replaced; `lines` keeps LF and tab."""
    return text.replace("\r\n", "\n").translate(_LINE_SAFE) if lines else text.translate(_UNSAFE)


def short(text: str) -> str:
    """The beginning of a stranger's text, for a table: one endless subject would push the ids out of sight."""
    return text if len(text) <= MAX_CELL else f"{text[: MAX_CELL - 1]}\u2026"


def utc(moment: "datetime | None") -> str | None:
    """A time of the database for human eyes, to the second."""
    return None if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def print_json(value: object) -> None:
    """Print a value as indented JSON."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def console() -> "Console":
    """A console on stdout that takes text as it stands."""
    from rich.console import Console

    return Console(width=UNBOUNDED, highlight=False, markup=False, emoji=False)


def print_heading(title: str) -> None:
    """Print an empty line and the title of what follows."""
    screen = console()
    screen.print()
    screen.print(plain(title), style="bold", soft_wrap=True)


def print_facts(facts: Mapping[str, object]) -> None:
    """Print names and values in two columns; what is None or empty is left out."""
    told = {name: str(value) for name, value in facts.items() if value not in (None, "")}
    width = max(map(len, told), default=0)
    screen = console()
    for name, value in told.items():
        screen.print(f"{name:<{width}}  {plain(value)}", soft_wrap=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Print rows under a header, or the sentence `empty` when there is none. None is printed as a dash."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(plain("-" if value is None else str(value))) for value in row))
    if table.row_count:
        console().print(table)
    else:
        click.echo(empty)
