"""LMTP (RFC 2033), for those who keep an MTA in front: one answer for each recipient of a mail. No sockets, no store.

The peer is a relay of ours and no sender: who sent a mail is what it tells by XFORWARD (of one mail) or by XCLIENT (of
all that follow), and is unknown where it tells nothing. A PROXY header tells who the peer is. Nobody else is believed.
"""
# ruff: noqa: N802  (the stock class names its methods after the commands)

import ssl
from typing import ClassVar

from ingester.core.envelope import Client, Door
from ingester.core.outcome import Outcome
from ingester.transport import command
from ingester.transport.dialog import Commands
from ingester.transport.listener import MailDoor
from ingester.transport.mail import MailDialog, Transaction
from ingester.transport.xclient import XCLIENT_NAMES, XFORWARD_NAMES, Told, add_told


class LmtpDialog(MailDialog):
    """One LMTP session."""

    ONE_FATE = False
    INTRODUCE_FIRST = command.SEND_LHLO_FIRST

    session_told: Told | None = None
    mail_told: Told | None = None

    async def open(self) -> bool:
        """Greet. A proxy may have sent its header before; an MTA waits for the greeting, so that goes out first."""
        self._greet()
        if not self.trusted:
            return True
        await self.flush()
        return await self.read_proxy(optional=True)

    def _greet(self) -> None:
        self.say(f"220 {self.desk.hostname} LMTP ingester")

    async def smtp_LHLO(self, hostname: str | None) -> None:
        """RFC 2033, 4.1: as EHLO."""
        if not self.introduce(hostname):
            return
        if self.trusted:
            self.offer(" ".join(("XCLIENT", *XCLIENT_NAMES)), " ".join(("XFORWARD", *XFORWARD_NAMES)))
        else:
            self.offer()

    async def smtp_EHLO(self, _hostname: str | None) -> None:
        """RFC 2033, 4.1: never a positive reply, so that no SMTP client takes this for SMTP."""
        self.complain(command.LMTP_ONLY)

    # What a relay of ours tells.

    async def smtp_XCLIENT(self, arg: str | None) -> None:
        """The client of this session, which begins anew with the greeting."""
        told = self._told(self.session_told, arg, XCLIENT_NAMES)
        if told is not None:
            self.forget()
            self.greeted = False
            self.session_told = told
            self._greet()

    async def smtp_XFORWARD(self, arg: str | None) -> None:
        """The client of the next mail. Several commands add up until that is over."""
        told = self._told(self.mail_told, arg, XFORWARD_NAMES)
        if told is not None:
            self.mail_told = told
            self.say(command.OK)

    def _told(self, before: Told | None, arg: str | None, names: tuple[str, ...]) -> Told | None:
        """What is told by now, or None where the command was refused."""
        if not self.trusted:
            self.complain(command.NOT_TRUSTED)
            return None
        if self.transaction is not None:
            self.complain(command.NESTED_MAIL)
            return None
        told = add_told(before or Told(), arg or "", names)
        if told is None:
            self.complain(command.BAD_ATTRIBUTE)
        return told

    @property
    def origin(self) -> Client:
        """Never half what was told and half the relay: where no address is told, there is no name either."""
        told = self.mail_told or self.session_told
        if told is None:
            return self.client
        return Client(ip=told.ip, helo=told.helo if told.ip else None, tls=self.client.tls)

    def forget(self) -> None:
        """What was told of one mail ends with it."""
        super().forget()
        self.mail_told = None

    async def secure(self, context: ssl.SSLContext) -> None:
        """What was told in clear is not known any more (RFC 3207, 4.2)."""
        await super().secure(context)
        self.session_told = None

    # One answer for each recipient, in their order, also where one was named twice (RFC 2033, 4.2).

    def answer(self, transaction: Transaction, line: str) -> None:
        """The same for each."""
        for _ in transaction.recipients:
            self.say(line)

    def report(self, transaction: Transaction, outcome: Outcome) -> None:
        """To each its own: what is stored for one stays stored, whatever became of the others."""
        for address in transaction.addresses:
            self.say(outcome.smtp_line_for(address))

    def nobody(self, transaction: Transaction) -> None:
        """RFC 2033, 4.2: always 503. No mistake of the client's, which may have sent DATA with the recipients."""
        del transaction
        self.say(command.NO_RECIPIENTS_LMTP)

    COMMANDS: ClassVar[Commands] = (
        {
            "LHLO": smtp_LHLO,
            "EHLO": smtp_EHLO,
            "HELO": smtp_EHLO,
            "XCLIENT": smtp_XCLIENT,
            "XFORWARD": smtp_XFORWARD,
        }
        | MailDialog.SESSION
        | MailDialog.MAIL
    )


class LmtpDoor(MailDoor):
    """Everything of LMTP in one process."""

    DOOR = Door.LMTP
    DIALOG = LmtpDialog
