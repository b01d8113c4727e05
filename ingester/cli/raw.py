"""`ingester raw`: the bytes of a stored mail, or of one part of it, exactly."""

import sys
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import click

from ingester.cli.context import Fail, query, settings_of
from ingester.cli.naming import located

if TYPE_CHECKING:
    from ingester.store.db import Connection
    from ingester.store.raws import Raws
    from ingester.store.reading import Located, StoredPart, StoredReceipt
    from ingester.store.terms import Defaults


@click.command()
@click.argument("message_id", type=click.UUID)
@click.option(
    "--trace",
    "with_trace",
    is_flag=True,
    help="Put Return-Path, Authentication-Results and Received (from the receipt) in front.",
)
@click.option("--part", "ordinal", type=click.IntRange(1), metavar="N", help="The decoded part N instead of the mail.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Not to stdout.")
@click.pass_context
def raw(
    context: click.Context, *, message_id: UUID, with_trace: bool, ordinal: int | None, output: Path | None
) -> None:
    """Write the raw mail as it was received; with --part one decoded part of it.

    The id of an arrival or of a dead letter will do as well. `ingester show` numbers the parts.
    """
    from ingester.retaining import defaults_of

    if with_trace and ordinal is not None:
        raise click.UsageError("--trace and --part exclude each other.")
    raws, defaults = _raws(context), defaults_of(settings_of(context))
    if ordinal is not None:
        data = query(context, lambda connection: _part(connection, raws, message_id, ordinal, defaults))
    else:
        names = _names(context) if with_trace else None
        data = query(context, lambda connection: _mail(connection, raws, message_id, names, defaults))
    if output is None:
        sys.stdout.buffer.write(data)
        return
    try:
        output.write_bytes(data)
    except OSError as error:
        raise Fail(f"{output} cannot be written: {error.strerror}") from error


def _raws(context: click.Context) -> "Raws":
    from ingester.store.blobs import Blobs
    from ingester.store.raws import Raws

    return Raws(Blobs(settings_of(context)))


class _Names(NamedTuple):
    """What we call ourselves in Received, as the SMTP door does, and in Authentication-Results."""

    host: str
    authserv_id: str


def _names(context: click.Context) -> _Names:
    import socket

    from ingester.configured import rules

    settings = settings_of(context)
    return _Names(settings.smtp.hostname or socket.gethostname(), rules(settings).authserv_id)


async def _mail(
    connection: "Connection", raws: "Raws", any_id: UUID, names: _Names | None, defaults: "Defaults"
) -> bytes:
    """The raw mail; `names` ask for the trace, beneath which no field may stand that claims to be ours."""
    from ingester.auth.results import without_ours
    from ingester.store import reading

    one = await located(connection, any_id)
    raw_id = await _raw_id(connection, one)
    data = await _or_gone(connection, any_id, one, defaults, raws.read(connection, one.tenant_id, raw_id))
    if names is None:
        return data
    if one.message_id is None:
        raise Fail("A dead letter has no trace yet: leave --trace out")
    receipts = await reading.receipts(connection, one.tenant_id, one.message_id)
    return trace(receipts, names) + without_ours(data, names.authserv_id)


async def _raw_id(connection: "Connection", one: "Located") -> UUID:
    from ingester.store import letters, reading

    if one.message_id is not None:
        message = await reading.message(connection, one.tenant_id, one.message_id)
        raw_id = None if message is None else message.raw_id
    else:
        assert one.dead_letter_id is not None
        letter = await letters.letter(connection, one.dead_letter_id)
        raw_id = None if letter is None else letter.raw_id
    if raw_id is None:
        raise Fail(f"The message {one.message_id or one.dead_letter_id} has no raw mail")
    return raw_id


async def _or_gone(
    connection: "Connection", any_id: UUID, one: "Located", defaults: "Defaults", reading: Awaitable[bytes]
) -> bytes:
    try:
        return await reading
    except LookupError as error:
        raise await _gone(connection, any_id, one, defaults) from error


async def _gone(connection: "Connection", any_id: UUID, one: "Located", defaults: "Defaults") -> Fail:
    """That the bytes are not there, and the likely reason: they are kept for so long."""
    from ingester.store.terms import terms

    (kept,) = await terms(connection, defaults, one.tenant_id)
    days = f": the tenant {kept.tenant} keeps attachments for {kept.attachments.days} days" if kept.attachments else ""
    return Fail(f"The raw mail of {any_id} is gone{days}")


async def _part(connection: "Connection", raws: "Raws", any_id: UUID, ordinal: int, defaults: "Defaults") -> bytes:
    """One decoded part. Of the mail, only the range that the part is a view on is read."""
    from ingester.store import reading

    one = await located(connection, any_id)
    if one.message_id is None:
        raise Fail("A dead letter has no parts: it could not be walked")
    found = await reading.parts(connection, one.tenant_id, one.message_id)
    part = next((part for part in found if part.ordinal == ordinal), None)
    if part is None:
        raise Fail(f"The message {one.message_id} has no part {ordinal}: its parts are 1 to {len(found)}")
    if part.offset is None or part.length is None:
        own = await reading.part_bytes(connection, one.tenant_id, one.message_id, ordinal) or b""
        if len(own) < part.decoded_size:
            raise await _gone(connection, any_id, one, defaults)
        return own
    raw_id = await _raw_id(connection, one)
    reading_view = raws.read_range(connection, one.tenant_id, raw_id, part.offset, part.length)
    view = await _or_gone(connection, any_id, one, defaults, reading_view)
    return _decoded(view, part)


def _decoded(view: bytes, part: "StoredPart") -> bytes:
    """Decode the view, and hold the result against the sha256 that was stored when the mail came."""
    from hashlib import sha256

    from ingester.core.content import decode_view

    decoded = decode_view(view, 0, len(view), part.encoding)
    if sha256(decoded).hexdigest() != part.sha256:
        raise Fail(f"Part {part.ordinal} does not have the sha256 that was stored with it: the raw mail was changed")
    return decoded


# -- trace headers ----------------------------------------------------------------------------------------------------


def trace(receipts: "Sequence[StoredReceipt]", names: _Names) -> bytes:
    """What the stored bytes do not have: Return-Path, our verdicts (RFC 8601), and one Received (RFC 5321, 4.4).

    Protocol names: RFC 3848. What a stranger said of itself is reduced to characters that cannot end a field.
    """
    from ingester.auth.results import authentication_results
    from ingester.cli.verdicts import stored_report

    if not receipts:
        raise Fail("The message has no receipt to make a trace from")
    first = receipts[0]
    helo = "".join(c if c.isascii() and (c.isalnum() or c in "-._:[]") else "?" for c in first.helo or "unknown")
    client = f" ([{first.client_ip}])" if first.client_ip else ""
    protocol = {"smtp": "ESMTP", "lmtp": "LMTP"}.get(first.door, first.door.upper())
    secure = "S" if first.tls and first.door in ("smtp", "lmtp") else ""
    to = f"\r\n for <{_one_line(first.envelope_to[0])}>" if len(first.envelope_to) == 1 else ""
    when = first.received_at.strftime("%a, %d %b %Y %H:%M:%S +0000")
    report = stored_report(first.auth_report)
    results = f"{authentication_results(report, names.authserv_id)}\r\n" if report is not None else ""
    sender = "" if first.return_path is None else f"Return-Path: {_one_line(first.return_path)}\r\n"
    return (
        f"{sender}{results}"
        f"Received: from {helo[:255]}{client}\r\n by {names.host} with {protocol}{secure}"
        f" id {first.arrival_id}{to};\r\n {when}\r\n"
    ).encode()


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
