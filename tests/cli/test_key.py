"""ingester key: made and shown once, listed without its text, revoked."""

import asyncio
import re

import pytest

from ingester.clock import new_id, now
from ingester.settings import load
from ingester.store.db import Database
from ingester.store.keys import holder
from tests.cli.conftest import Cli


@pytest.fixture
def town(cli: Cli) -> Cli:
    cli.town()
    return cli


def stands_for(url: str, text: str) -> str | None:
    """The tenant of a key, as the HTTP door asks."""

    async def ask() -> str | None:
        connection = await Database(load({}, env="development", database_url=url)).connect()
        try:
            found = await holder(connection, text, now())
            return None if found is None else found.tenant
        finally:
            await connection.close()

    return asyncio.run(ask())


def test_a_key_is_printed_once_alone_on_its_line(town: Cli) -> None:
    made = town.run("key", "add", "--tenant", "acme", "--name", "app")
    assert made.exit_code == 0
    text = made.stdout.removesuffix("\n")
    assert re.fullmatch(r"igk_[a-z2-7]{52}", text)
    assert "not shown again" in made.stderr
    assert stands_for(town.url, text) == "acme"
    listed = town.ok("key", "list")
    assert "app" in listed
    assert text not in listed
    assert text not in town.ok("key", "list", "--json")


def test_a_revoked_key_is_no_key(town: Cli) -> None:
    made = town.json("key", "add", "--tenant", "globex", "--name", "old app")
    assert town.json("key", "list", "--tenant", "acme") == []
    (listed,) = town.json("key", "list", "--tenant", "globex")
    assert (listed["id"], listed["name"], listed["revoked_at"]) == (made["id"], "old app", None)
    assert "revoked: old app of the tenant globex" in town.ok("key", "revoke", made["id"])
    assert stands_for(town.url, made["key"]) is None
    assert town.json("key", "list")[0]["revoked_at"] is not None
    assert town.json("key", "revoke", made["id"])["tenant"] == "globex"


def test_keys_fail_with_a_sentence(town: Cli) -> None:
    assert "There is no tenant nobody" in town.fails("key", "add", "--tenant", "nobody", "--name", "x")
    assert "belongs to the program itself" in town.fails("key", "add", "--tenant", "system", "--name", "x")
    assert "see `ingester key list`" in town.fails("key", "revoke", new_id())
    assert "--tenant" in town.usage("key", "add", "--name", "x")
    for name in ("", " ", "a\nb", "x" * 101):
        assert "printable characters" in town.usage("key", "add", "--tenant", "acme", "--name", name)
    assert town.ok("key", "list") == "There is no key.\n"
