"""Delivery status, feedback and disposition reports: what MTAs really send, what nobody should, and the cost."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingester.core.message import digest
from ingester.core.mime import Bounds
from ingester.core.plain_report import read_bounce
from ingester.core.report import (
    MAX_BYTES,
    MAX_RECIPIENTS,
    MAX_TEXT,
    REPORT_PARTS,
    DeliveryStatus,
    Disposition,
    Feedback,
    Recipient,
    Report,
    read_report,
)
from tests.cost import assert_cheap

MB = 1 << 20


def status(text: str) -> DeliveryStatus:
    found = read_report("delivery-status", text.replace("\n", "\r\n").encode())
    assert isinstance(found, DeliveryStatus)
    return found


def feedback(text: str) -> Feedback:
    found = read_report("feedback-report", text.encode())
    assert isinstance(found, Feedback)
    return found


def disposition(text: str) -> Disposition:
    found = read_report("disposition-notification", text.encode())
    assert isinstance(found, Disposition)
    return found


def recipient(
    final: str | None,
    action: str | None,
    code: str | None,
    *,
    original: str | None = None,
    diagnostic: str | None = None,
    remote: str | None = None,
) -> Recipient:
    return Recipient(
        final_recipient=final,
        original_recipient=original,
        action=action,
        status=code,
        diagnostic_code=diagnostic,
        remote_mta=remote,
    )


def test_postfix() -> None:
    found = status(
        "Reporting-MTA: dns; mx.demo.test\nX-Postfix-Queue-ID: 4ABC\nX-Postfix-Sender: rfc822; s@demo.test\n"
        "Arrival-Date: Tue,  4 Mar 2025 10:00:00 +0100 (CET)\n\n"
        "Final-Recipient: rfc822; a@b.test\nOriginal-Recipient: rfc822;A@b.test\nAction: failed\nStatus: 5.1.1\n"
        "Remote-MTA: dns; mail.b.test\nDiagnostic-Code: smtp; 550 5.1.1 <a@b.test>:\n    User unknown\n"
    )
    assert (found.reporting_mta, found.arrival_date) == ("mx.demo.test", datetime(2025, 3, 4, 9, tzinfo=UTC))
    assert found.recipients == (
        recipient(
            "a@b.test",
            "failed",
            "5.1.1",
            original="A@b.test",
            diagnostic="smtp; 550 5.1.1 <a@b.test>: User unknown",
            remote="mail.b.test",
        ),
    )
    assert not found.cut


def test_exchange() -> None:
    found = status(
        "Reporting-MTA: dns;AM0PR.eurprd.prod.outlook.test\nReceived-From-MTA: dns;x.test\n"
        "Arrival-Date: Tue, 4 Mar 2025 09:00:00 +0000\n\n"
        "Final-Recipient: rfc822;a@b.test\nAction: failed\nStatus: 5.1.10\n"
        "Diagnostic-Code: smtp;550 5.1.10 RESOLVER.ADR.RecipientNotFound; not found\n"
    )
    assert found.reporting_mta == "AM0PR.eurprd.prod.outlook.test"
    assert found.recipients[0].status == "5.1.10"


def test_ses_has_fields_in_its_own_order_and_untyped_text() -> None:
    found = status(
        "Reporting-MTA: dns; amazonses.test\n\nAction: failed\nFinal-Recipient: rfc822; a@b.test\n"
        "Diagnostic-Code: smtp; 550 no such user\nStatus: 5.1.1\n\n\n"
    )
    assert found.recipients == (recipient("a@b.test", "failed", "5.1.1", diagnostic="smtp; 550 no such user"),)


def test_exim_and_gmail() -> None:
    exim = status(
        "Reporting-MTA: dns; exim.test\n\nAction: failed\nFinal-Recipient: rfc822;a@b.test\nStatus: 5.0.0\n"
        "Remote-MTA: dns; b.test\nDiagnostic-Code: smtp; 550 no\n"
    )
    assert (exim.recipients[0].status, exim.recipients[0].remote_mta) == ("5.0.0", "b.test")
    gmail = status(
        "Reporting-MTA: dns; googlemail.test\nArrival-Date: Tue, 04 Mar 2025 01:00:00 -0800 (PST)\n"
        "X-Original-Message-ID: <o@demo.test>\n\nFinal-Recipient: rfc822; a@b.test\nAction: failed\nStatus: 4.4.1\n"
        "Diagnostic-Code: smtp; The recipient server did not accept our requests to connect.\n"
        "Last-Attempt-Date: Tue, 04 Mar 2025 02:00:00 -0800 (PST)\n"
    )
    assert (gmail.recipients[0].action, gmail.recipients[0].status) == ("failed", "4.4.1")


def test_several_recipients_and_blank_lines_with_blanks() -> None:
    found = status(
        "Reporting-MTA: dns; x\n \t\nFinal-Recipient: rfc822; <a@b>\nAction: FAILED\n\n \n\n"
        "Final-Recipient: utf-8; \u00fc@b\nAction: Delayed (so far)\nStatus: 4.0.0 (host unknown)\n\n"
        "Final-Recipient: c@b\nAction: exploded\nStatus: bad\n"
    )
    assert found.recipients == (
        recipient("a@b", "failed", None),
        recipient("\u00fc@b", "delayed", "4.0.0"),
        recipient("c@b", "other", None),
    )


def test_a_forgotten_empty_line() -> None:
    found = status("Reporting-MTA: dns; x\nFinal-Recipient: rfc822; a@b\nAction: failed\nStatus: 5.2.2\n")
    assert (found.reporting_mta, found.recipients) == ("x", (recipient("a@b", "failed", "5.2.2"),))


def test_free_text_is_no_report() -> None:
    assert read_report("delivery-status", b"This Message was undeliverable\r\n\r\n<a@b> has no room") is None
    assert read_report("feedback-report", b"Hello: there") is None
    assert read_report("disposition-notification", b"") is None


def test_the_number_of_recipients_is_bounded() -> None:
    found = status("Reporting-MTA: dns; x\n\n" + "Final-Recipient: rfc822; a@b\nAction: failed\n\n" * 1000)
    assert len(found.recipients) == MAX_RECIPIENTS
    assert found.cut


def test_feedback_of_abuse() -> None:
    found = feedback(
        "Feedback-Type: Abuse\r\nUser-Agent: Yahoo!-Mail-Feedback/2.0\r\nVersion: 0.1\r\n"
        "Original-Mail-From: <bounce+x@demo.test>\r\nOriginal-Rcpt-To: <a@b.test>\r\nOriginal-Rcpt-To: c@b.test\r\n"
        "Received-Date: Tue, 4 Mar 2025 09:00:00 GMT\r\nReported-Domain: demo.test\r\nSource-IP: [192.0.2.7] (x)\r\n"
    )
    assert (found.feedback_type, found.user_agent) == ("abuse", "Yahoo!-Mail-Feedback/2.0")
    assert (found.original_mail_from, found.original_rcpt_to) == ("bounce+x@demo.test", ("a@b.test", "c@b.test"))
    assert (found.source_ip, found.reported_domain) == ("192.0.2.7", ("demo.test",))
    assert found.arrival_date == datetime(2025, 3, 4, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ip", "kept"), [("2001:DB8::1", "2001:db8::1"), ("IPv6:2001:db8::1", "2001:db8::1"), ("no", None), ("", None)]
)
def test_a_source_ip_is_one_or_none(ip: str, kept: str | None) -> None:
    assert feedback(f"Feedback-Type: x y\r\nSource-IP: {ip}\r\n").source_ip == kept


def test_a_failed_authentication() -> None:
    found = feedback("Feedback-Type: auth-failure\nAuth-Failure: dmarc\nUser-Agent: x\n\nSource-IP: 192.0.2.1\n")
    assert (found.feedback_type, found.auth_failure, found.source_ip) == ("auth-failure", "dmarc", "192.0.2.1")


@pytest.mark.parametrize(
    ("value", "what", "mode"),
    [
        ("manual-action/MDN-sent-manually; displayed", "displayed", "manual-action"),
        ("automatic-action/MDN-sent-automatically; deleted/error", "deleted", "automatic-action"),
        ("manual-action/MDN-sent-manually;displayed", "displayed", "manual-action"),
        ("displayed", "displayed", None),
        (";", None, None),
    ],
)
def test_disposition(value: str, what: str | None, mode: str | None) -> None:
    found = disposition(
        "Reporting-UA: host; Thunderbird\r\nFinal-Recipient: rfc822;a@b.test\r\n"
        f"Original-Message-ID: <o@demo.test>\r\nDisposition: {value}\r\n"
    )
    assert (found.disposition, found.mode) == (what, mode)
    assert (found.original_message_id, found.final_recipient) == ("o@demo.test", "a@b.test")
    assert found.reporting_ua == "host; Thunderbird"


def test_failed_recipients_of_a_header() -> None:
    raw = (
        b"From: Mail Delivery System <Mailer-Daemon@x.test>\r\nX-Failed-Recipients: a@b.test,\r\n c@b.test\r\n\r\nText"
    )
    found = digest(raw, Bounds()).report
    assert isinstance(found, DeliveryStatus)
    assert [one.final_recipient for one in found.recipients] == ["a@b.test", "c@b.test"]
    assert {one.action for one in found.recipients} == {"failed"}


@pytest.mark.parametrize(
    ("name", "recipients", "statuses"),
    [
        ("mime-enmime/dsn/testdata/multi_recipient_dsn.raw", 3, {"5.0.0", "4.0.0"}),
        ("mime-enmime/dsn/testdata/delayed_dsn.raw", 1, {"4.0.0"}),
        ("mime-enmime/dsn/testdata/dsn_with_multipart_alternative.raw", 1, {"5.1.10"}),
        ("mime-postalmime/fixtures/bounce.eml", 1, {"5.0.0"}),
        ("mime-nodemailer/fixtures/delivery-status.eml", 1, {"5.1.1"}),
        ("mime-rubymail/fixtures/emails/multipart_report_emails/multi_address_bounce1.eml", 5, {"5.1.1"}),
        ("mime-rubymail/fixtures/emails/multipart_report_emails/multipart_report_multiple_status.eml", 1, {"5.3.0"}),
        ("mime-rubymail/fixtures/emails/multipart_report_emails/report_422.eml", 1, {"4.2.2"}),
        ("mime-rubymail/fixtures/emails/multipart_report_emails/report_530.eml", 1, {"5.3.0"}),
        ("mime-cpython/msg_43.txt", 25, {"5.7.1"}),
    ],
)
def test_bounces_of_the_corpora(corpora: Path, name: str, recipients: int, statuses: set[str]) -> None:
    found = digest((corpora / name).read_bytes(), Bounds()).report
    assert isinstance(found, DeliveryStatus)
    assert len(found.recipients) == recipients
    assert {one.status for one in found.recipients} == statuses
    assert all(one.final_recipient and "@" in one.final_recipient for one in found.recipients)


def test_feedback_of_the_corpora(corpora: Path) -> None:
    names = sorted((corpora / "dkim-stalwart/arf").glob("*.eml"))
    found = [
        digest(name.read_bytes(), Bounds()).report for name in (*names, corpora / "mime-postalmime/fixtures/arf.eml")
    ]
    kinds = ["abuse", "abuse", "auth-failure", "auth-failure", "auth-failure", "abuse"]
    assert [one.feedback_type for one in found if isinstance(one, Feedback)] == kinds
    last = found[-1]
    assert isinstance(last, Feedback)
    assert (last.source_ip, last.original_rcpt_to) == ("192.0.2.1", ("user@example.com",))


# -- without structure ------------------------------------------------------------------------------------------------


def report_of(head: str, body: str) -> Report | None:
    return digest((head + "\n" + body).replace("\n", "\r\n").encode(), Bounds()).report


def recipients_of(body: str) -> tuple[Recipient, ...]:
    found = report_of("From: MAILER-DAEMON@x.test\n", body)
    assert isinstance(found, DeliveryStatus)
    return found.recipients


COPY = "\n--- Below this line is a copy of the message.\n\nMessage-ID: <o@demo.test>\n\n<z@z.test>:\nnothing\n"


def test_qmail_names_its_recipients() -> None:
    found = recipients_of(
        "Hi. This is the qmail-send program at q.test.\nI'm afraid I wasn't able to deliver your message.\n\n"
        "<a@b.test>:\n192.0.2.1 does not like recipient.\nRemote host said: 550 5.1.1 unknown\n\n"
        "<c@d.test>:\nSorry, no mailbox here by that name. (#5.1.1)\n" + COPY
    )
    assert found == (
        recipient(
            "a@b.test",
            "failed",
            "5.1.1",
            diagnostic="192.0.2.1 does not like recipient. Remote host said: 550 5.1.1 unknown",
        ),
        recipient("c@d.test", "failed", "5.1.1", diagnostic="Sorry, no mailbox here by that name. (#5.1.1)"),
    )


def test_exim_of_old_names_its_recipients() -> None:
    opening = "This message was created automatically by mail delivery software.\n\n"
    found = recipients_of(
        opening + "A message that you sent could not be delivered to all of its recipients. The following address(es)"
        " failed:\n\n  a@b.test\n    SMTP error from remote mail server after RCPT TO:<a@b.test>:\n"
        "    550 no such user\n  c@d.test\n    unrouteable mail domain\n\n------ This is a copy ------\n\n  z@z.test\n"
    )
    assert [(one.final_recipient, one.action) for one in found] == [("a@b.test", "failed"), ("c@d.test", "failed")]
    assert found[1].diagnostic_code == "unrouteable mail domain"
    (late,) = recipients_of(
        opening + "A message that you sent has not yet been delivered to one or more of its recipients after more than"
        " 24 hours on the queue.\n\nThe address to which the message has not yet been delivered is:\n\n  a@b.test\n"
    )
    assert late == recipient("a@b.test", "delayed", None)


def test_postfix_of_old_names_its_recipients() -> None:
    found = recipients_of(
        "This is the Postfix program at host p.test.\n\nI'm sorry to have to inform you.\n\n"
        "<a@b.test>: host mx.b.test[192.0.2.1] said: 550 5.7.1 no\n    relay (in reply to RCPT TO command)\n\n"
        "<c@d.test> (expanded from <list@p.test>): unknown user\n"
    )
    assert found == (
        recipient(
            "a@b.test",
            "failed",
            "5.7.1",
            diagnostic="host mx.b.test[192.0.2.1] said: 550 5.7.1 no relay (in reply to RCPT TO command)",
        ),
        recipient("c@d.test", "failed", None, diagnostic="unknown user"),
    )


def test_the_text_of_people_is_no_report() -> None:
    assert report_of("From: ann@x.test\n", "Hi, this is Ann.\n\n<a@b.test>:\nno mailbox\n") is None
    assert report_of("From: MAILER-DAEMON@x.test\n", "Something failed.\n\n<a@b.test>:\nno mailbox\n") is None


def test_recipients_in_text_are_bounded() -> None:
    found = report_of(
        "From: MAILER-DAEMON@x.test\n",
        "Hi. This is the qmail-send program\n\n" + "<a@b.test>:\n\n" * (MAX_RECIPIENTS + 50),
    )
    assert isinstance(found, DeliveryStatus)
    assert (len(found.recipients), found.cut) == (MAX_RECIPIENTS, True)


JMRP = (
    "From: staff@hotmail.com\nSubject: complaint about message from 192.0.2.7\nContent-Type: multipart/x; boundary=r\n"
)
RETURNED = (
    "--r\nContent-Type: message/rfc822\n\nX-HmXmrOriginalRecipient: <ann@hotmail.com>\nMessage-ID: <o@x>\n\nx\n--r--\n"
)


def test_a_complaint_of_hotmail() -> None:
    want = Feedback(feedback_type="abuse", original_rcpt_to=("ann@hotmail.com",), source_ip="192.0.2.7")
    assert report_of(JMRP, RETURNED) == want
    assert report_of("X-HmXmrOriginalRecipient: ann@hotmail.com\n" + JMRP, "--r\n\nx\n--r--\n") == want
    assert report_of(JMRP.replace("staff@", "ann@"), RETURNED) is None
    assert report_of(JMRP, RETURNED.replace("HmXmr", "Else")) is None


def test_hotmails_field_completes_a_feedback_report() -> None:
    head = "From: fbl@x.test\nContent-Type: multipart/report; report-type=feedback-report; boundary=r\n"
    part = "--r\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\nUser-Agent: x\n"
    found = report_of(head, part + RETURNED)
    assert isinstance(found, Feedback)
    assert found.original_rcpt_to == ("ann@hotmail.com",)
    own = report_of(head, part + "Original-Rcpt-To: <bob@x.test>\n" + RETURNED)
    assert isinstance(own, Feedback)
    assert own.original_rcpt_to == ("bob@x.test",)


@pytest.mark.parametrize(
    "unit",
    ["<a@b.test>:\n", "<a@b.test>: x\n", "<a", "<a@b> (expanded from ", "  a@b\n", "  a@b (", "5.1.", "\n", "a@"],
)
def test_a_hostile_bounce_in_text_is_cheap(unit: str) -> None:
    text = "Hi. This is the qmail-send program\n\n" + "<a@b.test>: " + (unit * MB)[:MB]
    assert_cheap(lambda: read_bounce(text), seconds=0.2)


# -- hostile ----------------------------------------------------------------------------------------------------------


def texts(report: Report) -> list[str]:
    values = [getattr(report, name) for name in type(report).__slots__]
    if isinstance(report, DeliveryStatus):
        values += [getattr(one, name) for one in report.recipients for name in Recipient.__slots__]
    return [value for value in values if isinstance(value, str)]


_TYPES = sorted(set(REPORT_PARTS.values()))
_FIELDS = st.lists(
    st.one_of(
        st.sampled_from([
            b"", b" ", b"Final-Recipient: rfc822; a@b", b"Final-Recipient: ;", b"Action: failed", b"Status: 5.1.1",
            b"Disposition: a/b; c", b"Feedback-Type: abuse", b"Source-IP: \xff", b"Original-Message-ID: <", b":", b"\0",
            b"Arrival-Date: 31 Feb", b"Reporting-MTA: =?utf-8?b?AAAA?=",
        ]),
        st.binary(max_size=30),
    )
)  # fmt: skip


@given(st.sampled_from(_TYPES), _FIELDS)
@settings(max_examples=300)
def test_any_fields_give_bounded_text(report_type: str, lines: list[bytes]) -> None:
    found = read_report(report_type, b"\r\n".join(lines))
    if found is not None:
        assert found.type == report_type
        assert all(len(text) <= MAX_TEXT and "\0" not in text for text in texts(found))


_UNITS = [
    b"\n", b"\r\n", b"\n \n", b" ", b"A: b\n", b"A: b\n\n", b"Final-Recipient: rfc822; a@b\n\n", b"Action: failed\n",
    b"Status: 5.1.", b"5.1.1", b"Final-Recipient: ", b"rfc822;", b"<", b"=?utf-8?q?a?= ", b"x", b"\n x", b"/",
    b";", b"\xff", b"a-", b"Message-ID:\n",
]  # fmt: skip


@pytest.mark.parametrize("unit", _UNITS)
@pytest.mark.parametrize(
    "start", [b"", b"Final-Recipient: ", b"Status: ", b"Disposition: ", b"Feedback-Type: ", b"Original-Message-ID: <"]
)
@pytest.mark.parametrize("report_type", _TYPES)
def test_a_megabyte_takes_less_than_a_fifth_of_a_second(report_type: str, start: bytes, unit: bytes) -> None:
    data = start + (unit * (MB // len(unit) + 1))[:MB]
    assert len(data) > MAX_BYTES
    assert_cheap(lambda: read_report(report_type, data), seconds=0.2)
