"""Words that stand nowhere else, one for each field of a mail and of what is said around it; and a search for them."""

import base64
import random
import socket
from dataclasses import dataclass, field

ANSWER_SECONDS = 60.0


@dataclass(slots=True)
class Canaries:
    """`planted` is which word stands in which field. A word is good anywhere, in a domain or a header's name too."""

    planted: dict[str, str] = field(default_factory=dict)
    _chance: random.Random = field(default_factory=random.Random)

    def __call__(self, where: str) -> str:
        """The word of this field."""
        if where not in self.planted:
            self.planted[where] = "kanari" + "".join(self._chance.choices("bcdfghjklmnpqrstvwz", k=12))
        return self.planted[where]

    def adopt(self, where: str, word: str) -> str:
        """Look for this word too, which somebody else has made."""
        self.planted[where] = word
        return word

    def found(self, said: bytes) -> set[str]:
        """The fields whose words stand in these bytes: in any case, in base64 or in hexadecimal digits."""
        small = said.lower()
        return {
            where for where, word in self.planted.items() if any(form in (small, said)[k] for k, form in _forms(word))
        }


def _forms(word: str) -> list[tuple[int, bytes]]:
    """The word as it may stand: where case does not count (0), or does (1). In base64 that depends on its place."""
    plain = word.encode()
    forms = [(0, plain.lower()), (0, plain.hex().encode())]
    for before in range(3):
        text = base64.b64encode(b"\0" * before + plain)
        forms.append((1, text[(4 if before else 0) : len(text) // 4 * 4 - 4]))
    return forms


def exchange(port: int, wire: bytes, *, half_close: bool = True) -> bytes:
    """Send all of this, and that it was all, then read all answers to the end."""
    said = b""
    with socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS) as link:
        try:
            link.sendall(wire)
            if half_close:
                link.shutdown(socket.SHUT_WR)
            while more := link.recv(1 << 16):
                said += more
        except ConnectionError:  # it has heard enough; what it said stands above
            pass
    return said


def request(path: str, body: bytes = b"", *, method: str = "POST", **headers: str) -> bytes:
    """A request as it goes over the wire."""
    named = {"Host": "localhost", "Content-Length": str(len(body)), "Connection": "close"}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def session(hello: str, mail_from: str, recipients: list[str], content: bytes, *before: str) -> bytes:
    """A whole SMTP or LMTP session, all at once."""
    lines = [hello, *before, f"MAIL FROM:<{mail_from}>", *(f"RCPT TO:<{one}>" for one in recipients), "DATA"]
    return "".join(f"{line}\r\n" for line in lines).encode() + content + b".\r\nQUIT\r\n"


def mail(c: Canaries, name: str, *, to: str = "support@acme.test", more: str = "") -> bytes:
    """A mail with a canary in every field. `name` sets its canaries apart from those of other mails."""

    def w(where: str) -> str:
        return c(f"{name}: {where}")

    attached = base64.b64encode(f"Attached: {w('attachment')}, {w('attachment again')}".encode()).decode()
    header = [
        f"Return-Path: <{w('return path')}@{w('return path domain')}.test>",
        f"Received: from {w('received')}.test (x [192.0.2.1]) by {w('received by')}.test"
        f" for <{w('received for')}@x.test>; Mon, 20 Jul 2026 10:00:00 +0000",
        f"DKIM-Signature: v=1; a=rsa-sha256; d={w('dkim d')}.test; s={w('dkim s')}; h=from:{w('dkim h')};"
        f" bh={w('dkim bh')}; b={w('dkim b')}",
        f"ARC-Seal: i=1; a=rsa-sha256; cv=none; d={w('arc d')}.test; s={w('arc s')}; b={w('arc b')}",
        f"ARC-Message-Signature: i=1; a=rsa-sha256; d={w('ams d')}.test; s=x; h=from; bh=x; b={w('ams b')}",
        f"ARC-Authentication-Results: i=1; {w('aar')}.test; spf=pass smtp.mailfrom={w('aar mail from')}.test",
        f"Authentication-Results: {w('ar')}.test; dkim=pass ({w('ar comment')}) header.d={w('ar d')}.test",
        f'From: "{w("from name")}" <{w("from")}@{w("from domain")}.test>',
        f"Sender: {w('sender')}@x.test",
        f"Reply-To: {w('reply-to')}@x.test",
        f"To: {w('to name')} <{to}>, {w('to')}@x.test",
        f"Cc: {w('cc')}@x.test",
        f"Bcc: {w('bcc')}@x.test",
        f"Subject: {w('subject')} =?utf-8?b?{base64.b64encode(w('subject encoded').encode()).decode()}?=",
        f"Message-ID: <{w('message-id')}@{w('message-id domain')}.test>",
        f"In-Reply-To: <{w('in-reply-to')}@x.test>",
        f"References: <{w('references')}@x.test> <{w('references again')}@x.test>",
        f"Date: {w('date')}",
        f"X-OpenSend-Reply-Token: osr_{w('token header')}_{w('token header end')}",
        f"List-Id: <{w('list-id')}.test>",
        f"Auto-Submitted: {w('auto-submitted')}",
        f"X-{w('field name')}: {w('field value')}",
        f"{w('no field')}",
        "MIME-Version: 1.0",
        f"Content-Type: multipart/mixed; boundary={w('boundary')}; {w('parameter')}={w('parameter value')}",
        *([more] if more else []),
    ]
    parts = [
        f"{w('preamble')}",
        f"--{w('boundary')}",
        f"Content-Type: text/plain; charset={w('charset')}",
        "",
        f"Hello {w('text')},",
        f"> {w('quoted text')}",
        f"--{w('boundary')}",
        "Content-Type: text/html; charset=utf-8",
        "",
        f'<p title="{w("html attribute")}">{w("html")} <img src="cid:{w("content-id")}@x"></p>',
        f"--{w('boundary')}",
        f'Content-Type: image/png; name="{w("name")}.png"',
        f'Content-Disposition: inline; filename="{w("filename")}.png"',
        f"Content-ID: <{w('content-id')}@x>",
        f"Content-Description: {w('description')}",
        "Content-Transfer-Encoding: base64",
        "",
        attached,
        f"--{w('boundary')}",
        f"Content-Type: application/x-{w('type')}",
        f"Content-Transfer-Encoding: {w('encoding')}",
        "",
        w("odd part"),
        f"--{w('boundary')}",
        "Content-Type: text/calendar; charset=utf-8; method=REQUEST",
        "",
        f"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nUID:{w('uid')}\r\nSUMMARY:{w('summary')}\r\nDTSTART:{w('dtstart')}\r\n"
        "END:VEVENT\r\nEND:VCALENDAR",
        f"--{w('boundary')}",
        "Content-Type: message/delivery-status",
        "",
        f"Reporting-MTA: dns; {w('reporting mta')}.test\r\n\r\n"
        f"Final-Recipient: rfc822; {w('final recipient')}@x.test\r\nAction: failed\r\nStatus: 5.1.1\r\n"
        f"Diagnostic-Code: smtp; 550 {w('diagnostic')}",
        f"--{w('boundary')}--",
        w("epilogue"),
    ]
    return "\r\n".join([*header, "", *parts, ""]).encode()
