"""The load driver: N SMTP connections from one process, a closed loop, cheap enough not to be what is measured.

Plain non-blocking sockets and one selector. A mail's commands go out as one group where the server offers PIPELINING
(RFC 2920), else one by one; its content as a slice of the corpus file in memory. It believes nothing: every reply is
recorded. `run` is for a process of its own.
"""

import heapq
import itertools
import selectors
import socket
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from enum import Enum, auto
from ipaddress import ip_network
from multiprocessing import get_context

from tests.bench.clients import NETWORK
from tests.bench.corpus import Corpus, Mail

GIVE_UP = 10
"""Connections in a row that fail before the first mail, where nobody asked for retries."""
CHUNK = 1 << 18
"""How much is offered to the kernel at once: more only makes it copy into a full socket buffer."""
CLIENTS = tuple(map(str, ip_network(NETWORK).hosts()))
"""The addresses that the PROXY headers name, one connection after the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Come again as an MTA does, after 4xx and after a connection that died, with a delay that doubles. Seconds."""

    first: float = 0.1
    longest: float = 2.0
    attempts: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to send and how. `reuse` mails go over one connection, 0 means all of them.

    After `stall_seconds` without any event the run ends, and what is open counts as not answered; without `retry` also
    when the server lets nobody in any more. `proxied`: each connection begins with a PROXY header that names one of
    CLIENTS, for whom SPF passes; the server must wait for it. With a `rate`, mails per second, each mail has a time at
    which it is due, and is counted from then: a server that falls behind is not spared.
    """

    host: str
    port: int
    corpus: Corpus
    first: int
    count: int
    connections: int
    reuse: int = 0
    proxied: bool = False
    retry: Retry | None = None
    stall_seconds: float = 60.0
    rate: float | None = None

    @property
    def mails(self) -> Sequence[Mail]:
        return self.corpus.mails[self.first : self.first + self.count]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One attempt at one mail: the code that ended it (0: the connection died), from MAIL to then, in seconds."""

    mail: int
    code: int
    started: float
    ended: float

    @property
    def accepted(self) -> bool:
        return 200 <= self.code < 300

    @property
    def final(self) -> bool:
        """Whether an MTA would leave it at that."""
        return self.accepted or self.code >= 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """All answers of a run, in the order they came; `mail` counts from the start of the corpus. Times in seconds."""

    answers: tuple[Answer, ...]
    seconds: float
    cpu_seconds: float
    bytes_accepted: int
    stalled: bool

    @property
    def accepted(self) -> list[int]:
        """Mails that got a 2xx, once for each."""
        return [answer.mail for answer in self.answers if answer.accepted]

    @property
    def rate(self) -> float:
        return len(self.accepted) / self.seconds if self.seconds else 0.0


def introduction(client: str) -> bytes:
    """The PROXY header, version 1, for a client with this IPv4 address (haproxy, proxy-protocol.txt, 2.1)."""
    return f"PROXY TCP4 {client} 127.0.0.1 25000 25\r\n".encode("ascii")


def run_apart(plan: Plan) -> Result:
    """`run` in a fresh process, so that its CPU time is its own and it does not share our interpreter."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(run, plan).result()


def run(plan: Plan) -> Result:
    """Send every mail of the plan and return when each is answered for good, or nothing moves any more."""
    with plan.corpus.map() as wire, memoryview(wire) as view:
        driver = _Driver(plan, view)
        cpu, begun = time.process_time(), time.perf_counter()
        try:
            stalled = driver.loop()
            cpu_seconds = time.process_time() - cpu
        finally:
            driver.close()
    # The last answer ends the run, not what came after it.
    seconds = max((answer.ended for answer in driver.answers), default=begun) - begun
    sizes = [plan.corpus.mails[answer.mail].size for answer in driver.answers if answer.accepted]
    return Result(
        answers=tuple(driver.answers),
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        bytes_accepted=sum(sizes),
        stalled=stalled,
    )


class _State(Enum):
    GREETING = auto()
    HELLO = auto()
    ENVELOPE = auto()
    CONTENT = auto()
    RESET = auto()


@dataclass(slots=True, kw_only=True, eq=False)
class _Connection:
    """One connection; `codes` gathers the replies to the group at hand, `replies` says how many it needs.

    `unsaid` is the rest of a group that goes out one by one.
    """

    sock: socket.socket
    state: _State = _State.GREETING
    pipelining: bool = False
    inbox: bytes = b""
    outbox: memoryview = field(default_factory=lambda: memoryview(b""))
    unsaid: list[bytes] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    replies: int = 1
    mail: int = -1
    started: float = 0.0
    sent: int = 0
    writing: bool = False


class _Driver:
    def __init__(self, plan: Plan, wire: memoryview) -> None:
        self.answers: list[Answer] = []
        self._plan = plan
        self._wire = wire
        self._queue = deque(range(plan.first, plan.first + len(plan.mails)))
        self._later: list[tuple[float, int]] = []
        self._due: dict[int, float] = {}
        self._attempts: dict[int, int] = {}
        self._left = len(self._queue)
        self._selector = selectors.DefaultSelector()
        self._connections: set[_Connection] = set()
        self._clients = itertools.cycle(CLIENTS)
        self._connect_at = 0.0
        self._failures = 0

    def loop(self) -> bool:
        """Run to the end; True when it stalled before."""
        moved = time.perf_counter()
        if self._plan.rate:
            self._due = {mail: moved + number / self._plan.rate for number, mail in enumerate(self._queue)}
            self._later = [(due, mail) for mail, due in self._due.items()]
            self._queue.clear()
        while self._left and (self._plan.retry or self._failures < GIVE_UP):
            now = time.perf_counter()
            self._wake(now)
            events = self._selector.select(self._patience(now))
            for key, mask in events:
                self._serve(key.data, mask)
            if events:
                moved = time.perf_counter()
            elif time.perf_counter() - moved > self._plan.stall_seconds:
                break
        return self._left > 0

    def close(self) -> None:
        for connection in list(self._connections):
            if connection.mail < 0:
                _farewell(connection.sock)
            self._drop(connection)
        self._selector.close()

    def _patience(self, now: float) -> float:
        due = [self._later[0][0]] if self._later else []
        if self._wanted() > 0:
            due.append(self._connect_at)
        return min(1.0, max(0.0, min(due) - now)) if due else 1.0

    def _wanted(self) -> int:
        """How many connections more there is work for."""
        if len(self._connections) >= self._plan.connections:
            return 0  # as it mostly is: then there is no need to count
        busy = sum(connection.mail >= 0 for connection in self._connections)
        return min(self._plan.connections, busy + len(self._queue)) - len(self._connections)

    def _wake(self, now: float) -> None:
        """Put back what has waited long enough, and have as many connections as there is work for."""
        while self._later and self._later[0][0] <= now:
            self._queue.append(heapq.heappop(self._later)[1])
        if self._later or len(self._connections) < self._plan.connections:
            while now >= self._connect_at and self._wanted() > 0 and self._connect(now):
                pass

    def _connect(self, now: float) -> bool:
        try:
            sock = socket.create_connection((self._plan.host, self._plan.port), timeout=self._plan.stall_seconds)
            if self._plan.proxied:
                sock.sendall(introduction(next(self._clients)))
        except OSError:
            self._fail(now)
            return False
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(sock=sock)
        self._connections.add(connection)
        self._selector.register(sock, selectors.EVENT_READ, connection)
        return True

    def _fail(self, now: float) -> None:
        """A server that is down is asked again, ever more slowly."""
        retry = self._plan.retry or Retry(longest=0.2)
        self._failures += 1
        self._connect_at = now + min(retry.longest, retry.first * 2 ** min(self._failures, 16))

    def _serve(self, connection: _Connection, mask: int) -> None:
        try:
            if mask & selectors.EVENT_WRITE:
                self._flush(connection)
            if mask & selectors.EVENT_READ:
                data = connection.sock.recv(65_536)
                if not data:
                    raise ConnectionResetError("closed by the server")
                self._read(connection, data)
        except OSError:
            self._lose(connection)

    def _read(self, connection: _Connection, data: bytes) -> None:
        *lines, connection.inbox = (connection.inbox + data).split(b"\r\n")
        for line in lines:
            if connection.state is _State.HELLO and line[4:].upper() == b"PIPELINING":
                connection.pipelining = True
            if line[3:4] == b"-":
                continue
            code = int(line[:3]) if line[:3].isdigit() else 0
            connection.codes.append(code)
            if connection.unsaid and code < 400:
                self._write(connection, connection.unsaid.pop(0))
            elif connection.unsaid or len(connection.codes) == connection.replies:
                connection.unsaid = []
                codes, connection.codes = connection.codes, []
                self._advance(connection, codes)
                if connection not in self._connections:
                    return

    def _advance(self, connection: _Connection, codes: list[int]) -> None:
        match connection.state:
            case _State.GREETING if codes[0] == 220:
                self._say(connection, _State.HELLO, b"EHLO driver.bench.test\r\n")
            case _State.HELLO if codes[0] == 250:
                self._failures = 0
                self._next(connection)
            case _State.RESET if codes[-1] == 250:
                self._next(connection)
            case _State.ENVELOPE:
                self._envelope_answered(connection, codes)
            case _State.CONTENT:
                self._settle(connection, codes[0])
                self._go_on(connection, codes[0], clean=True)
            case _:
                self._lose(connection)

    def _envelope_answered(self, connection: _Connection, codes: list[int]) -> None:
        bad = next((code for code in codes[:-1] if code >= 300 or code < 200), None)
        if bad is None and codes[-1] == 354:
            mail = self._plan.corpus.mails[connection.mail]
            content = self._wire[mail.offset : mail.offset + mail.length]
            self._say(connection, _State.CONTENT, content)
        elif codes[-1] == 354:
            # The server wants content though it refused: end it at once (RFC 2920, 3.1).
            self._settle(connection, bad or 0)
            self._say(connection, _State.RESET, b".\r\nRSET\r\n", replies=2)
        else:
            code = bad if bad is not None else codes[-1]
            self._settle(connection, code)
            self._go_on(connection, code, clean=False)

    def _go_on(self, connection: _Connection, code: int, *, clean: bool) -> None:
        connection.sent += 1
        if code in (0, 421) or (self._plan.reuse and connection.sent >= self._plan.reuse):
            if code == 421:
                self._fail(time.perf_counter())
            else:
                _farewell(connection.sock)
            self._drop(connection)
        elif clean:
            self._next(connection)
        else:
            self._say(connection, _State.RESET, b"RSET\r\n")

    def _next(self, connection: _Connection) -> None:
        """Send the next mail's commands, or rest until there is one."""
        if not self._queue:
            _farewell(connection.sock)
            self._drop(connection)
            return
        connection.mail = self._queue.popleft()
        connection.started = self._due.pop(connection.mail, 0.0) or time.perf_counter()
        mail = self._plan.corpus.mails[connection.mail]
        body = " BODY=8BITMIME" if mail.eight_bit else ""
        group = f"MAIL FROM:<{mail.sender}> SIZE={mail.size}{body}\r\nRCPT TO:<{mail.recipient}>\r\nDATA\r\n".encode()
        if connection.pipelining:
            self._say(connection, _State.ENVELOPE, group, replies=3)
        else:
            first, *connection.unsaid = group.splitlines(keepends=True)
            self._say(connection, _State.ENVELOPE, first, replies=3)

    def _say(self, connection: _Connection, state: _State, data: bytes | memoryview, *, replies: int = 1) -> None:
        connection.state, connection.replies = state, replies
        self._write(connection, data)

    def _write(self, connection: _Connection, data: bytes | memoryview) -> None:
        """What went before has been answered, and so has gone out."""
        connection.outbox = memoryview(data)
        self._flush(connection)

    def _flush(self, connection: _Connection) -> None:
        try:
            while connection.outbox:
                sent = connection.sock.send(connection.outbox[:CHUNK])
                connection.outbox = connection.outbox[sent:]
        except BlockingIOError:
            pass
        writing = bool(connection.outbox)
        if writing != connection.writing:
            connection.writing = writing
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
            self._selector.modify(connection.sock, events, connection)

    def _settle(self, connection: _Connection, code: int) -> None:
        """Record the answer to the mail at hand; it goes back to the queue where an MTA would try again."""
        now = time.perf_counter()
        answer = Answer(mail=connection.mail, code=code, started=connection.started, ended=now)
        self.answers.append(answer)
        connection.mail = -1
        retry = self._plan.retry
        tries = self._attempts[answer.mail] = self._attempts.get(answer.mail, 0) + 1
        if answer.final or retry is None or tries >= retry.attempts:
            self._left -= 1
        else:
            due = now + min(retry.longest, retry.first * 2 ** min(tries - 1, 16))
            heapq.heappush(self._later, (due, answer.mail))

    def _lose(self, connection: _Connection) -> None:
        """The connection died or speaks nonsense."""
        if connection.mail >= 0:
            self._settle(connection, 0)
        self._fail(time.perf_counter())
        self._drop(connection)

    def _drop(self, connection: _Connection) -> None:
        if connection in self._connections:
            self._connections.remove(connection)
            self._selector.unregister(connection.sock)
            connection.outbox = memoryview(b"")
            connection.sock.close()


def _farewell(sock: socket.socket) -> None:
    """QUIT without waiting for the answer: a courtesy, not part of the run."""
    try:
        sock.send(b"QUIT\r\n")
    except OSError:
        return
