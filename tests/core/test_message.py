"""What the store keeps of a mail."""

from datetime import UTC, datetime
from hashlib import sha256

import pytest

from ingester.core.message import MAX_SUBJECT, Message, digest
from ingester.core.mime import Bounds
from ingester.core.top_header import MAX_ADDRESSES

MAIL = (
    b"Received: from a by b; Mon, 1 Jan 2024 00:00:00 +0000\r\n"
    b"Received: from c by d; Mon, 1 Jan 2024 00:00:00 +0000\r\n"
    b"From: =?utf-8?q?J=C3=BCrgen?= <Juergen@Example.test>\r\n"
    b"To: Support <support@demo.test>,\r\n other@demo.test\r\n"
    b"Cc: c@demo.test\r\n"
    b"Reply-To: r@example.test\r\n"
    b"Subject: Re: =?utf-8?b?R3LDvMOfZQ==?=\r\n"
    b"Date: Mon, 1 Jan 2024 10:00:00 +0100\r\n"
    b"Message-ID: <id-1@example.test>\r\n"
    b"In-Reply-To: <p@demo.test>\r\n"
    b"References: <o@demo.test>\r\n <p@demo.test>\r\n"
    b"\r\nHello\r\n"
)


def read(raw: bytes) -> Message:
    return digest(raw, Bounds())


def test_everything_a_mail_says_of_itself() -> None:
    message = read(MAIL)
    assert message.subject == "Re: Grüße"
    assert (message.from_address, message.from_name) == ("Juergen@Example.test", "Jürgen")
    assert message.to_addresses == ("support@demo.test", "other@demo.test")
    assert (message.cc_addresses, message.reply_to_addresses) == (("c@demo.test",), ("r@example.test",))
    assert message.header_to == "Support <support@demo.test>, other@demo.test"
    assert message.rfc_message_id == "id-1@example.test"
    assert message.in_reply_to == ("p@demo.test",)
    assert message.reference_ids == ("o@demo.test", "p@demo.test")
    assert message.sent_at == datetime(2024, 1, 1, 9, tzinfo=UTC)
    assert message.date_raw == "Mon, 1 Jan 2024 10:00:00 +0100"
    assert message.body_text == "Hello\n"
    assert message.body_html is None
    assert message.received_count == 2
    assert message.flags == ()
    (part,) = message.parts
    assert (part.role, part.decoded_size, part.sha256) == ("body", 7, sha256(b"Hello\r\n").digest())


def test_a_mail_that_says_nothing() -> None:
    message = read(b"")
    assert (message.subject, message.from_address, message.from_name, message.header_to) == ("", None, None, None)
    assert (message.rfc_message_id, message.in_reply_to, message.reference_ids) == (None, (), ())
    assert (message.sent_at, message.date_raw, message.body_text, message.body_html) == (None, None, "", None)
    assert message.received_count == 0


@pytest.mark.parametrize("sender", [b"From: <>", b"From:", b"From: \r\n ", b"Subject: x"])
def test_a_null_from_is_no_address(sender: bytes) -> None:
    assert read(sender + b"\r\n\r\n").from_address is None


@pytest.mark.parametrize(
    "header",
    [b"From: a@b\r\nFrom: c@d\r\n", b"From: a@b, c@d\r\n", b"From: A <a@b> <c@d>\r\n", b"From: \r\nFrom: a@b\r\n"],
)
def test_several_senders_are_flagged_and_the_first_is_kept(header: bytes) -> None:
    message = read(header + b"\r\n")
    assert "several_from" in message.flags
    assert message.from_address == "a@b"


def test_text_that_is_too_long_is_cut_and_flagged() -> None:
    message = read(b"Subject: " + b"x" * 9999 + b"\r\nTo: " + b"a@b, " * 2000 + b"\r\n\r\n")
    assert len(message.subject) == MAX_SUBJECT
    assert len(message.to_addresses) == MAX_ADDRESSES
    assert {"header_cut", "addresses_cut"} <= set(message.flags)


def test_an_unusable_message_id_is_none() -> None:
    assert read(b"Message-ID: <>\r\n\r\n").rfc_message_id is None
    assert read(b"Message-ID: a b\r\n\r\n").rfc_message_id is None


def test_the_content_key_withstands_what_relays_do() -> None:
    key = read(MAIL).content_key
    relayed = b"Received: by e\r\n" + MAIL.replace(b"To: Support <support@demo.test>,\r\n ", b"To: Support, ")
    assert read(relayed).content_key == key
    assert read(MAIL.replace(b"Subject: Re: ", b"Subject: Re:\r\n ")).content_key == key


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"id-1@", b"id-2@"),
        (b"Juergen@", b"jurgen@"),
        (b"10:00:00", b"10:00:01"),
        (b"Re: ", b"Fw: "),
        (b"Hello", b"Hallo"),
    ],
)
def test_the_content_key_tells_other_content(old: bytes, new: bytes) -> None:
    assert read(MAIL.replace(old, new, 1)).content_key != read(MAIL).content_key


REPORT = (
    b"Content-Type: multipart/report; report-type=delivery-status; boundary=r\r\n\r\n"
    b"--r\r\n\r\nFailed.\r\n"
    b"--r\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\nMessage-ID: <no@x>\r\n"
    b"--r\r\nContent-Type: %s\r\n%s\r\n%s\r\n"
    b"--r--\r\n"
)


@pytest.mark.parametrize(
    "kind", [b"message/rfc822", b"text/rfc822-headers", b"message/global", b"message/global-headers"]
)
def test_a_report_names_the_message_it_is_about(kind: bytes) -> None:
    message = read(REPORT % (kind, b"", b"Subject: x\r\nMessage-ID: <ours@demo.test>\r\n\r\nbody"))
    assert message.report_message_ids == ("ours@demo.test",)
    assert message.rfc_message_id is None
    assert message.body_text == "Failed."


def test_a_report_may_be_encoded() -> None:
    field = b"Content-Transfer-Encoding: base64\r\n"
    message = read(REPORT % (b"message/rfc822", field, b"TWVzc2FnZS1JRDogPG91cnNAZGVtby50ZXN0Pg=="))
    assert message.report_message_ids == ("ours@demo.test",)


def test_a_read_receipt_names_the_message_too() -> None:
    message = read(REPORT % (b"message/disposition-notification", b"", b"Original-Message-ID: <ours@demo.test>"))
    assert message.report_message_ids == ("ours@demo.test",)


def test_an_embedded_message_is_not_read_elsewhere() -> None:
    raw = REPORT.replace(b"multipart/report", b"multipart/mixed")
    assert read(raw % (b"message/rfc822", b"", b"Message-ID: <ours@demo.test>\r\n\r\n")).report_message_ids == ()


def test_the_bound_on_address_tokens_is_a_setting() -> None:
    raw = b"To: " + b", ".join(b"u%d@x.test" % n for n in range(100)) + b"\r\n\r\n"
    assert len(digest(raw, Bounds()).to_addresses) == 100
    few = digest(raw, Bounds(max_address_tokens=20))
    assert len(few.to_addresses) < 30
    assert "addresses_cut" in few.flags
