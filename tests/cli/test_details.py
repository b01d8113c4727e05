"""The kind of a mail, its invitation and its report: stored, matched and shown."""

import pytest

from ingester.cli.details import RECIPIENTS, detail_lines
from tests.cli.conftest import Cli

OURS = (
    b"From: Support <support@acme.test>\r\nTo: ada@customer.test\r\nSubject: Offer\r\n"
    b"Message-ID: <ours@acme.test>\r\n\r\nHi\r\n"
)
BOUNCE = (
    b"From: MAILER-DAEMON@mx.test\r\nTo: support@acme.test\r\nSubject: Undelivered Mail\r\nMessage-ID: <b@mx.test>\r\n"
    b"Auto-Submitted: auto-replied\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=r\r\n\r\n"
    b"--r\r\n\r\nSorry.\r\n--r\r\nContent-Type: message/delivery-status\r\n\r\n"
    b"Reporting-MTA: dns; mx.test\r\nArrival-Date: Tue, 4 Mar 2025 10:00:00 +0100\r\n\r\n"
    b"Final-Recipient: rfc822; ada@customer.test\r\nAction: failed\r\nStatus: 5.1.1\r\n"
    b"Diagnostic-Code: smtp; 550 no\r\n"
    b"--r\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: <ours@acme.test>\r\n--r--\r\n"
)
ANSWER = (
    b"From: Ada <ada@customer.test>\r\nSubject: Accepted: Plan\r\nMessage-ID: <c@customer.test>\r\n"
    b"In-Reply-To: <ours@acme.test>\r\nContent-Type: text/calendar; method=REPLY\r\n\r\n"
    b"BEGIN:VCALENDAR\r\nMETHOD:REPLY\r\nBEGIN:VEVENT\r\nUID:7\r\nSUMMARY:Plan\r\n"
    b"DTSTART;TZID=Europe/Paris:20250310T140000\r\n"
    b"ATTENDEE;PARTSTAT=DECLINED:mailto:ada@customer.test\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
)
AWAY = (
    b"From: Ada <ada@customer.test>\r\nSubject: Re: Offer\r\nMessage-ID: <v@customer.test>\r\nIn-Reply-To:"
    b" <ours@acme.test>\r\n\r\nI am away.\r\n"
)


@pytest.fixture
def town(cli: Cli) -> Cli:
    cli.town()
    cli.accept(OURS)
    return cli


def test_a_bounce_is_matched_by_what_its_report_names(town: Cli) -> None:
    message_id = town.accept(BOUNCE, mail_from="").stored[0].message_id
    shown = town.json("show", message_id)
    message = shown["message"]
    assert (message["kind"], message["reply_match_status"], message["reply_match_method"]) == (
        "bounce",
        "matched",
        "report",
    )
    details = message["details"]
    assert details["kind_evidence"] == ["part: delivery-status", "action: failed", "envelope: null sender"]
    assert (details["calendar"], details["report"]["type"]) == (None, "delivery-status")
    assert details["report"]["arrival_date"] == "2025-03-04T09:00:00Z"
    assert details["report"]["recipients"][0]["status"] == "5.1.1"
    assert any(line.startswith("The report names <ours@acme.test>: that is message") for line in shown["decision"])
    lines = town.ok("show", message_id).splitlines()
    assert "kind by part: delivery-status, action: failed, envelope: null sender" in lines
    assert "  ada@customer.test: failed, 5.1.1, smtp; 550 no" in lines


def test_an_answer_to_an_invitation(town: Cli) -> None:
    message_id = town.accept(ANSWER).stored[0].message_id
    message = town.json("show", message_id)["message"]
    assert (message["kind"], message["reply_match_status"]) == ("calendar", "matched")
    calendar = message["details"]["calendar"]
    assert (calendar["method"], calendar["uid"], calendar["answer"]) == ("REPLY", "7", "DECLINED")
    lines = town.ok("show", message_id).splitlines()
    assert {"  2025-03-10T14:00:00 Europe/Paris", "  ada@customer.test: declined"} <= set(lines)


@pytest.mark.parametrize(("sender", "kind"), [("", "auto_reply"), ("ada@customer.test", "reply")])
def test_an_answer_with_the_null_sender_is_no_human_reply(town: Cli, sender: str, kind: str) -> None:
    message = town.json("show", town.accept(AWAY, mail_from=sender).stored[0].message_id)["message"]
    assert (message["kind"], message["reply_match_method"]) == (kind, "in_reply_to")


def test_a_mail_without_details_shows_none() -> None:
    assert detail_lines({}) == []
    assert detail_lines({"kind_evidence": [], "calendar": None, "report": None}) == []


def test_long_lists_are_cut() -> None:
    people = [{"address": None, "name": None, "answer": "ACCEPTED"}] * (RECIPIENTS + 3)
    lines = detail_lines({"calendar": {"method": "REQUEST", "attendees": people}})
    assert lines == ["calendar: method REQUEST", *["  ?: accepted"] * RECIPIENTS, "  and 3 more"]
