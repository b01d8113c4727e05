"""`ingester dev`: everything on one machine in one command, to see mail become rows."""

import asyncio
import os
import signal
import smtplib
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click
from pydantic import SecretStr
from rich.console import Console
from rich.markup import escape

from ingester.cli.context import Fail, settings_of, unusable
from ingester.cli.mail_line import MailLine
from ingester.cli.samples import Sample, samples
from ingester.cli.secret import with_inbound_token, with_secret
from ingester.settings import Listen, Settings

if TYPE_CHECKING:
    from ingester.arrival import Arrival
    from ingester.supervisor import Sockets

DOMAIN = "demo.test"
TENANT = "demo"
MAILBOXES = ("support", "sales")
DOOR = Listen(host="127.0.0.1", port=2525)
HTTP_DOOR = Listen(host="127.0.0.1", port=8025)

_console = Console(highlight=False, soft_wrap=True)


@click.command()
@click.option("--samples", "send_samples", is_flag=True, help="Also send a dozen mails of different shapes.")
@click.option("--smtp", metavar="HOST:PORT", help=f"Where SMTP listens (default {DOOR}, or INGESTER_SMTP__LISTEN).")
@click.option(
    "--http", metavar="HOST:PORT", help=f"Where HTTP listens (default {HTTP_DOOR}, or INGESTER_HTTP__LISTEN)."
)
@click.option("--dir", "directory", type=click.Path(path_type=Path), help="Where the database lives.")
@click.option("--database-port", type=click.IntRange(1, 65535), help="The port of Postgres (default: a free one).")
@click.pass_context
def dev(
    context: click.Context,
    *,
    send_samples: bool,
    smtp: str | None,
    http: str | None,
    directory: Path | None,
    database_port: int | None,
) -> None:
    """Start a local Postgres, a demo tenant and the doors for SMTP and HTTP; print every mail that arrives.

    With INGESTER_DATABASE_URL set, that database is used and no Postgres is started.
    """
    from ingester import preflight
    from ingester.store.embedded import LocalPostgres, LocalPostgresError
    from ingester.supervisor import bind_all, run
    from ingester.telemetry import configure

    given = settings_of(context, env="development", smtp__listen=smtp, http__listen=http, dev_dir=directory)
    settings = _development(given)
    configure(settings)
    faults = [*preflight.certificate(settings), *preflight.nameservers(settings), *preflight.objects(settings)]
    if faults:
        raise Fail(unusable(faults))
    postgres, interrupt = None, _Interrupt()
    try:
        sockets = bind_all(settings)
        url = settings.database_url.get_secret_value()
        if not url:
            _console.print("Starting Postgres ...", style="dim")
            port = database_port or 0
            postgres = LocalPostgres(settings.dev_dir, port=port, say=lambda text: _console.print(text, style="dim"))
            url = postgres.start()
            interrupt.check()
        settings = settings.model_copy(update={"database_url": SecretStr(url)})
        ready = with_inbound_token(with_secret(settings))
        context.exit(run(lambda: _dev(ready, sockets, interrupt, send_samples=send_samples)))
    except LocalPostgresError as error:
        raise Fail(str(error)) from error
    except OSError as error:
        raise Fail(f"Cannot listen: {error}. Choose other ports with --smtp and --http.") from error
    finally:
        if postgres is not None:
            # A second Ctrl-C must not leave Postgres behind.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            postgres.stop()
            _console.print("Stopped; the data stays.", style="dim")


def _development(settings: Settings) -> Settings:
    """Development's own defaults, where the operator has said nothing."""
    smtp, http, log, dns = settings.smtp, settings.http, settings.log, settings.dns
    if "listen" not in smtp.model_fields_set:
        smtp = smtp.model_copy(update={"listen": (DOOR,)})
    if "listen" not in http.model_fields_set:
        http = http.model_copy(update={"listen": (HTTP_DOOR,)})
    if "level" not in log.model_fields_set:
        log = log.model_copy(update={"level": "warning"})  # the lines below say what info would
    if not dns.model_fields_set:
        # A laptop is often offline: its mails must not wait for a name server as those of a server do.
        dns = dns.model_copy(update={"try_seconds": 0.5, "mail_seconds": 3.0})
    return settings.model_copy(update={"smtp": smtp, "http": http, "log": log, "dns": dns})


class _Interrupt:
    """SIGINT and SIGTERM before the loop runs: raised where they arrive, and remembered.

    Python swallows what is raised while it forks, and starting Postgres is little else.
    """

    def __init__(self) -> None:
        self.told = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._raise)

    def check(self) -> None:
        """Raise KeyboardInterrupt where one came and was swallowed."""
        if self.told:
            raise KeyboardInterrupt

    def _raise(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.told = True
        raise KeyboardInterrupt


async def _dev(settings: Settings, sockets: "Sockets", interrupt: _Interrupt, *, send_samples: bool) -> int:
    from ingester.app import App, apply_schema
    from ingester.transport.sockets import address

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    interrupt.check()
    await apply_schema(settings)
    await _seed(settings)
    app = App(settings, watch=_print)
    await app.start(sockets.smtp, sockets.http, lmtp=sockets.lmtp, metrics=sockets.metrics)
    smtp, http = ([str(address(one)) for one in door] for door in (sockets.smtp, sockets.http))
    _banner(settings, smtp, http)
    sender = asyncio.create_task(_send(smtp[0])) if send_samples else None
    await stop.wait()
    sockets.remove_files()
    _console.print("Stopping ...", style="dim")
    if sender is not None:
        sender.cancel()
    await app.drain()
    return 0


async def _seed(settings: Settings) -> None:
    """The demo tenant, its domain and its mailboxes, where they are not there yet."""
    from ingester.clock import new_id
    from ingester.store import registry
    from ingester.store.db import Database

    connection = await Database(settings).connect()
    try:
        async with connection.transaction():
            await registry.seed(connection, tenant=TENANT, domain=DOMAIN, mailboxes=MAILBOXES, new_id=new_id)
    finally:
        await connection.close()


def _banner(settings: Settings, smtp: list[str], http: list[str]) -> None:
    host, _, port = smtp[0].rpartition(":")
    dsn = settings.database_url.get_secret_value()
    addresses = ", ".join(f"{mailbox}@{DOMAIN}" for mailbox in MAILBOXES)
    _console.print(f"\n[bold]ingester[/bold] takes mail for [bold]{addresses}[/bold]")
    _console.print(f"  SMTP      {escape(', '.join(smtp))}")
    _console.print(f"  HTTP      {escape(', '.join(http))}")
    _console.print(f"  Postgres  {escape(dsn)}")
    assert settings.inbound_token is not None
    token = settings.inbound_token.get_secret_value()
    _console.print(f"  Token     {escape(token)} (for HTTP)")
    _console.print("\nSend a mail, by SMTP or by HTTP:", style="dim")
    _console.print(
        f"  printf 'Subject: Hello\\n\\nIt works.\\n' | .venv/bin/ingester send - --to {MAILBOXES[0]}@{DOMAIN}"
        + ("" if (host, port) == (DOOR.host, str(DOOR.port)) else f" --server {escape(smtp[0])}")
    )
    _console.print(
        "  printf 'Subject: Hello\\n\\nIt works.\\n' | curl --data-binary @- -H 'Content-Type: message/rfc822'"
        f" -u x:{escape(token)} 'http://{escape(http[0])}/events/inbound?recipient={MAILBOXES[0]}@{DOMAIN}'"
    )
    _console.print("Read the rows:", style="dim")
    _console.print('  psql "$(.venv/bin/ingester dsn)" -c "SELECT subject, reply_match_status FROM messages"')
    _console.print("Ctrl-C stops everything.\n", style="dim")


def _print(arrival: "Arrival") -> None:
    """One line per mail: time, from, to, subject, matched or unmatched, parts, milliseconds."""
    envelope, message, outcome = arrival.envelope, arrival.message, arrival.outcome
    sender = (message.from_address if message else None) or envelope.mail_from or "<>"
    recipients = ", ".join(str(recipient.address) for recipient in envelope.recipients)
    if outcome.stored:
        matched = any(stored.matched for stored in outcome.stored)
        word = "matched" if matched else "unmatched"
        if outcome.reason == "duplicate":
            word = "duplicate"
        count = outcome.stored[0].parts
        parts = f"{count} part{'' if count == 1 else 's'}"
    else:
        # Accepted without a row for a mailbox is the dead letter's yes.
        word, parts = ("dead letter" if outcome.reason == "accepted" else outcome.reason.value), "-"
    line = MailLine(
        at=envelope.received_at,
        sender=sender,
        recipients=recipients,
        subject=message.subject if message else "",
        word=word,
        notes=(f"{parts:>8}", f"{arrival.seconds * 1000:7.1f} ms"),
    )
    _console.print(line.text())


async def _send(door: str) -> None:
    """Send the samples by SMTP, in a thread: the door must be free to answer."""
    host, _, port = door.rpartition(":")
    run_id = os.urandom(4).hex()
    sent = 0
    for sample in samples(DOMAIN, run_id):
        try:
            await asyncio.to_thread(_send_one, host.strip("[]"), int(port), sample)
            sent += 1
        except (smtplib.SMTPException, OSError) as error:
            _console.print(f"The sample of {sample.shows} was not taken: {error}", style="red", markup=False)
    _console.print(f"{sent} samples sent.", style="dim")


def _send_one(host: str, port: int, sample: Sample) -> None:
    with smtplib.SMTP(host, port, local_hostname="samples.test", timeout=30) as client:
        client.sendmail(sample.mail_from, list(sample.recipients), sample.data)
