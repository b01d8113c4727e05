"""ingester rematch: the dry run prints the difference, --apply makes it."""

import asyncio

import asyncpg
import msgspec
import pytest

from tests.cli.conftest import Cli

SECRET = "a secret of the tests and long enough to sign"


@pytest.fixture
def town(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("INGESTER_REPLY_TOKEN_SECRETS", SECRET)
    cli.town()
    return cli


def reply(name: str, **fields: str) -> bytes:
    head = "".join(f"{key.replace('_', '-')}: {value}\r\n" for key, value in fields.items())
    return (
        f"From: ada@customer.test\r\nSubject: {name}\r\nMessage-ID: <{name}@customer.test>\r\n{head}\r\nx\r\n".encode()
    )


def test_mail_that_came_while_the_secret_was_missing_is_matched_after_all(
    town: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = town.json("outbound", "register", "support@acme.test", "--to", "ada@customer.test")
    monkeypatch.setenv("INGESTER_REPLY_TOKEN_SECRETS", "another secret which signed nothing that is known")
    lost = town.accept(reply("lost", X_OpenSend_Reply_Token=one["reply_token"])).stored[0].message_id
    follower = town.accept(reply("follower", In_Reply_To="<lost@customer.test>")).stored[0].message_id
    cold = town.accept(reply("cold")).stored[0].message_id
    assert town.ok("rematch", "--since", "1d") == "Nothing would be matched now.\n"
    monkeypatch.setenv("INGESTER_REPLY_TOKEN_SECRETS", SECRET)
    (found,) = town.json("rematch", "--since", "1d")
    assert (found["id"], found["was"], found["method"]) == (str(lost), "token_invalid", "token_header")
    assert "Nothing was written" in town.ok("rematch", "--since", "1d", "--tenant", "acme")
    assert town.json("show", lost)["message"]["reply_match_status"] == "unmatched"
    (done,) = town.json("rematch", "--since", "1d", "--apply")
    assert done["done"]
    shown = town.json("show", lost)
    assert shown["message"]["reply_to_email_id"] == one["message_id"]
    assert shown["thread"]["id"] == one["thread_id"]
    assert shown["thread"]["message_count"] == 3, "what hung on it came along"
    assert town.json("show", follower)["message"]["thread_id"] == one["thread_id"]
    assert town.json("show", cold)["message"]["reply_match_status"] == "unmatched"
    assert town.ok("rematch", "--since", "1d") == "Nothing would be matched now.\n"


def test_mail_to_a_token_that_was_not_true_yet_comes_home(town: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    one = town.json("outbound", "register", "support@acme.test", "--to", "ada@customer.test")
    monkeypatch.setenv("INGESTER_REPLY_TOKEN_SECRETS", "another secret which signed nothing that is known")
    lost = town.accept(reply("lost"), one["reply_address"]).stored[0].message_id
    assert town.json("show", lost)["message"]["mailbox"] == "reply@acme.test"
    monkeypatch.setenv("INGESTER_REPLY_TOKEN_SECRETS", SECRET)
    forged = town.accept(reply("forged"), f"{'reply+osr_' + 'a' * 26 + '_' + 'a' * 26}@acme.test").stored[0].message_id
    (done,) = town.json("rematch", "--since", "1d", "--apply")
    assert (done["id"], done["method"], done["done"]) == (str(lost), "token_recipient", True)
    shown = town.json("show", lost)
    assert (shown["message"]["mailbox"], shown["thread"]["id"]) == ("support@acme.test", one["thread_id"])
    assert shown["thread"]["message_count"] == 2
    again = town.accept(reply("lost"), one["reply_address"])
    assert again.stored[0].duplicate, "a retry finds it in its new place"
    follower = town.accept(reply("follower", In_Reply_To="<lost@customer.test>")).stored[0].message_id
    assert town.json("show", follower)["message"]["thread_id"] == one["thread_id"]
    assert town.json("show", forged)["message"]["mailbox"] == "reply@acme.test"
    assert town.ok("rematch", "--since", "1d") == "Nothing would be matched now.\n"


async def _lose(url: str, message_id: object) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("DELETE FROM raws USING messages m WHERE m.id = $1 AND raws.id = m.raw_id", message_id)
    await connection.close()


def test_a_mail_whose_bytes_are_lost_holds_up_nobody(town: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    one = town.json("outbound", "register", "support@acme.test", "--to", "ada@customer.test")
    monkeypatch.setenv("INGESTER_REPLY_TOKEN_SECRETS", "another secret which signed nothing that is known")
    token = {"X_OpenSend_Reply_Token": one["reply_token"]}
    lost, kept = (town.accept(reply(name, **token)).stored[0].message_id for name in ("lost", "kept"))
    monkeypatch.setenv("INGESTER_REPLY_TOKEN_SECRETS", SECRET)
    asyncio.run(_lose(town.url, lost))
    result = town.run("rematch", "--since", "1d", "--apply", "--json")
    assert result.stderr == f"The raw mail of {lost} is gone: not judged\n"
    assert [found["id"] for found in msgspec.json.decode(result.stdout)] == [str(kept)]


def test_from_when_must_be_said(town: Cli) -> None:
    assert "--since 7d" in town.fails("rematch")
