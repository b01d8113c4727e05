"""The kind of mail: cases for every kind as the usual systems write them, false friends, and the corpora's."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingester.core.kind import HUMAN, MAX_EVIDENCE, Kind, Verdict, classify
from ingester.core.message import Message, digest
from ingester.core.mime import Bounds
from tests.cost import assert_cheap

SENDER = "someone@else.test"
CITES = "In-Reply-To: <o@demo.test>\n"
MB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """A case: what arrives, and what it must be."""

    name: str
    kind: Kind
    head: str
    body: str = "Hello\n"
    sender: str | None = SENDER
    answers: bool = False
    why: str = ""


def message_of(head: str, body: str) -> Message:
    return digest((head.strip("\n") + "\n\n" + body).replace("\n", "\r\n").encode(), Bounds())


def kind_of(message: Message, sender: str | None = SENDER, *, answers: bool = False) -> Verdict:
    cites = bool(message.in_reply_to or message.reference_ids)
    return classify(message.nature, mail_from=sender, cites=cites, answers=answers)


def report(report_type: str, part: str, fields: str, returned: str = "message/rfc822") -> tuple[str, str]:
    head = f'Content-Type: multipart/report; report-type={report_type}; boundary="r"\nMIME-Version: 1.0\n'
    body = (
        f"--r\nContent-Type: text/plain\n\nFor people.\n--r\nContent-Type: {part}\n\n{fields}\n"
        f"--r\nContent-Type: {returned}\n\nFrom: s@demo.test\nMessage-ID: <o@demo.test>\nSubject: x\n\ntext\n--r--\n"
    )
    return head, body


def dsn(head: str, name: str, action: str = "failed", kind: Kind = Kind.BOUNCE, sender: str = "") -> Mail:
    fields = f"Reporting-MTA: dns; mx.test\n\nFinal-Recipient: rfc822; a@b.test\nAction: {action}\nStatus: 5.1.1\n"
    top, body = report("delivery-status", "message/delivery-status", fields)
    return Mail(name=name, kind=kind, head=head + top, body=body, sender=sender, why="part: delivery-status")


def arf(feedback: str, kind: Kind, head: str = "From: fbl@isp.test\n") -> Mail:
    top, body = report("feedback-report", "message/feedback-report", f"Feedback-Type: {feedback}\nUser-Agent: x\n")
    return Mail(name=f"arf {feedback}", kind=kind, head=head + top, body=body, why=f"feedback-type: {feedback}")


def mdn(head: str, name: str) -> Mail:
    fields = "Final-Recipient: rfc822; a@b.test\nOriginal-Message-ID: <o@demo.test>\n"
    fields += "Disposition: manual-action/x; displayed\n"
    top, body = report("disposition-notification", "message/disposition-notification", fields, "text/rfc822-headers")
    return Mail(name=name, kind=Kind.READ_RECEIPT, head=head + top, body=body, why="part: disposition-notification")


BOUNCES = [
    dsn("From: MAILER-DAEMON@mx.test (Mail Delivery System)\nAuto-Submitted: auto-replied\n", "postfix"),
    dsn("From: Mailer-Daemon@exim.test\nX-Failed-Recipients: a@b.test\nAuto-Submitted: auto-replied\n", "exim"),
    dsn(
        f"From: Microsoft Outlook <postmaster@x.test>\nX-Auto-Response-Suppress: All\n{CITES}",
        "exchange",
    ),
    dsn("From: Mail Delivery Subsystem <mailer-daemon@googlemail.test>\nIn-Reply-To: <o@demo.test>\n", "gmail"),
    dsn("From: MAILER-DAEMON@amazonses.test\nFeedback-ID: 1\n", "ses", sender="bounces@amazonses.test"),
    dsn("From: MAILER-DAEMON@mx.test\nPrecedence: bulk\n", "postfix delayed", action="delayed"),
    Mail(
        name="qmail",
        kind=Kind.BOUNCE,
        head="From: MAILER-DAEMON@q.test\nSubject: failure notice\n",
        body="Hi. This is the qmail-send program at q.test.\nI'm afraid I wasn't able to deliver it.\n\n<a@b.test>:\n"
        "no mailbox\n\n--- Below this line is a copy of the message.\n\nReturn-Path: <s@demo.test>\n"
        "Message-ID: <o@demo.test>\n\ntext\n",
        sender="",
        why="text: qmail",
    ),
    Mail(
        name="exim of old",
        kind=Kind.BOUNCE,
        head="From: Mail Delivery System <Mailer-Daemon@e.test>\nX-Failed-Recipients: a@b.test\n"
        "Auto-Submitted: auto-replied\n"
        "Subject: Mail delivery failed: returning message to sender\n",
        body="This message was created automatically by mail delivery software.\n\n"
        "------ This is a copy of the message ------\n\nMessage-Id: <o@demo.test>\n",
        sender=None,
        why="x-failed-recipients",
    ),
    Mail(
        name="postfix of old",
        kind=Kind.BOUNCE,
        head="Return-Path: <>\nFrom: MAILER-DAEMON@p.test\nSubject: Undelivered Mail Returned to Sender\n"
        "Content-Type: multipart/mixed; boundary=r\n",
        body="--r\n\nThis is the Postfix program at host p.test.\n\n--r\nContent-Type: message/rfc822\n\n"
        "Message-ID: <o@demo.test>\n\ntext\n--r--\n",
        sender=None,
        why="return-path: null sender",
    ),
    Mail(
        name="a gateway that only says it in words",
        kind=Kind.BOUNCE,
        head="From: system@gw.test\nSubject: Undeliverable: your offer\n",
        sender="",
        why="envelope: null sender",
    ),
]

JMRP = Mail(
    name="hotmail",
    kind=Kind.COMPLAINT,
    head="From: staff@hotmail.com\nSubject: complaint about message from 192.0.2.7\n"
    "Content-Type: multipart/mixed; boundary=r\n",
    body="--r\nContent-Type: message/rfc822\nContent-Disposition: inline\n\n"
    "X-HmXmrOriginalRecipient: <ann@hotmail.com>\nMessage-ID: <o@demo.test>\n\ntext\n--r--\n",
    why="x-hmxmroriginalrecipient",
)
RECEIPTS = [
    Mail(
        name="notes",
        kind=Kind.READ_RECEIPT,
        head=f"Subject: Return Receipt: x\nX-Notes-Item: 1; name=$A\nX-Notes-Item: Return Receipt; name=Form\n{CITES}",
        why="x-notes-item: return receipt",
    ),
    Mail(
        name="notes, another item",
        kind=Kind.READ_RECEIPT,
        head=f'X-Notes-Item: 1; type=400; name="$RETURNRECEIPT"\nAuto-Submitted: auto-generated\n{CITES}',
    ),
    Mail(
        name="ms mail",
        kind=Kind.READ_RECEIPT,
        head=f"X-MSMail-ReadReceipt: yes\n{CITES}",
        sender="",
        why="x-msmail-readreceipt",
    ),
    Mail(
        name="the part in a multipart/mixed",
        kind=Kind.READ_RECEIPT,
        head="Subject: Gelesen: x\nContent-Type: multipart/mixed; boundary=r\n",
        body="--r\n\nread\n--r\nContent-Type: message/disposition-notification\n\nDisposition: m/m; displayed\n--r--\n",
        why="part: disposition-notification",
    ),
]

PEOPLE = [
    Mail(name="subject of a receipt", kind=Kind.REPLY, head=f"Subject: Return Receipt of the goods\n{CITES}"),
    Mail(name="asks for a receipt", kind=Kind.NEW, head="Subject: Read: this\nX-Notes-Item: 1; name=ReturnReceipt\n"),
    Mail(name="asks by a field", kind=Kind.NEW, head="Subject: Read: x\nReturn-Receipt-To: a@b.test\n"),
    Mail(name="a receipt's field alone", kind=Kind.REPLY, head=f"X-MSMail-ReadReceipt: yes\n{CITES}"),
    Mail(name="a memo of notes", kind=Kind.REPLY, head=f"X-Notes-Item: Memo; name=Form\nSubject: Read: x\n{CITES}"),
    Mail(
        name="a receipt forwarded as a file",
        kind=Kind.NEW,
        head="Subject: Fwd: Read: x\nContent-Type: multipart/mixed; boundary=r\n",
        body="--r\n\nwhy\n--r\nContent-Type: message/disposition-notification\n\nDisposition: m/m; displayed\n--r--\n",
    ),
    Mail(name="staff without a complaint", kind=Kind.NEW, head="From: staff@hotmail.com\nSubject: complaint about x\n"),
    Mail(
        name="a complaint passed on", kind=Kind.REPLY, head=JMRP.head.replace("staff@", "ann@") + CITES, body=JMRP.body
    ),
    Mail(
        name="quotes qmail at the top",
        kind=Kind.REPLY,
        head=f"From: ann@q.test\nSubject: Re: failure notice\n{CITES}",
        body="Hi. This is the qmail-send program at q.test.\n\n<a@b.test>:\nno mailbox\n\nWhat does it mean?\n",
    ),
    Mail(
        name="quotes exim further down",
        kind=Kind.REPLY,
        head=f"From: ann@q.test\nSubject: Mail delivery failed, why?\n{CITES}",
        body="See:\nThis message was created automatically by mail delivery software.\n\n  a@b.test\n",
    ),
    Mail(
        name="a postmaster writes of a failure",
        kind=Kind.NEW,
        head="From: postmaster@b.test\nSubject: Delivery failure at your site\n",
    ),
    Mail(name="a copied field", kind=Kind.REPLY, head=f"From: ann@q.test\nX-Failed-Recipients: a@b.test\n{CITES}"),
]

AUTOMATIC = [
    Mail(
        name="gmail vacation",
        kind=Kind.AUTO_REPLY,
        head=f"Subject: Away Re: x\nAuto-Submitted: auto-replied\nPrecedence: bulk\nX-Autoreply: yes\n{CITES}",
        sender="",
        why="auto-submitted: auto-replied",
    ),
    Mail(
        name="exchange out of office",
        kind=Kind.AUTO_REPLY,
        head=f"Subject: Automatic reply: x\nAuto-Submitted: auto-generated\nX-Auto-Response-Suppress: All\n{CITES}",
        sender="",
        why="auto-submitted: auto-generated",
    ),
    Mail(
        name="exchange, without an id to answer",
        kind=Kind.AUTO_REPLY,
        head="Subject: Automatische Antwort: x\nX-Auto-Response-Suppress: All\n",
        why="subject: absence note",
    ),
    Mail(
        name="sieve",
        kind=Kind.AUTO_REPLY,
        head="Auto-Submitted: auto-replied (vacation)\nSubject: Auto: x\n",
        sender="",
    ),
    Mail(name="cpanel", kind=Kind.AUTO_REPLY, head="X-Autorespond: x\nPrecedence: auto_reply\n", why="x-autorespond"),
    Mail(name="a ticket is opened", kind=Kind.AUTO_REPLY, head=f"Auto-Submitted: auto-generated\n{CITES}"),
    Mail(name="only the null sender tells", kind=Kind.AUTO_REPLY, head=CITES, sender="", why="envelope: null sender"),
    Mail(name="it answers ours", kind=Kind.AUTO_REPLY, head=f"X-Autoreply: yes\n{CITES}", answers=True),
    Mail(
        name="a postmaster on holiday",
        kind=Kind.AUTO_REPLY,
        head=f"From: postmaster@x.test\nSubject: Re: x\nAuto-Submitted: auto-replied\n{CITES}",
        sender="",
    ),
    Mail(name="communigate", kind=Kind.AUTO_REPLY, head="X-Autogenerated: Reply\n", why="x-autogenerated: reply"),
    Mail(name="an address of a list", kind=Kind.AUTO_REPLY, head="List-Id: <x>\nAuto-Submitted: auto-replied\n"),
    Mail(name="japanese", kind=Kind.AUTO_REPLY, head="Subject: =?utf-8?b?6Ieq5YuV5b+c562UOiB4?=\nPrecedence: junk\n"),
    Mail(
        name="an unknown word",
        kind=Kind.AUTO_REPLY,
        head=f"Auto-Submitted: secret-word\n{CITES}",
        why="auto-submitted: other",
    ),
]

OTHERS = [
    dsn("From: postmaster@x.test\n", "delivered", action="delivered", kind=Kind.REPORT),
    dsn("From: postmaster@x.test\n", "relayed", action="relayed", kind=Kind.REPORT),
    arf("abuse", Kind.COMPLAINT),
    arf("fraud", Kind.COMPLAINT, "From: staff@hotmail.test\nAuto-Submitted: auto-generated\n"),
    arf("opt-out", Kind.COMPLAINT),
    arf("auth-failure", Kind.REPORT),
    arf("not-spam", Kind.REPORT),
    mdn("From: a@b.test\nSubject: Read: x\n", "outlook receipt"),
    mdn(f"From: a@b.test\nAuto-Submitted: auto-replied\n{CITES}", "thunderbird receipt"),
    Mail(
        name="tls report",
        kind=Kind.REPORT,
        head="TLS-Report-Domain: demo.test\nContent-Type: application/tlsrpt+gzip\n",
        why="part: application/tlsrpt",
    ),
    Mail(
        name="dmarc aggregate",
        kind=Kind.REPORT,
        head='Content-Type: application/zip; name="isp.test!demo.test!1741042800!1741129199.zip"\n',
        why="filename: dmarc aggregate",
    ),
    Mail(name="a report of another type", kind=Kind.REPORT, head="Content-Type: multipart/report; boundary=x\n"),
    Mail(name="mailman", kind=Kind.LIST, head=f"List-Id: Talk <talk.x.test>\nPrecedence: list\n{CITES}", why="list-id"),
    Mail(name="newsletter", kind=Kind.LIST, head="List-Unsubscribe: <mailto:u@x.test>\nPrecedence: bulk\n"),
    Mail(
        name="google group", kind=Kind.LIST, head="Mailing-list: list g@x.test; contact o@x.test\n", why="mailing-list"
    ),
    Mail(name="generated list mail", kind=Kind.LIST, head=f"List-Id: <x>\nAuto-Submitted: auto-generated\n{CITES}"),
    Mail(name="a person answers", kind=Kind.REPLY, head=f"Subject: Re: x\n{CITES}", why="cites"),
    Mail(name="by references", kind=Kind.REPLY, head="References: <o@demo.test>\n"),
    Mail(name="by a token", kind=Kind.REPLY, head="Subject: Re: x\n", answers=True, why="answers: ours"),
    Mail(name="through a group", kind=Kind.REPLY, head=f"List-Id: <x>\nPrecedence: list\n{CITES}", answers=True),
    Mail(name="denied", kind=Kind.REPLY, head=f"Auto-Submitted: no\nX-Autoreply: no\n{CITES}"),
    Mail(name="writes about it", kind=Kind.REPLY, head=f"Subject: Out of office next week\n{CITES}"),
    Mail(name="a word with postmaster", kind=Kind.REPLY, head=f"From: postmaster@b.test\nSubject: Re: x\n{CITES}"),
    Mail(
        name="asks about a bounce", kind=Kind.REPLY, head=f"Subject: Re: Undelivered Mail Returned to Sender\n{CITES}"
    ),
    Mail(name="one hint is not enough", kind=Kind.REPLY, head=f"X-Auto-Response-Suppress: OOF\n{CITES}"),
    Mail(name="new", kind=Kind.NEW, head="Subject: hello\n"),
    Mail(
        name="a notification",
        kind=Kind.NEW,
        head="Auto-Submitted: auto-generated\n",
        why="auto-submitted: auto-generated",
    ),
    Mail(name="a form with the null sender", kind=Kind.NEW, head="Subject: hello\n", sender=""),
    Mail(name="out of office, no other hint", kind=Kind.NEW, head="Subject: Out of office party\n"),
    Mail(
        name="a bounce forwarded as a file",
        kind=Kind.NEW,
        head="Content-Type: multipart/mixed; boundary=r\n",
        body="--r\n\nWhat is this?\n--r\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; x\n--r\n"
        "Content-Type: message/rfc822\n\nContent-Type: multipart/report; report-type=delivery-status\n\n--r--\n",
    ),
]


@pytest.mark.parametrize(
    "mail", [*BOUNCES, JMRP, *RECEIPTS, *PEOPLE, *AUTOMATIC, *OTHERS], ids=lambda mail: f"{mail.kind}: {mail.name}"
)
def test_kinds(mail: Mail) -> None:
    verdict = kind_of(message_of(mail.head, mail.body), mail.sender, answers=mail.answers)
    assert verdict.kind == mail.kind, verdict.evidence
    assert not mail.why or mail.why in verdict.evidence


@pytest.mark.parametrize("mail", [*BOUNCES[:-1], JMRP], ids=lambda mail: mail.name)
def test_a_bounce_names_the_message_it_returns(mail: Mail) -> None:
    assert message_of(mail.head, mail.body).report_message_ids == ("o@demo.test",)


def test_the_number_of_returned_messages_is_bounded() -> None:
    parts = "".join(f"--r\nContent-Type: message/rfc822\n\nMessage-ID: <{n}@x.test>\n\n" for n in range(900))
    message = message_of("Content-Type: multipart/report; boundary=r\n", parts + "--r--\n")
    assert len(message.report_message_ids) == 20


def test_text_of_people_names_nothing() -> None:
    assert message_of("From: a@b.test\n", "Look:\n\nMessage-ID: <o@demo.test>\n").report_message_ids == ()


@pytest.mark.parametrize("mail", [*BOUNCES, *AUTOMATIC], ids=lambda mail: mail.name)
@pytest.mark.parametrize("sender", ["", None, SENDER])
def test_what_a_standard_marks_is_never_human(mail: Mail, sender: str | None) -> None:
    message = message_of(mail.head, mail.body)
    verdict = kind_of(message, sender, answers=True)
    marked = message.nature.settled or message.nature.automatic
    assert verdict.kind not in HUMAN or not marked


def test_a_meeting_room_that_accepts_is_a_calendar_answer() -> None:
    calendar = "BEGIN:VCALENDAR\nMETHOD:REPLY\nBEGIN:VEVENT\nATTENDEE;PARTSTAT=ACCEPTED:mailto:r@x.test\nEND:VEVENT\n"
    head = f"Auto-Submitted: auto-replied\nContent-Type: text/calendar; method=REPLY\n{CITES}"
    message = message_of(head, calendar)
    assert kind_of(message, answers=True) == Verdict(kind=Kind.CALENDAR, evidence=("calendar-method: reply",))
    assert message.calendar is not None
    assert message.calendar.answer == "ACCEPTED"


def test_evidence_holds_no_text_of_the_mail() -> None:
    secret = "hunter2"
    names = ["Auto-Submitted", "Precedence", "List-Id", "X-Autoreply", "X-Failed-Recipients", "Subject", "Return-Path"]
    head = (
        "".join(f"{name}: {secret}\n" for name in names)
        + f"Content-Type: multipart/report; report-type={secret}; boundary=b\n"
    )
    for text in (head, head.rpartition("Content-Type")[0]):
        verdict = kind_of(message_of(text, secret), "")
        assert secret not in " ".join(verdict.evidence)
        assert verdict.evidence


CORPUS = [
    ("mime-postalmime/fixtures/arf.eml", Kind.COMPLAINT),
    ("dkim-stalwart/arf/001.eml", Kind.COMPLAINT),
    ("dkim-stalwart/arf/002.eml", Kind.COMPLAINT),
    ("dkim-stalwart/arf/003.eml", Kind.REPORT),
    ("dkim-stalwart/arf/004.eml", Kind.REPORT),
    ("dkim-stalwart/arf/005.eml", Kind.REPORT),
    ("dkim-stalwart/dmarc-feedback/100.eml", Kind.REPORT),
    ("dkim-stalwart/dmarc-feedback/102.eml", Kind.REPORT),
    ("mime-postalmime/fixtures/bounce.eml", Kind.BOUNCE),
    ("mime-nodemailer/fixtures/delivery-status.eml", Kind.BOUNCE),
    ("mime-enmime/dsn/testdata/simple_dsn.raw", Kind.BOUNCE),
    ("mime-enmime/dsn/testdata/simple_dsn_with_html.raw", Kind.BOUNCE),
    ("mime-enmime/dsn/testdata/delayed_dsn.raw", Kind.BOUNCE),
    ("mime-rubymail/fixtures/emails/multipart_report_emails/report_422.eml", Kind.BOUNCE),
    ("mime-rubymail/fixtures/emails/multipart_report_emails/multi_address_bounce2.eml", Kind.BOUNCE),
    ("mime-cpython/msg_05.txt", Kind.BOUNCE),
    ("mime-cpython/msg_16.txt", Kind.BOUNCE),
    ("mime-postalmime/fixtures/calendar-event.eml", Kind.CALENDAR),
    ("mime-nodemailer/fixtures/large_text.eml", Kind.LIST),
]


@pytest.mark.parametrize(("name", "kind"), CORPUS)
def test_mails_of_the_corpora(corpora: Path, name: str, kind: Kind) -> None:
    assert kind_of(digest((corpora / name).read_bytes(), Bounds()), None).kind == kind


# -- hostile ----------------------------------------------------------------------------------------------------------

_NAMES = [
    "Auto-Submitted", "Precedence", "X-Precedence", "X-Autoreply", "List-Id", "Return-Path", "Subject", "From",
    "X-Failed-Recipients", "Content-Type", "In-Reply-To", "Delivered-To", "X-Auto-Response-Suppress", "Message-ID",
]  # fmt: skip
_VALUES = st.one_of(
    st.sampled_from([
        "auto-replied", "no", "(", ";", "bulk", "list", "<>", "<a@b>", "mailer-daemon@x", "failure notice",
        "multipart/report; report-type=delivery-status; boundary=b", "multipart/mixed; boundary=b", "text/calendar",
    ]),
    st.text(max_size=30).map(lambda text: text.replace("\n", " ").replace("\r", " ")),
)  # fmt: skip


@given(
    st.lists(st.tuples(st.sampled_from(_NAMES), _VALUES), max_size=15),
    st.sampled_from(["", None, SENDER]),
    st.booleans(),
)
@settings(max_examples=300)
def test_any_header_has_one_kind(fields: list[tuple[str, str]], sender: str | None, answers: bool) -> None:
    head = "".join(f"{name}: {value}\n" for name, value in fields)
    raw = (head + "\n--b\n\nx\n--b\nContent-Type: message/delivery-status\n\nAction: x\n--b--").encode(
        "utf-8", "replace"
    )
    message = digest(raw, Bounds())
    verdict = kind_of(message, sender, answers=answers)
    assert verdict.kind in Kind
    assert len(verdict.evidence) <= MAX_EVIDENCE
    assert all(text.isascii() and len(text) < 60 for text in verdict.evidence)
    if message.nature.automatic or message.nature.settled:
        assert verdict.kind not in HUMAN


@pytest.mark.parametrize(
    "unit", ["X-Autoreply: yes\n", "List-Id: x\n", "Auto-Submitted: (", "Precedence: bulk\n", "a" * 60]
)
@pytest.mark.parametrize("name", ["X: ", "Subject: ", "Return-Path: ", "X-Failed-Recipients: ", "From: "])
def test_a_megabyte_of_header(name: str, unit: str) -> None:
    def judge(mail: bytes) -> None:
        kind_of(digest(mail, Bounds(max_header_bytes=4 * MB)))

    raw = ("From: MAILER-DAEMON@x\n" + name + unit * (MB // len(unit)) + "\n\nMessage-ID:\n").encode()
    plain = ("From: MAILER-DAEMON@x\nSubject: x\n\n" + "Message-ID: \n" * (MB // 13)).encode()
    for one in (raw, plain):
        assert_cheap(partial(judge, one), seconds=0.2)
