"""The README tells the truth: its tables of settings and metrics are made from the code, what it names exists.

Its commands run in tests/deploy/test_pages.py. `python -m tests.test_readme` writes the tables anew.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

from ingester.cli import COMMANDS
from ingester.settings import PREFIX, Settings, Test
from ingester.telemetry.metrics import ALL

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BEGIN = "<!-- settings: made by `python -m tests.test_readme` -->"
END = "<!-- /settings -->"
METRICS_BEGIN = "<!-- metrics: made by `python -m tests.test_readme` -->"
METRICS_END = "<!-- /metrics -->"


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


def metrics_table() -> str:
    lines = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for one in ALL:
        labels = "; ".join(f"`{label.name}`: {', '.join(label.values) or label.said}" for label in one.labels)
        lines.append(f"| `{one.name}` | {one.kind} | {labels} | {one.help} |")
    return "\n".join(lines)


def text() -> str:
    return README.read_text(encoding="utf-8")


def test_the_settings_table_is_that_of_the_code() -> None:
    shown = text().partition(BEGIN)[2].partition(END)[0].strip()
    assert shown == table(), "run `python -m tests.test_readme`"


def test_the_metrics_table_is_that_of_the_code() -> None:
    shown = text().partition(METRICS_BEGIN)[2].partition(METRICS_END)[0].strip()
    assert shown == metrics_table(), "run `python -m tests.test_readme`"


def test_every_command_group_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"`ingester (\w+)", text())) | set(re.findall(r"^ *ingester (\w+)", text(), re.MULTILINE))
    assert named <= set(COMMANDS)
    assert {"send", "show", "raw", "dead", "serve", "migrate"} <= named


def test_every_room_that_the_readme_lists_exists() -> None:
    house = text().partition("## The house")[2].partition("\n## ")[0]
    for name in re.findall(r"`([a-z/_]+(?:/|\.py))`", house):
        assert (ROOT / name).exists() or (ROOT / "ingester" / name).exists(), name


def write(begin: str, table: str, end: str) -> None:
    """Put a table between its marks."""
    before, mark, rest = text().partition(begin)
    if mark:
        README.write_text(f"{before}{begin}\n{table}\n{end}{rest.partition(end)[2]}", encoding="utf-8")


if __name__ == "__main__":
    write(BEGIN, table(), END)
    write(METRICS_BEGIN, metrics_table(), METRICS_END)
