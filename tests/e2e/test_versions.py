"""Two daemons of different versions on one database, while the newer one migrates: nothing is lost, nothing is refused
for good, the older one goes on, and what restarts on the newer schema serves.

The newer is a copy of this code with migrations of its own, of the kinds that hurt; or this code itself, beside the
last one that knew only the first six migrations.
"""

import asyncio
import io
import itertools
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest

from ingester.store.migrate import load
from tests.daemon import ROOT, Town, clean_environment, serving
from tests.e2e.ledger import audit
from tests.mta import Attempt, Letter, Mta, letter, sending

pytestmark = pytest.mark.thorough

BOTH = ("support@acme.test", "sales@globex.test")
SETTINGS = {"INGESTER_SMTP__MAX_CONNECTIONS_PER_PREFIX": "500"}
OLD = "8ad3651"
"""The last commit whose newest migration was the sixth."""
STILL = 8.0
"""Seconds that a mail may take at most while a migration runs: locks are waited for one second, a few times over."""

ALTER = """
ALTER TABLE messages ADD COLUMN newer text DEFAULT 'newer', ADD COLUMN newest jsonb;
ALTER TABLE receipts ADD COLUMN newer integer NOT NULL DEFAULT 1 CHECK (newer > 0);
DO $$
BEGIN
    EXECUTE replace(pg_get_functiondef('store_batch'::regproc), 'BEGIN', E'-- the newer one\\nBEGIN');
END $$;
"""
INDEX = """-- no transaction
DROP INDEX CONCURRENTLY IF EXISTS messages_newer;
-- next
CREATE INDEX CONCURRENTLY messages_newer ON messages (tenant_id, newer);
"""


def at(directory: Path) -> list[str]:
    """The command that runs the code in this directory."""
    code = f"import sys; sys.path.insert(0, {str(directory)!r}); from ingester.cli import main; main()"
    return [sys.executable, "-c", code]


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """A copy of this code, of a later version, with two migrations more."""
    shutil.copytree(ROOT / "ingester", tmp_path / "ingester", ignore=shutil.ignore_patterns("__pycache__"))
    number = max(one.number for one in load())
    migrations = tmp_path / "ingester/store/migrations"
    # It waits no less for locks; the pause in between is only so that the test ends sooner.
    runner = tmp_path / "ingester/store/migrate.py"
    runner.write_text(runner.read_text().replace("STEP_BACK_SECONDS = 2.0", "STEP_BACK_SECONDS = 0.2"))
    (migrations / f"{number + 1:04}_alter.sql").write_text(ALTER)
    (migrations / f"{number + 2:04}_index.sql").write_text(INDEX)
    return tmp_path


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """The code of that commit."""
    archive = subprocess.run(["git", "archive", OLD, "ingester"], cwd=ROOT, capture_output=True)
    if archive.returncode:
        pytest.skip(f"the history is absent: no commit {OLD} here")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(tmp_path, filter="data")
    return tmp_path


@contextmanager
def load_on(port: int, name: str) -> Iterator[Mta]:
    """Mail for as long as the block lasts; then what was begun is brought to its end."""
    end = threading.Event()

    def endless() -> Iterator[Letter]:
        for number in itertools.count():
            if end.is_set():
                return
            yield letter(f"{name}-{number}@customer.test", *BOTH, size=2000)

    with sending(port, endless(), connections=3) as mta:
        try:
            yield mta
        finally:
            end.set()
        mta.finish()


@contextmanager
def reading(url: str, *tables: str) -> Iterator[threading.Event]:
    """A transaction that has read these tables and stays open, as pg_dump's does, until the event is set."""
    begun, end = threading.Event(), threading.Event()

    async def hold() -> None:
        connection = await asyncpg.connect(url)
        async with connection.transaction():
            for table in tables:
                await connection.fetch(f"SELECT FROM {table} LIMIT 1")
            begun.set()
            await asyncio.to_thread(end.wait)
        await connection.close()

    thread = threading.Thread(target=asyncio.run, args=(hold(),))
    thread.start()
    begun.wait()
    try:
        yield end
    finally:
        end.set()
        thread.join()


def roll(there: Town, old: Sequence[str], new: Sequence[str], *, supervised: bool = True) -> None:
    """From the old code to the new one and back: both serve, the new one migrates, and where the old one has a
    supervisor, its worker is born again.
    """
    with ExitStack() as stack:
        first = stack.enter_context(serving(there.url, settings=SETTINGS, command=old))
        mtas = [stack.enter_context(load_on(first.port, "first"))]
        bring(mtas[0])
        with reading(there.url, "messages", "tenants", "receipts", "dead_letters") as long_transaction:
            second = stack.enter_context(
                serving(there.url, settings=SETTINGS, command=new, arguments=["--migrate"], wait=False)
            )
            second.wait_text("stepping back")
            long_transaction.set()
        second.wait_event("serving")
        mtas.append(stack.enter_context(load_on(second.port, "second")))
        for mta in mtas:
            bring(mta)
        if supervised:
            psutil.Process(first.process.pid).children()[0].kill()
            first.wait_event("serving", times=2)
            bring(mtas[0])
        # A rollback: the old code starts on the new schema.
        third = stack.enter_context(serving(there.url, settings=SETTINGS, command=old))
        mtas.append(stack.enter_context(load_on(third.port, "third")))
        bring(mtas[2])
    check(there, [attempt for mta in mtas for attempt in mta.attempts])


def bring(mta: Mta) -> None:
    """Wait until so many more mails have been taken."""
    taken = mta.count("2")
    mta.wait_for(lambda: mta.count("2") > taken + 50)


def check(there: Town, attempts: Sequence[Attempt]) -> None:
    """Every mail is there once, none was refused for good, and none waited for long."""
    assert not [attempt.answers for attempt in attempts if attempt.said("5")]
    audit(there.url, {one.letter.message_id: one.letter for one in attempts}.values(), attempts)
    slowest = max(one.ended - one.began for one in attempts)
    deferred = sum(bool(one.said("4")) for one in attempts)
    print(f"{len(attempts)} attempts, {deferred} deferred, the slowest took {slowest:.1f} s")
    assert slowest < STILL


def test_a_newer_version_migrates_while_this_one_receives(acme: Town, newer: Path) -> None:
    roll(acme, at(ROOT), at(newer))
    names = acme.ask("SELECT name FROM schema_migrations ORDER BY number DESC LIMIT 2")
    assert [row["name"] for row in names] == ["index", "alter"]
    (row,) = acme.ask("SELECT indisvalid FROM pg_index WHERE indexrelid = 'messages_newer'::regclass")
    assert row["indisvalid"]


@pytest.mark.long
def test_this_version_migrates_while_an_old_one_receives(empty_database_url: str, older: Path) -> None:
    old = at(older)
    environment = clean_environment() | {"INGESTER_DATABASE_URL": empty_database_url}
    commands = ["migrate"]
    for tenant in ("acme", "globex"):
        commands += [f"tenant add {tenant} --name {tenant}", f"domain add {tenant}.test --tenant {tenant} --verified"]
    commands += [f"mailbox add {address}" for address in BOTH]
    for one in commands:
        subprocess.run([*old, *one.split()], env=environment, check=True, stdout=subprocess.DEVNULL)
    roll(Town(url=empty_database_url), old, at(ROOT), supervised=False)
