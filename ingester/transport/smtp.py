"""SMTP (RFC 5321), where strangers bring mail: one answer for all recipients of a mail. No sockets, no store."""
# ruff: noqa: N802  (the stock class names its methods after the commands)

from typing import ClassVar

from ingester.core.envelope import Door
from ingester.core.outcome import Outcome
from ingester.transport import command
from ingester.transport.dialog import Commands
from ingester.transport.listener import MailDoor
from ingester.transport.mail import MailDialog, Transaction


class SmtpDialog(MailDialog):
    """One SMTP session."""

    ONE_FATE = True
    INTRODUCE_FIRST = command.SEND_EHLO_FIRST

    extended = False

    async def open(self) -> bool:
        """A trusted proxy's header must stand before everything, the greeting included."""
        if self.proxied and not await self.read_proxy():
            return False
        self.say(f"220 {self.desk.hostname} ESMTP ingester")
        return True

    async def smtp_HELO(self, hostname: str | None) -> None:
        """RFC 5321, 4.1.1.1."""
        if self.introduce(hostname):
            self.extended = False
            self.say(f"250 {self.desk.hostname}")

    async def smtp_EHLO(self, hostname: str | None) -> None:
        """RFC 5321, 4.1.1.1, and the extensions offered."""
        if self.introduce(hostname):
            self.extended = True
            self.offer()

    def answer(self, transaction: Transaction, line: str) -> None:
        """Once for all."""
        del transaction
        self.say(line)

    def report(self, transaction: Transaction, outcome: Outcome) -> None:
        """Once for all (design page, 4: one transaction, one fate)."""
        del transaction
        self.say(outcome.smtp_line)

    def nobody(self, transaction: Transaction) -> None:
        """Never a permanent no for a fault of ours (design page, law 1), though the client has each reply already."""
        nobody = command.NO_RECIPIENTS if transaction.tried else command.SEND_RCPT_FIRST
        self.complain(command.NO_RECIPIENTS_NOW if transaction.deferred else nobody)

    COMMANDS: ClassVar[Commands] = {"HELO": smtp_HELO, "EHLO": smtp_EHLO} | MailDialog.SESSION | MailDialog.MAIL


class SmtpDoor(MailDoor):
    """Everything of SMTP in one process."""

    DOOR = Door.SMTP
    DIALOG = SmtpDialog
