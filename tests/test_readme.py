"""The README tells the truth: its settings table is made from the code, its commands run.

`python -m tests.test_readme` writes the table anew.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

from ingester.cli import COMMANDS
from ingester.settings import PREFIX, Settings, Test
from tests.daemon import free_port, serving

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BEGIN = "<!-- settings: made by `python -m tests.test_readme` -->"
END = "<!-- /settings -->"


def rows(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
    """Name, default and meaning of every setting, groups after the plain ones."""
    groups: list[tuple[type[BaseModel], str]] = []
    for name, field in model.model_fields.items():
        default = field.default
        if isinstance(default, BaseModel):
            groups.append((type(default), f"{prefix}{name.upper()}__"))
            continue
        assert field.description, f"{prefix}{name.upper()} says nothing of itself"
        yield f"{prefix}{name.upper()}", show(default), field.description
    for group, inner in groups:
        if group is not Test:
            yield from rows(group, inner)


def show(default: object) -> str:
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    if isinstance(default, tuple):
        default = ",".join(str(one) for one in default)
    if isinstance(default, bool):
        default = str(default).lower()
    return "" if default in ("", None, PydanticUndefined) else f"`{default}`"


def table() -> str:
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {default} | {meaning} |" for name, default, meaning in rows(Settings, PREFIX)]
    return "\n".join(lines)


def text() -> str:
    return README.read_text(encoding="utf-8")


def blocks() -> list[str]:
    return re.findall(r"^ *```sh\n(.*?)^ *```", text(), re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Every command line that the README shows, joined where it goes on."""
    lines = "\n".join(blocks()).replace("\\\n", " ").split("\n")
    return [line.strip() for line in lines if line.strip()]


def test_the_settings_table_is_that_of_the_code() -> None:
    shown = text().partition(BEGIN)[2].partition(END)[0].strip()
    assert shown == table(), "run `python -m tests.test_readme`"


def test_every_command_group_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"`ingester (\w+)", text())) | set(re.findall(r"^ *ingester (\w+)", text(), re.MULTILINE))
    assert named <= set(COMMANDS)
    assert {"send", "show", "raw", "dead", "serve", "migrate"} <= named


def test_every_room_that_the_readme_lists_exists() -> None:
    house = text().partition("## The house")[2].partition("\n## ")[0]
    for name in re.findall(r"`([a-z/_]+(?:/|\.py))`", house):
        assert (ROOT / name).exists() or (ROOT / "ingester" / name).exists(), name


@pytest.fixture
def shell(empty_database_url: str, tmp_path: Path) -> dict[str, str]:
    """The environment of the README's reader, on a database of the test."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "ingester").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ingester "$@"\n')
    (bin_ / "ingester").chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INGESTER_")}
    return kept | {
        "PATH": f"{bin_}:{kept['PATH']}",
        "INGESTER_DATABASE_URL": empty_database_url,
        "INGESTER_REPLY_TOKEN_SECRETS": "of the tests and long enough to be taken for one",
        "PYTHONPATH": str(ROOT),
    }


def run(command: str, shell: dict[str, str]) -> str:
    done = subprocess.run(["sh", "-ec", command], env=shell, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_commands_of_receiving_for_real_run_as_shown(shell: dict[str, str]) -> None:
    """From an empty database to a mail: the README's own lines, but for the URL, the certificate and port 25."""
    shown = [line for line in commands() if line.startswith("ingester ") and line != "ingester serve"]
    assert len(shown) == 9
    for line in shown:
        run(line, shell)
    port = free_port()
    with serving(shell["INGESTER_DATABASE_URL"], port=port):
        mail = "printf 'Subject: Hello\\n\\nIt works.\\n'"
        sent = run(f"{mail} | ingester send - --to help@acme.example --server 127.0.0.1:{port}", shell)
    message_id = sent.split()[-1]
    for command in re.findall(r"`(ingester [^`]*)`", text().partition("## What to do when")[2].partition("\n## ")[0]):
        if "MESSAGE_ID" in command and "--part" not in command:
            assert run(command.replace("MESSAGE_ID", message_id), shell)
        elif command == "ingester dead list" or "redrive" in command:
            run(command, shell)
        else:
            verb = shlex.split(command)[1:3] if command.startswith("ingester dead") else [shlex.split(command)[1]]
            run(f"ingester {' '.join(verb)} --help", shell)


if __name__ == "__main__":
    before, _, rest = text().partition(BEGIN)
    README.write_text(f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
