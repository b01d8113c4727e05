"""The grammar of mail commands (RFC 5321, 4.1; RFC 1870; RFC 6152; RFC 6531) and the fixed replies. Pure.

Strict, but for three things that real clients do: a blank after `FROM:` or `TO:`, blanks at the end of a line, and a
path without its angle brackets. Any line parses or gives the reply that refuses it; nothing raises.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from ingester.core.address import Address, parse_path

SYNTAX: Final = "500 5.5.2 Syntax error"
LINE_TOO_LONG: Final = "500 5.5.6 Line too long"
UNKNOWN_COMMAND: Final = "500 5.5.1 Command not known"
NOT_OFFERED: Final = "502 5.5.1 Command not offered"
NOT_HTTP: Final = "502 5.7.0 This is a mail server"
NO_ARGUMENT: Final = "501 5.5.4 This command takes no argument"
ARGUMENT_NEEDED: Final = "501 5.5.4 This command needs an argument"
SEND_EHLO_FIRST: Final = "503 5.5.1 Send EHLO first"
SEND_LHLO_FIRST: Final = "503 5.5.1 Send LHLO first"
SEND_MAIL_FIRST: Final = "503 5.5.1 Send MAIL first"
SEND_RCPT_FIRST: Final = "503 5.5.1 Send RCPT first"
NESTED_MAIL: Final = "503 5.5.1 A transaction is open, send RSET first"
NO_RECIPIENTS: Final = "554 5.5.1 No valid recipients"
NO_RECIPIENTS_NOW: Final = "451 4.5.1 No recipient could be taken now, try again later"
NO_RECIPIENTS_LMTP: Final = "503 5.5.1 No valid recipients"
LMTP_ONLY: Final = "500 5.5.1 This is LMTP, send LHLO"
NOT_TRUSTED: Final = "550 5.7.0 Not from here"
BAD_ATTRIBUTE: Final = "501 5.5.4 Attribute not known"
TLS_RUNS: Final = "503 5.5.1 TLS is in use already"
READY_FOR_TLS: Final = "220 2.0.0 Ready to start TLS"
OK: Final = "250 2.0.0 OK"
SENDER_OK: Final = "250 2.1.0 Sender OK"
RECIPIENT_OK: Final = "250 2.1.5 Recipient OK"
VRFY_REPLY: Final = "252 2.5.0 Not verified here, send the mail and see"
HELP_REPLY: Final = "214 2.0.0 See RFC 5321"
GO_AHEAD: Final = "354 End data with <CR><LF>.<CR><LF>"
BYE: Final = "221 2.0.0 Bye"
BARE_LF: Final = "550 5.6.0 Lines must end in CR LF here"
TOO_MANY_ERRORS: Final = "421 4.7.0 Too many errors, bye"
TIMED_OUT: Final = "421 4.4.2 Timed out, bye"
TOO_SLOW: Final = "421 4.4.2 The data comes too slowly, bye"
TOO_MANY_CONNECTIONS: Final = "421 4.3.2 Too many connections, try again later"
CLOSING: Final = "421 4.3.2 Closing, try again"

_BAD_MAIL: Final = "501 5.5.4 Syntax: MAIL FROM:<address>"
_BAD_RCPT: Final = "501 5.5.4 Syntax: RCPT TO:<address>"
_BAD_SENDER: Final = "501 5.1.7 Bad sender address"
_BAD_RECIPIENT: Final = "501 5.1.3 Bad recipient address"
_NEEDS_UTF8: Final = "553 5.6.7 A non-ASCII address needs SMTPUTF8"
_UNKNOWN_PARAMETER: Final = "555 5.5.4 Parameter not known"
_BAD_PARAMETER: Final = "501 5.5.4 Bad value of a parameter"
_SIZE_DIGITS: Final = 20
_PARAMETERS: Final = frozenset({"SIZE", "BODY", "SMTPUTF8"})
_USUAL_MAIL: Final = re.compile(r"FROM:<([!#-;=?-~]*)>(?: SIZE=([0-9]{1,20}))?(?: BODY=(?:7BIT|8BITMIME))?", re.ASCII)
"""MAIL as nearly all clients write it. No quoted strings, nothing beyond ASCII."""
_REMEMBERED: Final = 128
"""Characters of an argument of RCPT up to which its meaning is kept: the same recipients come again and again."""

HTTP_VERBS: Final = frozenset({"GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "PATCH", "TRACE"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """The reply that refuses a command."""

    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MailCommand:
    """MAIL FROM. `sender` is None for the null path; `size` what the client declared, in octets."""

    sender: Address | None
    size: int | None
    utf8: bool


def split_command(line: bytes) -> tuple[str, str]:
    """The verb in upper case and the argument without outer blanks. Octets that are not UTF-8 become surrogates."""
    verb, _, argument = line.decode("utf-8", "surrogateescape").partition(" ")
    return verb.strip().upper(), argument.strip(" \t")


def printable(name: str) -> str:
    """A name that the peer gave, fit for a row and a log line."""
    return "".join(char if char.isprintable() else "?" for char in name)


def parse_mail(argument: str, *, extended: bool) -> MailCommand | Fault:
    """Parse what follows MAIL. Parameters are for clients that said EHLO."""
    usual = _USUAL_MAIL.fullmatch(argument) if extended else None
    if usual is None:
        return _parse_any_mail(argument, extended=extended)
    path, size = usual.groups()
    sender = parse_path(path) if path else None
    if path and sender is None:
        return Fault(line=_BAD_SENDER)
    return MailCommand(sender=sender, size=None if size is None else int(size), utf8=False)


def _parse_any_mail(argument: str, *, extended: bool) -> MailCommand | Fault:
    split = _split_path(argument, "FROM:")
    if split is None:
        return Fault(line=_BAD_MAIL)
    path, words = split
    parameters = _parameters(words) if extended or not words else _UNKNOWN_PARAMETER
    if isinstance(parameters, str):
        return Fault(line=parameters)
    if not parameters.keys() <= _PARAMETERS:
        return Fault(line=_UNKNOWN_PARAMETER)
    size, body = parameters.get("SIZE", "0"), parameters.get("BODY", "7BIT")
    if (
        not (size.isascii() and size.isdigit() and len(size) <= _SIZE_DIGITS)
        or body.upper() not in ("7BIT", "8BITMIME")
        or parameters.get("SMTPUTF8")
    ):
        return Fault(line=_BAD_PARAMETER)
    utf8 = "SMTPUTF8" in parameters
    declared = int(size) if "SIZE" in parameters else None
    if not path:
        return MailCommand(sender=None, size=declared, utf8=utf8)
    if not path.isascii() and not utf8:
        return Fault(line=_NEEDS_UTF8)
    sender = parse_path(path)
    return Fault(line=_BAD_SENDER) if sender is None else MailCommand(sender=sender, size=declared, utf8=utf8)


def parse_rcpt(argument: str, *, utf8: bool) -> Address | Fault:
    """Parse what follows RCPT. No parameter is known."""
    return (_parse_and_remember if len(argument) <= _REMEMBERED else _parse_rcpt)(argument, utf8)


def _parse_rcpt(argument: str, utf8: bool) -> Address | Fault:
    split = _split_path(argument, "TO:")
    if split is None:
        return Fault(line=_BAD_RCPT)
    path, words = split
    if words:
        return Fault(line=_UNKNOWN_PARAMETER)
    if not path.isascii() and not utf8:
        return Fault(line=_NEEDS_UTF8)
    return parse_path(path) or Fault(line=_BAD_RECIPIENT)


_parse_and_remember = lru_cache(maxsize=2048)(_parse_rcpt)


def _split_path(argument: str, keyword: str) -> tuple[str, list[str]] | None:
    """The path without its brackets and the words behind it, or None."""
    if argument[: len(keyword)].upper() != keyword:
        return None
    text = argument[len(keyword) :].lstrip(" \t")
    if not text.startswith("<"):
        path, *words = text.split() or [""]
        return (path, words) if "@" in path else None
    end = text.find(">")
    if text.find('"', 0, end) >= 0:
        end = _quoted_path_end(text)
    rest = text[end + 1 :]
    return (text[1:end], rest.split()) if end > 0 and (not rest or rest[0] in " \t") else None


def _quoted_path_end(text: str) -> int:
    """The first bracket outside of quoted strings, or -1. One pass."""
    quoted = False
    at = 1
    while at < len(text):
        char = text[at]
        if char == "\\" and quoted:
            at += 1
        elif char == '"':
            quoted = not quoted
        elif char == ">" and not quoted:
            return at
        at += 1
    return -1


def _parameters(words: list[str]) -> dict[str, str] | str:
    """`NAME=value` and `NAME`, names in upper case; a reply when one comes twice or is empty."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name.upper() in found or not name or (equals and not value):
            return _BAD_PARAMETER
        found[name.upper()] = value
    return found
