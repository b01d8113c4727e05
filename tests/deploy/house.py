"""Where the commands of a page run: a database, a daemon that is started when somebody needs it, a reader's directory.

The directory is the project's, by links, with nothing in it that the commands could spoil. Before everything else on
PATH stand `ingester`, the programs of the tests' own Postgres, and stand-ins for what rules machines (`standins`).
"""

import asyncio
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, chdir, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from unittest.mock import patch
from urllib.parse import urlsplit

from click.testing import CliRunner

from ingester.cli import main
from ingester.store import binaries
from tests import mta
from tests.daemon import OURS, Daemon, Town, clean_environment, serving, settle
from tests.deploy.pages import ROOT
from tests.deploy.pgbouncer import pooling
from tests.deploy.ways import FILLED
from tests.e2e.certificates import Pair, write_pair
from tests.ports import free_port

SECONDS = 120
LETTERS = 5
"""Dead letters that are made at once: it takes a daemon."""
OF_THE_SHELL = re.compile(r"[|&;<>$`(){}*?~\\\n]")
"""What makes a line more than a program and its words."""
SECRET = "of the tests and long enough to be taken for one"
SUPPORT = "support@acme.example"
_CITUS = """
DO $do$ BEGIN
    CREATE FUNCTION create_reference_table(p_name text) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM p_name::regclass;
    END $$;
    CREATE FUNCTION create_distributed_table(p_name text, p_column text, colocate_with text DEFAULT 'default')
    RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM p_name::regclass;
        ASSERT (SELECT count(*) FROM pg_attribute WHERE attrelid = p_name::regclass AND attname = p_column) = 1;
        ASSERT colocate_with = 'default' OR colocate_with::regclass IS NOT NULL;
    END $$;
END $do$
"""
STANDINS = (
    *("apt-get", "aws", "chown", "docker", "install", "journalctl", "kubectl", "pip", "python3", "sudo"),
    *("systemctl", "systemd-analyze", "useradd"),
)


@dataclass(slots=True, kw_only=True)
class Ended:
    """What a command has said, and how it ended."""

    status: int
    told: str


@dataclass(kw_only=True)
class House:
    """One page's house. The attributes that `ways.FILLED` names are made when they are asked for."""

    url: str
    directory: Path
    restored_url: str
    domain: str = "acme.example"
    environment: dict[str, str] = field(default_factory=dict)
    stack: ExitStack = field(default_factory=ExitStack)
    daemons: dict[str, Daemon] = field(default_factory=dict)
    numbers: "count[int]" = field(default_factory=count)
    http_door: str = ""
    nothing: str = ""
    machine: str = ""

    def __post_init__(self) -> None:
        (self.directory / "runtime-password").write_text(SECRET)
        self.machine = f"{self.directory.parent}/machine/"
        for place in ("etc/ingester/credentials", "etc/systemd/system", "opt/ingester", "run", "var/lib"):
            Path(self.machine, place).mkdir(parents=True)
        self.environment = clean_environment() | {
            "PATH": f"{self._programs()}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "INGESTER_DATABASE_URL": self.url,
            "INGESTER_REPLY_TOKEN_SECRETS": SECRET,
            "INGESTER_INBOUND_TOKEN": SECRET,
            "RESTORED_URL": self.restored_url,
        }

    # -- running --------------------------------------------------------------------------------------------------

    def fill(self, text: str) -> str:
        """The command with what the test has in the place of the page's examples."""
        for pattern, name in FILLED:
            if re.search(pattern, text):
                text = re.sub(pattern, str(getattr(self, name)).replace("\\", r"\\"), text)
        return text

    def run(self, text: str) -> Ended:
        """Run a line in the reader's shell. What it exports, or assigns, is there for the lines that follow.

        An `ingester` alone needs no shell, and no process: a page has dozens.
        """
        text = self.fill(text)
        command = re.sub(r"\s+# .*$", "", text)
        if command.startswith("ingester ") and not OF_THE_SHELL.search(command):
            return self._call(shlex.split(command)[1:])
        return self._run_in_shell(text)

    def _call(self, words: list[str]) -> Ended:
        with chdir(self.directory), patch.dict(os.environ, self.environment, clear=True):
            done = CliRunner().invoke(main, words, prog_name="ingester")
        return Ended(status=done.exit_code, told=done.output)

    def _run_in_shell(self, text: str) -> Ended:
        keep = self.directory / "exported"
        script = f"set -a\n{text}\nset +a\nenv -0 >'{keep}'"
        keep.unlink(missing_ok=True)
        done = subprocess.run(
            ["sh", "-ec", script],
            env=self.environment,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        if keep.exists():
            self.environment = dict(one.split("=", 1) for one in keep.read_text().split("\0") if one)
        return Ended(status=done.returncode, told=done.stdout + done.stderr)

    def watch(self, text: str) -> Ended:
        """Run what goes on: its first line, then Ctrl-C."""
        process = subprocess.Popen(
            ["sh", "-ec", f"exec {self.fill(text)}"],
            env=self.environment,
            cwd=self.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)
        rest, _ = process.communicate(timeout=SECONDS)
        return Ended(status=process.returncode, told=first + rest)

    def serve(self, text: str) -> None:
        """Run a daemon with the page's settings, on other ports: every worker serves, and it drains."""
        words = self.fill(re.sub(r" +# .*$", "", text)).split()[2:]
        settings = self._settings_of_a_daemon()
        with serving(
            settings["INGESTER_DATABASE_URL"], settings=settings, arguments=words, wait=False, command=OURS
        ) as daemon:
            daemon.wait_event("serving", times=int(settings.get("INGESTER_WORKERS", "1")))
            assert daemon.terminate() == 0

    def _settings_of_a_daemon(self) -> dict[str, str]:
        given = {name: value for name, value in self.environment.items() if name.startswith("INGESTER_")}
        given["INGESTER_ENV"] = "production"
        for door in ("HTTP", "METRICS"):
            if f"INGESTER_{door}__LISTEN" in given:
                given[f"INGESTER_{door}__LISTEN"] = f"127.0.0.1:{free_port()}"
        return given

    # -- what is there --------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """The tenant, its domain and a mailbox."""
        asyncio.run(settle(self.town.url, {self.domain: ("support",)}))

    @property
    def town(self) -> Town:
        """The database that the page speaks of at this place."""
        return Town(url=self.environment["INGESTER_DATABASE_URL"])

    @property
    def daemon(self) -> Daemon:
        """The daemon that the commands of the page speak to, one for each database that it speaks of."""
        url = self.town.url
        if url not in self.daemons:
            doors = {name: f"127.0.0.1:{free_port()}" for name in ("HTTP", "METRICS")}
            settings = {f"INGESTER_{name}__LISTEN": where for name, where in doors.items()}
            settings["INGESTER_INBOUND_TOKEN"] = SECRET
            settings["INGESTER_REPLY_TOKEN_SECRETS"] = self.environment["INGESTER_REPLY_TOKEN_SECRETS"]
            self.daemons[url] = self.stack.enter_context(serving(url, settings=settings))
            self.environment["INGESTER_METRICS__LISTEN"] = doors["METRICS"]
            self.http_door = doors["HTTP"]
        return self.daemons[url]

    @property
    def server(self) -> str:
        return f"--server 127.0.0.1:{self.daemon.port}"

    @property
    def server_option(self) -> str:
        return f"{self.server} "

    @property
    def http(self) -> str:
        self.need_daemon()
        return self.http_door

    @property
    def mailbox(self) -> str:
        """One that no command of a page changes."""
        self.need_tenant()
        address = f"of-the-pages@{self.domain}"
        if not self.town.ask("SELECT FROM mailboxes WHERE local_part = 'of-the-pages'"):
            ended = self.run(f"ingester mailbox add {address}")
            assert ended.status == 0, ended.told
        return address

    def _letter(self) -> mta.Letter:
        """A mail with two parts, like no other."""
        return mta.letter(f"mail-{next(self.numbers)}@customer.test", self.mailbox, size=200)

    @property
    def message_id(self) -> str:
        """A stored mail."""
        assert mta.send(self.daemon.port, [self._letter()]).count("2") == 1
        return self._newest("messages WHERE direction = 'inbound'")

    @property
    def mail_file(self) -> str:
        file = self.directory / "mail.eml"
        file.write_bytes(self._letter().content)
        return str(file)

    @property
    def dead_letter_id(self) -> str:
        """One of some mails that a daemon has failed to digest."""
        dead = "dead_letters WHERE state = 'dead' AND kind = 'mail' AND reason = 'scan_failed'"
        if not self.town.ask(f"SELECT FROM {dead}"):
            letters = [self._letter() for _ in range(LETTERS)]
            with serving(self.url, settings={"INGESTER_TEST_FAULTS": "scan:raise"}) as daemon:
                assert mta.send(daemon.port, letters).count("2") == LETTERS
        return self._newest(dead)

    @property
    def slug(self) -> str:
        """The tenant's."""
        self.need_tenant()
        return self.domain.partition(".")[0]

    @property
    def person(self) -> str:
        return "ada@customer.example"

    @property
    def outbound_id(self) -> str:
        return self._registered()[0]

    @property
    def token(self) -> str:
        return self._registered()[1]

    def _registered(self) -> tuple[str, str]:
        """An outbound message that an application has registered: its id, and the reply token in its answer."""
        told = self.run(f"ingester outbound register support@{self.domain} --to ada@customer.example --subject Hello")
        assert told.status == 0, told.told
        token = re.search(r"osr_[a-z2-7]+_[a-z2-7]+", told.told)
        assert token is not None, told.told
        return self._newest("messages WHERE direction = 'outbound'"), token[0]

    @property
    def intake_id(self) -> str:
        return self._newest("intake_tokens")

    @property
    def key_id(self) -> str:
        return self._newest("api_keys")

    def need_tenant(self) -> None:
        """Settle again where a page has erased its own tenant."""
        if not self.town.ask("SELECT FROM domains WHERE name = $1", self.domain):
            self.settle()

    def need_daemon(self) -> None:
        """Start it."""
        self.daemon.wait_event("serving")

    def pretend_citus(self) -> None:
        """Functions of the names of Citus's, which look at what they are given as Citus would."""
        self.town.ask(_CITUS)

    def _newest(self, rows: str) -> str:
        """Ids are in the order of their making."""
        return str(self.town.ask(f"SELECT id FROM {rows} ORDER BY id DESC LIMIT 1")[0]["id"])

    @cached_property
    def pair(self) -> Pair:
        return write_pair(self.directory)

    @property
    def certificate(self) -> str:
        return str(self.pair.cert)

    @property
    def key(self) -> str:
        return str(self.pair.key)

    @property
    def runtime_url(self) -> str:
        """That of the runtime role, with the password that a command of the page has made."""
        password = (self.directory / "runtime-password").read_text().strip()
        parts = urlsplit(self.url)
        return parts._replace(netloc=f"ingester_runtime:{password}@{parts.hostname}:{parts.port}").geturl()

    @cached_property
    def pooled_url(self) -> str:
        return self.stack.enter_context(pooling(self.url))

    # -- PATH -----------------------------------------------------------------------------------------------------

    def _programs(self) -> Path:
        directory = self.directory / "programs"
        directory.mkdir()
        _script(directory / "ingester", f'exec "{sys.executable}" -m ingester "$@"')
        for name in STANDINS:
            _script(directory / name, f'exec "{sys.executable}" -m tests.deploy.standins {name} "$@"')
        postgres = binaries.find()[0].directory
        for name in ("pg_dump", "pg_restore", "psql", "pg_basebackup"):
            _script(directory / name, f'exec "{postgres / name}" "$@"')
        # An answer of 400 or above is no success.
        _script(
            directory / "curl", f'exec "{shutil.which("curl") or "/usr/bin/curl"}" --fail --silent --show-error "$@"'
        )
        return directory


def _script(file: Path, line: str) -> None:
    file.write_text(f"#!/bin/sh\n{line}\n")
    file.chmod(0o755)


@contextmanager
def living(url: str, restored_url: str, place: Path, *, domain: str = "acme.example") -> Iterator[House]:
    """A house in a directory of links to the project, where what the pages write is the test's own."""
    project = place / "project"
    (project / "deploy").mkdir(parents=True)
    for source in ROOT.iterdir():
        if source.name not in ("deploy", ".git", ".ingester"):
            (project / source.name).symlink_to(source)
    for source in (ROOT / "deploy").iterdir():
        if source.name != "secrets":
            (project / "deploy" / source.name).symlink_to(source)
    house = House(url=url, restored_url=restored_url, directory=project, domain=domain)
    with house.stack:
        yield house
