"""The house: what stands where, what each file says of itself, and what only one room may do."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ingester.store.migrate import MIGRATIONS, load
from tests.skips import LIMIT, LIST, read_list

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ingester"
FILES = sorted(PACKAGE.rglob("*.py"))
TOP = {"pyproject.toml", "ingester", "tests", "deploy", "systemd", "README.md", "uv.lock", "LICENSE", "CHANGELOG.md"}
SHAPELESS = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager"}
CLOCKS = {("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today")}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def attributes(path: Path) -> set[tuple[str, str]]:
    nodes = (node for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute))
    return {(node.value.id, node.attr) for node in nodes if isinstance(node.value, ast.Name)}


def test_the_top_level_is_that_of_the_design_page() -> None:
    """Asked of git where it can be, so that what is ignored does not count."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    paths = listed.stdout.splitlines() if listed.returncode == 0 else [path.name for path in ROOT.iterdir()]
    tops = {path.partition("/")[0] for path in paths if (ROOT / path).exists()}
    assert {top for top in tops if not top.startswith(".")} <= TOP
    assert {"pyproject.toml", "ingester", "tests", "deploy", "README.md", "LICENSE", "uv.lock"} <= tops


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_file_opens_by_saying_what_it_is_for(path: Path) -> None:
    said = ast.get_docstring(tree(path))
    assert said
    assert len(said) > 20


def test_no_room_is_named_for_nothing() -> None:
    assert not {path.stem for path in PACKAGE.rglob("*")} & SHAPELESS


def test_only_settings_reads_the_environment() -> None:
    readers = {name(path) for path in FILES if {("os", "environ"), ("os", "getenv")} & attributes(path)}
    assert readers == {"ingester/settings/reading.py"}


def test_only_the_smtp_door_knows_aiosmtpd() -> None:
    users = [path for path in FILES if any(one.split(".")[0] == "aiosmtpd" for one in imported(path))]
    assert users
    assert all(re.fullmatch(r"ingester/transport/(smtp|lmtp)\w*\.py", name(path)) for path in users), users


def test_the_core_asks_no_clock() -> None:
    """What import-linter cannot see: datetime may be imported for its types."""
    assert {name(path): found for path in FILES if "core" in path.parts and (found := attributes(path) & CLOCKS)} == {}


def test_no_file_names_a_place_of_one_machine() -> None:
    pattern = re.compile(r"/(?:work|home/\w+|root)/|" + "/".join(["", "tmp", ""]))
    tracked = [*FILES, *ROOT.glob("deploy/*"), *ROOT.glob("*.md"), ROOT / "pyproject.toml"]
    assert [name(path) for path in tracked if path.is_file() and pattern.search(path.read_text(encoding="utf-8"))] == []


def test_migrations_are_numbered_without_gaps() -> None:
    assert [one.number for one in load()] == list(range(1, len(load()) + 1))
    assert {path.suffix for path in MIGRATIONS.iterdir() if path.is_file()} == {".sql"}


def test_few_skips_are_allowed_and_each_has_a_test_and_a_reason() -> None:
    allowed = read_list(LIST)
    assert len(allowed) <= LIMIT
    for test in allowed:
        path, _, function = test.partition("::")
        assert f"def {function.partition('[')[0]}(" in (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.thorough
def test_a_skip_that_is_not_allowed_fails_the_run(pytester_run: Path) -> None:
    (pytester_run / "test_some.py").write_text(
        "import pytest\n"
        "def test_fine(): pass\n"
        "@pytest.mark.skip(reason='known')\ndef test_known(): pass\n"
        "@pytest.mark.xfail(reason='not a skip', strict=True)\ndef test_xfail(): assert False\n"
    )
    allowed = pytester_run / "allowed.txt"
    allowed.write_text("# comment\ntest_some.py::test_known: known\n")
    assert run_pytest(pytester_run, allowed).returncode == 0
    allowed.write_text("")
    (pytester_run / "test_absent.py").write_text("import pytest\npytest.importorskip('no_such_module')\n")
    refused = run_pytest(pytester_run, allowed)
    assert refused.returncode == 1
    assert "test_some.py::test_known: Skipped: known" in refused.stdout
    assert "test_absent.py: Skipped: could not import 'no_such_module'" in refused.stdout


@pytest.fixture
def pytester_run(tmp_path: Path) -> Path:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p tests.skips\n")
    return tmp_path


def run_pytest(where: Path, allowed: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--rootdir",
        str(where),
        "--allowed-skips",
        str(allowed),
        str(where),
    ]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_no_regular_expression_repeats_a_group_possessively() -> None:
    """Python before 3.11.5 gets these wrong (gh-106052, gh-101955), and Debian 12 has 3.11.2."""
    wrong = re.compile(r"\)(?:[*+?]|\{\d*,?\d*\})\+|\(\?>")
    found = [
        f"{path.name}:{number}"
        for path in sorted((ROOT / "ingester").rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if wrong.search(line)
    ]
    assert found == []
