"""`ingester explain`: the whole judgement of a mail, as a tree."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from ingester.cli.context import Fail, console, json_option, plain, print_json, query, run, settings_of, with_database
from ingester.cli.naming import address_type, located
from ingester.core.address import Address

if TYPE_CHECKING:
    from rich.tree import Tree

    from ingester.auth.report import AuthReport
    from ingester.core.envelope import Envelope
    from ingester.preview import Preview
    from ingester.settings import Settings
    from ingester.store.db import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a mailbox with this `auth_policy` does, its other options being at their defaults."""

    auth_policy: str
    treatment: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What becomes of the mail for these recipients: stored, or refused with a reason. `why` in sentences."""

    recipients: list[str]
    stored: bool
    reason: str
    why: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """All that is explained, and the shape of `--json`."""

    subject: str
    from_address: str | None
    kind: str
    parts: int
    flags: list[str]
    sender_verified: bool
    report: "AuthReport"
    authentication_results: str
    policies: list[Policy]
    answers: list[Answer]


@click.command()
@click.argument("mail", metavar="FILE|MESSAGE_ID")
@click.option("--from", "mail_from", metavar="ADDRESS", help="The envelope sender; <> for none. Default: that of From.")
@click.option("--ip", metavar="ADDRESS", help="The address of the client. Without it SPF is unknown.")
@click.option("--helo", metavar="NAME", help="What the client called itself.")
@click.option(
    "--to",
    "recipients",
    type=address_type,
    multiple=True,
    metavar="ADDRESS",
    help="Also what its mailbox would do; asks the database.",
)
@json_option
@click.pass_context
def explain(
    context: click.Context,
    *,
    mail: str,
    mail_from: str | None,
    ip: str | None,
    helo: str | None,
    recipients: tuple[Address, ...],
    as_json: bool,
) -> None:
    """Judge a mail as if it arrived now, store nothing, and show why: a file, or `-` for standard input.

    For the id of a stored message: the judgement that was made when it came.
    """
    stored = _uuid(mail)
    if stored is not None:
        if mail_from is not None or ip or helo or recipients:
            raise click.UsageError("A stored message has an envelope of its own: the options are for files.")
        explained = query(context, lambda connection: _stored(context, connection, stored))
    else:
        explained = _judged(context, _read(mail), mail_from, ip, helo, recipients)
    if as_json:
        print_json(explained)
    else:
        console().print(_tree(explained))


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _read(name: str) -> bytes:
    """The bytes as the SMTP door would have them: every line ends in CRLF."""
    from ingester.cli.client import with_crlf

    try:
        with click.open_file(name, "rb") as file:
            return with_crlf(file.read())
    except OSError as error:
        raise Fail(f"{name} cannot be read: {error.strerror}") from error


def _judged(
    context: click.Context,
    raw: bytes,
    mail_from: str | None,
    ip: str | None,
    helo: str | None,
    recipients: tuple[Address, ...],
) -> Explained:
    from ingester.clock import new_id, now
    from ingester.core.envelope import Client, Door, Envelope, Recipient

    settings = with_database(context) if recipients else settings_of(context)
    envelope = Envelope(
        door=Door.SMTP,
        raw=raw,
        mail_from=_sender(raw) if mail_from is None else mail_from.strip("<>"),
        recipients=tuple(Recipient(address=one) for one in recipients),
        client=Client(ip=_ip(ip), helo=helo),
        arrival_id=new_id(),
        received_at=now(),
    )
    return _explained(settings, run(_preview(settings, envelope)))


def _sender(raw: bytes) -> str:
    from ingester.core.message import digest
    from ingester.core.mime import Bounds

    return digest(raw, Bounds()).from_address or ""


def _ip(text: str | None) -> str:
    from ipaddress import ip_address

    if text is None:
        return ""
    try:
        return str(ip_address(text))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not an IP address", param_hint="--ip") from None


async def _preview(settings: "Settings", envelope: "Envelope") -> "Preview":
    from ingester.app import App
    from ingester.preview import preview

    app = App(settings)
    if envelope.recipients:
        await app.open()
    try:
        return await preview(app.pipeline, app.database, envelope)
    finally:
        await app.close()


def _explained(settings: "Settings", seen: "Preview") -> Explained:
    from ingester.auth.policy import verified
    from ingester.judge import kind_of

    message, report = seen.case.message, seen.case.checked.report
    return Explained(
        subject=message.subject,
        from_address=message.from_address,
        kind=kind_of(seen.case).value,
        parts=len(message.parts),
        flags=list(message.flags),
        sender_verified=verified(report, accept_forwarded=True),
        report=report,
        authentication_results=_field(settings, report),
        policies=_policies(report),
        answers=_answers(seen),
    )


def _field(settings: "Settings", report: "AuthReport") -> str:
    from ingester.auth.results import authentication_results
    from ingester.configured import rules

    return authentication_results(report, rules(settings).authserv_id)


def _policies(report: "AuthReport") -> list[Policy]:
    from ingester.auth.policy import AuthPolicy, Posture, rule

    out: list[Policy] = []
    for policy in AuthPolicy:
        ruling = rule(report, Posture(policy=policy, require_alignment=False, accept_forwarded=True))
        out.append(Policy(auth_policy=policy.value, treatment=ruling.treatment.value, why=ruling.why))
    return out


def _answers(seen: "Preview") -> list[Answer]:
    from ingester.cli.words import decision_lines

    out: list[Answer] = []
    for mail in seen.judgement.mails:
        for delivery in mail.deliveries:
            reason = "quarantined" if delivery.quarantined else "accepted"
            why = decision_lines(delivery.decision)
            out.append(Answer(recipients=list(delivery.envelope_to), stored=True, reason=reason, why=why))
        for refused in mail.refused:
            why = [refused.detail] if refused.detail else []
            out.append(Answer(recipients=list(refused.recipients), stored=False, reason=refused.reason, why=why))
    return out


async def _stored(context: click.Context, connection: "Connection", any_id: UUID) -> Explained:
    """The judgement of a stored message, as its first receipt has it."""
    from ingester.cli.verdicts import stored_report
    from ingester.cli.words import trail
    from ingester.store import reading

    one = await located(connection, any_id)
    message = one.message_id and await reading.message(connection, one.tenant_id, one.message_id)
    if not message:
        raise Fail(f"{any_id} is a dead letter: it was not judged. See `ingester dead show {one.dead_letter_id}`")
    receipts = await reading.receipts(connection, one.tenant_id, message.id)
    report = stored_report(receipts[0].auth_report) if receipts else None
    if report is None:
        raise Fail(f"The message {message.id} was stored without a report of its sender")
    return Explained(
        subject=message.subject,
        from_address=message.from_address,
        kind=message.kind,
        parts=len(await reading.parts(connection, one.tenant_id, message.id)),
        flags=message.flags,
        sender_verified=message.sender_verified,
        report=report,
        authentication_results=_field(settings_of(context), report),
        policies=_policies(report),
        answers=[
            Answer(
                recipients=receipts[0].envelope_to,
                stored=True,
                reason="quarantined" if message.quarantined else "accepted",
                why=trail(message),
            )
        ],
    )


# -- printing ---------------------------------------------------------------------------------------------------------

_COLOURS = {"pass": "green", "fail": "red", "permerror": "red", "softfail": "yellow", "temperror": "yellow"}
_TREATMENTS = {"store": "green", "quarantine": "yellow", "defer": "yellow", "refuse": "red"}


def _tree(one: Explained) -> "Tree":
    from rich.tree import Tree

    from ingester.cli.verdicts import branches

    root = Tree(_text(one.subject or "(no subject)", "bold"))
    facts = root.add(_text(f"From {one.from_address or 'nobody'}"))
    flags = f", flags {', '.join(one.flags)}" if one.flags else ""
    facts.add(_text(f"{one.kind}, {one.parts} part{'' if one.parts == 1 else 's'}{flags}"))
    for title, lines in branches(one.report):
        branch = root.add(_text(title, _COLOURS.get(title.rpartition(": ")[2], "")))
        for line in lines:
            branch.add(_text(line))
    word = ("verified", "green") if one.sender_verified else ("not verified", "yellow")
    root.add(_text(f"The sender is {word[0]}", word[1]))
    policies = root.add(_text("By the policy of a mailbox"))
    for policy in one.policies:
        policies.add(
            _text(f"{policy.auth_policy}: {policy.treatment}. {policy.why}", _TREATMENTS.get(policy.treatment, ""))
        )
    for answer in one.answers:
        branch = root.add(_text(f"{', '.join(answer.recipients)}: {answer.reason}", "bold"))
        for line in answer.why:
            branch.add(_text(line))
    field = root.add(_text("Our field", "dim"))
    for line in one.authentication_results.expandtabs(4).splitlines():
        field.add(_text(line.strip(), "dim"))
    return root


def _text(words: str, style: str = "") -> Any:
    from rich.text import Text

    return Text(plain(words), style=style)
