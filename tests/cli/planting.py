"""A person in every place that mail can bring her to, by real mails; and the search for her, in all rows."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

from ingester.app import App
from ingester.clock import new_id, now
from ingester.core.address import parse_path
from ingester.core.envelope import Client, Door, Envelope, Recipient
from ingester.core.outcome import Outcome, Reason
from ingester.settings import load
from ingester.store.delivery_events import NewEvent, record
from ingester.store.outbound import NewOutbound, Registered, register
from tests.cli.conftest import Cli

ADA = "ada@customer.test"
GRACE = "grace@other.test"
SECRET = "a secret of the tests and long enough to sign"
Result = TypeVar("Result")


def letter(name: str, text: str = "Hello.", **fields: str) -> bytes:
    """A mail of Ada's; field names as keywords."""
    named = {"From": f"Ada <{ADA}>", "To": "support@acme.test", "Subject": f"About {name}"} | fields
    lines = [f"{field.replace('_', '-')}: {value}" for field, value in named.items()]
    return "\r\n".join([*lines, f"Message-ID: <{name}@id.test>", "", text, ""]).encode()


def bounce(about: str) -> bytes:
    """A report on a mail of ours to Ada."""
    return (
        "From: MAILER-DAEMON@mx.test\r\nTo: support@acme.test\r\nSubject: Undelivered\r\nMessage-ID: <b@mx.test>\r\n"
        "MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=x\r\n\r\n"
        "--x\r\nContent-Type: text/plain\r\n\r\nNobody.\r\n--x\r\nContent-Type: message/delivery-status\r\n\r\n"
        f"Reporting-MTA: dns; mx.test\r\n\r\nFinal-Recipient: rfc822; {ADA}\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n"
        f"--x\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: <{about}>\r\nTo: {ADA}\r\n\r\n--x--\r\n"
    ).encode()


def do(url: str, work: Callable[[App], Awaitable[Result]], **settings: Any) -> Result:
    """Run a coroutine function with an app on the database."""

    async def done() -> Result:
        app = App(load(env="development", database_url=url, **settings))
        await app.open()
        try:
            return await work(app)
        finally:
            await app.close()

    return asyncio.run(done())


async def tenant_id(app: App, slug: str) -> UUID:
    async with app.database.connection() as connection:
        found: UUID = await connection.fetchval("SELECT id FROM tenants WHERE slug = $1", slug)
    return found


async def accept(
    app: App,
    raw: bytes,
    *recipients: str,
    mail_from: str = ADA,
    door: Door = Door.SMTP,
    event: str | None = None,
    metadata: dict[str, Any] | None = None,
    source: str | None = None,
) -> Outcome:
    """Bring a mail through the pipeline."""
    addresses = [parse_path(text) for text in recipients or ("support@acme.test",)]
    return await app.pipeline.accept(
        Envelope(
            door=door,
            raw=raw,
            mail_from=mail_from,
            recipients=tuple(Recipient(address=address) for address in addresses if address is not None),
            client=Client(ip="192.0.2.1", helo="client.test", tls="TLSv1.3"),
            arrival_id=new_id(),
            received_at=now(),
            provider=event and "mailgun",
            provider_event_id=event,
            metadata=metadata or {},
            source=source,
        )
    )


def plant(town: Cli) -> dict[str, str]:
    """Ada everywhere; gives the ids of the messages by their names."""
    town.ok("forwarder", "add", "arc", "lists.test", "--tenant", "acme")
    town.ok("quota", "set", "--tenant", "acme", "--mails", "1000")
    for words in (
        ("key", "add", "--tenant", "acme", "--name", "app"),
        ("intake", "add", "bound", "--tenant", "acme"),
        ("intake", "add", "for its domain", "--domain", "acme.test"),
    ):
        assert town.run(*words).exit_code == 0
    ids = do(town.url, _mails)
    do(town.url, _letters, test__faults="scan:raise")
    town.ok("sender", "block", ADA, "--tenant", "acme")
    do(town.url, _refusals)
    return ids


async def _mails(app: App) -> dict[str, str]:
    by_grace = {"mail_from": GRACE}
    only = await _outbound(app, ADA)
    shared = await _outbound(app, ADA, GRACE)
    mails: dict[str, tuple[bytes, Sequence[str], dict[str, Any]]] = {
        "hers": (letter("hers"), (), {}),
        "by a list": (letter("by-list"), (), {"mail_from": "bounces@lists.test"}),
        "sent for": (letter("sent-for", From=f"Grace <{GRACE}>"), (), {"mail_from": "ADA@Customer.test"}),
        "answer": (
            letter("answer", text=f"> {ADA} wrote:\r\n> Hello.", From=GRACE, In_Reply_To="<hers@id.test>"),
            (),
            by_grace,
        ),
        "copied": (letter("copied", From=GRACE, Cc=f"Ada <{ADA}>, third@other.test"), (), by_grace),
        "quoting": (letter("quoting", text=f"Ask {ADA.upper()} about it.", From=GRACE), (), by_grace),
        "innocent": (letter("innocent", text=f"x{ADA} and {ADA}.example", From=GRACE), (), by_grace),
        "elsewhere": (letter("elsewhere", To="support@globex.test"), ("support@globex.test",), {}),
        "both": (letter("both"), ("support@acme.test", "sales@acme.test"), {}),
        "by HTTP": (
            letter("by-http", From=GRACE),
            (),
            {"door": Door.HTTP, "event": "e1", "metadata": {"to": f"<{ADA}>", "spam": [1]}, "mail_from": GRACE},
        ),
        "to a token": (letter("to-a-token"), (only.reply_address,), {}),
        "bounce": (bounce(only.rfc_message_id), (), {"mail_from": ""}),
    }
    ids = {"to her": str(only.message_id), "to both": str(shared.message_id)}
    for name, (raw, recipients, more) in mails.items():
        outcome = await accept(app, raw, *recipients, **more)
        ids[name] = str(outcome.stored[0].message_id)
    again = await accept(app, mails["hers"][0])
    assert again.reason is Reason.DUPLICATE
    await _events(app, shared.message_id)
    return ids


async def _outbound(app: App, *recipients: str) -> Registered:
    async with app.database.connection() as connection:
        mailbox = await connection.fetchrow(
            "SELECT b.tenant_id, b.id FROM mailboxes b WHERE b.domain = 'acme.test' AND b.local_part = 'support'"
        )
        return await register(
            connection,
            NewOutbound(
                tenant_id=mailbox["tenant_id"],
                tenant_slug="acme",
                mailbox_id=mailbox["id"],
                to=recipients,
                cc=(),
                bcc=(),
                subject="From us",
                thread_id=None,
                in_reply_to=None,
                idempotency_key=None,
                expires_at=None,
                sent=None,
            ),
            secrets=[SECRET.encode()],
            new_id=new_id,
            now=now(),
        )


async def _events(app: App, message_id: UUID) -> None:
    """What a provider told of a mail to Ada that we do not know, and of one to both."""
    owner = await tenant_id(app, "acme")
    async with app.database.connection() as connection:
        await connection.execute("UPDATE messages SET provider_message_id = 'p1' WHERE id = $1", message_id)
        for number, recipients in enumerate(((ADA,), (ADA, GRACE))):
            new = NewEvent(
                tenant_id=owner,
                id=new_id(),
                provider="ses",
                provider_message_id="p1" if number else "unknown",
                provider_event_id=f"e{number}",
                kind="bounce",
                status="bounced",
                recipients=recipients,
                detail={"bounced": [{"emailAddress": ADA}]},
                occurred_at=now(),
                received_at=now(),
            )
            await record(connection, new)


async def _letters(app: App) -> None:
    """Mails that could not be digested: hers by envelope, hers by header alone, and one that names her."""
    for name, mail_from, fields in (
        ("dead-envelope", ADA, {"From": GRACE}),
        ("dead-header", "", {}),
        ("dead-other", GRACE, {"From": GRACE, "Cc": ADA}),
    ):
        outcome = await accept(app, letter(name, **fields), mail_from=mail_from)
        assert outcome.reason is Reason.ACCEPTED
        assert not outcome.stored


async def _refusals(app: App) -> None:
    """Refused before DATA, twice in one row, and after it."""
    owner = await tenant_id(app, "acme")
    for mail_from in (ADA, GRACE):
        app.refusals.note(
            tenant_id=owner,
            door=Door.SMTP,
            reason=Reason.UNKNOWN_MAILBOX,
            client=Client(ip="192.0.2.1", helo="client.test"),
            mail_from=mail_from,
            recipients=("nobody@acme.test",),
            detail="",
            now=now(),
        )
    await app.refusals.flush()
    refused = await accept(app, letter("refused"))
    assert refused.reason is not Reason.ACCEPTED


# -- the search -------------------------------------------------------------------------------------------------------


def everything(url: str) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables."""
    return asyncio.run(_everything(url))


async def _everything(url: str) -> dict[str, list[dict[str, Any]]]:
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
        )
        return {name: [dict(row) for row in await connection.fetch(f"SELECT * FROM {name}")] for (name,) in tables}
    finally:
        await connection.close()


def holds(value: object, needle: str) -> bool:
    """Whether a value of any column holds the text, in any case."""
    if isinstance(value, bytes):
        return needle.encode() in value.lower()
    if isinstance(value, list):
        return any(holds(one, needle) for one in value)
    return needle in str(value).lower()


def naming(url: str, needle: str = ADA) -> set[tuple[str, str, str]]:
    """Every column of every row that holds the text: table, id, column."""
    return {
        (table, str(row.get("message_id") if table == "parts" else row.get("id")), column)
        for table, rows in everything(url).items()
        for row in rows
        for column, value in row.items()
        if holds(value, needle)
    }
