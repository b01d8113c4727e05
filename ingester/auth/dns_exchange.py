"""One question put to one name server, over UDP and where that is too small over TCP. Never raises.

Each try has a fresh socket, whose port the kernel draws at random, and a fresh random id; the socket is connected, so
that the kernel drops what comes from elsewhere (RFC 5452, 9). What does not answer the question is not read.
"""

import asyncio
import secrets
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address

from ingester.auth.dns_message import Question, Rcode, rcode, truncated

MAX_DATAGRAM = 4096
MAX_STRANGE = 20
"""Datagrams of one try that answer something else, before it ends."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where a name server listens. `host` is the address as it was given."""

    host: str
    family: int
    address: tuple[str, int] | tuple[str, int, int, int]


def server(host: str, port: int) -> Server:
    """The server at an IP address, with `%interface` where it is link-local. Raises ValueError for anything else."""
    try:
        ip = ip_address(host)
        if isinstance(ip, IPv4Address):
            return Server(host, socket.AF_INET, (host, port))
        interface = socket.if_nametoindex(ip.scope_id) if ip.scope_id else 0
        return Server(host, socket.AF_INET6, (host.partition("%")[0], port, 0, interface))
    except (OSError, ValueError):
        raise ValueError(f"{host} is no IP address") from None


async def ask(server: Server, question: Question, seconds: float) -> bytes | None:
    """The server's message; None when none came in time.

    A server that cannot read EDNS is asked without it (RFC 6891, 7).
    """
    message = await _ask(server, question, seconds, edns=True)
    if message is not None and rcode(message) == Rcode.FORMERR:
        return await _ask(server, question, seconds, edns=False)
    return message


async def _ask(server: Server, question: Question, seconds: float, *, edns: bool) -> bytes | None:
    number = secrets.randbits(16)
    query = question.query(number, edns=edns)
    try:
        message = await _datagram(server, question, number, query, seconds)
        if message is None or not truncated(message):
            return message
        return await _stream(server, question, number, query, seconds)
    except (OSError, EOFError):
        return None


async def _datagram(server: Server, question: Question, number: int, query: bytes, seconds: float) -> bytes | None:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bytes | None] = loop.create_future()
    strange = 0

    def receive() -> None:
        nonlocal strange
        try:
            message = link.recv(MAX_DATAGRAM)
        except BlockingIOError:
            return
        except OSError:  # nobody listens there
            _settle(answer, None)
            return
        strange += 1
        if question.answered_by(message, number):
            _settle(answer, message)
        elif strange >= MAX_STRANGE:
            _settle(answer, None)

    with socket.socket(server.family, socket.SOCK_DGRAM) as link:
        link.setblocking(False)
        link.connect(server.address)
        link.send(query)
        loop.add_reader(link, receive)
        patience = loop.call_later(seconds, _settle, answer, None)
        try:
            return await answer
        finally:
            patience.cancel()
            loop.remove_reader(link)


async def _stream(server: Server, question: Question, number: int, query: bytes, seconds: float) -> bytes | None:
    """RFC 7766. A message that is cut short even here is no answer."""
    async with asyncio.timeout(seconds):
        reader, writer = await asyncio.open_connection(server.host, server.address[1])
        try:
            writer.write(struct.pack(">H", len(query)) + query)
            message = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        finally:
            writer.transport.abort()
    return message if question.answered_by(message, number) and not truncated(message) else None


def _settle(answer: asyncio.Future[bytes | None], message: bytes | None) -> None:
    if not answer.done():
        answer.set_result(message)
