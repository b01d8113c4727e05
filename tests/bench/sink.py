"""A server that takes mail and forgets it: what the driver reaches against it is the driver's own ceiling.

It knows just enough SMTP for this driver, which never sends beyond the end of a mail before that is answered.
"""

import multiprocessing
import selectors
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe

BUFFER = 1 << 20
REPLIES = {b"MAIL": b"250 2.1.0 ok\r\n", b"RCPT": b"250 2.1.5 ok\r\n", b"QUIT": b"221 2.0.0 bye\r\n"}


@contextmanager
def sink() -> Iterator[int]:
    """Run a sink in a process of its own; gives its port on 127.0.0.1."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield int(ours.recv())
    finally:
        process.terminate()
        process.join()


@dataclass(slots=True, eq=False)
class _Session:
    sock: socket.socket
    in_data: bool = False
    tail: bytes = b""
    rest: bytes = field(default=b"")


def _serve(pipe: Pipe) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    selector = selectors.DefaultSelector()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    selector.register(listener, selectors.EVENT_READ)
    pipe.send(listener.getsockname()[1])
    buffer = bytearray(BUFFER)
    while True:
        for key, _ in selector.select():
            if key.data is None:
                sock, _address = listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.sendall(b"220 sink.bench.test ESMTP\r\n")
                selector.register(sock, selectors.EVENT_READ, _Session(sock))
            elif not _take(key.data, buffer):
                selector.unregister(key.data.sock)
                key.data.sock.close()


def _take(session: _Session, buffer: bytearray) -> bool:
    """Read once and answer; False when the session is over."""
    try:
        count = session.sock.recv_into(buffer)
        if not count:
            return False
        if session.in_data:
            # The content came behind a CRLF, so that a lone dot ends it too.
            session.tail = (session.tail + bytes(buffer[max(0, count - 5) : count]))[-5:]
            if session.tail == b"\r\n.\r\n":
                session.in_data = False
                session.sock.sendall(b"250 2.0.0 forgotten\r\n")
            return True
        return _obey(session, bytes(buffer[:count]))
    except OSError:
        return False


def _obey(session: _Session, data: bytes) -> bool:
    *lines, session.rest = (session.rest + data).split(b"\r\n")
    out: list[bytes] = []
    for line in lines:
        verb = line[:4].upper()
        if verb == b"EHLO":
            out.append(b"250-sink.bench.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE\r\n")
        elif verb == b"DATA":
            session.in_data, session.tail = True, b"\r\n"
            out.append(b"354 go on\r\n")
        else:
            out.append(REPLIES.get(verb, b"250 2.0.0 ok\r\n"))
    session.sock.sendall(b"".join(out))
    return b"221 2.0.0 bye\r\n" not in out
