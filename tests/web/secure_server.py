"""A TLS server on the loopback that says what a test wants, byte by byte, and counts who comes; and its authority."""

import asyncio
import datetime
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Reply = Callable[[asyncio.StreamWriter], Awaitable[None]]
_DAY = datetime.timedelta(days=1)


class Authority:
    """A certificate authority of its own."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority.test")])
        self._certificate = (
            _builder(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def client(self) -> ssl.SSLContext:
        """What a client needs that trusts this authority and no other."""
        pem = self._certificate.public_bytes(serialization.Encoding.PEM).decode()
        return ssl.create_default_context(cadata=pem)

    def server(self, name: str, folder: Path) -> ssl.SSLContext:
        """What a server of that name needs."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        alternative: x509.GeneralName = x509.DNSName(name)
        with suppress(ValueError):
            alternative = x509.IPAddress(ip_address(name))
        certificate = (
            _builder(subject, self._name, key.public_key())
            .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        file = folder / f"{name.replace(':', '-')}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
    )


@dataclass(slots=True, kw_only=True)
class SecureServer:
    """What it has seen. `heads` are the requests, `names` those that clients asked for (SNI)."""

    port: int
    connections: int = 0
    heads: list[bytes] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a request is there."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client has left."""


@asynccontextmanager
async def serving(
    context: ssl.SSLContext | None, reply: Reply, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[SecureServer]:
    """Run one. Without a context it counts who connects, and says nothing. The host "" is all addresses of ours."""
    sock = _everywhere() if not host else socket.create_server((host, port))
    seen = SecureServer(port=sock.getsockname()[1])
    tasks: set[asyncio.Task[None]] = set()

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            if context is not None:
                seen.heads.append(await reader.readuntil(b"\r\n\r\n"))
                seen.came.set()
                await reply(writer)
                await writer.drain()
        seen.gone.set()
        writer.transport.abort()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(attend(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    if context is not None:
        context.sni_callback = lambda _, name, __: seen.names.append(name)
    server = await asyncio.start_server(begin, sock=sock, ssl=context)
    try:
        yield seen
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        server.close()


def _everywhere() -> socket.socket:
    """The whole loopback, both families, and what the machine has besides."""
    if not socket.has_dualstack_ipv6():
        return socket.create_server(("0.0.0.0", 0))
    return socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)


def answering(*pieces: bytes) -> Reply:
    """Say these bytes, then close."""

    async def reply(writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()

    return reply


def holding(*pieces: bytes) -> Reply:
    """Say these bytes, then nothing more, and stay until the client leaves."""

    async def reply(writer: asyncio.StreamWriter) -> None:
        await answering(*pieces)(writer)
        await writer.wait_closed()

    return reply
