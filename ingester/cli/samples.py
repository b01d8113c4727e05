"""A dozen mails of different shapes, which `ingester dev --samples` sends through its own SMTP door."""

from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from email.mime.message import MIMEMessage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.policy import SMTP
from struct import pack
from zlib import compress, crc32


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One mail to send, and in a few words what it shows."""

    shows: str
    mail_from: str
    recipients: tuple[str, ...]
    data: bytes


def samples(domain: str, run: str) -> Iterator[Sample]:
    """The samples for a receiving domain. `run` makes their Message-IDs new: a second run is no duplicate."""
    support, sales = f"support@{domain}", f"sales@{domain}"
    yield _sample("plain text", "ada@customer.test", (support,), _plain(run, support))
    yield _sample("a reply to it", "ada@customer.test", (support,), _reply(run, support))
    yield _sample("HTML only", "newsletter@shop.test", (sales,), _html(run, sales))
    yield _sample("text, HTML and two attachments", "grace@customer.test", (sales,), _attachments(run, sales))
    yield _sample("an inline image", "linus@customer.test", (support,), _inline(run, support))
    yield _sample("a forwarded mail", "ada@customer.test", (support,), _forward(run, support))
    yield _sample("a calendar invitation", "grace@customer.test", (sales,), _invitation(run, sales))
    yield _sample("German in ISO-8859-1", "juergen@kunde.test", (support,), _german(run, support))
    yield _sample("Japanese in ISO-2022-JP", "hanako@kyaku.test", (support,), _japanese(run, support))
    tagged = f"support+order-42@{domain}"
    yield _sample("a plus-tag", "ada@customer.test", (tagged,), _tagged(run, tagged))
    yield _sample("two mailboxes at once", "grace@customer.test", (support, sales), _both(run, support, sales))
    yield _sample("a delivery report", "", (support,), _report(run, support))
    yield _sample("an empty mail", "linus@customer.test", (support,), b"")


def _sample(shows: str, mail_from: str, recipients: tuple[str, ...], data: bytes) -> Sample:
    return Sample(shows=shows, mail_from=mail_from, recipients=recipients, data=data)


def _message(run: str, name: str, sender: str, to: str, subject: str) -> EmailMessage:
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = to
    message["Subject"] = subject
    message["Date"] = "Mon, 02 Nov 2026 09:00:00 +0100"
    message["Message-ID"] = f"<{name}.{run}@sample.test>"
    return message


def _plain(run: str, to: str) -> bytes:
    message = _message(run, "plain", "Ada <ada@customer.test>", to, "Where is my order?")
    message.set_content("Hello,\n\nI ordered on Monday and nothing has come yet.\n\nAda\n")
    return message.as_bytes()


def _reply(run: str, to: str) -> bytes:
    message = _message(run, "reply", "Ada <ada@customer.test>", to, "Re: Where is my order?")
    message["In-Reply-To"] = f"<plain.{run}@sample.test>"
    message["References"] = f"<plain.{run}@sample.test>"
    message.set_content("It has come now, thank you!\n\n> I ordered on Monday and nothing has come yet.\n")
    return message.as_bytes()


def _html(run: str, to: str) -> bytes:
    message = _message(run, "html", "The shop <newsletter@shop.test>", to, "News in HTML")
    message.set_content("<h1>News</h1><p>All prices <b>halved</b>.</p><ul><li>Tea</li><li>Coffee</li></ul>", "html")
    return message.as_bytes()


def _attachments(run: str, to: str) -> bytes:
    message = _message(run, "files", "Grace <grace@customer.test>", to, "The contract, signed")
    message.set_content("Both files are attached.\n")
    message.add_alternative("<p>Both files are <i>attached</i>.</p>", "html")
    message.add_attachment(b"%PDF-1.4\n%%EOF\n", "application", "pdf", filename="contract.pdf")
    message.add_attachment("a;b\n1;2\n", "csv", filename="größen.csv")
    return message.as_bytes()


def _inline(run: str, to: str) -> bytes:
    message = _message(run, "inline", "Linus <linus@customer.test>", to, "See the picture")
    message.set_content("The picture shows it.\n")
    message.add_alternative('<p>The picture shows it: <img src="cid:shot@sample.test"></p>', "html")
    html = message.get_payload(1)
    assert isinstance(html, EmailMessage)
    html.add_related(_png(), "image", "png", cid="<shot@sample.test>", filename="shot.png")
    return message.as_bytes()


def _png() -> bytes:
    """A one-pixel picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return pack(">I", len(data)) + kind + data + pack(">I", crc32(kind + data))

    header = pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixel = compress(b"\0\xff\x80\0")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")


def _forward(run: str, to: str) -> bytes:
    inner = _message(run, "inner", "Someone <someone@else.test>", "ada@customer.test", "The original")
    inner.set_content("This is the mail that is forwarded.\n")
    outer = MIMEMultipart("mixed", policy=SMTP)
    outer["From"], outer["To"], outer["Subject"] = "Ada <ada@customer.test>", to, "Fwd: The original"
    outer["Message-ID"] = f"<forward.{run}@sample.test>"
    outer.attach(MIMEText("Please see below.\r\n"))
    outer.attach(MIMEMessage(inner))
    return outer.as_bytes()


def _invitation(run: str, to: str) -> bytes:
    message = _message(run, "invitation", "Grace <grace@customer.test>", to, "Invitation: a call")
    message.set_content("Can we talk on Friday?\n")
    event = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\n"
    event += "UID:1@sample.test\r\nSUMMARY:A call\r\n"
    event += "DTSTART:20261106T090000Z\r\nDTEND:20261106T093000Z\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    message.add_alternative(event, "calendar")
    return message.as_bytes()


def _german(run: str, to: str) -> bytes:
    message = _message(run, "german", "Jürgen <juergen@kunde.test>", to, "Rückfrage zur Größe")
    message.set_content("Schöne Grüße aus München, die Größe paßt nicht.\n", charset="iso-8859-1")
    return message.as_bytes()


def _japanese(run: str, to: str) -> bytes:
    message = _message(run, "japanese", "花子 <hanako@kyaku.test>", to, "お問い合わせ")
    message.set_content("商品はいつ届きますか。\n", charset="iso-2022-jp")
    return message.as_bytes()


def _tagged(run: str, to: str) -> bytes:
    message = _message(run, "tagged", "Ada <ada@customer.test>", to, "About order 42")
    message.set_content("The tag of the address tells the order.\n")
    return message.as_bytes()


def _both(run: str, support: str, sales: str) -> bytes:
    message = _message(run, "both", "Grace <grace@customer.test>", support, "A question for both of you")
    message["Cc"] = sales
    message.set_content("Each of your mailboxes gets a message of its own.\n")
    return message.as_bytes()


def _report(run: str, to: str) -> bytes:
    report = MIMEMultipart("report", report_type="delivery-status", policy=SMTP)
    report["From"], report["To"] = "Mailer <mailer-daemon@mx.test>", to
    report["Subject"], report["Message-ID"] = "Undelivered mail", f"<report.{run}@sample.test>"
    report.attach(MIMEText("Your mail could not be delivered.\r\n"))
    status = MIMEText(
        "Reporting-MTA: dns; mx.test\r\n\r\nFinal-Recipient: rfc822; gone@else.test\r\nAction: failed\r\n"
        "Status: 5.1.1\r\n",
        "delivery-status",
    )
    report.attach(status)
    return report.as_bytes()
