"""The SMTP client behind `ingester send`: it brings the bytes it is given, dot-stuffed and not otherwise changed.

smtplib's own `data` is not used: it stuffs dots after a bare LF too, where RFC 5321 (4.5.2) knows only CRLF.
"""

import re
import smtplib
import ssl
from dataclasses import dataclass, field
from types import TracebackType

_DOT = re.compile(rb"(?:\A|(?<=\r\n))\.")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_HEADER_END = re.compile(rb"(?:\A|\n)(?=\r?\n)")
_MESSAGE_ID = re.compile(rb"^message-id:[^\n]*(?:\n[ \t][^\n]*)*(?:\n|\Z)", re.IGNORECASE | re.MULTILINE)
_LOCAL_NAME = "localhost"
"""What EHLO says. Not the machine's own name: finding it out may wait for DNS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the server said about one mail. `refused` holds its reply to each recipient that it did not take."""

    accepted: bool
    reply: str
    refused: dict[str, str] = field(default_factory=dict)


class Client:
    """One session. Raises OSError and smtplib.SMTPException where the conversation itself fails."""

    def __init__(self, host: str, port: int, *, starttls: bool = False, seconds: float = 120) -> None:
        """Connect and say EHLO; each later wait takes at most `seconds`."""
        self._smtp = smtplib.SMTP(host, port, local_hostname=_LOCAL_NAME, timeout=seconds)
        try:
            self._smtp.ehlo_or_helo_if_needed()
            if starttls:
                self._smtp.starttls(context=_unverified())
                self._smtp.ehlo_or_helo_if_needed()
        except BaseException:
            self._smtp.close()
            raise

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._smtp.quit()
        except (smtplib.SMTPException, OSError):
            pass  # the mails were answered; a server may hang up first
        finally:
            self._smtp.close()

    def send(self, mail_from: str, recipients: tuple[str, ...], data: bytes) -> Answer:
        """Bring one mail. Recipients that are refused do not hinder the others."""
        answer = self._send(mail_from, recipients, data)
        if not answer.accepted and not answer.reply.startswith("421"):
            self._smtp.docmd("RSET")
        return answer

    def _send(self, mail_from: str, recipients: tuple[str, ...], data: bytes) -> Answer:
        international = not (mail_from + "".join(recipients)).isascii()
        if international and not self._smtp.has_extn("smtputf8"):
            raise smtplib.SMTPNotSupportedError("the server does not offer SMTPUTF8, which these addresses need")
        self._smtp.command_encoding = "utf-8" if international else "ascii"
        code, reply = self._say(f"MAIL FROM:<{mail_from}>{self._parameters(data, international)}")
        if code != 250:
            return Answer(accepted=False, reply=reply)
        refused: dict[str, str] = {}
        for recipient in recipients:
            code, reply = self._say(f"RCPT TO:<{recipient}>")
            if code == 421:
                return Answer(accepted=False, reply=reply, refused=refused)
            if code not in (250, 251):
                refused[recipient] = reply
        if len(refused) == len(recipients):
            return Answer(accepted=False, reply=reply, refused=refused)
        code, reply = self._say("DATA")
        if code != 354:
            return Answer(accepted=False, reply=reply, refused=refused)
        self._smtp.send(_DOT.sub(b"..", data) + (b"" if data.endswith(b"\r\n") else b"\r\n") + b".\r\n")
        code, words = self._smtp.getreply()
        return Answer(accepted=code == 250, reply=_text(code, words), refused=refused)

    def _parameters(self, data: bytes, international: bool) -> str:
        """RFC 1870, RFC 6152 and RFC 6531, as far as the server offers them."""
        words = [f" SIZE={len(data)}"] if self._smtp.has_extn("size") else []
        if not data.isascii() and self._smtp.has_extn("8bitmime"):
            words.append(" BODY=8BITMIME")
        if international:
            words.append(" SMTPUTF8")
        return "".join(words)

    def _say(self, command: str) -> tuple[int, str]:
        code, words = self._smtp.docmd(command)
        return code, _text(code, words)


def with_crlf(data: bytes) -> bytes:
    """Line ends as mail has them (RFC 5321, 2.3.8): what Unix tools write has bare LF."""
    return _BARE_LF.sub(b"\r\n", data)


def with_message_id(data: bytes, message_id: str) -> bytes:
    """The mail with another Message-ID, which then stands first."""
    found = _HEADER_END.search(data)
    end = len(data) if found is None else found.end()
    return f"Message-ID: <{message_id}>\r\n".encode() + _MESSAGE_ID.sub(b"", data[:end]) + data[end:]


def _text(code: int, words: bytes) -> str:
    return f"{code} {words.decode('utf-8', 'replace')}".replace("\n", " ")


def _unverified() -> ssl.SSLContext:
    """TLS as between mail servers: any certificate is taken, because none is asked for (RFC 7435)."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
