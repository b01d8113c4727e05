"""`ingester doctor`: what is wrong here, and what to do about it."""

import sys
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

import click

from ingester.cli.context import Fail, console, json_option, plain, print_json, run, unusable
from ingester.cli.naming import domain_type

if TYPE_CHECKING:
    from ingester.doctor.finding import Finding
    from ingester.doctor.patient import Patient
    from ingester.settings import Settings

_STYLES = {"fault": "bold red", "warning": "yellow", "ok": "green"}
"""By level, the worst first."""


def _address(text: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not an IP address") from None


@click.command()
@click.argument("domains", metavar="[DOMAIN]...", nargs=-1, type=domain_type)
@click.option("--selector", "selectors", multiple=True, metavar="NAME", help="A DKIM selector to look for.")
@click.option(
    "--address",
    "addresses",
    type=_address,
    multiple=True,
    metavar="IP",
    help="A public address of ours that this host does not know of, such as a balancer's.",
)
@click.option("--all", "everything", is_flag=True, help="Print what is in order too, where a person looks.")
@json_option
@click.pass_context
def doctor(
    context: click.Context,
    *,
    domains: tuple[str, ...],
    selectors: tuple[str, ...],
    addresses: tuple[IPv4Address | IPv6Address, ...],
    everything: bool,
    as_json: bool,
) -> None:
    """Look at everything that a daemon here needs, and at its domains in DNS: those named, or all.

    Nothing is changed. Each finding says what to do. Exit status 1 when any is a fault.
    """
    findings = _examined(_patient(context, domains, selectors, addresses), quiet=as_json)
    if as_json:
        print_json(findings)
    else:
        _print(findings, everything=everything)
    if any(one.level == "fault" for one in findings):
        context.exit(1)


def _patient(
    context: click.Context,
    domains: tuple[str, ...],
    selectors: tuple[str, ...],
    addresses: tuple[IPv4Address | IPv6Address, ...],
) -> "Patient":
    import secrets
    from datetime import UTC, datetime

    from ingester.doctor.patient import Patient

    settings, faults, aside = _settings(context)
    return Patient(
        settings=settings,
        faults=tuple(faults),
        aside=aside,
        now=datetime.now(UTC),
        random_label=f"x{secrets.token_hex(12)}",
        domains=tuple(dict.fromkeys(domains)),
        selectors=selectors,
        addresses=addresses,
    )


def _settings(context: click.Context) -> "tuple[Settings, list[str], frozenset[str]]":
    """What is usable of the settings, what keeps a daemon from starting, and the names of what is not usable."""
    from ingester import preflight
    from ingester.settings import SettingsError, load
    from ingester.settings.faulty import unsaid

    settings: Settings | None
    aside: frozenset[str]
    try:
        settings, faults, aside = load(file=context.find_root().params.get("config")), [], frozenset()
    except SettingsError as error:
        settings, faults, aside = error.rest, list(error.faults), error.aside
    if settings is None:
        raise Fail(unusable(faults))
    if "INGESTER_DATABASE_URL" not in aside:
        settings = _with_local_database(settings)
    # Whether they can be listened on is looked at apart, for a daemon may hold them.
    sentences = [*preflight.faults(settings, held=preflight.DOORS), *preflight.clashes(preflight.doors(settings))]
    return settings, faults + unsaid(sentences, aside), aside


def _with_local_database(settings: "Settings") -> "Settings":
    """Where no database is named, the one of `ingester dev`, if it runs here."""
    from pydantic import SecretStr

    from ingester.cli.secret import with_secret
    from ingester.store.embedded import LocalPostgresError, url_of

    if settings.database_url.get_secret_value():
        return settings
    try:
        url = url_of(settings.dev_dir)
    except LocalPostgresError:
        return settings
    return with_secret(settings.model_copy(update={"database_url": SecretStr(url)}))


def _examined(patient: "Patient", *, quiet: bool) -> "list[Finding]":
    """Run all checks; who looks at a terminal sees which ones are still on their way."""
    from rich.console import Console

    from ingester.doctor.examination import examine
    from ingester.doctor.rounds import checks

    ahead = checks(patient)
    if quiet or not sys.stderr.isatty():
        return run(examine(ahead))
    open_ones = [one.name for one in ahead]
    with Console(stderr=True).status(f"looking at {', '.join(open_ones)}") as status:

        def done(name: str) -> None:
            open_ones.remove(name)
            status.update(f"looking at {', '.join(open_ones)}")

        return run(examine(ahead, done))


def _print(findings: "Sequence[Finding]", *, everything: bool) -> None:
    """Faults, then warnings, with advice; one line for what several checks say. What is in order is counted."""
    screen = console()
    worst_first = sorted(findings, key=lambda one: list(_STYLES).index(one.level))
    shown = [one for one in worst_first if everything or one.level != "ok"]
    together: dict[tuple[str, str, str], list[str]] = {}
    for one in shown:
        together.setdefault((one.level, one.what, one.advice), []).append(one.check)
    for (level, what, advice), checks in together.items():
        screen.print(f"{level:<8}", style=_STYLES[level], end="")
        screen.print(f"{plain(', '.join(checks))}: {plain(what)}", soft_wrap=True)
        if advice:
            screen.print(f"        → {plain(advice)}", style="dim", soft_wrap=True)
    count = {level: sum(one.level == level for one in findings) for level in _STYLES}
    words = f"{_times(count['fault'], 'fault')}, {_times(count['warning'], 'warning')}, {count['ok']} in order"
    screen.print(words, style="bold")


def _times(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"
