"""`ingester send`: bring a mail to an SMTP server, and say what it said."""

import smtplib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from uuid import uuid4

import click

from ingester.cli.context import Fail, json_option, plain, print_json

if TYPE_CHECKING:
    from ingester.cli.client import Answer, Client

DEV_DOOR = "127.0.0.1:2525"
MANY = 20
"""Mails from which on a progress bar is worth its line."""


def _server(text: str) -> tuple[str, int]:
    """For click: host:port, an IPv6 address in brackets."""
    host, colon, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not colon or not bare or not port.isdigit() or not 0 < int(port) < 65536 or (":" in bare and bare == host):
        raise click.BadParameter(f"{text!r} is not host:port (an IPv6 address in brackets)")
    return bare, int(port)


def _path(text: str) -> str:
    """For click: an envelope address as the operator wants it, sound or not; but nothing that would end the command."""
    address = text[1:-1] if text.startswith("<") and text.endswith(">") else text
    if not address.isprintable() or ">" in address:
        raise click.BadParameter(f"{text!r} cannot stand in an SMTP command")
    return address


@click.command()
@click.argument("file", type=click.File("rb"), metavar="FILE|-")
@click.option("--to", "recipients", type=_path, multiple=True, required=True, metavar="ADDRESS", help="Repeatable.")
@click.option("--from", "mail_from", type=_path, metavar="ADDRESS", help="Envelope sender (default: the mail's From).")
@click.option("--server", type=_server, default=DEV_DOOR, show_default=True, metavar="HOST:PORT")
@click.option("--starttls", is_flag=True, help="Change to TLS first; any certificate is taken.")
@click.option("--count", type=click.IntRange(1, 1_000_000), default=1, metavar="N", help="Send it so many times.")
@click.option("--fresh", is_flag=True, help="Give each copy a new Message-ID, so that none is a duplicate.")
@click.option(
    "--dkim",
    "signer",
    nargs=3,
    metavar="DOMAIN SELECTOR KEYFILE",
    help="Sign it as this domain, with an RSA key in PEM, to see what the checks make of it.",
)
@click.option("--as-is", is_flag=True, help="Do not make bare LF to CRLF.")
@json_option
def send(
    *,
    file: BinaryIO,
    recipients: tuple[str, ...],
    mail_from: str | None,
    server: tuple[str, int],
    starttls: bool,
    count: int,
    fresh: bool,
    signer: tuple[str, str, str] | None,
    as_is: bool,
    as_json: bool,
) -> None:
    """Send FILE (a raw mail; - is stdin) by SMTP, and print the server's reply. Exit status 1 when it is refused.

    Without --server it goes to the door of `ingester dev`. --from "" is the null sender of a bounce.
    """
    from ingester.cli.client import Client, with_crlf

    data = file.read() if as_is else with_crlf(file.read())
    sender = _sender(data) if mail_from is None else mail_from
    copies = _copies(data, count, fresh=fresh)
    if signer is not None:
        copies = _signed(copies, *signer)
    answers: list[Answer] = []
    started = time.monotonic()
    where = f"{server[0]}:{server[1]}"
    try:
        with Client(*server, starttls=starttls) as client:
            for answer in _send_all(client, sender, recipients, copies, count):
                answers.append(answer)
                if answer.reply.startswith("421"):
                    break
    except (smtplib.SMTPException, OSError) as error:
        _report(answers, time.monotonic() - started, count, as_json=as_json)
        raise Fail(_fault(where, error, answered=len(answers))) from error
    _report(answers, time.monotonic() - started, count, as_json=as_json)
    _judge(answers, count)


def _copies(data: bytes, count: int, *, fresh: bool) -> Iterator[bytes]:
    from ingester.cli.client import with_message_id

    for _ in range(count):
        yield with_message_id(data, f"{uuid4()}@send.invalid") if fresh else data


def _signed(copies: Iterator[bytes], domain: str, selector: str, keyfile: str) -> Iterator[bytes]:
    from ingester.auth.sign import SigningError, sign

    try:
        key = Path(keyfile).read_bytes()
    except OSError as error:
        raise Fail(f"The key {keyfile} cannot be read: {error.strerror}") from error
    for copy in copies:
        try:
            yield sign(copy, domain=domain, selector=selector, key=key)
        except SigningError as error:
            raise Fail(f"{keyfile}: {error}") from error


def _send_all(
    client: "Client", sender: str, recipients: tuple[str, ...], copies: Iterator[bytes], count: int
) -> Iterator["Answer"]:
    """Bring the copies, with a progress bar on a terminal where there are many."""
    if count < MANY:
        for copy in copies:
            yield client.send(sender, recipients, copy)
        return
    from rich.console import Console
    from rich.progress import Progress

    screen = Console(stderr=True)
    with Progress(console=screen, transient=True, disable=not screen.is_terminal) as progress:
        for copy in progress.track(copies, total=count, description="sending"):
            yield client.send(sender, recipients, copy)


def _sender(data: bytes) -> str:
    """The address in From, or the null sender where there is none that can be used."""
    from email.parser import BytesHeaderParser
    from email.utils import parseaddr

    from ingester.core.address import parse_path

    address = parse_path(parseaddr(str(BytesHeaderParser().parsebytes(data)["From"] or ""))[1])
    return "" if address is None or not address.domain else str(address)


def _fault(where: str, error: Exception, *, answered: int) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        words = error.smtp_error if isinstance(error.smtp_error, str) else error.smtp_error.decode("utf-8", "replace")
        return plain(f"{where} said {error.smtp_code} {words}")
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return f"{where} closed the connection after {answered} mails" if answered else f"{where} closed the connection"
    if isinstance(error, smtplib.SMTPException):
        return plain(f"{where}: {error}")
    assert isinstance(error, OSError)
    return f"No mail server can be reached at {where} ({error.strerror or error}): name another with --server"


def _report(answers: list["Answer"], seconds: float, count: int, *, as_json: bool) -> None:
    accepted = sum(answer.accepted for answer in answers)
    if as_json:
        print_json({"accepted": accepted, "sent": len(answers), "seconds": round(seconds, 3), "answers": answers})
    elif count > 1:
        click.echo(f"{accepted} of {count} accepted in {seconds:.2f} s, the last reply: {_last(answers)}")
    elif accepted:
        click.echo(plain(answers[0].reply))


def _last(answers: list["Answer"]) -> str:
    return plain(answers[-1].reply) if answers else "none"


def _judge(answers: list["Answer"], count: int) -> None:
    """Fail where anything was refused, with the first such reply."""
    for answer in answers:
        for recipient, reply in answer.refused.items():
            raise Fail(plain(f"Refused for {recipient}: {reply}"))
        if not answer.accepted:
            raise Fail(plain(f"Refused: {answer.reply}"))
    if len(answers) < count:
        raise Fail(f"Only {len(answers)} of {count} were sent")
