"""ingester show and raw: every stored byte comes back, and the decision is told in words."""

from base64 import b64encode
from email.parser import BytesHeaderParser
from hashlib import sha256
from pathlib import Path

import pytest

from ingester.core.envelope import Door
from tests.cli.conftest import Cli
from tests.core.tnef_files import attachment, tnef

PNG = bytes(range(256)) * 3
MIXED = (
    b"From: Ada <ada@customer.test>\r\nTo: support@acme.test\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
    b"Message-ID: <first@customer.test>\r\nDate: Mon, 02 Nov 2026 09:00:00 +0100\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=XX\r\n\r\n"
    b"--XX\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    b"Sch=C3=B6n.\r\n"
    b"--XX\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n"
    b"Content-Disposition: attachment; filename=a.png\r\n\r\n" + b64encode(PNG) + b"\r\n--XX--\r\n"
)


def _reply(name: str, to: str) -> bytes:
    return (
        f"From: Ada <ada@customer.test>\r\nTo: support@acme.test\r\nSubject: Re: it\r\n"
        f"Message-ID: <{name}@customer.test>\r\nIn-Reply-To: <{to}@customer.test>\r\n\r\nYes.\r\n"
    ).encode()


@pytest.fixture
def town(cli: Cli) -> Cli:
    cli.town()
    return cli


# -- show --------------------------------------------------------------------------------------------------------------


def test_show_has_all_there_is(town: Cli) -> None:
    outcome = town.accept(MIXED, "Support+Blue@acme.test")
    shown = town.json("show", outcome.stored[0].message_id)
    assert set(shown) == {
        "message", "decision", "parts", "receipts", "thread", "thread_messages", "authentication_results",
        "delivery_events",
    }  # fmt: skip
    message = shown["message"]
    wanted = {
        "tenant": "acme", "mailbox": "support@acme.test", "subject": "Gr\u00fc\u00dfe", "from_name": "Ada",
        "rfc_message_id": "first@customer.test", "recipient_tag": "Blue", "reply_match_status": "unmatched",
        "envelope_from": "ada@customer.test", "size": len(MIXED), "sent_at": "2026-11-02T08:00:00Z",
    }  # fmt: skip
    assert wanted.items() <= message.items()
    assert [(part["ordinal"], part["role"], part["content_type"], part["filename"]) for part in shown["parts"]] == [
        (1, "body", "text/plain", None),
        (2, "attachment", "image/png", "a.png"),
    ]
    assert shown["parts"][1]["sha256"] == sha256(PNG).hexdigest()
    receipt = shown["receipts"][0]
    assert (receipt["arrival_id"], receipt["client_ip"]) == (str(outcome.arrival_id), "192.0.2.1")
    assert receipt["envelope_to"] == ["Support+Blue@acme.test"]
    assert shown["thread"]["message_count"] == 1


def test_show_for_human_eyes(town: Cli) -> None:
    message_id = town.accept(MIXED, "support@acme.test").stored[0].message_id
    lines = town.ok("show", message_id).splitlines()
    assert lines[1] == "Gr\u00fc\u00dfe"
    assert any(line.split() == ["from", "Ada", "<ada@customer.test>"] for line in lines)
    assert "Unmatched: it cites no message." in lines
    assert "Sch\u00f6n." in lines
    attachment = next(line for line in lines if "a.png" in line)
    assert attachment.split()[:6] == ["2", "2", "attachment", "image/png", "a.png", str(len(PNG))]
    assert any("192.0.2.1" in line and "TLSv1.3" in line for line in lines)
    assert any(line.startswith(">") and str(message_id) in line for line in lines)


def test_the_decision_is_told_in_words(town: Cli) -> None:
    first = town.accept(_reply("a", "never-seen"), "support@acme.test").stored[0].message_id
    assert town.json("show", first)["decision"] == [
        "support@acme.test reached the mailbox support@acme.test by the exact route.",
        "In-Reply-To names <never-seen@customer.test>: not in this mailbox.",
        "The sender was not verified and not expected; DMARC: none.",
        "The domain has no DMARC policy.",
        "Unmatched: it cites messages, but none of them was in this mailbox.",
    ]
    second = town.accept(_reply("b", "a"), "support@acme.test").stored[0].message_id
    assert town.json("show", second)["decision"][1:] == [
        f"In-Reply-To names <a@customer.test>: that is message {first}, taken.",
        "The sender was not verified and not expected; DMARC: none.",
        "The domain has no DMARC policy.",
        f"Matched by its In-Reply-To: it answers message {first}.",
    ]
    late = town.accept(_reply("never-seen", "x"), "support@acme.test").stored[0].message_id
    assert town.json("show", first)["decision"][-1] == (
        f"Matched by the arrival of a message that it had cited before: it answers message {late}."
    )
    assert len(town.json("show", first)["thread_messages"]) == 3


def test_a_second_arrival_is_a_receipt_and_its_arrival_id_will_do(town: Cli) -> None:
    first = town.accept(MIXED, "support@acme.test")
    second = town.accept(MIXED, "support@acme.test")
    shown = town.json("show", second.arrival_id)
    assert shown["message"]["id"] == str(first.stored[0].message_id)
    assert [one["duplicate"] for one in shown["receipts"]] == [False, True]
    assert "duplicate" in town.ok("show", first.arrival_id)


def test_an_arrival_that_stands_for_several_messages_is_not_unique(town: Cli) -> None:
    outcome = town.accept(MIXED, "support@acme.test", "support@globex.test")
    words = town.fails("show", outcome.arrival_id)
    assert words.startswith(f"The arrival {outcome.arrival_id} stands for 2 rows, name one: ")
    assert all(str(stored.message_id) in words for stored in outcome.stored)


def test_hostile_text_does_not_reach_the_terminal(town: Cli) -> None:
    raw = (
        b"From: =?utf-8?q?=1B=5D0=3Bowned=07?= <ada@customer.test>\r\nSubject: =?utf-8?q?=1B[2J_=E2=80=AEgpj.exe?=\r\n"
        b"Message-ID: <\x1b[31m@x>\r\n\r\n[bold]body[/bold] \x1b[2J \x9b31m\r\n"
    )
    text = town.ok("show", town.accept(raw).stored[0].message_id)
    assert not {char for char in text if not char.isprintable()} - {"\n"}
    assert "[bold]body[/bold]" in text


# -- raw ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [MIXED, b"", b"\0\xff no header\nbare\r", b"A: b\r\n\r\n.\r\n..\r\n"])
def test_raw_gives_back_every_byte(town: Cli, raw: bytes, tmp_path: Path) -> None:
    outcome = town.accept(raw, "support@acme.test")
    assert town.run("raw", outcome.stored[0].message_id).stdout_bytes == raw
    assert town.run("raw", outcome.arrival_id).stdout_bytes == raw
    assert town.ok("raw", outcome.stored[0].message_id, "-o", tmp_path / "mail") == ""
    assert (tmp_path / "mail").read_bytes() == raw


def test_parts_out_of_a_part_have_their_bytes(town: Cli) -> None:
    raw = (
        b"Content-Type: multipart/mixed; boundary=XX\r\n\r\n--XX\r\n\r\nbegin 644 cat.txt\r\n#0V%T\r\n`\r\nend\r\n"
        b"--XX\r\nContent-Type: application/ms-tnef; name=winmail.dat\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + b64encode(tnef(attachment(b"a.png", PNG), attachment(b"empty", b"")))
        + b"\r\n--XX--\r\n"
    )
    stored = town.accept(raw, "support@acme.test").stored[0]
    parts = town.json("show", stored.message_id)["parts"]
    assert [(part["path"], part["parent_ordinal"], part["filename"]) for part in parts] == [
        ("1", None, None), ("1.u1", 1, "cat.txt"), ("2", None, "winmail.dat"),
        ("2.t1", 3, "a.png"), ("2.t2", 3, "empty"),
    ]  # fmt: skip
    assert [part["offset"] is None for part in parts] == [False, False, False, True, True]
    pieces = [town.run("raw", stored.message_id, "--part", number).stdout_bytes for number in (2, 4, 5)]
    assert pieces == [b"Cat", PNG, b""]


def test_a_part_is_decoded_from_its_view(town: Cli) -> None:
    message_id = town.accept(MIXED, "support@acme.test").stored[0].message_id
    assert town.run("raw", message_id, "--part", 2).stdout_bytes == PNG
    assert town.run("raw", message_id, "--part", 1).stdout_bytes == "Sch\u00f6n.".encode()
    assert town.fails("raw", message_id, "--part", 3) == f"The message {message_id} has no part 3: its parts are 1 to 2"
    assert "exclude each other" in town.usage("raw", message_id, "--part", 1, "--trace")


def test_the_trace_stands_in_front_and_comes_from_the_receipt(town: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGESTER_SMTP__HOSTNAME", "mx.acme.test")
    outcome = town.accept(MIXED, "support@acme.test")
    data = town.run("raw", outcome.stored[0].message_id, "--trace").stdout_bytes
    assert data.endswith(MIXED)
    trace = data.removesuffix(MIXED)
    assert trace.endswith(b"\r\n")
    assert b"\r\n\r\n" not in trace
    fields = BytesHeaderParser().parsebytes(trace)
    assert fields["Return-Path"] == "<ada@customer.test>"
    received = " ".join(fields["Received"].split())
    assert received.startswith(
        f"from client.test ([192.0.2.1]) by mx.acme.test with ESMTPS id {outcome.arrival_id} for <support@acme.test>; "
    )
    assert received.endswith("+0000")


def test_a_sender_that_nobody_told_is_not_the_null_sender(town: Cli) -> None:
    for door, known in ((Door.SMTP, True), (Door.HTTP, False)):
        message_id = town.accept(MIXED + door.encode(), mail_from="", door=door).stored[0].message_id
        assert ("envelope from  <>" in town.ok("show", message_id)) is known
        trace = town.run("raw", message_id, "--trace").stdout_bytes
        assert trace.startswith(b"Return-Path: <>\r\n") is known
        assert (b"Return-Path" in trace) is known


def test_a_stranger_cannot_put_fields_into_the_trace(town: Cli) -> None:
    outcome = town.accept(MIXED, "support@acme.test", mail_from="a\r\nX-Evil: 1\r\n@b.test")
    data = town.run("raw", outcome.stored[0].message_id, "--trace").stdout_bytes
    assert BytesHeaderParser().parsebytes(data.removesuffix(MIXED)).keys() == [
        "Return-Path",
        "Authentication-Results",
        "Received",
    ]


def test_a_file_that_cannot_be_written_is_a_sentence(town: Cli, tmp_path: Path) -> None:
    message_id = town.accept(MIXED, "support@acme.test").stored[0].message_id
    words = town.fails("raw", message_id, "-o", tmp_path / "absent" / "mail")
    assert words.endswith("cannot be written: No such file or directory")
