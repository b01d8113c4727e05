"""An SMTP client without manners: it sends what it is told, octet for octet, and reads replies. It blocks."""

import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

ANSWER_SECONDS = 60.0
"""A safety net."""


class Caller:
    """One connection."""

    def __init__(self, port: int, *, host: str = "127.0.0.1") -> None:
        self._socket: socket.socket | ssl.SSLSocket = socket.create_connection((host, port), ANSWER_SECONDS)
        self._came = b""

    def __enter__(self) -> "Caller":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def answer(self) -> str:
        """One reply, its lines joined by LF; "" at the end of the stream."""
        lines = []
        while True:
            line = self._line()
            lines.append(line)
            if line[3:4] != "-":
                return "\n".join(lines)

    def _line(self) -> str:
        while b"\n" not in self._came:
            try:
                more = self._socket.recv(1 << 16)
            except ConnectionError:
                more = b""
            if not more:
                return ""
            self._came += more
        line, _, self._came = self._came.partition(b"\n")
        return line.decode().rstrip("\r")

    def ask(self, line: str) -> str:
        """Send one command and give the reply."""
        self.send(line.encode() + b"\r\n")
        return self.answer()

    def greet(self) -> "Caller":
        """Greeting and EHLO, which must succeed."""
        assert self.answer()[:3] == "220"
        assert self.ask("EHLO client.test")[:3] == "250"
        return self

    def announce(self, *recipients: str) -> "Caller":
        """MAIL, RCPT and DATA, which must succeed."""
        assert self.ask("MAIL FROM:<ada@customer.test>")[:3] == "250"
        for recipient in recipients or ("support@acme.test",):
            assert self.ask(f"RCPT TO:<{recipient}>")[:3] == "250"
        assert self.ask("DATA")[:3] == "354"
        return self

    def deliver(self, wire: bytes, *recipients: str) -> str:
        """One whole transaction; `wire` is the content as it stands, with the final dot."""
        self.announce(*recipients)
        self.send(wire)
        return self.answer()

    def start_tls(self) -> ssl.SSLSocket:
        """STARTTLS with any certificate. Gives the socket, for what it knows of the peer."""
        assert self.ask("STARTTLS")[:3] == "220"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._socket = secured = context.wrap_socket(self._socket)
        return secured

    def answers(self) -> Iterator[str]:
        """All replies until the peer closes."""
        while answer := self.answer():
            yield answer

    def hang_up(self, *, rudely: bool = False) -> None:
        """Close at once; rudely with a reset instead of an orderly end."""
        if rudely:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


@contextmanager
def calling(port: int, *, host: str = "127.0.0.1") -> Iterator[Caller]:
    """A caller who has been greeted and has said EHLO."""
    with Caller(port, host=host) as caller:
        yield caller.greet()
