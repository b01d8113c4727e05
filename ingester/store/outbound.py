"""Outbound messages: registered before (or after) the application sends them, so that replies find home.

A registration is one transaction. The same idempotency key gives the same answer, whatever else the request says.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from ingester.core.address import Address, normalise
from ingester.core.resolve import id_hash
from ingester.core.token import Token, mint, parse_token, verify
from ingester.store.db import Connection
from ingester.store.delivery_events import adopt_waiting, lock_provider_id
from ingester.store.registry import enter

MAX_ANCESTORS = 1000
"""How far up a conversation is followed."""
MAX_REFERENCES = 50
"""Ids of a References field: the oldest and the newest ones, as RFC 5322, 3.6.4, allows."""
MAX_RECIPIENTS = 1000
TOKEN_HEADER = "X-OpenSend-Reply-Token"  # noqa: S105  (the name of a field)


class OutboundError(Exception):
    """A registration that cannot be made. `code` is for programs, the text is for people."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A mail that another system has sent already, as it was."""

    id: UUID | None = None
    rfc_message_id: str | None = None
    token: str | None = None
    provider_message_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOutbound:
    """A message that the application sends. Addresses are whole (`name@example.com`), Message-IDs without brackets."""

    tenant_id: UUID
    tenant_slug: str
    mailbox_id: UUID
    to: tuple[str, ...]
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    subject: str = ""
    thread_id: UUID | None = None
    in_reply_to: str | None = None
    idempotency_key: str | None = None
    expires_at: datetime | None = None
    sent: Sent | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """What the application puts into its mail. `created` is False when the idempotency key was known."""

    message_id: UUID
    thread_id: UUID
    rfc_message_id: str
    reply_token: str
    reply_address: str
    envelope_sender: str
    headers: dict[str, str]
    created: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parent:
    """The message that is answered."""

    id: UUID
    thread_id: UUID
    chain: tuple[str, ...]
    """Message-IDs from the oldest ancestor down to itself, as the recipients know them. A field may not hold all."""


async def register(
    connection: Connection,
    new: NewOutbound,
    *,
    secrets: Sequence[bytes],
    new_id: Callable[[], UUID],
    now: datetime,
) -> Registered:
    """Register one message. Raises OutboundError; nothing is written then."""
    if not secrets:
        raise OutboundError("no_secret", "INGESTER_REPLY_TOKEN_SECRETS is not set: no reply token can be made")
    _check(new)
    try:
        async with connection.transaction():
            await enter(connection, new.tenant_id)
            if new.sent is not None and new.sent.provider_message_id is not None:
                await lock_provider_id(connection, new.tenant_id, new.sent.provider_message_id)
            mailbox = await _mailbox(connection, new)
            known = await _known(connection, new)
            if known is not None:
                return known
            return await _write(connection, new, mailbox, secrets, new_id, now)
    except asyncpg.UniqueViolationError:
        known = await _known(connection, new)
        if known is None:
            raise OutboundError("id_taken", "There is a message with this id already") from None
        return known


def _check(new: NewOutbound) -> None:
    count = len(new.to) + len(new.cc) + len(new.bcc)
    if not 0 < count <= MAX_RECIPIENTS:
        raise OutboundError("recipients", f"A message has one to {MAX_RECIPIENTS} recipients")


async def _mailbox(connection: Connection, new: NewOutbound) -> Address:
    """The address of the mailbox, which is where the mail comes from."""
    row = await connection.fetchrow(
        """
        SELECT m.domain, m.local_part, m.email_type, m.unsubscribable FROM mailboxes m
        WHERE m.tenant_id = $1 AND m.id = $2 AND m.system IS NULL
        """,
        new.tenant_id,
        new.mailbox_id,
    )
    if row is None:
        raise OutboundError("unknown_mailbox", "There is no such mailbox")
    if row["email_type"] == "marketing" and not row["unsubscribable"]:
        raise OutboundError("not_unsubscribable", "A marketing mailbox must be unsubscribable before it sends")
    return Address(local=row["local_part"], domain=row["domain"])


async def _known(connection: Connection, new: NewOutbound) -> Registered | None:
    """The answer that this idempotency key got before."""
    if new.idempotency_key is None:
        return None
    row = await connection.fetchrow(
        """
        SELECT id, thread_id, details FROM messages
        WHERE tenant_id = $1 AND mailbox_id = $2 AND idempotency_key = $3
        """,
        new.tenant_id,
        new.mailbox_id,
        new.idempotency_key,
    )
    if row is None:
        return None
    answer = row["details"]["registered"]
    return Registered(message_id=row["id"], thread_id=row["thread_id"], created=False, **answer)


async def _write(
    connection: Connection,
    new: NewOutbound,
    mailbox: Address,
    secrets: Sequence[bytes],
    new_id: Callable[[], UUID],
    now: datetime,
) -> Registered:
    sent = new.sent or Sent()
    message_id = sent.id or new_id()
    token = _token(new, sent, message_id, mailbox.domain, secrets)
    parent = await _parent(connection, new)
    rfc_id = sent.rfc_message_id or f"{token.text}@{mailbox.domain}"
    reply_address = f"reply+{token.text}@{mailbox.domain}"
    answer: dict[str, Any] = {
        "rfc_message_id": rfc_id,
        "reply_token": token.text,
        "reply_address": reply_address,
        "envelope_sender": reply_address,
        "headers": _headers(rfc_id, token, parent, new.in_reply_to),
    }
    thread_id = await connection.fetchval(
        "SELECT store_outbound($1, $2, $3, $4, $5)",
        new.tenant_id,
        new.mailbox_id,
        message_id,
        new_id(),
        _document(new, sent, mailbox, parent, answer, new_id, now),
    )
    if sent.provider_message_id is not None:
        await adopt_waiting(connection, new.tenant_id, message_id, sent.provider_message_id)
    return Registered(message_id=message_id, thread_id=thread_id, created=True, **answer)


def _token(new: NewOutbound, sent: Sent, message_id: UUID, domain: str, secrets: Sequence[bytes]) -> Token:
    """A fresh token or, for a mail that was sent with one, that one, which must be true."""
    if sent.token is None:
        return mint(secrets[0], tenant=new.tenant_slug, message_id=message_id, domain=domain)
    token = parse_token(sent.token)
    if token is None or token.id != message_id or not verify(token, secrets, tenant=new.tenant_slug, domain=domain):
        raise OutboundError("bad_token", "The token is not one of this tenant, this domain and this message id")
    return token


async def _parent(connection: Connection, new: NewOutbound) -> _Parent | None:
    """The message that is answered: the one that is named, else the newest of the thread that is named."""
    row = None
    if new.in_reply_to is not None:
        row = await connection.fetchrow(
            "SELECT id, thread_id FROM bearers($1, $2, $3) LIMIT 1",
            new.tenant_id,
            new.mailbox_id,
            id_hash(new.in_reply_to),
        )
    if new.thread_id is not None:
        await _check_thread(connection, new)
        if row is not None and row["thread_id"] != new.thread_id:
            raise OutboundError("other_thread", "The message that is answered is in another thread")
        row = row or await connection.fetchrow(
            """
            SELECT id, thread_id FROM messages WHERE tenant_id = $1 AND thread_id = $2
            ORDER BY received_at DESC, id DESC LIMIT 1
            """,
            new.tenant_id,
            new.thread_id,
        )
    if row is None:
        return None
    chain = await _chain(connection, new.tenant_id, row["id"])
    return _Parent(id=row["id"], thread_id=row["thread_id"], chain=chain)


async def _check_thread(connection: Connection, new: NewOutbound) -> None:
    mailbox_id = await connection.fetchval(
        "SELECT mailbox_id FROM threads WHERE tenant_id = $1 AND id = $2", new.tenant_id, new.thread_id
    )
    if mailbox_id is None:
        raise OutboundError("unknown_thread", "There is no such thread")
    if mailbox_id != new.mailbox_id:
        raise OutboundError("cross_mailbox", "The thread belongs to another mailbox")


async def _chain(connection: Connection, tenant_id: UUID, message_id: UUID) -> tuple[str, ...]:
    """The ids of a message and all its ancestors that are stored, oldest first; before them what the oldest cites."""
    rows = await connection.fetch(
        """
        WITH RECURSIVE up (id, parent, rfc_id, cited, depth) AS (
            SELECT m.id, m.reply_to_email_id, coalesce(m.sent_message_id, m.rfc_message_id), m.reference_ids, 1
            FROM messages m WHERE m.tenant_id = $1 AND m.id = $2
            UNION ALL
            SELECT m.id, m.reply_to_email_id, coalesce(m.sent_message_id, m.rfc_message_id), m.reference_ids,
                   up.depth + 1
            FROM up JOIN messages m ON m.tenant_id = $1 AND m.id = up.parent
            WHERE up.depth < $3
        )
        SELECT rfc_id, cited FROM up ORDER BY depth DESC
        """,
        tenant_id,
        message_id,
        MAX_ANCESTORS,
    )
    ids = [*(rows[0]["cited"] if rows else ()), *(row["rfc_id"] for row in rows)]
    # Of an id that stands twice the later place counts: the last one is the message itself, whatever strangers cited.
    return tuple(reversed(dict.fromkeys(reversed(ids))))


def _headers(rfc_id: str, token: Token, parent: _Parent | None, in_reply_to: str | None) -> dict[str, str]:
    """Fields for the mail. One that answers a message we do not hold cites that alone."""
    headers = {"Message-ID": f"<{rfc_id}>", TOKEN_HEADER: token.text}
    known = parent.chain if parent is not None else ((in_reply_to,) if in_reply_to else ())
    chain = tuple(one for one in known if one.isascii() and one.isprintable() and " " not in one)
    if chain:
        shown = chain if len(chain) <= MAX_REFERENCES else (chain[0], *chain[1 - MAX_REFERENCES :])
        headers["In-Reply-To"] = f"<{chain[-1]}>"
        headers["References"] = " ".join(f"<{one}>" for one in shown)
    return headers


def _document(
    new: NewOutbound,
    sent: Sent,
    mailbox: Address,
    parent: _Parent | None,
    answer: dict[str, Any],
    new_id: Callable[[], UUID],
    now: datetime,
) -> dict[str, Any]:
    """The row's columns, in the shape that `store_message` takes. Ours needs no verdict: it is not from a stranger."""
    cited = parent.chain[-1] if parent is not None else new.in_reply_to
    hashes = [id_hash(cited).hex()] if cited else []
    everybody = sorted({normalise(one) for one in (*new.to, *new.cc, *new.bcc)})
    return {
        "direction": "outbound",
        "kind": "reply" if cited else "new",
        "details": {"registered": answer},
        "status": "registered" if new.sent is None else "sent",
        "rfc_message_id": answer["rfc_message_id"],
        "rfc_id_hash": f"\\x{id_hash(answer['rfc_message_id']).hex()}",
        "provider_message_id": sent.provider_message_id,
        "in_reply_to": cited,
        "reference_ids": list(parent.chain) if parent is not None else [],
        "cited_hashes": [f"\\x{one}" for one in hashes],
        "cites": [{"hash": f"\\x{one}", "method": "in_reply_to"} for one in hashes],
        "from_address": str(mailbox),
        "from_hash": f"\\x{id_hash(str(mailbox)).hex()}",
        "to_addresses": new.to,
        "cc_addresses": new.cc,
        "reply_to_addresses": [answer["reply_address"]],
        "subject": new.subject,
        "body_text": "",
        "reply_match_method": None if parent is None else "in_reply_to",
        "reply_to_email_id": None if parent is None else parent.id,
        "thread_id": None if parent is None else parent.thread_id,
        "sender_verified": False,
        "sender_expected": False,
        "spf": "none",
        "dkim": "none",
        "dmarc": "none",
        "arc": "none",
        "quarantined": False,
        "auth_strength": 0,
        "flags": [],
        "decision": {"reason": "registered"},
        "size": 0,
        "sent_at": None if new.sent is None else now,
        "received_at": now,
        "reply_domain": mailbox.domain,
        "token_expires_at": new.expires_at,
        "idempotency_key": new.idempotency_key,
        "to": [{"id": new_id(), "address": one, "hash": f"\\x{id_hash(one).hex()}"} for one in everybody],
    }


async def record_sent(
    connection: Connection,
    tenant_id: UUID,
    message_id: UUID,
    *,
    provider_message_id: str | None,
    rfc_message_id: str | None,
    at: datetime,
) -> bool:
    """Note that a message was sent, under which ids of the provider. False when the tenant has no such message."""
    async with connection.transaction():
        if provider_message_id is not None:
            await lock_provider_id(connection, tenant_id, provider_message_id)
        found = await connection.fetchval(
            "SELECT record_sent($1, $2, $3, $4, $5, $6)",
            tenant_id,
            message_id,
            provider_message_id,
            rfc_message_id,
            None if rfc_message_id is None else id_hash(rfc_message_id),
            at,
        )
        if found is True and provider_message_id is not None:
            await adopt_waiting(connection, tenant_id, message_id, provider_message_id)
    return found is True
