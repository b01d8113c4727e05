"""`ingester roles`: what it prints is what it does, a password is told to nobody, and each refusal is a sentence."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from ingester.store.scram import verifier
from tests.cli.conftest import Cli
from tests.postgres import _execute
from tests.roles import PASSWORD, Walled, remove, url_as


@pytest.fixture
def names(database_url: str) -> Iterator[tuple[str, ...]]:
    """Options that name roles of this database's own: roles belong to the whole server."""
    name = urlsplit(database_url).path.strip("/")
    yield ("--runtime", f"cli_{name}", "--api", f"cli_api_{name}")
    asyncio.run(remove(database_url, f"cli_{name}", f"cli_api_{name}"))


@pytest.fixture
def password(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\nnot this line\n")
    return file


def test_the_printed_sql_does_the_whole_of_it(cli: Cli, names: tuple[str, ...], password: Path) -> None:
    told = cli.run("roles", *names, "--password-file", password)
    assert told.exit_code == 0
    assert "Nothing is changed yet" in told.stderr
    assert told.stdout.startswith("-- by an administrator of roles (CREATEROLE)\nBEGIN;")
    assert PASSWORD not in told.stdout
    assert _guarded(cli.url) == 0
    asyncio.run(_execute(cli.url, told.stdout))
    assert cli.ok("roles", *names) == f"{names[1]} and {names[3]} have what they need.\n"
    asyncio.run(_execute(url_as(cli.url, names[1]), "SELECT FROM messages"))


def test_apply_does_it_and_a_second_time_nothing(cli: Cli, names: tuple[str, ...]) -> None:
    assert "have what they need now: give the daemon the URL of" in cli.ok(
        "roles", *names, "--password-file", "-", "--apply", stdin=f"{PASSWORD}\r\n".encode()
    )
    assert _guarded(cli.url) >= 24
    assert "have what they need.\n" in cli.ok("roles", *names, "--apply")
    asyncio.run(_execute(url_as(cli.url, names[1]), "SELECT FROM messages"))


def test_a_password_is_asked_for_twice(cli: Cli, names: tuple[str, ...]) -> None:
    told = cli.run("roles", *names, "--ask-password", "--apply", stdin=f"{PASSWORD}\n{PASSWORD}\n".encode())
    assert told.exit_code == 0
    assert PASSWORD not in told.output
    asyncio.run(_execute(url_as(cli.url, names[1]), "SELECT FROM messages"))


def test_as_json(cli: Cli, names: tuple[str, ...]) -> None:
    found = cli.json("roles", *names)
    assert (found["applied"], found["runtime"], found["api"]) == (False, names[1], names[3])
    assert len(found["admin"]) == 1
    assert all(script.startswith("BEGIN;") and script.endswith("COMMIT;") for script in found["owner"])
    applied = cli.json("roles", *names, "--apply")
    assert applied == {**found, "applied": True}


@pytest.mark.parametrize("name", ["pg_mine", "public", "none", "", "x" * 64, "a\nb"])
def test_names_that_postgres_does_not_take(cli: Cli, name: str) -> None:
    assert "--runtime" in cli.usage("roles", "--runtime", name)


@pytest.mark.parametrize("name", ["select", 'a "quoted" one', "Größe; DROP TABLE messages", "user@project.iam"])
def test_other_names_are_quoted(cli: Cli, name: str) -> None:
    api = f"{name} api"
    try:
        cli.ok("roles", "--runtime", name, "--api", api, "--apply")
        assert cli.ok("roles") == f"{name} and {api} have what they need.\n"
    finally:
        for role in (name, api):
            quoted = '"' + role.replace('"', '""') + '"'
            asyncio.run(_execute(cli.url, f"DROP OWNED BY {quoted}; DROP ROLE {quoted}"))


def test_refusals_are_sentences(cli: Cli, walled: Walled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "umlaut").write_text("paßwort\n", encoding="utf-8")
    (tmp_path / "empty").write_text("\n")
    for name in ("umlaut", "empty"):
        assert cli.fails("roles", "--password-file", tmp_path / name) == "A password is of printable ASCII characters"
    assert cli.fails("roles", "--api", "another") == f"The API's role of this database is {walled.api} already"
    asyncio.run(_execute(cli.url, "DELETE FROM schema_migrations WHERE number = 6"))
    monkeypatch.setenv("INGESTER_DATABASE_URL", walled.runtime)
    assert cli.fails("roles").startswith("Migration 0006")


def test_without_a_schema_it_says_what_comes_first(
    cli: Cli, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INGESTER_DATABASE_URL", empty_database_url)
    assert cli.fails("roles").endswith("run `ingester migrate` first")


async def test_a_verifier_is_what_postgres_itself_would_keep(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("CREATE ROLE verified PASSWORD 'pencil and paper'")
        kept = await connection.fetchval("SELECT rolpassword FROM pg_authid WHERE rolname = 'verified'")
        salt = await connection.fetchval("SELECT decode(split_part(split_part($1, '$', 2), ':', 2), 'base64')", kept)
        assert verifier("pencil and paper", salt) == kept
        assert verifier("pencil and papers", salt) != kept
    finally:
        await connection.execute("DROP ROLE verified")
        await connection.close()


def _guarded(url: str) -> int:
    async def ask() -> int:
        connection = await asyncpg.connect(url)
        try:
            return int(await connection.fetchval("SELECT count(*) FROM pg_class WHERE relrowsecurity"))
        finally:
            await connection.close()

    return asyncio.run(ask())
