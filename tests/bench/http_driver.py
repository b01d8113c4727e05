"""The load driver of the POST door, and a sink for it: keep-alive connections, requests that are ready beforehand.

As light as the SMTP driver, whose plans, answers and results it shares: plain non-blocking sockets, one selector, a
closed loop. A mail is one request with the mail as it is; `code` is the HTTP status, 0 when the connection died.
"""

import multiprocessing
import re
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe
from urllib.parse import urlencode

from tests.bench.driver import CLIENTS, GIVE_UP, Answer, Plan, Result

TOKEN = "benchmark-benchmark-benchmark-token"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_READ = 1 << 16


def run_apart(plan: Plan) -> Result:
    """`run` in a fresh process, so that its CPU time is its own and it does not share our interpreter."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(run, plan).result()


def run(plan: Plan) -> Result:
    """Hand in every mail of the plan once; return when each is answered, or nothing moves any more."""
    driver = _Driver(plan)
    cpu, begun = time.process_time(), time.perf_counter()
    try:
        stalled = driver.loop()
        cpu_seconds = time.process_time() - cpu
    finally:
        driver.close()
    ended = max((answer.ended for answer in driver.answers), default=begun)
    sizes = [plan.corpus.mails[answer.mail].size for answer in driver.answers if answer.accepted]
    return Result(
        answers=tuple(driver.answers),
        seconds=ended - begun,
        cpu_seconds=cpu_seconds,
        bytes_accepted=sum(sizes),
        stalled=stalled,
    )


def request(plan: Plan, number: int) -> bytes:
    """The whole request for one mail: what the SMTP driver says in the envelope stands in the query."""
    mail = plan.corpus.mails[number]
    raw = plan.corpus.raw(mail)
    query = urlencode(
        {
            "recipient": mail.recipient,
            "mail_from": mail.sender,
            "client_ip": CLIENTS[number % len(CLIENTS)],
            "helo": "driver.bench.test",
        }
    )
    head = (
        f"POST /events/inbound?{query} HTTP/1.1\r\nHost: bench.test\r\nAuthorization: Bearer {TOKEN}\r\n"
        f"Content-Type: message/rfc822\r\nContent-Length: {len(raw)}\r\n\r\n"
    )
    return head.encode("ascii") + raw


@dataclass(slots=True, eq=False)
class _Connection:
    sock: socket.socket
    inbox: bytes = b""
    outbox: memoryview = field(default_factory=lambda: memoryview(b""))
    mail: int = -1
    started: float = 0.0
    writing: bool = False


class _Driver:
    def __init__(self, plan: Plan) -> None:
        self.answers: list[Answer] = []
        self._plan = plan
        self._queue = deque((number, request(plan, number)) for number in range(plan.first, plan.first + plan.count))
        self._left = len(self._queue)
        self._selector = selectors.DefaultSelector()
        self._connections: set[_Connection] = set()
        self._failures = 0

    def loop(self) -> bool:
        """Run to the end; True when it stalled before."""
        moved = time.perf_counter()
        while self._left and self._failures < GIVE_UP:
            while self._queue and len(self._connections) < self._plan.connections and self._failures < GIVE_UP:
                self._connect()
            events = self._selector.select(1.0)
            for key, mask in events:
                self._serve(key.data, mask)
            if events:
                moved = time.perf_counter()
            elif time.perf_counter() - moved > self._plan.stall_seconds:
                break
        return self._left > 0

    def close(self) -> None:
        for connection in list(self._connections):
            self._drop(connection)
        self._selector.close()

    def _connect(self) -> None:
        try:
            sock = socket.create_connection((self._plan.host, self._plan.port), timeout=self._plan.stall_seconds)
        except OSError:
            self._failures += 1
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(sock)
        self._connections.add(connection)
        self._selector.register(sock, selectors.EVENT_READ, connection)
        self._next(connection)

    def _next(self, connection: _Connection) -> None:
        if not self._queue:
            self._drop(connection)
            return
        connection.mail, ready = self._queue.popleft()
        connection.started = time.perf_counter()
        connection.outbox = memoryview(ready)
        self._flush(connection)

    def _serve(self, connection: _Connection, mask: int) -> None:
        try:
            if mask & selectors.EVENT_WRITE:
                self._flush(connection)
            if mask & selectors.EVENT_READ:
                data = connection.sock.recv(_READ)
                if not data:
                    raise ConnectionResetError("closed by the server")
                self._read(connection, data)
        except OSError:
            self._failures += 1
            if connection.mail >= 0:
                self._settle(connection, 0)
            self._drop(connection)

    def _read(self, connection: _Connection, data: bytes) -> None:
        """The answer to the one request that is out: its status counts when its body is there."""
        inbox = connection.inbox = connection.inbox + data
        end = inbox.find(b"\r\n\r\n")
        length = _LENGTH.search(inbox, 0, end + 2) if end >= 0 else None
        if end < 0:
            return
        if length is None:
            raise ConnectionResetError("an answer without a length")
        if len(inbox) < end + 4 + int(length[1]):
            return
        connection.inbox = b""
        self._failures = 0
        status = inbox[9:12]
        # 200 is "known already", or no: only 202 says that this mail is stored.
        code = int(status) if status.isdigit() and int(status) != 200 else 599
        self._settle(connection, code)
        if b"\r\nconnection: close" in inbox[:end].lower():
            self._drop(connection)
        else:
            self._next(connection)

    def _flush(self, connection: _Connection) -> None:
        try:
            while connection.outbox:
                connection.outbox = connection.outbox[connection.sock.send(connection.outbox) :]
        except BlockingIOError:
            pass
        writing = bool(connection.outbox)
        if writing != connection.writing:
            connection.writing = writing
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
            self._selector.modify(connection.sock, events, connection)

    def _settle(self, connection: _Connection, code: int) -> None:
        now = time.perf_counter()
        self.answers.append(Answer(mail=connection.mail, code=code, started=connection.started, ended=now))
        connection.mail = -1
        self._left -= 1

    def _drop(self, connection: _Connection) -> None:
        if connection in self._connections:
            self._connections.remove(connection)
            self._selector.unregister(connection.sock)
            connection.outbox = memoryview(b"")
            connection.sock.close()


# What takes requests and forgets them: the driver's own ceiling


@contextmanager
def sink() -> Iterator[int]:
    """Run a sink in a process of its own; gives its port on 127.0.0.1."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_forget, args=(theirs,), daemon=True)
    process.start()
    try:
        yield int(ours.recv())
    finally:
        process.terminate()
        process.join()


def _forget(pipe: Pipe) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    selector = selectors.DefaultSelector()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    selector.register(listener, selectors.EVENT_READ)
    pipe.send(listener.getsockname()[1])
    left: dict[socket.socket, int] = {}
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                sock, _address = listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(sock, selectors.EVENT_READ)
                left[sock] = 0
            else:
                sock = key.fileobj  # type: ignore[assignment]
                if not _swallow(sock, left):
                    selector.unregister(sock)
                    sock.close()
                    del left[sock]


def _swallow(sock: socket.socket, left: dict[socket.socket, int]) -> bool:
    """Read once; answer where a request is whole. The head comes in one piece: the driver sends it so."""
    try:
        data = sock.recv(1 << 20)
        if not data:
            return False
        if not left[sock]:
            end = data.index(b"\r\n\r\n")
            length = _LENGTH.search(data, 0, end + 2)
            left[sock] = int(length[1]) + end + 4 if length else end + 4
        left[sock] -= len(data)
        if not left[sock]:
            sock.sendall(b'HTTP/1.1 202 Accepted\r\nContent-Length: 11\r\n\r\n{"ok":true}')
    except (OSError, ValueError):
        return False
    return True
