"""Mail over a dialog: MAIL, RCPT and DATA (RFC 5321, 4.1.1) become an envelope; the door answers what became of it.

No sockets, no store, and not how many answers a mail gets: that is what SMTP and LMTP differ in.
"""
# ruff: noqa: N802  (the stock class names its methods after the commands)

from asyncio import Future
from dataclasses import dataclass, field
from typing import ClassVar, Final

from ingester.core.address import Address
from ingester.core.envelope import Client, Envelope, Recipient, Route
from ingester.core.outcome import Outcome, Reason, Refusal
from ingester.telemetry import Stage
from ingester.transport import command
from ingester.transport.command import Fault, parse_mail, parse_rcpt
from ingester.transport.data import DataReader
from ingester.transport.dialog import Commands, Dialog
from ingester.transport.smtp_link import Farewell, Phase
from ingester.transport.transfer import Ending, Transfer

_UNKNOWN: Final = frozenset({Reason.UNKNOWN_MAILBOX, Reason.UNKNOWN_DOMAIN})


@dataclass(slots=True, kw_only=True)
class Transaction:
    """One mail being announced. `deferred`: some recipient was refused only for now."""

    client: Client
    mail_from: str
    utf8: bool
    recipients: list[Recipient] = field(default_factory=list)
    tried: bool = False
    deferred: bool = False

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(str(recipient.address) for recipient in self.recipients)


class MailDialog(Dialog):
    """One session that takes mail."""

    ONE_FATE: ClassVar[bool]
    """Whether one answer must do for all recipients, so that only those of one content policy may come together."""
    INTRODUCE_FIRST: ClassVar[str]
    """The reply to who announces a mail and has not introduced itself."""

    extended = True
    transaction: Transaction | None = None

    @property
    def origin(self) -> Client:
        """Who sends the next mail, as far as this door knows."""
        return self.client

    def answer(self, transaction: Transaction, line: str) -> None:
        """Say behind the data what all recipients share."""
        raise NotImplementedError

    def report(self, transaction: Transaction, outcome: Outcome) -> None:
        """Say what became of the mail."""
        raise NotImplementedError

    def nobody(self, transaction: Transaction) -> None:
        """Reply to DATA where no recipient was taken."""
        raise NotImplementedError

    def forget(self) -> None:
        """No mail is announced."""
        self.transaction = None

    async def smtp_MAIL(self, arg: str | None) -> None:
        """RFC 5321, 4.1.1.2."""
        if not self.greeted:
            self.complain(self.INTRODUCE_FIRST)
            return
        if self.transaction is not None:
            self.complain(command.NESTED_MAIL)
            return
        mail = parse_mail(arg or "", extended=self.extended)
        if isinstance(mail, Fault):
            self.complain(mail.line)
            return
        sender = "" if mail.sender is None else str(mail.sender)
        if mail.size is not None and mail.size > self.desk.settings.max_message_bytes:
            self.say(self.desk.refuse(Reason.OVERSIZED, self.origin, mail_from=sender))
            self.forget()
            return
        self.transaction = Transaction(client=self.origin, mail_from=sender, utf8=mail.utf8)
        self.say(command.SENDER_OK)

    async def smtp_RCPT(self, arg: str | None) -> None:
        """RFC 5321, 4.1.1.3. The directory answers; the door bounds the number and the guesses."""
        transaction = self.transaction
        if transaction is None:
            self.complain(command.SEND_MAIL_FIRST if self.greeted else self.INTRODUCE_FIRST)
            return
        address = parse_rcpt(arg or "", utf8=transaction.utf8)
        if isinstance(address, Fault):
            transaction.tried = True
            self.complain(address.line)
            return
        route = await self._find_route(transaction, address)
        transaction.tried = True
        if isinstance(route, str):
            transaction.deferred |= route.startswith("4")
            self.say(route)
            return
        transaction.recipients.append(Recipient(address=address, route=route))
        self.say(command.RECIPIENT_OK)

    async def _find_route(self, transaction: Transaction, address: Address) -> Route | str:
        """The recipient's route, or the reply that refuses it."""
        desk = self.desk
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
                address, transaction.client, door=desk.door, mail_from=transaction.mail_from
            )
        if isinstance(answer, Refusal):
            if not self.trusted and answer.reason in _UNKNOWN:
                desk.harvest.note(self.prefix)
            return answer.code.line
        first = transaction.recipients[0].route if transaction.recipients else None
        if self.ONE_FATE and first is not None and first.policy != answer.policy:
            # One transaction, one fate: the sender brings this one again alone (design page, 4).
            return self._refuse(Reason.TOO_MANY_RECIPIENTS, transaction, str(address))
        return answer

    def _refuse(self, reason: Reason, transaction: Transaction, *recipients: str) -> str:
        return self.desk.refuse(reason, transaction.client, mail_from=transaction.mail_from, recipients=recipients)

    def _refuse_all(self, reason: Reason, transaction: Transaction) -> str:
        return self._refuse(reason, transaction, *transaction.addresses)

    async def smtp_DATA(self, arg: str | None) -> None:
        """RFC 5321, 4.1.1.4."""
        transaction = self.transaction
        if transaction is None:
            self.complain(command.SEND_MAIL_FIRST if self.greeted else self.INTRODUCE_FIRST)
        elif arg:
            self.complain(command.NO_ARGUMENT)
        elif not transaction.recipients:
            self.nobody(transaction)
        else:
            self.say(command.GO_AHEAD)
            await self.flush()
            transfer = await self._receive()
            self.forget()
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
            with self.desk.telemetry.stage(Stage.READ):
                await transfer.done
        finally:
            transfer.finish(Ending.LOST)
            self.transfer = None
            self.enter(Phase.BUSY)
        return transfer

    async def _conclude(self, transaction: Transaction, transfer: Transfer) -> None:
        """The answer to the final dot, or the farewell of a transfer that did not end well."""
        ending, reader = transfer.done.result(), transfer.reader
        if ending is Ending.LOST:
            self.farewell = Farewell(line=None)
        elif ending is Ending.TOO_SLOW:
            self.farewell = Farewell(line=command.TOO_SLOW, linger=True)
        elif ending is Ending.AMBIGUOUS:
            self.answer(transaction, self._refuse_all(Reason.MALFORMED_TRANSFER, transaction))
            self.farewell = Farewell(line=None, linger=True)
        elif reader.oversized or ending is Ending.ENDLESS:
            self.answer(transaction, self._refuse_all(Reason.OVERSIZED, transaction))
            if ending is Ending.ENDLESS:
                self.farewell = Farewell(line=None, linger=True)
        elif transfer.shed:
            self.answer(transaction, self._refuse_all(Reason.OVERLOADED, transaction))
        elif reader.dropped:
            self._refuse_all(Reason.MALFORMED_TRANSFER, transaction)
            self.answer(transaction, command.BARE_LF)
        else:
            self.errors = 0
            self.report(transaction, await self._accept(transaction, transfer))

    def _accept(self, transaction: Transaction, transfer: Transfer) -> "Future[Outcome]":
        arrival_id, received_at = self.desk.pipeline.new_arrival()
        return self.desk.accept(
            Envelope(
                door=self.desk.door,
                raw=transfer.reader.take(),
                mail_from=transaction.mail_from,
                recipients=tuple(transaction.recipients),
                client=transaction.client,
                arrival_id=arrival_id,
                received_at=received_at,
                flags=tuple(sorted(transfer.reader.flags)),
            ),
            transfer.ticket,
        )

    MAIL: ClassVar[Commands] = {"MAIL": smtp_MAIL, "RCPT": smtp_RCPT, "DATA": smtp_DATA}
