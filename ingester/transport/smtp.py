"""The SMTP dialog (RFC 5321): commands in, envelopes out, the pipeline's answers as replies. No sockets, no store.

Every reply but the greeting, those to EHLO and HELO and 354 carries an enhanced code (RFC 2034). AUTH is not offered.
"""
# ruff: noqa: N802  (the stock class names its methods after the commands)

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import ClassVar, Final

from ingester.core.envelope import Client, Door, Envelope, Recipient, Route
from ingester.core.outcome import CODES, Reason, Refusal
from ingester.transport import command
from ingester.transport.command import Fault, parse_mail, parse_rcpt, split_command
from ingester.transport.data import DataReader
from ingester.transport.smtp_link import Farewell, Link, Phase
from ingester.transport.transfer import Ending, Transfer
from ingester.transport.wire import LineFault

_HELO_LIMIT: Final = 255
_COMMANDS_A_TURN: Final = 50
"""Pipelined commands after which other connections get their turn."""
_UNKNOWN: Final = frozenset({Reason.UNKNOWN_MAILBOX, Reason.UNKNOWN_DOMAIN})


@dataclass(slots=True, kw_only=True)
class Transaction:
    """One mail being announced. `deferred`: some recipient was refused only for now."""

    mail_from: str
    utf8: bool
    recipients: list[Recipient] = field(default_factory=list)
    tried: bool = False
    deferred: bool = False

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(str(recipient.address) for recipient in self.recipients)


class SmtpDialog(Link):
    """One SMTP session."""

    greeted = False
    extended = False
    transaction: Transaction | None = None
    errors = 0

    async def converse(self) -> None:
        """Greet, then answer command by command until the peer goes or must go."""
        self.say(f"220 {self.desk.hostname} ESMTP ingester")
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
            self._complain(command.UNKNOWN_COMMAND)

    def _answer_fault(self, fault: LineFault) -> None:
        if fault is LineFault.ENDLESS:
            self.farewell = Farewell(line=command.LINE_TOO_LONG, linger=True)
        elif fault is LineFault.STRAY:
            # No client sends NUL or a lone CR in a command: what follows may be smuggled and stays unread.
            self.farewell = Farewell(line=command.SYNTAX, linger=True)
        else:
            self._complain(command.LINE_TOO_LONG if fault is LineFault.TOO_LONG else command.SYNTAX)

    async def handle_exception(self, error: Exception) -> str:
        """A surprise inside a command: fixed words and try again later; the stock class answers 500 and its text."""
        self.desk.log.error("smtp.command_failed", error=type(error).__name__)
        return CODES[Reason.STORE_UNAVAILABLE].line

    def _complain(self, line: str) -> None:
        """Answer a mistake of the client's; too many end the session."""
        self.errors += 1
        self.say(line)
        if self.errors >= self.desk.settings.smtp.max_command_errors:
            self.farewell = Farewell(line=command.TOO_MANY_ERRORS, linger=True)

    # Session commands.

    async def smtp_HELO(self, hostname: str | None) -> None:
        """RFC 5321, 4.1.1.1."""
        if self._introduce(hostname):
            self.extended = False
            self.say(f"250 {self.desk.hostname}")

    async def smtp_EHLO(self, hostname: str | None) -> None:
        """RFC 5321, 4.1.1.1, and the extensions offered. HELP stands last, as the stock class has it."""
        if not self._introduce(hostname):
            return
        self.extended = True
        offers = [
            self.desk.hostname,
            f"SIZE {self.desk.settings.max_message_bytes}",
            "8BITMIME",
            "SMTPUTF8",
            "PIPELINING",
            "ENHANCEDSTATUSCODES",
        ]
        if self.desk.certificate is not None and self.client.tls is None:
            offers.append("STARTTLS")
        for offer in offers:
            self.say(f"250-{offer}")
        self.say("250 HELP")

    def _introduce(self, hostname: str | None) -> bool:
        if not hostname or len(hostname) > _HELO_LIMIT:
            self._complain(command.ARGUMENT_NEEDED)
            return False
        self.transaction = None
        self.greeted = True
        helo = "".join(char if char.isprintable() else "?" for char in hostname)
        self.client = Client(ip=self.client.ip, helo=helo, tls=self.client.tls)
        return True

    async def smtp_STARTTLS(self, arg: str | None) -> None:
        """RFC 3207. The session begins anew behind it."""
        if arg:
            self._complain(command.NO_ARGUMENT)
        elif self.client.tls is not None:
            self._complain(command.TLS_RUNS)
        elif self.desk.certificate is None:
            self._complain(command.NOT_OFFERED)
        else:
            context = self.desk.certificate.context()
            self.say(command.READY_FOR_TLS)
            await self.flush()
            await self.secure(context)
            self.transaction = None
            self.greeted = self.extended = False

    async def smtp_RSET(self, arg: str | None) -> None:
        """RFC 5321, 4.1.1.5."""
        if arg:
            self._complain(command.NO_ARGUMENT)
            return
        self.transaction = None
        self.say(command.OK)

    async def smtp_NOOP(self, _arg: str | None) -> None:
        """RFC 5321, 4.1.1.9: an argument is ignored."""
        self.say(command.OK)

    async def smtp_QUIT(self, arg: str | None) -> None:
        """RFC 5321, 4.1.1.10."""
        if arg:
            self._complain(command.NO_ARGUMENT)
        else:
            self.farewell = Farewell(line=command.BYE)

    async def smtp_VRFY(self, arg: str | None) -> None:
        """RFC 5321, 3.5.3: neither yes nor no, for addresses would be harvested."""
        if arg:
            self.say(command.VRFY_REPLY)
        else:
            self._complain(command.ARGUMENT_NEEDED)

    async def smtp_HELP(self, _arg: str | None) -> None:
        """RFC 5321, 4.1.1.8."""
        self.say(command.HELP_REPLY)

    async def smtp_EXPN(self, _arg: str | None) -> None:
        """Not offered."""
        self._complain(command.NOT_OFFERED)

    async def smtp_AUTH(self, _arg: str | None) -> None:
        """Not offered: this is where mail arrives, not where it is submitted."""
        self._complain(command.NOT_OFFERED)

    # The transaction.

    async def smtp_MAIL(self, arg: str | None) -> None:
        """RFC 5321, 4.1.1.2."""
        if not self.greeted:
            self._complain(command.SEND_EHLO_FIRST)
            return
        if self.transaction is not None:
            self._complain(command.NESTED_MAIL)
            return
        mail = parse_mail(arg or "", extended=self.extended)
        if isinstance(mail, Fault):
            self._complain(mail.line)
            return
        sender = "" if mail.sender is None else str(mail.sender)
        if mail.size is not None and mail.size > self.desk.settings.max_message_bytes:
            self.say(self.desk.refuse(Reason.OVERSIZED, self.client, mail_from=sender))
            return
        self.transaction = Transaction(mail_from=sender, utf8=mail.utf8)
        self.say(command.SENDER_OK)

    async def smtp_RCPT(self, arg: str | None) -> None:
        """RFC 5321, 4.1.1.3. The directory answers; the door bounds the number and the guesses."""
        transaction = self.transaction
        if transaction is None:
            self._complain(command.SEND_MAIL_FIRST if self.greeted else command.SEND_EHLO_FIRST)
            return
        address = parse_rcpt(arg or "", utf8=transaction.utf8)
        if isinstance(address, Fault):
            transaction.tried = True
            self._complain(address.line)
            return
        route = await self._find_route(transaction, Recipient(address=address))
        transaction.tried = True
        if isinstance(route, str):
            transaction.deferred |= route.startswith("4")
            self.say(route)
            return
        transaction.recipients.append(Recipient(address=address, route=route))
        self.say(command.RECIPIENT_OK)

    async def _find_route(self, transaction: Transaction, recipient: Recipient) -> Route | str:
        """The recipient's route, or the reply that refuses it."""
        desk, address = self.desk, recipient.address
        if len(transaction.recipients) >= desk.settings.smtp.max_recipients:
            return self._refuse(Reason.TOO_MANY_RECIPIENTS, transaction, str(address))
        answer: Route | Refusal | None
        if desk.harvest.suspects(self.prefix):
            # No look-up for who guesses; but what the cache knows to be good is taken, so that real mail still arrives.
            answer = desk.pipeline.known(address)
            if answer is None:
                return self._refuse(Reason.HARVEST_SUSPECTED, transaction, str(address))
        else:
            answer = await desk.pipeline.recipient(
                address, self.client, door=Door.SMTP, mail_from=transaction.mail_from
            )
        if isinstance(answer, Refusal):
            if answer.reason in _UNKNOWN:
                desk.harvest.note(self.prefix)
            return answer.code.line
        first = transaction.recipients[0].route if transaction.recipients else None
        if first is not None and first.policy != answer.policy:
            # One transaction, one fate: the sender brings this one again alone (design page, 4).
            return self._refuse(Reason.TOO_MANY_RECIPIENTS, transaction, str(address))
        return answer

    def _refuse(self, reason: Reason, transaction: Transaction, *recipients: str) -> str:
        return self.desk.refuse(reason, self.client, mail_from=transaction.mail_from, recipients=recipients)

    async def smtp_DATA(self, arg: str | None) -> None:
        """RFC 5321, 4.1.1.4."""
        transaction = self.transaction
        if transaction is None:
            self._complain(command.SEND_MAIL_FIRST if self.greeted else command.SEND_EHLO_FIRST)
        elif arg:
            self._complain(command.NO_ARGUMENT)
        elif not transaction.recipients:
            nobody = command.NO_RECIPIENTS if transaction.tried else command.SEND_RCPT_FIRST
            # Never a permanent no for a fault of ours (design page, law 1), though the client has each reply already.
            self._complain(command.NO_RECIPIENTS_NOW if transaction.deferred else nobody)
        else:
            self.say(command.GO_AHEAD)
            await self.flush()
            transfer = await self._receive()
            self.transaction = None
            try:
                await self._conclude(transaction, transfer)
            except Exception:
                transfer.ticket.close()
                raise

    async def _receive(self) -> Transfer:
        settings, now = self.desk.settings, self.desk.clock()
        reader = DataReader(
            max_bytes=settings.max_message_bytes,
            max_line=settings.mime.max_line_bytes,
            normalise=settings.smtp.bare_lf == "normalise",
        )
        floor = settings.smtp.min_bytes_per_second
        transfer = Transfer(reader=reader, flight=self.desk.flight, inbox=self.inbox, floor=floor, now=now)
        self.transfer = transfer
        self.enter(Phase.DATA)
        transfer.begin()
        if self.inbox.ended:
            transfer.finish(Ending.LOST)
        try:
            await transfer.done
        finally:
            transfer.finish(Ending.LOST)
            self.transfer = None
            self.enter(Phase.BUSY)
        return transfer

    async def _conclude(self, transaction: Transaction, transfer: Transfer) -> None:
        """The reply to the final dot, or the farewell of a transfer that did not end well."""
        ending, reader = transfer.done.result(), transfer.reader
        if ending is Ending.LOST:
            self.farewell = Farewell(line=None)
        elif ending is Ending.TOO_SLOW:
            self.farewell = Farewell(line=command.TOO_SLOW, linger=True)
        elif ending is Ending.AMBIGUOUS:
            refusal = self._refuse(Reason.MALFORMED_TRANSFER, transaction, *transaction.addresses)
            self.farewell = Farewell(line=refusal, linger=True)
        elif reader.oversized or ending is Ending.ENDLESS:
            refusal = self._refuse(Reason.OVERSIZED, transaction, *transaction.addresses)
            self.say(refusal)
            if ending is Ending.ENDLESS:
                self.farewell = Farewell(line=None, linger=True)
        elif transfer.shed:
            self.say(self._refuse(Reason.OVERLOADED, transaction, *transaction.addresses))
        elif reader.dropped:
            self._refuse(Reason.MALFORMED_TRANSFER, transaction, *transaction.addresses)
            self.say(command.BARE_LF)
        else:
            self.errors = 0
            self.say(await self._accept(transaction, transfer))

    async def _accept(self, transaction: Transaction, transfer: Transfer) -> str:
        arrival_id, received_at = self.desk.pipeline.new_arrival()
        task = self.desk.accept(
            Envelope(
                door=Door.SMTP,
                raw=transfer.reader.take(),
                mail_from=transaction.mail_from,
                recipients=tuple(transaction.recipients),
                client=self.client,
                arrival_id=arrival_id,
                received_at=received_at,
                flags=tuple(sorted(transfer.reader.flags)),
            ),
            transfer.ticket,
        )
        # Waited for, not awaited: cancelling this dialog must not cancel the commit.
        await asyncio.wait((task,))
        return task.result()

    COMMANDS: ClassVar[dict[str, Callable[["SmtpDialog", str], Awaitable[None]]]] = {
        "HELO": smtp_HELO,
        "EHLO": smtp_EHLO,
        "STARTTLS": smtp_STARTTLS,
        "RSET": smtp_RSET,
        "NOOP": smtp_NOOP,
        "QUIT": smtp_QUIT,
        "VRFY": smtp_VRFY,
        "HELP": smtp_HELP,
        "EXPN": smtp_EXPN,
        "AUTH": smtp_AUTH,
        "MAIL": smtp_MAIL,
        "RCPT": smtp_RCPT,
        "DATA": smtp_DATA,
    }
