"""A pipeline that needs no database, and raw sockets to talk to the door with."""

import asyncio
import socket
import ssl
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

from ingester.core.address import Address
from ingester.core.envelope import Client, Door, Envelope, Route, RouteKind
from ingester.core.ids import SYSTEM_TENANT
from ingester.core.outcome import Outcome, Reason, Refusal, Stored
from ingester.settings import Listen, Settings, UnixListen, load
from ingester.transport.listener import MailDoor
from ingester.transport.smtp import SmtpDoor
from ingester.transport.smtp_link import Link
from ingester.transport.sockets import bind, bind_unix

TENANT = UUID(int=1)
DOMAINS = frozenset({"demo.test", "testserver"})
STORED_ROW = Stored(
    tenant_id=TENANT, mailbox_id=UUID(int=2), message_id=UUID(int=3), matched=False, parts=1, duplicate=False
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """One call of note_refusal."""

    reason: Reason
    client: Client
    door: Door
    mail_from: str
    recipients: tuple[str, ...]
    tenant_id: UUID
    detail: str


@dataclass(slots=True)
class StubPipeline:
    """Accepts all mail to DOMAINS but for local parts that say otherwise. `gate` holds back every acceptance."""

    mails: list[Envelope] = field(default_factory=list)
    noted: list[Noted] = field(default_factory=list)
    refused: Counter[Reason] = field(default_factory=Counter)
    asked: int = 0
    asked_for: Client | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event | None = None
    fault: Exception | None = None
    recipient_fault: Exception | None = None
    reason: Reason = Reason.ACCEPTED
    refused_later: dict[str, Refusal] = field(default_factory=dict)
    """Recipients that are taken at RCPT and refused after the data."""
    keep: bool = True
    asked_by: tuple[Door, str] | None = None

    async def recipient(self, address: Address, client: Client, *, door: Door, mail_from: str) -> Route | Refusal:
        self.asked += 1
        self.asked_for = client
        self.asked_by = (door, mail_from)
        if self.recipient_fault is not None:
            raise self.recipient_fault
        if address.key == "later":
            return Refusal(reason=Reason.STORE_UNAVAILABLE)
        return self._route(address) or Refusal(reason=Reason.UNKNOWN_MAILBOX)

    def known(self, address: Address) -> Route | None:
        return self._route(address)

    def _route(self, address: Address) -> Route | None:
        base, tag = address.split_tag()
        if address.domain not in DOMAINS or base.startswith("unknown"):
            return None
        policy = "strict" if base.startswith("strict") else "plain"
        return Route(
            tenant_id=TENANT,
            mailbox_id=UUID(int=2),
            domain=address.domain,
            kind=RouteKind.EXACT,
            tag=tag,
            policy=policy,
        )

    async def accept(self, envelope: Envelope) -> Outcome:
        self.arrived.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        if self.keep:
            self.mails.append(envelope)
        self.done.set()
        named = [str(recipient.address) for recipient in envelope.recipients]
        refused = tuple((name, self.refused_later[name]) for name in named if name in self.refused_later)
        stored = () if len(refused) == len(named) or not refused else (STORED_ROW,)
        return Outcome(reason=self.reason, arrival_id=envelope.arrival_id, refused=refused, stored=stored)

    def note_refusal(
        self,
        *,
        reason: Reason,
        client: Client,
        door: Door,
        mail_from: str,
        recipients: tuple[str, ...],
        tenant_id: UUID = SYSTEM_TENANT,
        detail: str = "",
    ) -> None:
        self.refused[reason] += 1
        if not self.keep:
            return
        self.noted.append(
            Noted(
                reason=reason,
                client=client,
                door=door,
                mail_from=mail_from,
                recipients=recipients,
                tenant_id=tenant_id,
                detail=detail,
            )
        )

    def new_arrival(self) -> tuple[UUID, datetime]:
        return UUID(int=7), datetime(2026, 1, 1, tzinfo=UTC)

    @property
    def reasons(self) -> list[Reason]:
        return [noted.reason for noted in self.noted]


@dataclass(slots=True)
class Clock:
    """Seconds that pass when the test says so."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass(slots=True)
class Peer:
    """A client that sends what it likes and reads replies."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def send_split(self, data: bytes) -> None:
        """Every octet in a packet of its own, as far as the network lets it be one."""
        for at in range(len(data)):
            await self.send(data[at : at + 1])
            await asyncio.sleep(0)

    async def reply(self) -> str:
        """One reply, its lines joined by LF; "" at the end of the stream."""
        lines = []
        while True:
            line = (await self.reader.readline()).decode()
            lines.append(line.rstrip("\r\n"))
            if line[3:4] != "-":
                return "\n".join(lines)

    async def ask(self, line: str) -> str:
        """Send one command and read its reply."""
        await self.send(line.encode() + b"\r\n")
        return await self.reply()

    async def begin(self, *recipients: str) -> None:
        """Greeting, EHLO, MAIL, RCPT and DATA, all of which must succeed."""
        assert (await self.reply())[:3] == "220"
        assert (await self.ask("EHLO client.test"))[:3] == "250"
        await self.announce(*recipients)

    async def announce(self, *recipients: str) -> None:
        """MAIL, RCPT and DATA, all of which must succeed."""
        assert (await self.ask("MAIL FROM:<s@elsewhere.test>"))[:3] == "250"
        for recipient in recipients or ("support@demo.test",):
            assert (await self.ask(f"RCPT TO:<{recipient}>"))[:3] == "250"
        assert (await self.ask("DATA"))[:3] == "354"

    async def rest(self) -> bytes:
        """All until the server closes; a reset counts as a close."""
        out = b""
        try:
            while data := await self.reader.read(1 << 16):
                out += data
        except ConnectionError:
            pass
        return out

    async def start_tls(self, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLObject:
        """The client's side of the handshake, any certificate taken."""
        await self.writer.start_tls(trusting(version))
        return cast("ssl.SSLObject", self.writer.get_extra_info("ssl_object"))

    def reset(self) -> None:
        """Go away without a word, so that the other side notices."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Stop reading and writing."""
        self.writer.transport.abort()


def trusting(version: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = version
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@dataclass(slots=True)
class House:
    """A running door with its stub."""

    door: MailDoor
    pipeline: StubPipeline
    clock: Clock
    peers: list[Peer] = field(default_factory=list)

    async def connect(self, at: int = 0) -> Peer:
        where = self.door.addresses[at]
        if isinstance(where, UnixListen):
            peer = Peer(*await asyncio.open_unix_connection(where.path))
        else:
            host = {"::": "::1", "0.0.0.0": "127.0.0.1"}.get(where.host, where.host)
            peer = Peer(*await asyncio.open_connection(host, where.port))
        self.peers.append(peer)
        return peer

    @property
    def port(self) -> int:
        """That of the first address."""
        return tcp(self.door).port

    @property
    def dialogs(self) -> set[Link]:
        """The connections that are open."""
        return self.door._dialogs

    async def until(self, holds: Callable[[], bool]) -> None:
        """Turn the loop until a condition that events on it bring about holds. Fails after 10 s."""
        async with asyncio.timeout(10):
            while not holds():  # noqa: ASYNC110  (it turns the loop, it lets no time pass)
                await asyncio.sleep(0)

    async def pass_time(self, seconds: float) -> None:
        """Let the door see a later hour."""
        self.clock.now += seconds
        self.door.sweep()
        await asyncio.sleep(0)


def tcp(door: MailDoor, at: int = 0) -> Listen:
    """A TCP address of the door."""
    where = door.addresses[at]
    assert isinstance(where, Listen)
    return where


def settings(**override: Any) -> Settings:
    return load({}, env="development", smtp__hostname="mx.demo.test", **override)


@asynccontextmanager
async def running(
    listen: tuple[Listen | UnixListen, ...] = (), *, kind: type[MailDoor] = SmtpDoor, **override: Any
) -> AsyncIterator[House]:
    """A door on a free port of 127.0.0.1, or where told. Its clock stands still until the test moves it."""
    clock, pipeline = Clock(), StubPipeline()
    door = kind(settings=settings(**override), pipeline=pipeline, clock=clock)
    listen = listen or (Listen(host="127.0.0.1", port=0),)
    sockets = bind([where for where in listen if isinstance(where, Listen)], reuse_port=False)
    sockets += [bind_unix(where, mode=0o600) for where in listen if isinstance(where, UnixListen)]
    await door.start(sockets)
    house = House(door=door, pipeline=pipeline, clock=clock)
    try:
        yield house
    finally:
        for peer in house.peers:
            peer.close()
        if pipeline.gate is not None:
            pipeline.gate.set()
        await door.drain(5)
