"""The dialog that SMTP and LMTP share: a greeting, then command by command to the farewell. Knows no mail.

Every reply but the greeting, those to EHLO, HELO and LHLO, and 354 carries an enhanced code (RFC 2034). AUTH is not
offered.
"""
# ruff: noqa: N802  (the stock class names its methods after the commands)

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Final, TypeAlias

from ingester.core.envelope import Client
from ingester.core.outcome import CODES, Reason
from ingester.transport import command
from ingester.transport.command import printable, split_command
from ingester.transport.smtp_link import Farewell, Link, Phase
from ingester.transport.wire import LineFault

_NAME_LIMIT: Final = 255
_COMMANDS_A_TURN: Final = 50
"""Pipelined commands after which other connections get their turn."""

Commands: TypeAlias = dict[str, Callable[[Any, str], Awaitable[None]]]


class Dialog(Link):
    """One session. A door adds how it opens, how its peer introduces itself, and how mail is taken."""

    COMMANDS: ClassVar[Commands]

    greeted = False
    errors = 0

    async def converse(self) -> None:
        """Greet, then answer command by command until the peer goes or must go."""
        if not await self.open():
            return
        turn = 0
        idle_since = self.desk.clock()
        while self.farewell is None:
            if self.replies_waiting:
                await self.flush()
            line = self.inbox.line()
            if line is None:
                await self.flush()
                self.phase, self.since = Phase.WAITING, idle_since
                if not await self.inbox.more():
                    return
                self.phase = Phase.BUSY
            else:
                turn += 1
                if turn % _COMMANDS_A_TURN == 0:
                    await asyncio.sleep(0)
                await self._answer(line)
                idle_since = self.desk.clock()
                if idle_since - self.began >= self.desk.settings.smtp.session_seconds and self.farewell is None:
                    self.farewell = Farewell(line=command.TIMED_OUT)

    async def _answer(self, line: bytes | LineFault) -> None:
        if isinstance(line, LineFault):
            self._answer_fault(line)
            return
        verb, argument = split_command(line)
        method = self.COMMANDS.get(verb)
        if method is not None:
            try:
                await method(self, argument)
            except ConnectionError:
                raise
            except Exception as error:  # noqa: BLE001  (a surprise is answered, it does not end the daemon)
                # The dialog may be out of step with the client, in the midst of its data: nothing more is read.
                self.farewell = Farewell(line=await self.handle_exception(error), linger=True)
        elif verb in command.HTTP_VERBS:
            self.farewell = Farewell(line=command.NOT_HTTP, linger=True)
        else:
            self.complain(command.UNKNOWN_COMMAND)

    def _answer_fault(self, fault: LineFault) -> None:
        if fault is LineFault.ENDLESS:
            self.farewell = Farewell(line=command.LINE_TOO_LONG, linger=True)
        elif fault is LineFault.STRAY:
            # No client sends NUL or a lone CR in a command: what follows may be smuggled and stays unread.
            self.farewell = Farewell(line=command.SYNTAX, linger=True)
        else:
            self.complain(command.LINE_TOO_LONG if fault is LineFault.TOO_LONG else command.SYNTAX)

    async def handle_exception(self, error: Exception) -> str:
        """A surprise inside a command: fixed words and try again later; the stock class answers 500 and its text."""
        self.desk.log.error("dialog.command_failed", exc_info=error)
        return CODES[Reason.STORE_UNAVAILABLE].line

    def complain(self, line: str) -> None:
        """Answer a mistake of the client's; too many end the session."""
        self.errors += 1
        self.say(line)
        if self.errors >= self.desk.settings.smtp.max_command_errors:
            self.farewell = Farewell(line=command.TOO_MANY_ERRORS, linger=True)

    async def open(self) -> bool:
        """Greet, and read what a proxy must say first. False: leave."""
        raise NotImplementedError

    def forget(self) -> None:
        """Whatever mail was announced is done with or given up."""
        raise NotImplementedError

    # What a session may always ask.

    def introduce(self, hostname: str | None) -> bool:
        """The peer names itself, and begins anew (RFC 5321, 4.1.4). False, and answered, where it has no name."""
        if not hostname or len(hostname) > _NAME_LIMIT:
            self.complain(command.ARGUMENT_NEEDED)
            return False
        self.forget()
        self.greeted = True
        self.client = Client(ip=self.client.ip, helo=printable(hostname), tls=self.client.tls)
        return True

    def offer(self, *more: str) -> None:
        """The extensions, in reply to EHLO or LHLO. HELP stands last, as the stock class has it."""
        offers = [
            self.desk.hostname,
            f"SIZE {self.desk.settings.max_message_bytes}",
            "8BITMIME",
            "SMTPUTF8",
            "PIPELINING",
            "ENHANCEDSTATUSCODES",
            *more,
        ]
        if self.desk.certificate is not None and self.client.tls is None:
            offers.append("STARTTLS")
        for each in offers:
            self.say(f"250-{each}")
        self.say("250 HELP")

    async def smtp_STARTTLS(self, arg: str | None) -> None:
        """RFC 3207. The session begins anew behind it."""
        if arg:
            self.complain(command.NO_ARGUMENT)
        elif self.client.tls is not None:
            self.complain(command.TLS_RUNS)
        elif self.desk.certificate is None:
            self.complain(command.NOT_OFFERED)
        else:
            context = self.desk.certificate.context()
            self.say(command.READY_FOR_TLS)
            await self.flush()
            await self.secure(context)
            self.forget()
            self.greeted = False

    async def smtp_RSET(self, arg: str | None) -> None:
        """RFC 5321, 4.1.1.5."""
        if arg:
            self.complain(command.NO_ARGUMENT)
            return
        self.forget()
        self.say(command.OK)

    async def smtp_NOOP(self, _arg: str | None) -> None:
        """RFC 5321, 4.1.1.9: an argument is ignored."""
        self.say(command.OK)

    async def smtp_QUIT(self, arg: str | None) -> None:
        """RFC 5321, 4.1.1.10."""
        if arg:
            self.complain(command.NO_ARGUMENT)
        else:
            self.farewell = Farewell(line=command.BYE)

    async def smtp_VRFY(self, arg: str | None) -> None:
        """RFC 5321, 3.5.3: neither yes nor no, for addresses would be harvested."""
        if arg:
            self.say(command.VRFY_REPLY)
        else:
            self.complain(command.ARGUMENT_NEEDED)

    async def smtp_HELP(self, _arg: str | None) -> None:
        """RFC 5321, 4.1.1.8."""
        self.say(command.HELP_REPLY)

    async def smtp_EXPN(self, _arg: str | None) -> None:
        """Not offered."""
        self.complain(command.NOT_OFFERED)

    async def smtp_AUTH(self, _arg: str | None) -> None:
        """Not offered: this is where mail arrives, not where it is submitted."""
        self.complain(command.NOT_OFFERED)

    SESSION: ClassVar[Commands] = {
        "STARTTLS": smtp_STARTTLS,
        "RSET": smtp_RSET,
        "NOOP": smtp_NOOP,
        "QUIT": smtp_QUIT,
        "VRFY": smtp_VRFY,
        "HELP": smtp_HELP,
        "EXPN": smtp_EXPN,
        "AUTH": smtp_AUTH,
    }
