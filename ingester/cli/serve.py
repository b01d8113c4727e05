"""`ingester serve`: the daemon."""

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

import click

from ingester.cli.context import Fail, fault_outside, unusable
from ingester.settings import Settings

if TYPE_CHECKING:
    from ingester.supervisor import Handed

_LISTEN = "INGESTER_SMTP__LISTEN, INGESTER_LMTP__LISTEN or INGESTER_HTTP__LISTEN"


@click.command()
@click.option("--migrate", "do_migrate", is_flag=True, help="Run pending migrations first.")
@click.pass_context
def serve(context: click.Context, *, do_migrate: bool) -> None:
    """Receive mail until SIGTERM.

    Migrations are checked and not run; the daemon starts while the database is away and answers 451 until it is back.
    SIGHUP reads settings, credentials and certificates again. Sockets of systemd are taken in place of own ones.
    """
    from ingester.settings import service
    from ingester.supervisor import Supervisor, bind_places, hand_over, hold_reloads
    from ingester.telemetry import configure, speak_of_crashes

    manager = service()
    hold_reloads()
    try:
        handed = hand_over(manager.descriptors)
        settings = sound_settings(context, handed)
        configure(settings)
        speak_of_crashes()
        _ready(settings, do_migrate=do_migrate)
        sockets = bind_places(settings, handed=handed)
    except OSError as error:
        raise Fail(f"Cannot listen: {error}. Change {_LISTEN}.") from error
    supervisor = Supervisor(
        settings, sockets, reread=lambda: _reread(context, handed), check=_unfit_database, service=manager
    )
    context.exit(supervisor.run())


def sound_settings(context: click.Context, handed: "Handed") -> Settings:
    """The settings, and what they name is there. Fails with every fault at once, so that nobody starts ten times."""
    settings, faults = _judged(context, handed, held=handed)
    if faults or settings is None:
        raise Fail(unusable(faults))
    return settings


def _reread(context: click.Context, handed: "Handed") -> Settings:
    """The settings anew; the doors listen already. Raises Unusable with every fault."""
    from ingester.supervisor import DOORS, Unusable

    settings, faults = _judged(context, handed, held=DOORS)
    if faults or settings is None:
        raise Unusable(faults)
    return settings


def _judged(context: click.Context, handed: "Handed", *, held: Collection[str]) -> tuple[Settings | None, list[str]]:
    """The settings, or what is left of them, and what is wrong. A door that was handed over listens where it does."""
    from ingester import preflight
    from ingester.settings import SettingsError, load
    from ingester.settings.faulty import unsaid
    from ingester.transport.sockets import address

    listen: dict[str, Any] = {
        f"{door}__listen": ",".join(str(address(one)) for one in sockets) for door, sockets in handed.items()
    }
    settings: Settings | None
    aside: frozenset[str]
    try:
        settings, faults, aside = load(file=context.find_root().params.get("config"), **listen), [], frozenset()
    except SettingsError as error:
        settings, faults, aside = error.rest, list(error.faults), error.aside
    if settings is not None:
        faults += unsaid(preflight.faults(settings, held=held), aside)
    return settings, faults


def _unfit_database(settings: Settings) -> Iterator[str]:
    """Why a running daemon must not go over to these settings: the database says no. One that is away may come back."""
    import asyncio

    from ingester.app import check_schema
    from ingester.store.migrate import MigrationError

    try:
        pending = asyncio.run(check_schema(settings))
    except Exception as error:
        sentence = fault_outside(error)
        if sentence is None:
            raise
        if isinstance(error, MigrationError) or getattr(error, "sqlstate", None) is not None:
            yield sentence
        return
    if pending:
        yield f"INGESTER_DATABASE_URL names a database that lacks migrations ({', '.join(pending)})"


def _ready(settings: Settings, *, do_migrate: bool) -> None:
    """Bring the schema up to date or say that it is not. A database that is away is no reason not to start."""
    import asyncio

    import structlog

    from ingester.app import apply_schema, check_hosts, check_schema
    from ingester.store.db import classify
    from ingester.store.migrate import MigrationError

    log = structlog.get_logger(__name__)
    try:
        if do_migrate:
            log.info("migrated", applied=asyncio.run(apply_schema(settings)))
        pending = asyncio.run(check_schema(settings))
        conflict = None if pending else asyncio.run(check_hosts(settings))
    except MigrationError as error:
        raise Fail(str(error)) from error
    except Exception as error:
        if classify(error) is None:
            raise
        log.warning("the database is away, mail is deferred until it is back", error=type(error).__name__)
        return
    if pending:
        names = ", ".join(pending)
        raise Fail(f"The database lacks migrations ({names}): run `ingester migrate` or `serve --migrate`.")
    if conflict:
        raise Fail(conflict)
