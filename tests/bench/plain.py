"""The plain baseline: an ingester as a Python team writes it in a few days, in a process of its own.

Stock aiosmtpd, the standard library's email package, dkimpy and pyspf in threads, asyncpg with a pool and one
transaction for each mail: raw and decoded contents in bytea, conversations by In-Reply-To, 250 after the commit. It
shares no code with the daemon. It is what ratios are taken to, frozen before any tuning: it must not be made faster,
nor slower, or ratios of different days do not compare.
"""

# ruff: noqa: ARG002, N802  (aiosmtpd's names and arguments)

import asyncio
import dataclasses
import email
import email.policy
import sys
from email.message import EmailMessage
from email.utils import parseaddr
from uuid import uuid4

import asyncpg
import dkim
import dns.exception
import dns.resolver
import spf  # type: ignore[import-untyped]
from aiosmtpd.smtp import SMTP, Envelope, Session

SCHEMA = """
CREATE TABLE recipients (address text PRIMARY KEY, mailbox text NOT NULL);
CREATE TABLE threads (id uuid PRIMARY KEY, subject text, mails integer NOT NULL, last_at timestamptz NOT NULL);
CREATE TABLE mails (
    id uuid PRIMARY KEY, message_id text, in_reply_to text, thread_id uuid NOT NULL REFERENCES threads (id),
    sender text, recipient text, subject text, body_text text, body_html text,
    spf text, dkim text, dmarc text, raw bytea NOT NULL, received_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON mails (message_id);
CREATE TABLE attachments (
    id uuid PRIMARY KEY, mail_id uuid NOT NULL REFERENCES mails (id),
    filename text, content_type text, content_id text, content bytea NOT NULL
);
CREATE INDEX ON attachments (mail_id);
"""
LARGEST = 26_214_400
POOL = 8
PROXY_SECONDS = 30.0


@dataclasses.dataclass(frozen=True)
class Attachment:
    filename: str
    content_type: str
    content_id: str
    content: bytes


@dataclasses.dataclass(frozen=True)
class Contents:
    text: str
    html: str
    attachments: list[Attachment]


@dataclasses.dataclass(frozen=True)
class Verdicts:
    spf: str
    dkim: str
    dmarc: str


class Handler:
    """What aiosmtpd calls."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def handle_PROXY(self, server: SMTP, session: Session, envelope: Envelope, proxy: object) -> bool:
        return True

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        mailbox = await self._pool.fetchval(
            "SELECT mailbox FROM recipients WHERE address = $1 OR address = '@' || split_part($1, '@', 2) LIMIT 1",
            address.lower(),
        )
        if mailbox is None:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        raw = envelope.content
        assert isinstance(raw, bytes)
        assert session.proxy_data is not None
        sender = envelope.mail_from or ""
        message = email.message_from_bytes(raw, policy=email.policy.default)
        verdicts = await check(
            raw, message, client=str(session.proxy_data.src_addr), sender=sender, helo=session.host_name or ""
        )
        await store(self._pool, raw, message, sender, envelope.rcpt_tos[0], verdicts)
        return "250 stored"


async def check(raw: bytes, message: EmailMessage, *, client: str, sender: str, helo: str) -> Verdicts:
    """SPF and DKIM beside each other in threads, then DMARC, which needs both."""
    said_spf, (said_dkim, signer) = await asyncio.gather(
        asyncio.to_thread(check_spf, client, sender, helo), asyncio.to_thread(check_dkim, raw)
    )
    domains = [signer] if said_dkim == "pass" else []
    if said_spf == "pass":
        domains.append(sender.rpartition("@")[2])
    return Verdicts(said_spf, said_dkim, await asyncio.to_thread(check_dmarc, message, domains))


def check_spf(client: str, sender: str, helo: str) -> str:
    result: str = spf.check2(i=client, s=sender, h=helo)[0]
    return result


def check_dkim(raw: bytes) -> tuple[str, str]:
    """The result and the domain that signed."""
    try:
        signature = dkim.DKIM(raw)
        passed = signature.verify()
    except dkim.DKIMException:
        return "fail", ""
    return ("pass" if passed else "fail"), (signature.domain or b"").decode()


def check_dmarc(message: EmailMessage, domains: list[str]) -> str:
    """Relaxed alignment of a domain that passed, by its last two labels, where the author's domain has a record."""
    author = parseaddr(str(message.get("From") or ""))[1].rpartition("@")[2]
    try:
        records = dns.resolver.resolve(f"_dmarc.{author}", "TXT")
    except dns.exception.DNSException:
        return "none"
    if not any(b"".join(record.strings).startswith(b"v=DMARC1") for record in records):
        return "none"
    return "pass" if organization(author) in map(organization, domains) else "fail"


def organization(domain: str) -> str:
    return ".".join(domain.lower().split(".")[-2:])


async def store(
    pool: asyncpg.Pool, raw: bytes, message: EmailMessage, sender: str, recipient: str, verdicts: Verdicts
) -> None:
    """Everything of a mail in one transaction."""
    contents = read(message)
    mail, parent = uuid4(), str(message.get("In-Reply-To") or "").strip()
    subject = str(message.get("Subject") or "")
    async with pool.acquire() as connection, connection.transaction():
        thread = parent and await connection.fetchval(
            "SELECT thread_id FROM mails WHERE message_id = $1 ORDER BY received_at LIMIT 1", parent
        )
        if thread:
            await connection.execute("UPDATE threads SET mails = mails + 1, last_at = now() WHERE id = $1", thread)
        else:
            thread = uuid4()
            await connection.execute("INSERT INTO threads VALUES ($1, $2, 1, now())", thread, subject)
        await connection.execute(
            "INSERT INTO mails VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
            mail,
            str(message.get("Message-ID") or "").strip(),
            *(parent, thread, sender, recipient, subject, contents.text, contents.html),
            *(verdicts.spf, verdicts.dkim, verdicts.dmarc, raw),
        )
        await connection.executemany(
            "INSERT INTO attachments VALUES ($1, $2, $3, $4, $5, $6)",
            [
                (uuid4(), mail, one.filename, one.content_type, one.content_id, one.content)
                for one in contents.attachments
            ],
        )


def read(message: EmailMessage) -> Contents:
    """The first text, the first HTML, and all the rest decoded."""
    text, html = "", ""
    attachments = []
    for part in message.walk():
        assert isinstance(part, EmailMessage)
        kind = part.get_content_type()
        if part.is_multipart():
            continue
        attached = part.get_content_disposition() == "attachment" or part.get_filename()
        if kind == "text/plain" and not attached and not text:
            text = part.get_content().replace("\0", "")
        elif kind == "text/html" and not attached and not html:
            html = part.get_content().replace("\0", "")
        else:
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            attachments.append(Attachment(part.get_filename() or "", kind, str(part.get("Content-ID") or ""), content))
    return Contents(text, html, attachments)


async def main(url: str, port: int, nameserver: str, nameserver_port: int, domain: str) -> None:
    """Serve on the loopback until killed. Every connection must begin with a PROXY header."""
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = [nameserver], nameserver_port
    dns.resolver.default_resolver = resolver
    async with asyncpg.create_pool(url, min_size=POOL, max_size=POOL) as pool:
        await pool.execute(SCHEMA)
        await pool.execute("INSERT INTO recipients VALUES ($1, 'everything')", f"@{domain}")
        handler = Handler(pool)
        server = await asyncio.get_running_loop().create_server(
            lambda: SMTP(handler, data_size_limit=LARGEST, proxy_protocol_timeout=PROXY_SECONDS), "127.0.0.1", port
        )
        async with server:
            await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5]))
