"""ingester outbound: a registration on the screen, the reply to it in the thread."""

from hmac import digest
from uuid import UUID

import pytest

from tests.cli.conftest import Cli

SECRET = "a secret of the tests, long enough to sign"


@pytest.fixture
def town(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("INGESTER_REPLY_TOKEN_SECRETS", f'["{SECRET}"]')
    cli.town()
    return cli


def reply(to: str, name: str = "a") -> bytes:
    return (
        f"From: ada@customer.test\r\nSubject: Re: it\r\nMessage-ID: <{name}@customer.test>\r\n"
        f"In-Reply-To: <{to}>\r\n\r\nYes.\r\n"
    ).encode()


def test_a_reply_to_a_registered_message_joins_its_thread(town: Cli) -> None:
    one = town.json("outbound", "register", "support@acme.test", "--to", "ada@customer.test", "--subject", "it")
    direct = town.accept(reply("x@y"), one["reply_address"]).stored[0].message_id
    cited = town.accept(reply(one["rfc_message_id"], "b")).stored[0].message_id
    for message_id, how in ((direct, "a reply token in the recipient"), (cited, "a reply token among the cited ids")):
        shown = town.json("show", message_id)
        assert shown["message"]["thread_id"] == one["thread_id"]
        assert f"Matched by {how}" in " ".join(shown["decision"])
    assert SECRET not in town.ok("explain", direct)


def test_a_token_that_is_not_true_is_told_in_words(town: Cli) -> None:
    one = town.json("outbound", "register", "support@acme.test", "--to", "ada@customer.test")
    other = town.json("outbound", "register", "sales@acme.test", "--to", "ada@customer.test")
    head = b"From: ada@customer.test\r\nMessage-ID: <%d@customer.test>\r\nX-OpenSend-Reply-Token: %s\r\n\r\nx\r\n"
    last = "b" if one["reply_token"][-2] == "a" else "a"
    false = one["reply_token"][:-2] + last + one["reply_token"][-1]
    forged = town.accept(head % (1, false.encode())).stored[0].message_id
    elsewhere = town.accept(head % (2, other["reply_token"].encode())).stored[0].message_id
    text = " ".join(town.json("show", forged)["decision"])
    assert "does not count: it is forged, expired, or of another tenant or domain." in text
    assert "Unmatched: its reply token is true, but of another mailbox." in town.json("show", elsewhere)["decision"]


def test_registering_again_with_the_same_key_says_so(town: Cli) -> None:
    to = ("outbound", "register", "support@acme.test", "--to", "ada@customer.test", "--key", "k")
    first, again = town.ok(*to), town.ok(*to)
    assert first.startswith("registered message ")
    assert again == first.replace("registered message", "was registered before: message")
    assert "X-OpenSend-Reply-Token: osr_" in first


def test_what_a_provider_made_of_it_is_noted(town: Cli) -> None:
    one = town.json("outbound", "register", "support@acme.test", "--to", "ada@customer.test")
    town.ok("outbound", "sent", one["message_id"], "--provider-id", "p1", "--message-id", "<p1@mail.test>")
    message_id = town.accept(reply("p1@mail.test")).stored[0].message_id
    assert town.json("show", message_id)["message"]["reply_to_email_id"] == one["message_id"]
    assert "is no outbound message" in town.fails("outbound", "sent", message_id)


def test_a_mail_that_another_system_sent_keeps_its_ids(town: Cli) -> None:
    """The form that OpenSend deployments have sent out: replies to it verify, and find the imported message."""
    message_id, slug = "11111111-2222-4333-8444-555555555555", "acme"
    sig = digest(SECRET.encode(), f"{slug}:{message_id}:acme.test".encode(), "sha256").hex()[:24]
    token = f"osr_{message_id.replace('-', '')}_{sig}"
    sent = ("--sent-id", message_id, "--sent-message-id", "<old@elsewhere.test>", "--sent-token", token)
    one = town.json("outbound", "register", "support@acme.test", "--to", "ada@customer.test", *sent)
    assert (one["message_id"], one["rfc_message_id"], one["reply_token"]) == (message_id, "old@elsewhere.test", token)
    by_token = town.accept(reply("x@y"), f"reply+{token}@acme.test").stored[0].message_id
    by_id = town.accept(reply("old@elsewhere.test", "b")).stored[0].message_id
    for found in (by_token, by_id):
        assert town.json("show", found)["message"]["reply_to_email_id"] == message_id


def test_registering_fails_with_a_sentence(town: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    register = ("outbound", "register", "support@acme.test")
    assert "recipients" in town.fails(*register)
    nobody = UUID(int=1)
    assert "no such thread" in town.fails(*register, "--to", "a@b.test", "--thread", nobody)
    monkeypatch.delenv("INGESTER_REPLY_TOKEN_SECRETS")
    assert "INGESTER_REPLY_TOKEN_SECRETS is not set" in town.fails(*register, "--to", "a@b.test")
