"""ingester token: minting, inspecting, and that no secret is ever printed. No database is there."""

from collections.abc import Callable

import pytest

from tests.cli.conftest import Cli

ID = "11111111-2222-4333-8444-555555555555"
LEGACY = "osr_11111111222243338444555555555555_8f026d9926fd8489e5777b2b"
SECRETS = ("first-secret-first-secret-first-secret", "second-secret-second-secret-second-sec")
SCOPE = ("--tenant", "acme", "--domain", "Reply.Acme.TEST")


@pytest.fixture
def cli(bare_environment: None, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("INGESTER_REPLY_TOKEN_SECRETS", ",".join(SECRETS))
    return Cli(url="")


def test_what_is_minted_verifies_as_token_address_and_id(cli: Cli) -> None:
    made = cli.json("token", "mint", "--message", ID, *SCOPE)
    assert made == {
        "token": made["token"],
        "reply_address": f"reply+{made['token']}@reply.acme.test",
        "rfc_message_id": f"{made['token']}@reply.acme.test",
    }
    for text in (*made.values(), f"<{made['rfc_message_id']}>", f" {made['token'].upper()} "):
        found = cli.json("token", "inspect", text, *SCOPE)
        assert found == {"form": "minted", "id": ID, "verifies": True, "secret": 1}


def test_the_lines_for_a_person(cli: Cli) -> None:
    lines = cli.ok("token", "mint", "--message", ID, *SCOPE).splitlines()
    made = cli.json("token", "mint", "--message", ID, *SCOPE)["token"]
    assert lines == [
        f"token          {made}",
        f"reply address  reply+{made}@reply.acme.test",
        f"Message-ID     <{made}@reply.acme.test>",
    ]
    assert cli.ok("token", "inspect", made, *SCOPE).splitlines() == [
        "form      minted (base32, 26 + 26)",
        f"message   {ID}",
        "verifies  yes, for tenant acme and reply.acme.test, with secret 1 of 2",
    ]


def test_a_rotated_secret_is_named_by_its_number(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    made = cli.json("token", "mint", "--message", ID, *SCOPE)["token"]
    monkeypatch.setenv("INGESTER_REPLY_TOKEN_SECRETS", ",".join(reversed(SECRETS)))
    assert cli.json("token", "inspect", made, *SCOPE)["secret"] == 2
    assert "with secret 2 of 2" in cli.ok("token", "inspect", made, *SCOPE)
    monkeypatch.setenv("INGESTER_REPLY_TOKEN_SECRETS", SECRETS[1])
    assert "verifies  no, not for tenant acme and reply.acme.test with the only secret" in cli.ok(
        "token", "inspect", made, *SCOPE
    )


@pytest.mark.parametrize(
    ("spoil", "scope"),
    [
        (lambda text: text[:-5] + "aaaaa", SCOPE),
        (lambda text: text, ("--tenant", "globex", "--domain", "reply.acme.test")),
        (lambda text: text, ("--tenant", "acme", "--domain", "reply.globex.test")),
        (lambda _: LEGACY, SCOPE),
    ],
    ids=["forged", "other tenant", "other domain", "legacy"],
)
def test_what_does_not_verify(cli: Cli, spoil: Callable[[str], str], scope: tuple[str, ...]) -> None:
    text = spoil(cli.json("token", "mint", "--message", ID, *SCOPE)["token"])
    found = cli.json("token", "inspect", text, *scope)
    assert (found["id"], found["verifies"], found["secret"]) == (ID, False, None)
    assert found["form"] == ("legacy" if text == LEGACY else "minted")
    assert "with any of 2 secrets" in cli.ok("token", "inspect", text, *scope)


@pytest.mark.parametrize("text", ["", "reply", "osr_x_y", LEGACY[:-1], "a" * 100_000, "\u017f" * 57])
def test_what_is_no_token(cli: Cli, text: str) -> None:
    assert cli.fails("token", "inspect", text, *SCOPE).startswith("This is no reply token")


def test_without_a_secret_nothing_is_minted_or_inspected(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INGESTER_REPLY_TOKEN_SECRETS")
    for arguments in (("mint", "--message", ID), ("inspect", LEGACY)):
        assert "set INGESTER_REPLY_TOKEN_SECRETS" in cli.fails("token", *arguments, *SCOPE)


def test_the_variable_of_opensend_deployments_is_a_list_of_one(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    made = cli.json("token", "mint", "--message", ID, *SCOPE)["token"]
    monkeypatch.delenv("INGESTER_REPLY_TOKEN_SECRETS")
    monkeypatch.setenv("OPENSEND_REPLY_TOKEN_SECRET", SECRETS[0])
    assert "with secret 1 of 1" in cli.ok("token", "inspect", made, *SCOPE)


def test_secrets_are_never_printed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [
        cli.ok("token", "mint", "--message", ID, *SCOPE),
        cli.ok("token", "inspect", LEGACY, *SCOPE),
        cli.fails("token", "inspect", "nonsense", *SCOPE),
        cli.usage("token", "mint", "--message", "nonsense", *SCOPE),
    ]
    monkeypatch.setenv("INGESTER_REPLY_TOKEN_SECRETS", f"{SECRETS[0]},short-secret")
    said.append(cli.fails("token", "inspect", LEGACY, *SCOPE))
    assert not [text for text in said if "secret-" in text]


def test_wrong_usage(cli: Cli) -> None:
    assert "--message" in cli.usage("token", "mint", *SCOPE)
    assert "--tenant" in cli.usage("token", "inspect", LEGACY, "--domain", "reply.acme.test")
    assert "is not a domain name" in cli.usage("token", "inspect", LEGACY, "--tenant", "acme", "--domain", "a b")
