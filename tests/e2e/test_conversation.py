"""A conversation over the real door: registered by command, answered by a client that keeps little of what it got."""

import smtplib
from email.message import EmailMessage
from typing import Any

import msgspec
import pytest

from tests.daemon import Daemon, Town, command, serving

pytestmark = pytest.mark.usefixtures("blobs")

SECRET = "a secret of the tests and long enough to sign"
SECRETS = {"INGESTER_REPLY_TOKEN_SECRETS": SECRET}


def register(acme: Town, *more: str) -> dict[str, Any]:
    words = ["outbound", "register", "support@acme.test", "--to", "ada@customer.test", "--json", *more]
    found: dict[str, Any] = msgspec.json.decode(command(acme.url, *words, INGESTER_REPLY_TOKEN_SECRETS=SECRET))
    return found


def answer(daemon: Daemon, to: str, name: str, subject: str = "Re: Order", sender: str = "", **fields: str) -> int:
    """Send a mail as a person's client would; the code of the reply."""
    mail = EmailMessage()
    mail["From"] = sender or "Ada <ada@customer.test>"
    mail["To"], mail["Subject"], mail["Message-ID"] = to, subject, f"<{name}@customer.test>"
    for field, value in fields.items():
        mail[field.replace("_", "-")] = value
    mail.set_content(f"This is {name}.")
    with smtplib.SMTP("127.0.0.1", daemon.port, local_hostname="client.test") as client:
        try:
            client.send_message(mail, from_addr="ada@customer.test", to_addrs=[to])
        except smtplib.SMTPDataError as error:
            return error.smtp_code
    return 250


@pytest.mark.thorough
def test_many_rounds_are_one_thread(acme: Town) -> None:
    with serving(acme.url, settings=SECRETS) as daemon:
        first = register(acme, "--subject", "Order")
        assert answer(daemon, first["reply_address"], "by-address") == 250
        assert answer(daemon, "support@acme.test", "by-id", In_Reply_To=first["headers"]["Message-ID"]) == 250
        assert answer(daemon, "support@acme.test", "late", In_Reply_To="<not-yet@customer.test>") == 250
        assert answer(daemon, "support@acme.test", "not-yet", References="<by-id@customer.test>") == 250
        second = register(acme, "--in-reply-to", "<not-yet@customer.test>", "--subject", "Re: Order")
        assert answer(daemon, second["reply_address"], "renamed", subject="Something else altogether") == 250
        private = "ada@private.test"
        assert answer(daemon, second["reply_address"].upper(), "elsewhere", sender=private) == 250
        forwarded = second["headers"]["References"]
        assert answer(daemon, "support@acme.test", "forward", subject="Fwd: Order", References=forwarded) == 250
    rows = acme.ask("SELECT subject, thread_id, reply_match_status, direction FROM messages")
    assert {str(row["thread_id"]) for row in rows} == {first["thread_id"]} == {second["thread_id"]}
    assert [row["reply_match_status"] for row in rows if row["direction"] == "inbound"] == ["matched"] * 7
    assert "by-id@customer.test" in second["headers"]["References"], "the chain is ours, not the client's"


def test_a_thread_only_mailbox_refuses_at_the_end_of_data(acme: Town) -> None:
    acme.ask("UPDATE mailboxes SET accepts_cold_inbound = false WHERE system IS NULL")
    with serving(acme.url, settings=SECRETS) as daemon:
        first = register(acme)
        assert answer(daemon, "support@acme.test", "cold") == 550
        assert answer(daemon, first["reply_address"], "reply") == 250
    (refusal,) = acme.ask("SELECT reason, detail FROM refusals")
    assert tuple(refusal) == ("cold_inbound_refused", "cites_nothing")


def test_a_forged_token_is_taken_and_told_nothing(acme: Town) -> None:
    """Forged and foreign tokens get the same words at RCPT and after DATA as a true one does."""
    with serving(acme.url, settings=SECRETS) as daemon:
        first = register(acme)
        local = first["reply_address"].partition("@")[0]
        forged = f"{local[:-2]}aa@acme.test"
        foreign = f"{local}@globex.test"
        told: set[tuple[int, bytes]] = set()
        for number, to in enumerate((first["reply_address"], forged, foreign)):
            with smtplib.SMTP("127.0.0.1", daemon.port, local_hostname="client.test") as client:
                client.ehlo()
                client.mail("ada@customer.test")
                told.add(client.rcpt(to))
            assert answer(daemon, to, f"n{number}") == 250
    assert len(told) == 1
    rows = acme.ask(
        "SELECT b.system, m.reply_match_status FROM messages m JOIN mailboxes b ON b.tenant_id = m.tenant_id"
        " AND b.id = m.mailbox_id WHERE m.direction = 'inbound' ORDER BY m.received_at"
    )
    assert [tuple(row) for row in rows] == [(None, "matched"), ("reply", "unmatched"), ("reply", "unmatched")]
