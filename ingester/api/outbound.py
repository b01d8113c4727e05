"""Outbound messages over HTTP: registered before they are sent, and what the provider then made of their ids.

    POST /v1/mailboxes/{id}/outbound    201 message id, thread, Message-ID, reply token and address, headers
    POST /v1/messages/{id}/sent         200

A mailbox or a message of another tenant is one that does not exist.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, ClassVar, Final
from uuid import UUID

import msgspec
from aiohttp import web

from ingester.api.call import Calls
from ingester.core.address import parse_path
from ingester.core.headers import message_id
from ingester.store.db import Connection
from ingester.store.keys import Holder
from ingester.store.outbound import MAX_RECIPIENTS, NewOutbound, OutboundError, Sent, record_sent, register
from ingester.web.body import PLAIN
from ingester.web.problem import NOT_FOUND, UNAVAILABLE, Problem, answer


class Recipient(str):
    """An address, its domain a lower-case A-label."""

    __slots__ = ()
    SCHEMA: ClassVar = {"type": "string", "format": "email"}


class RfcId(str):
    """A Message-ID without its brackets."""

    __slots__ = ()
    SCHEMA: ClassVar = {"type": "string", "maxLength": 998}


_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=PLAIN)]
_Subject = Annotated[str, msgspec.Meta(max_length=10_000, pattern=PLAIN)]
_Addresses = Annotated[tuple[Recipient, ...], msgspec.Meta(max_length=MAX_RECIPIENTS)]
_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class AlreadySent(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A mail that another system has sent already, as it was."""

    id: UUID | None = None
    rfc_message_id: RfcId | None = None
    token: _Name | None = None
    provider_message_id: _Name | None = None


class Outbound(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The body of a registration. Addresses are bare (`name@example.com`); Message-IDs may be in brackets."""

    to: _Addresses = ()
    cc: _Addresses = ()
    bcc: _Addresses = ()
    subject: _Subject = ""
    thread_id: UUID | None = None
    in_reply_to: RfcId | None = None
    idempotency_key: _Name | None = None
    expires_at: _Moment | None = None
    sent: AlreadySent | None = None


class Receipt(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The body of `sent`: what the provider calls the mail, and the Message-ID that it put in the place of ours."""

    provider_message_id: _Name | None = None
    rfc_message_id: RfcId | None = None


class Registration(msgspec.Struct, kw_only=True):
    """The answer to a registration."""

    ok: bool = True
    message_id: UUID
    thread_id: UUID
    rfc_message_id: str
    reply_token: str
    reply_address: str
    envelope_sender: str
    headers: dict[str, str]


class Noted(msgspec.Struct, kw_only=True):
    """The answer to `sent`."""

    ok: bool = True
    message_id: UUID


def _parse(kind: type, value: object) -> Recipient | RfcId:
    """Make an address or a Message-ID of what stands in the body. msgspec adds where it stood."""
    if not isinstance(value, str):
        raise TypeError("Expected `str`")
    if kind is Recipient:
        address = parse_path(value)
        if address is None or not address.domain:
            raise ValueError("This is not an address like name@example.com")
        return Recipient(address)
    rfc_id = message_id(value)
    if rfc_id is None or not rfc_id.isprintable():
        raise ValueError("This is not a Message-ID")
    return RfcId(rfc_id)


_OUTBOUND: Final = msgspec.json.Decoder(Outbound, dec_hook=_parse)
_RECEIPT: Final = msgspec.json.Decoder(Receipt, dec_hook=_parse)

_FIELDS: Final = {
    "recipients": "to",
    "unknown_thread": "thread_id",
    "cross_mailbox": "thread_id",
    "other_thread": "in_reply_to",
    "bad_token": "sent.token",
}
"""The field that a refused registration is about: 422. The others contradict what is there: 409."""


class OutboundDoor:
    """The two routes."""

    def __init__(
        self,
        *,
        calls: Calls,
        secrets: Sequence[bytes],
        new_id: Callable[[], UUID],
        now: Callable[[], datetime],
    ) -> None:
        """`secrets` of reply tokens: the first signs, all verify."""
        self._calls = calls
        self._secrets = secrets
        self._new_id = new_id
        self._now = now

    def routes(self) -> list[web.RouteDef]:
        """What the listener is to serve."""
        return [
            web.post("/v1/mailboxes/{id}/outbound", self._post_outbound),
            web.post("/v1/messages/{id}/sent", self._post_sent),
        ]

    async def _post_outbound(self, request: web.Request) -> web.Response:
        mailbox_id = _id(request)

        async def work(connection: Connection, who: Holder, asked: Outbound) -> web.Response | Problem:
            return await self._register(connection, _new_outbound(who, mailbox_id, asked))

        return await self._calls.answer(request, _OUTBOUND, work)

    async def _register(self, connection: Connection, new: NewOutbound) -> web.Response | Problem:
        try:
            made = await register(connection, new, secrets=self._secrets, new_id=self._new_id, now=self._now())
        except OutboundError as error:
            return _problem(error)
        # The same key gets the same answer, status included: whether it was the first is nobody's business but ours.
        return answer(
            Registration(
                message_id=made.message_id,
                thread_id=made.thread_id,
                rfc_message_id=made.rfc_message_id,
                reply_token=made.reply_token,
                reply_address=made.reply_address,
                envelope_sender=made.envelope_sender,
                headers=made.headers,
            ),
            status=201,
        )

    async def _post_sent(self, request: web.Request) -> web.Response:
        outbound_id = _id(request)

        async def work(connection: Connection, who: Holder, asked: Receipt) -> web.Response | Problem:
            found = await record_sent(
                connection,
                who.tenant_id,
                outbound_id,
                provider_message_id=asked.provider_message_id,
                rfc_message_id=_text(asked.rfc_message_id),
                at=self._now(),
            )
            return answer(Noted(message_id=outbound_id)) if found else NOT_FOUND

        return await self._calls.answer(request, _RECEIPT, work)


def _id(request: web.Request) -> UUID:
    """The id in the path; the nil UUID, which names nothing of a tenant, stands for what is none."""
    try:
        return UUID(request.match_info["id"])
    except ValueError:
        return UUID(int=0)


def _new_outbound(who: Holder, mailbox_id: UUID, asked: Outbound) -> NewOutbound:
    """What the store is to register."""
    sent = asked.sent
    return NewOutbound(
        tenant_id=who.tenant_id,
        tenant_slug=who.tenant,
        mailbox_id=mailbox_id,
        to=tuple(map(str, asked.to)),
        cc=tuple(map(str, asked.cc)),
        bcc=tuple(map(str, asked.bcc)),
        subject=asked.subject,
        thread_id=asked.thread_id,
        in_reply_to=_text(asked.in_reply_to),
        idempotency_key=asked.idempotency_key,
        expires_at=asked.expires_at,
        sent=None
        if sent is None
        else Sent(
            id=sent.id,
            rfc_message_id=_text(sent.rfc_message_id),
            token=sent.token,
            provider_message_id=sent.provider_message_id,
        ),
    )


def _text(rfc_id: RfcId | None) -> str | None:
    """As a plain string: what encodes rows takes no other."""
    return None if rfc_id is None else str(rfc_id)


def _problem(error: OutboundError) -> Problem:
    """What the store's refusal is over HTTP. Its sentences are fixed words."""
    if error.code == "unknown_mailbox":
        return NOT_FOUND
    if error.code == "no_secret":
        return Problem(status=503, reason=error.code, message=f"{error}.", headers=UNAVAILABLE.headers)
    field = _FIELDS.get(error.code)
    return Problem(status=409 if field is None else 422, reason=error.code, message=f"{error}.", field=field)
