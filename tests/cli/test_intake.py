"""ingester intake: tokens are made and shown once, listed without their text, revoked."""

import asyncio
import re

import pytest

from ingester.clock import new_id, now
from ingester.settings import load
from ingester.store.db import Database
from ingester.store.intake_tokens import Bearer, bearer
from tests.cli.conftest import Cli


@pytest.fixture
def town(cli: Cli) -> Cli:
    cli.town()
    return cli


def stands_for(url: str, text: str) -> Bearer | None:
    """What a token may do, as the HTTP door asks."""

    async def ask() -> Bearer | None:
        connection = await Database(load({}, env="development", database_url=url)).connect()
        try:
            return await bearer(connection, text, now())
        finally:
            await connection.close()

    return asyncio.run(ask())


def test_a_token_is_printed_once_alone_on_its_line(town: Cli) -> None:
    made = town.run("intake", "add", "the relay")
    assert made.exit_code == 0
    text = made.stdout.removesuffix("\n")
    assert re.fullmatch(r"igi_[a-z2-7]{52}", text)
    assert "not shown again" in made.stderr
    found = stands_for(town.url, text)
    assert found is not None
    assert (found.provider, found.tenant_id, found.domains, found.may_assert_envelope) == (None, None, (), False)
    listed = town.ok("intake", "list")
    assert "the relay" in listed
    assert text not in listed
    assert text not in town.ok("intake", "list", "--json")


def test_a_token_within_bounds(town: Cli) -> None:
    bounds = ("--tenant", "acme", "--domain", "ACME.test", "--provider", "postmark", "--may-assert-envelope")
    made = town.json("intake", "add", "postmark", *bounds)
    found = stands_for(town.url, made["token"])
    assert found is not None
    assert (found.provider, found.domains, found.may_assert_envelope) == ("postmark", ("acme.test",), True)
    assert town.json("intake", "list", "--tenant", "globex") == []
    (listed,) = town.json("intake", "list", "--tenant", "acme")
    assert (listed["id"], listed["tenant"], listed["domains"]) == (made["id"], "acme", ["acme.test"])
    assert re.search(r"postmark +postmark +acme +acme\.test +yes", town.ok("intake", "list"))


def test_a_revoked_token_is_none(town: Cli) -> None:
    made = town.json("intake", "add", "old relay")
    assert town.ok("intake", "revoke", made["id"]) == "revoked: old relay\n"
    assert stands_for(town.url, made["token"]) is None
    assert town.json("intake", "list")[0]["revoked_at"] is not None
    assert town.json("intake", "revoke", made["id"])["name"] == "old relay"


def test_tokens_fail_with_a_sentence(town: Cli) -> None:
    assert "There is no tenant nobody" in town.fails("intake", "add", "x", "--tenant", "nobody")
    assert "belongs to the program itself" in town.fails("intake", "add", "x", "--tenant", "system")
    assert "There is no domain nowhere.test" in town.fails("intake", "add", "x", "--domain", "nowhere.test")
    assert "does not have the domain" in town.fails("intake", "add", "x", "--tenant", "acme", "--domain", "globex.test")
    assert "see `ingester intake list`" in town.fails("intake", "revoke", new_id())
    for name in ("", " ", "a\nb", "x" * 101):
        assert "printable characters" in town.usage("intake", "add", name)
    for provider in ("", "A", "a b", "x" * 65):
        assert "a provider is named in" in town.usage("intake", "add", "x", "--provider", provider)
    assert "not a domain name" in town.usage("intake", "add", "x", "--domain", "a b")
    assert town.ok("intake", "list") == "There is no intake token.\n"
