"""The command `ingester`: names of the sub-commands and where each lives. No work is done here.

A sub-command's module is imported when it is called; the help lists them without importing any.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

import click

from ingester import __version__

COMMANDS = {
    "serve": ("ingester.cli.serve", "Receive mail until SIGTERM."),
    "dev": ("ingester.cli.dev", "Try it here: a local Postgres, a demo tenant and the SMTP door."),
    "migrate": ("ingester.cli.database", "Apply the migrations that the database lacks."),
    "health": ("ingester.cli.health", "Ask the daemon of this host whether it lives, or is ready."),
    "roles": ("ingester.cli.roles", "Give the daemon a role that changes rows but no tables."),
    "dsn": ("ingester.cli.database", "Print the URL of the database in use."),
    "tenant": ("ingester.cli.tenant", "Add, list, change, suspend and resume tenants."),
    "domain": ("ingester.cli.domain", "Add, verify, list and remove receiving domains."),
    "mailbox": ("ingester.cli.mailbox", "Add, list, change, suspend and resume mailboxes."),
    "route": ("ingester.cli.route", "Add, list and remove routes: exact, alias, catch_all."),
    "sender": ("ingester.cli.sender", "Allow and block senders, per tenant or mailbox."),
    "forwarder": ("ingester.cli.forwarder", "Trust forwarders: ARC sealers and upstreams."),
    "key": ("ingester.cli.key", "Make, list and revoke API keys."),
    "intake": ("ingester.cli.intake", "Make, list and revoke tokens for mail over HTTP."),
    "token": ("ingester.cli.token", "Mint reply tokens, and say what one is worth."),
    "quota": ("ingester.cli.quota", "Set and list quotas of tenants and mailboxes."),
    "outbound": ("ingester.cli.outbound", "Register messages that an application sends."),
    "send": ("ingester.cli.send", "Send a mail by SMTP and print the reply."),
    "show": ("ingester.cli.show", "Show a stored message: facts, decision, parts, receipts."),
    "raw": ("ingester.cli.raw", "Write the bytes of a stored message, or of one part of it."),
    "thread": ("ingester.cli.thread", "Show a conversation: its messages and who takes part."),
    "contact": ("ingester.cli.contact", "Show a contact: its last messages and conversations."),
    "refusals": ("ingester.cli.refusals", "List refusals: why a mail was not taken."),
    "tail": ("ingester.cli.tail", "Show mails as they arrive, from any machine."),
    "top": ("ingester.cli.top", "Show how it goes: rates, outcomes, latency, the last mails."),
    "explain": ("ingester.cli.explain", "Judge a mail without storing it, and show why."),
    "rematch": ("ingester.cli.rematch", "Judge stored unmatched mail again."),
    "reconcile": ("ingester.cli.reconcile", "Hand in mail that lies in a bucket and was not announced."),
    "dead": ("ingester.cli.dead", "List, show, redrive and discard dead letters."),
    "doctor": ("ingester.cli.doctor", "Look at everything that a daemon here needs, and say what to do."),
    "delete": ("ingester.cli.delete", "Erase a stored message with its parts and bytes."),
    "erase": ("ingester.cli.erase", "Erase a tenant, or a person, and print a receipt."),
    "retention": ("ingester.cli.retention", "Count or remove mail that is over its time."),
    "blobs": ("ingester.cli.blobs", "Delete objects without a mail from the object store."),
}
"""Name of a command (and of the function that is it) -> its module and its line in the help."""


class _Lazy(click.Group):
    """A group that imports a command when it is called. Whatever a command stumbles over ends as a sentence."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise  # click's own, and a reader that has seen enough
        except Exception as error:
            # The exception's text is not printed: it may quote a mail (law 11).
            raise _Fault(f"This is a fault of ingester itself: {_describe(error)}") from error

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click calls it so)
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(COMMANDS[cmd_name][0]), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


class _Fault(click.ClickException):
    exit_code = 1


def _describe(error: BaseException) -> str:
    """The type, and the places in our own code, innermost first."""
    import traceback

    frames = reversed(traceback.extract_tb(error.__traceback__))
    house = str(Path(__file__).parent.parent)
    ours = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames if frame.filename.startswith(house)]
    return f"{type(error).__name__} at {' < '.join(ours[:5])}"


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ingester")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A TOML file with settings; the environment (INGESTER_*) goes before it.",
)
def main(config: Path | None) -> None:
    """Receive mail, and commit it to Postgres as matched or unmatched rows before saying yes.

    Every command works on the database of INGESTER_DATABASE_URL or, where that is not set, on the one that
    `ingester dev` runs here. Exit status: 0 done, 1 refused or failed, 2 wrong usage.
    """
    del config  # read by settings_of
