"""The command itself: help, version, settings, the database in use, and what is said when something is away."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from ingester import __version__
from ingester.cli import COMMANDS, main
from ingester.cli.context import plain
from tests.cli.conftest import Cli
from tests.daemon import ROOT
from tests.postgres import Cluster


def test_help_lists_every_command_and_each_has_help_of_its_own() -> None:
    listed = CliRunner().invoke(main, ["--help"]).stdout
    for name, (_, words) in COMMANDS.items():
        assert f"  {name} " in listed
        assert words in listed
        own = CliRunner().invoke(main, [name, "--help"])
        assert own.exit_code == 0, own.output


def test_version_and_module() -> None:
    done = subprocess.run([sys.executable, "-m", "ingester", "--version"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"ingester, version {__version__}\n", "")


def test_help_does_not_import_what_it_does_not_need() -> None:
    """What makes a start slow is imports: the help needs click and nothing that talks to a database or a terminal."""
    code = "import sys\ntry:\n    from ingester.cli import main; main(['--help'])\nexcept SystemExit:\n    pass\n"
    code += "print(*sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {"asyncpg", "pydantic", "rich", "uvloop", "structlog", "msgspec", "aiosmtpd"}
    assert heavy.isdisjoint(done.stderr.split())


@pytest.mark.parametrize("arguments", [["nonsense"], ["domain"], ["domain", "nonsense"], ["show"], ["--nonsense"]])
def test_wrong_usage(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, arguments).exit_code == 2


# -- settings ----------------------------------------------------------------------------------------------------------


def test_all_faults_of_the_settings_are_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGESTER_WORKERS", "many")
    monkeypatch.setenv("INGESTER_SMTP__NONSENSE", "1")
    words = cli.fails("tenant", "list")
    assert words.startswith("The settings cannot be used:\n")
    assert "INGESTER_WORKERS" in words
    assert "INGESTER_SMTP__NONSENSE is not a setting" in words


def test_the_file_is_read_and_the_environment_goes_before_it(
    bare_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "ingester.toml"
    file.write_text('database_url = "postgresql://file/x"\n', encoding="utf-8")
    cli = Cli(url="")
    assert cli.ok("--config", file, "dsn") == "postgresql://file/x\n"
    monkeypatch.setenv("INGESTER_DATABASE_URL", "postgresql://environment/x")
    assert cli.json("--config", file, "dsn") == {"dsn": "postgresql://environment/x"}
    file.write_text("nonsense", encoding="utf-8")
    assert str(file) in cli.fails("--config", file, "dsn")
    assert "does not exist" in cli.usage("--config", tmp_path / "absent", "dsn")


# -- the database in use -----------------------------------------------------------------------------------------------


def test_migrate_says_what_it_applied(
    empty_database_url: str, bare_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INGESTER_DATABASE_URL", empty_database_url)
    cli = Cli(url=empty_database_url)
    assert cli.fails("tenant", "list") == "The database lacks tables of this version: run `ingester migrate`"
    assert cli.ok("migrate").startswith("applied 0001_main\n")
    assert cli.ok("migrate") == "The schema is up to date.\n"
    assert cli.json("migrate") == {"applied": []}
    assert [one["slug"] for one in cli.json("tenant", "list")] == ["system"]


def test_without_a_url_the_development_database_is_used(
    postgres: Cluster, database_url: str, bare_environment: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cli = Cli(url=database_url)
    monkeypatch.setenv("INGESTER_DEV_DIR", str(tmp_path))
    words = cli.fails("tenant", "list")
    assert words.startswith("INGESTER_DATABASE_URL is not set. No Postgres runs in ")
    assert "`ingester dev`" in words
    monkeypatch.setenv("INGESTER_DEV_DIR", str(postgres.server._directory))
    assert cli.ok("dsn") == f"{postgres.url}\n"


def test_a_database_that_is_away_is_a_sentence(bare_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("INGESTER_DATABASE_URL", f"postgresql://u:secret@127.0.0.1:{port}/x")
    cli = Cli(url="")
    for command in (["tenant", "list"], ["migrate"], ["dead", "redrive", "--all"]):
        words = cli.fails(*command)
        assert words.startswith("The database cannot be reached (")
        assert words.endswith("): check INGESTER_DATABASE_URL")
        assert "secret" not in words


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("/test_", "/absent_"), "The server of INGESTER_DATABASE_URL has no such database"),
        (("ingester:", "ingester:x"), "The server of INGESTER_DATABASE_URL refused the user or the password"),
        (("postgresql://", "mysql://"), "The settings cannot be used:\n  INGESTER_DATABASE_URL"),
    ],
)
def test_a_wrong_url_is_a_sentence(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, change: tuple[str, str], words: str
) -> None:
    monkeypatch.setenv("INGESTER_DATABASE_URL", cli.url.replace(*change))
    assert cli.fails("tenant", "list").startswith(words)


def test_a_fault_of_ours_is_a_sentence_that_quotes_nothing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(_: object) -> None:
        raise KeyError("text of a mail")

    monkeypatch.setattr("ingester.store.registry.tenants", stumble)
    words = cli.fails("tenant", "list")
    assert words.startswith("This is a fault of ingester itself: KeyError at context.py:")
    assert "mail" not in words


# -- printing ----------------------------------------------------------------------------------------------------------


def test_nothing_that_a_terminal_obeys_is_printed() -> None:
    assert plain("a\x1b[2J\r\n\x9b\u202eb") == "a\ufffd[2J\ufffd\ufffd\ufffd\ufffdb"
    assert plain("a\r\n\tb\rc\0", lines=True) == "a\n\tb\ufffdc\ufffd"


@pytest.mark.long
def test_help_is_fast() -> None:
    took = []
    for _ in range(5):
        started = time.monotonic()
        subprocess.run([sys.executable, "-m", "ingester", "--help"], cwd=ROOT, capture_output=True, check=True)
        took.append(time.monotonic() - started)
    assert min(took) < 0.25
