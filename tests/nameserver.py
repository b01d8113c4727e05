"""A small authoritative name server on the loopback, over UDP and TCP, which can also be slow, broken and a liar.

It answers from zone data (`tests.zones`) and writes with dnspython's message classes, which the resolver does not read
with. `NameServer` runs in the loop of a test; `in_thread` is for tests whose daemon is another process.
"""

import asyncio
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Self

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from dns.rdtypes.ANY.TXT import TXT

from ingester.auth.lookup import Status
from tests.zones import Data, Fault, Found, Zone, strings

HOST = "127.0.0.1"
FORGED = {
    "TXT": "v=spf1 +all",
    "A": "192.0.2.66",
    "AAAA": "2001:db8::66",
    "MX": [0, "forged.test"],
    "PTR": "forged.test",
}
FAULT_RCODES = {Fault.SERVFAIL: dns.rcode.SERVFAIL, Fault.REFUSED: dns.rcode.REFUSED, Fault.FORMERR: dns.rcode.FORMERR}
Forge = Callable[[bytes], bytes]


@dataclass(slots=True, kw_only=True)
class NameServer:
    """The server; `async with` starts and stops it. `asked` holds each question as (name, type, udp or tcp)."""

    zone: Zone | Data
    seconds: int = 300
    """The time to live of all records."""
    minimum: int = 60
    """The one of absences."""
    soa: bool = True
    """Whether an absence comes with its SOA."""
    whole_chains: bool = True
    """Whether an alias is followed in the answer."""
    edns: bool = True
    """Whether EDNS is understood; if not, the answer to it is FORMERR."""
    tcp: bool = True
    forge: Forge | None = None
    """Makes the whole answer from the query."""
    authoritative: bool = True
    host: str = HOST
    port: int = 0
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    clients: list[tuple[str, int]] = field(default_factory=list)
    """The address and port of every UDP question."""
    waiting: int = 0
    """Questions for slow names that are open."""
    most_waiting: int = 0
    _go: asyncio.Event = field(default_factory=asyncio.Event)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)
    _transport: asyncio.DatagramTransport | None = None
    _listener: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def address(self) -> tuple[str, int]:
        """What to put into the settings."""
        return self.host, self.port

    @property
    def counts(self) -> Counter[tuple[str, str]]:
        """How often each name and type was asked."""
        return Counter((name, kind) for name, kind, _ in self.asked)

    async def __aenter__(self) -> Self:
        if not isinstance(self.zone, Zone):
            self.zone = Zone(self.zone)
        link, listener = _pair(self.host, self.port)
        self.port = link.getsockname()[1]
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=link)
        if self.tcp:
            self._listener = await asyncio.start_server(self._stream, sock=listener)
        else:
            listener.close()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        assert self._transport
        self._transport.close()
        if self._listener:
            self._listener.close()
            await self._listener.wait_closed()

    def let_go(self) -> None:
        """Answer the slow names now, and from now on."""
        self._go.set()

    async def wait_for(self, waiting: int) -> None:
        """Wait until so many questions for slow names are open."""
        async with self._news:
            await self._news.wait_for(lambda: self.waiting >= waiting)

    def begin(self, query: bytes, sender: tuple[str, int]) -> None:
        """Answer a datagram, now or when the time has come."""
        self.clients.append(sender)
        task = asyncio.get_running_loop().create_task(self._datagram(query, sender))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _datagram(self, query: bytes, sender: tuple[str, int]) -> None:
        answer, fault = await self._answer(query, "udp")
        if answer is None:
            return
        if fault is Fault.WRONG_PORT:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.sendto(answer, sender)
            return
        assert self._transport
        if fault is Fault.SPOOFED:
            for lie in (_wrong_id, _wrong_question, _garbage):
                self._transport.sendto(lie(dns.message.make_response(dns.message.from_wire(query))), sender)
        for _ in range(100 if fault is Fault.FLOOD else 1):
            self._transport.sendto(answer, sender)

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            answer, _ = await self._answer(query, "tcp")
            if answer is not None:
                writer.write(struct.pack(">H", len(answer)) + answer)
                await writer.drain()
                await reader.read()
        self._tasks.discard(task)
        writer.transport.abort()

    async def _answer(self, query: bytes, by: str) -> tuple[bytes | None, Fault | None]:
        if self.forge:
            return self.forge(query), None
        try:
            asked = dns.message.from_wire(query)
        except dns.exception.DNSException:
            return None, None
        question = asked.question[0]
        name, kind = _text(question.name), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind, by))
        assert isinstance(self.zone, Zone)
        found = self.zone.find(name, kind)
        if found.fault is Fault.SLOW:
            await self._hold()
        if found.fault is Fault.TIMEOUT:
            return None, Fault.TIMEOUT
        return self._write(asked, found, by), found.fault

    async def _hold(self) -> None:
        async with self._news:
            self.waiting += 1
            self.most_waiting = max(self.most_waiting, self.waiting)
            self._news.notify_all()
        await self._go.wait()
        self.waiting -= 1

    def _write(self, asked: dns.message.Message, found: Found, by: str) -> bytes:
        response = dns.message.make_response(asked, recursion_available=True)
        response.flags |= dns.flags.AA if self.authoritative else 0
        fault = found.fault
        if asked.edns >= 0 and not self.edns:
            response.set_rcode(dns.rcode.FORMERR)
            return response.to_wire()
        if fault in FAULT_RCODES:
            response.set_rcode(FAULT_RCODES[fault])
        elif fault is Fault.TRUNCATE and by == "udp":
            response.flags |= dns.flags.TC
        elif fault is Fault.REFERRAL:
            response.authority.extend(_records(str(asked.question[0].name), 60, "NS", ["ns.elsewhere.test"]))
        elif fault in LIES:
            return LIES[fault](response)
        else:
            self._fill(response, found)
        try:
            return response.to_wire(max_size=asked.payload or 512 if by == "udp" else 65535)
        except dns.exception.TooBig:
            short = dns.message.make_response(asked, recursion_available=True)
            short.flags |= dns.flags.TC
            return short.to_wire()

    def _fill(self, response: dns.message.Message, found: Found) -> None:
        kind = dns.rdatatype.to_text(response.question[0].rdtype)
        aliases = found.aliases if self.whole_chains else found.aliases[:1]
        for owner, target in aliases:
            response.answer += _records(owner, self.seconds, "CNAME", [target])
        if aliases != found.aliases:
            return
        if found.status is Status.NO_NAME:
            response.set_rcode(dns.rcode.NXDOMAIN)
        if found.values:
            response.answer.extend(_records(found.owner, self.seconds, kind, found.values))
        elif self.soa and found.status in (Status.NO_NAME, Status.NO_DATA):
            soa = f"ns.test. root.test. 1 1 1 1 {self.minimum}"
            response.authority.extend(_records(found.owner.rpartition(".")[2], 86400, "SOA", [soa]))


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self._server.begin(data, addr)


@contextmanager
def in_thread(server: NameServer) -> Iterator[NameServer]:
    """Run the server in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="nameserver")
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result()
        try:
            yield server
        finally:
            asyncio.run_coroutine_threadsafe(server.__aexit__(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _wrong_id(response: dns.message.Message) -> bytes:
    response.id ^= 1
    return _forged(response)


def _wrong_question(response: dns.message.Message) -> bytes:
    question = response.question[0]
    other = dns.name.from_text("other.test.")
    response.question[0] = dns.rrset.RRset(other, question.rdclass, question.rdtype)
    return _forged(response)


def _forged(response: dns.message.Message) -> bytes:
    question = response.question[0]
    kind = dns.rdatatype.to_text(question.rdtype)
    response.answer.extend(_records(_text(question.name), 60, kind, [FORGED[kind]]))
    return response.to_wire()


def _garbage(_: dns.message.Message) -> bytes:
    return b"\xff\x00garbage" * 5


def _broken(response: dns.message.Message) -> bytes:
    """One record is announced; what comes is a pointer that points to itself."""
    head = bytearray(response.to_wire())
    head[6:8] = b"\0\1"
    head[10:12] = b"\0\0"
    end = 12 + len(response.question[0].name.to_wire() or b"") + 4
    return bytes(head[:end]) + struct.pack(">H", 0xC000 + end) + b"\0" * 12


LIES: dict[Fault | None, Callable[[dns.message.Message], bytes]] = {
    Fault.WRONG_ID: _wrong_id,
    Fault.WRONG_QUESTION: _wrong_question,
    Fault.WRONG_PORT: _forged,
    Fault.GARBAGE: _garbage,
    Fault.FLOOD: _garbage,
    Fault.BROKEN: _broken,
}


def _pair(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket on one port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        link = socket.socket(family, socket.SOCK_DGRAM)
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            link.bind((host, port))
            listener.bind(link.getsockname())
        except OSError:
            link.close()
            listener.close()
            if port:
                raise
        else:
            return link, listener


def _text(name: dns.name.Name) -> str:
    return b".".join(name.labels[:-1]).decode("latin-1")


def _name(text: str) -> dns.name.Name:
    labels = [label.encode("latin-1") for label in text.removesuffix(".").split(".") if label]
    return dns.name.Name([*labels, b""])


def _records(owner: str, seconds: int, kind: str, values: Any) -> list[dns.rrset.RRset]:
    """One set each: dnspython would shuffle them."""
    return [dns.rrset.from_rdata(_name(owner), seconds, _record(kind, value)) for value in values]


def _record(kind: str, value: Any) -> dns.rdata.Rdata:
    if kind == "TXT":
        pieces = [cut for piece in strings(value) for cut in _cuts(piece)]
        return TXT(dns.rdataclass.IN, dns.rdatatype.TXT, pieces or [b""])
    if kind in ("CNAME", "PTR", "NS"):
        return dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.from_text(kind), wire := _wire(value), 0, len(wire))
    if kind == "MX":
        wire = struct.pack(">H", value[0]) + _wire(value[1])
        return dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.MX, wire, 0, len(wire))
    return dns.rdata.from_text("IN", kind, value)


def _wire(name: str) -> bytes:
    return _name(name).to_wire() or b""


def _cuts(piece: bytes) -> list[bytes]:
    return [piece[at : at + 255] for at in range(0, len(piece), 255)] or [b""]
