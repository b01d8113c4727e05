"""A sender that behaves like an MTA: a queue, many connections, and every mail brought again until a yes or a no.

It runs on a loop of its own in a thread, so that a test may stop and start things meanwhile. It remembers every answer;
what was said can be held against the rows afterwards (tests/e2e/ledger.py).
"""

import asyncio
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import uvloop

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 0.5
"""Seconds between two attempts at one mail, doubling. The sender's own manner: no test waits by them."""
ANSWER_SECONDS = 150.0
"""How long an answer may take before the sender gives the connection up."""
FINISH_SECONDS = 120.0
THOUSANDS_SECONDS = 900.0
"""How long thousands of mails may take: a real S3 in Python on the same cores stores 70 objects a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A mail to be sent. `content` has CRLF line ends, ends with one and is not dot-stuffed yet."""

    message_id: str
    recipients: tuple[str, ...]
    content: bytes
    mail_from: str = "ada@customer.test"

    @property
    def stuffed(self) -> bytes:
        """The content as it goes over the wire, with the final dot."""
        text = self.content.replace(b"\r\n.", b"\r\n..")
        return (b"." if text.startswith(b".") else b"") + text + b".\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try at one mail: what was said for each recipient tried, "" where the connection failed before an answer."""

    letter: Letter
    answers: dict[str, str]
    began: float
    ended: float

    def said(self, digit: str) -> tuple[str, ...]:
        """The recipients whose answer begins with this digit."""
        return tuple(recipient for recipient, answer in self.answers.items() if answer.startswith(digit))


def letter(message_id: str, *recipients: str, words: str = "Hello", size: int = 0) -> Letter:
    """A mail unlike any other: its id stands in header, body and attachment. `size` is the attachment's in octets."""
    head = (
        f"From: Ada <ada@customer.test>\r\nTo: {', '.join(recipients)}\r\nSubject: {words} {message_id}\r\n"
        f"Date: Mon, 20 Jul 2026 10:00:00 +0000\r\nMessage-ID: <{message_id}>\r\nMIME-Version: 1.0\r\n"
    )
    if not size:
        text = f"{head}\r\n{words}, this is {message_id}.\r\n.a line with a dot\r\n"
    else:
        line = f"{message_id} ".ljust(76, "x")[:76] + "\r\n"
        text = (
            f"{head}Content-Type: multipart/mixed; boundary=edge\r\n\r\n"
            f"--edge\r\n\r\n{words}, this is {message_id}.\r\n"
            f"--edge\r\nContent-Type: application/octet-stream\r\n"
            f"Content-Disposition: attachment; filename=a.bin\r\n\r\n{line * (size // len(line) + 1)}--edge--\r\n"
        )
    return Letter(message_id=message_id, recipients=recipients, content=text.encode())


def letters(count: int, *recipients: str, name: str = "mail", size: int = 0) -> list[Letter]:
    """Different mails, every one to all of the recipients."""
    to = recipients or ("support@acme.test",)
    return [letter(f"{name}-{number}@customer.test", *to, size=size) for number in range(count)]


class _SentAway(ConnectionError):
    """The peer's answer was not the one that lets the session go on; the text is the answer."""


class _Session:
    """One connection, greeted."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, host: str, port: int) -> "_Session":
        """Connect and hear the greeting. Raises OSError, also where the greeting is not one."""
        session = cls(*await asyncio.open_connection(host, port))
        try:
            await session.expect("220")
        except BaseException:
            session.close()
            raise
        return session

    async def greet(self, *, tls: bool) -> None:
        """Raises OSError."""
        try:
            await self.ask("EHLO mta.customer.test")
            if tls:
                await self.ask("STARTTLS", "220")
                await self._writer.start_tls(_trusting())
                await self.ask("EHLO mta.customer.test")
        except BaseException:
            self.close()
            raise

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def answer(self) -> str:
        """One reply, its last line. Raises ConnectionError at the end of the stream."""
        while True:
            line = await self._reader.readline()
            if not line.endswith(b"\n"):
                raise ConnectionResetError("the peer has gone")
            if line[3:4] != b"-":
                return line.decode().rstrip("\r\n")

    async def expect(self, code: str) -> None:
        """Raises _SentAway at another code."""
        answer = await self.answer()
        if not answer.startswith(code):
            raise _SentAway(answer)

    async def ask(self, line: str, code: str = "250") -> None:
        self.write(line.encode() + b"\r\n")
        await self.expect(code)

    async def deliver(self, one: Letter, recipients: Sequence[str], answers: dict[str, str]) -> None:
        """One transaction, its commands pipelined (RFC 2920). Fills `answers` as they come in."""
        commands = [f"MAIL FROM:<{one.mail_from}>", *(f"RCPT TO:<{recipient}>" for recipient in recipients), "DATA"]
        self.write("".join(f"{command}\r\n" for command in commands).encode())
        sender = await self.answer()
        taken = []
        for recipient in recipients:
            answer = await self.answer()
            if sender.startswith("2") and answer.startswith("2"):
                taken.append(recipient)
            else:
                answers[recipient] = answer if sender.startswith("2") else sender
        data = await self.answer()
        if data.startswith("3"):
            self.write(one.stuffed if taken else b".\r\n")
            data = await self.answer()
        answers.update(dict.fromkeys(taken, data))
        if data.startswith("421"):
            raise _SentAway(data)
        if not taken:
            await self.ask("RSET")

    async def quit(self) -> None:
        with suppress(ConnectionError):
            await self.ask("QUIT", "221")
        self.close()

    def close(self) -> None:
        self._writer.transport.abort()


def _trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@dataclass(slots=True)
class Mta:
    """The sender. Tests read `attempts`, wait with `wait_for`, and end with `finish`."""

    host: str
    port: int
    letters: Iterable[Letter]
    connections: int
    tls: bool = False
    attempts: list[Attempt] = field(default_factory=list)
    tally: Counter[str] = field(default_factory=Counter)
    news: threading.Condition = field(default_factory=threading.Condition)
    refused: list[str] = field(default_factory=list)
    """Connections that ended before any greeting, by the kind of error."""
    error: BaseException | None = None
    ended: bool = False
    _cancel: Callable[[], object] | None = None

    def count(self, digit: str) -> int:
        """Attempts with such an answer for some recipient; "" counts lost connections."""
        return self.tally[digit]

    def since(self, moment: float) -> list[Attempt]:
        """Attempts that began after this moment of the monotonic clock and are over."""
        with self.news:
            return [one for one in self.attempts if one.began > moment]

    def wait_for(self, what: Callable[[], bool], seconds: float = FINISH_SECONDS) -> None:
        """Wait until it holds, looking whenever an attempt is over. Fails when sending ends before."""
        end = time.monotonic() + seconds
        with self.news:
            while not what():
                assert not self.ended, f"all was sent before it came true, {self._summary()}"
                assert self.news.wait(end - time.monotonic()), f"not in time, {self._summary()}"

    def finish(self, seconds: float = FINISH_SECONDS) -> None:
        """Wait until every mail has had its yes or no from everybody."""
        with self.news:
            assert self.news.wait_for(lambda: self.ended, seconds), f"not in time, {self._summary()}"
        if self.error is not None:
            raise self.error

    def _summary(self) -> str:
        return f"attempts by the first digit of their answers: {dict(self.tally)}"

    def run(self) -> None:
        """Send all; the thread's whole life."""
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._send())
        except BaseException as error:  # noqa: BLE001  (`finish` raises it in the test's thread)
            self.error = error
        finally:
            with self.news:
                self.ended = True
                self.news.notify_all()

    def stop(self) -> None:
        """Give up what is not sent yet."""
        if self._cancel is not None:
            with suppress(RuntimeError):  # the loop has ended by itself
                self._cancel()

    async def _send(self) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
        queue = iter(self.letters)
        async with asyncio.TaskGroup() as group:
            for _ in range(self.connections):
                group.create_task(self._work(queue))

    async def _work(self, queue: Iterator[Letter]) -> None:
        """One connection: letter after letter, each until it is done with."""
        session: _Session | None = None
        for one in queue:
            pending, pause = list(one.recipients), FIRST_PAUSE
            while True:
                session, attempt = await self._try(session, one, pending)
                pending = [to for to in pending if attempt.answers[to][:1] not in ("2", "5")]
                if not pending:
                    break
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
        if session is not None:
            await session.quit()

    async def _try(
        self, session: _Session | None, one: Letter, recipients: Sequence[str]
    ) -> tuple[_Session | None, Attempt]:
        answers: dict[str, str] = {}
        began = time.monotonic()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                session = session or await self._open()
                await session.deliver(one, recipients, answers)
        except OSError as error:
            if isinstance(error, _SentAway):
                answers = dict.fromkeys(recipients, str(error)) | answers
            if session is not None:
                session.close()
                session = None
        answers = {recipient: answers.get(recipient, "") for recipient in recipients}
        attempt = Attempt(letter=one, answers=answers, began=began, ended=time.monotonic())
        with self.news:
            self.attempts.append(attempt)
            self.tally.update({answer[:1] for answer in answers.values()})
            self.news.notify_all()
        return session, attempt

    async def _open(self) -> _Session:
        try:
            session = await _Session.connect(self.host, self.port)
        except OSError as error:
            if not isinstance(error, _SentAway):
                self.refused.append(type(error).__name__)
            raise
        await session.greet(tls=self.tls)
        return session


@contextmanager
def sending(
    port: int, mails: Iterable[Letter], *, connections: int = 50, host: str = "127.0.0.1", tls: bool = False
) -> Iterator[Mta]:
    """Begin to send; at the end of the block what is not sent is given up."""
    mta = Mta(host, port, mails, connections, tls)
    thread = threading.Thread(target=mta.run, name="mta")
    thread.start()
    try:
        yield mta
    finally:
        mta.stop()
        thread.join()


def send(
    port: int, mails: Iterable[Letter], *, connections: int = 50, host: str = "127.0.0.1", tls: bool = False
) -> Mta:
    """Send all of them and wait for the end."""
    with sending(port, mails, connections=connections, host=host, tls=tls) as mta:
        mta.finish()
    return mta
