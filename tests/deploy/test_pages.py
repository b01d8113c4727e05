"""Every command that README.md or a page below deploy/ shows is run: see `ways` for how, and `house` for where."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path

import pytest

from ingester.core.outcome import CODES, FINAL_CODES, Reason
from ingester.settings import PREFIX, Settings, load
from ingester.settings.reading import CONFIG, CREDENTIALS, _names
from tests.deploy.house import House, living
from tests.deploy.pages import ROOT, Shown, anchors, everything, links, pages
from tests.deploy.ways import way_of
from tests.postgres import FAST, TEMPLATE, Cluster, _migrate, running

pytestmark = pytest.mark.thorough

COMMANDS = {page: list(shown) for page, shown in groupby(everything(), key=lambda one: one.page)}
FROM_NOTHING = {"README.md"}
"""Pages whose commands begin with an empty database. The others find a tenant with a mailbox."""
SCHEMA_ALONE = {"deploy/containers.md"}
OWN_SERVER = {"deploy/operations.md", "deploy/roles.md"}
"""Pages that change what belongs to a whole server."""
NOT_OURS = {CONFIG, CREDENTIALS, "INGESTER_PORT", "INGESTER_IMAGE", "INGESTER_CORPORA"}


@contextmanager
def house_of(page: str, postgres: Cluster, place: Path) -> Iterator[House]:
    template = "template0" if page in FROM_NOTHING else TEMPLATE
    with ExitStack() as stack:
        server = stack.enter_context(another_server()) if page in OWN_SERVER else postgres
        url = stack.enter_context(server.clone(template))
        restored = stack.enter_context(server.clone("template0"))
        house = stack.enter_context(living(url, restored, place))
        if page not in FROM_NOTHING | SCHEMA_ALONE:
            house.settle()
        yield house


@contextmanager
def another_server() -> Iterator[Cluster]:
    with running(FAST) as server:
        server.execute(f"create database {TEMPLATE}")
        asyncio.run(_migrate(server.url_of(TEMPLATE)))
        yield server


@contextmanager
def demo(postgres: Cluster, place: Path) -> Iterator[House]:
    """What `ingester dev` gives: a tenant, a daemon, and a token in a file."""
    with postgres.clone() as url, living(url, url, place, domain="demo.test") as house:
        house.settle()
        (house.directory / ".ingester").mkdir()
        (house.directory / ".ingester" / "inbound-token").write_text(house.environment["INGESTER_INBOUND_TOKEN"])
        yield house


@pytest.mark.parametrize("page", COMMANDS)
def test_the_commands_of_a_page_run(page: str, postgres: Cluster, tmp_path: Path) -> None:
    """In their order. All that fail are told."""
    faults: list[str] = []
    (tmp_path / "page").mkdir()
    (tmp_path / "demo").mkdir()
    with ExitStack() as stack:
        house = stack.enter_context(house_of(page, postgres, tmp_path / "page"))
        other: House | None = None
        for one in COMMANDS[page]:
            if way_of(one.text).demo:
                other = other or stack.enter_context(demo(postgres, tmp_path / "demo"))
                faults += _faults(one, other)
            else:
                faults += _faults(one, house)
    assert not faults, "\n\n".join(faults)


def _faults(one: Shown, house: House) -> Iterator[str]:
    """Run it as the table says."""
    way = way_of(one.text)
    if way.elsewhere is not None:
        file, words = way.elsewhere
        text = (ROOT / file).read_text()
        yield from (f"{one}\n{file} does not say {word}" for word in words if word not in text)
        return
    if way.prepared:
        getattr(house, way.prepared)()
    if way.serves:
        house.serve(one.text)
        return
    text = f"{one.text} --help" if way.mention else one.text
    ended = house.watch(text) if way.watches else house.run(text)
    if ended.status == 2 and _is_a_mention(one):
        ended = house.run(f"{one.text} --help")
    if ended.status not in way.statuses or "fault of ingester itself" in ended.told:
        yield f"{one}\n{ended.status}: {ended.told.strip()[-1500:]}"


def _is_a_mention(one: Shown) -> bool:
    """`ingester quota set` in a sentence names a command and is none: its help must be there."""
    return not one.block and re.fullmatch(r"ingester(?: [a-z0-9]+){1,2}", one.text) is not None


def test_a_command_that_does_not_exist_is_seen(postgres: Cluster, tmp_path: Path) -> None:
    """What the test above relies on: none of these passes, in a block or in a sentence."""
    wrong = (
        "ingester dead bury ID",
        "ingester frobnicate",
        "ingester refusals list --sinse 1h",
        "docker compose -f deploy/compose.yaml up -d --buidl",
        "docker compose -f deploy/compose.yaml logs ingestor",
        "docker build -f deploy/Dokerfile -t ingester .",
        "kubectl -n ingester rollout status deployment/ingestor",
        "kubectl rollout status deployment/ingester",
        "systemctl restart ingestor",
        "pip install 'ingester[s4]'",
        "pg_dump --format=costum",
    )
    (tmp_path / "page").mkdir()
    with house_of("x", postgres, tmp_path / "page") as house:
        for text in wrong:
            assert list(_faults(Shown(page="x", line=1, text=text, block=False), house)), text
    assert len(list(everything())) > 100


def test_every_link_leads_somewhere() -> None:
    for page in pages():
        for file, anchor in links(page):
            assert file.exists(), f"{page.name}: {file}"
            assert not anchor or anchor in anchors(file), f"{page.name}: {file.name}#{anchor}"


def test_every_setting_that_a_page_names_is_one() -> None:
    known = set(_names(Settings, PREFIX)) | NOT_OURS
    for page in pages():
        for name in re.findall(r"\bINGESTER_[A-Z0-9_]+\b", page.read_text()):
            is_group = any(one.startswith(name) for one in known)
            assert is_group if name.endswith("_") else name in known, f"{page.name}: {name}"


def test_the_runbook_knows_every_reason() -> None:
    """With the codes that the sender sees."""
    text = (ROOT / "deploy" / "runbook.md").read_text().partition("## Reasons")[2]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", text, re.MULTILINE))
    assert set(rows) == {reason.value for reason in Reason}
    for reason in Reason:
        codes = [CODES[reason], *([FINAL_CODES[reason]] if reason in FINAL_CODES else [])]
        for code in codes:
            said = f"HTTP {code.http}" if reason is Reason.EVENT_CONFLICT else f"{code.smtp} {code.enhanced}"
            assert said in rows[reason.value], reason


def test_what_a_page_quotes_from_the_log_is_logged() -> None:
    source = "\n".join(file.read_text() for file in (ROOT / "ingester").rglob("*.py"))
    quoted = [
        (page.name, words)
        for page in pages()
        for words in re.findall(r"`([^`]+)`\s+in\s+the\s+log|log\s+says\s+`([^`]+)`", page.read_text())
    ]
    assert len(quoted) >= 4
    for page, words in quoted:
        assert f'"{"".join(words)}' in source, f"{page}: {words}"


def test_the_numbers_on_the_pages_are_those_of_the_code() -> None:
    """Where a page names a default beside its setting."""
    defaults = {"INGESTER_DRAIN_SECONDS": load({}).drain_seconds}
    for name, value in defaults.items():
        for page in pages():
            for said in re.findall(rf"`?{name}`? \((\d+)\)", page.read_text()):
                assert float(said) == value, page.name
