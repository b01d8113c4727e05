"""The whole daemon as a role that owns nothing: its doors, its commands, its chores, and not one right refused.

The server's own log is the judge: what the daemon was forbidden would stand there, if nowhere else.
"""

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest

from ingester.app import App
from ingester.settings import load
from tests.cli.conftest import Cli, bare_environment
from tests.daemon import Town, command, serving, settle
from tests.e2e.ledger import audit
from tests.inbound import PATH, RFC822, TOKEN
from tests.mta import Letter, letter, letters, send, sending
from tests.ports import free_port
from tests.postgres import Cluster
from tests.quiet_dns import nameservers
from tests.roles import Walled, remove

pytestmark = pytest.mark.thorough

__all__ = ["bare_environment"]

PASSWORD = "of: 100 % blanks / and @?"
QUOTED = "of%3A%20100%20%25%20blanks%20%2F%20and%20%40%3F"
SECRET = "a secret of the tests and long enough to sign"
SETTINGS = {
    "INGESTER_WORKERS": "2",
    "INGESTER_INBOUND_TOKEN": TOKEN,
    "INGESTER_REPLY_TOKEN_SECRETS": SECRET,
}


@dataclass(frozen=True, slots=True)
class Log:
    """What the server of the tests has said since the test began."""

    path: Path
    begin: int

    @property
    def refused(self) -> list[str]:
        """Rights that somebody lacked."""
        with self.path.open(errors="replace") as file:
            file.seek(self.begin)
            return [line for line in file if "permission denied" in line or "must be owner" in line]


@pytest.fixture
def log(postgres: Cluster) -> Log:
    path = postgres.server.log
    return Log(path, path.stat().st_size)


@pytest.fixture
def house(database_url: str, log: Log, tmp_path: Path) -> Iterator[Walled]:
    """The roles as an operator makes them: by the command, with a password of a file."""
    name = urlsplit(database_url).path.strip("/")
    role, api = f"daemon_{name}", f"app_{name}"
    (tmp_path / "password").write_text(PASSWORD + "\n")
    words = ["roles", "--runtime", role, "--api", api, "--password-file", tmp_path / "password"]
    assert "CREATE ROLE" in command(database_url, *words)
    assert "have what they need now" in command(database_url, *words, "--apply")
    assert "have what they need." in command(database_url, "roles", "--runtime", role)
    parts = urlsplit(database_url)
    runtime = parts._replace(netloc=f"{role}:{QUOTED}@{parts.hostname}:{parts.port}").geturl()
    yield Walled(owner=database_url, runtime=runtime, role=role, api=api)
    assert log.refused == []
    asyncio.run(remove(database_url, role, api))


@pytest.fixture
def acme(house: Walled) -> Town:
    """The usual town, made by the runtime role."""
    return asyncio.run(settle(house.runtime, {"acme.test": ("support", "sales"), "globex.test": ("support",)}))


def test_mail_and_the_api_by_every_door(acme: Town) -> None:
    """SMTP by two workers, HTTP, a registered message and the reply to it, a mailbox that is added meanwhile."""
    mails = letters(60, "support@acme.test", "support@globex.test", name="smtp", size=2000)
    late = letter("late@customer.test", "late@acme.test")
    by_http = letter("http@customer.test", "sales@acme.test")
    http = free_port()
    with serving(acme.url, settings=SETTINGS | {"INGESTER_HTTP__LISTEN": f"127.0.0.1:{http}"}) as daemon:
        attempts = send(daemon.port, mails, connections=6).attempts
        assert send(daemon.port, [late], connections=1).count("5") == 1
        command(acme.url, "mailbox", "add", "late@acme.test")
        attempts += send(daemon.port, [late], connections=1).attempts
        assert _post(http, PATH, by_http.content, TOKEN, **RFC822, **{"X-Ingester-Recipient": "sales@acme.test"})["ok"]
        made = _register(acme, http)
        attempts += (answered := send(daemon.port, [_reply_to(made)], connections=1)).attempts
        assert answered.count("2") == 1
        assert _post(http, f"/v1/messages/{made['message_id']}/sent", {"provider_message_id": "p1"}, made["key"])["ok"]
        assert daemon.terminate() == 0
    rows = acme.ask("SELECT direction, reply_match_status, count(*) FROM messages GROUP BY 1, 2 ORDER BY 1, 2")
    assert [tuple(row) for row in rows] == [
        ("inbound", "matched", 1),
        ("inbound", "unmatched", 122),
        ("outbound", "unmatched", 1),
    ]
    assert acme.count("refusals") == 1


def _register(acme: Town, http: int) -> dict[str, str]:
    key: str = json.loads(command(acme.url, "key", "add", "--tenant", "acme", "--name", "app", "--json"))["key"]
    (row,) = acme.ask("SELECT id FROM mailboxes WHERE domain = 'acme.test' AND local_part = 'support'")
    body = {"to": ["ada@customer.test"], "subject": "Hello"}
    made: dict[str, str] = _post(http, f"/v1/mailboxes/{row['id']}/outbound", body, key)
    return made | {"key": key}


def _reply_to(made: dict[str, str]) -> Letter:
    return letter("reply@customer.test", made["reply_address"])


def _post(port: int, path: str, body: bytes | Mapping[str, object], token: str, **headers: str) -> dict[str, str]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    said = {"Content-Type": "application/json"} | headers | {"Authorization": f"Bearer {token}"}
    with urlopen(Request(f"http://127.0.0.1:{port}{path}", data, said), timeout=30) as reply:
        answer: dict[str, str] = json.load(reply)
    return answer


def test_dead_letters_and_their_redrive(acme: Town) -> None:
    mails = letters(3, "support@acme.test", size=2000)
    faults = {"INGESTER_TEST_FAULTS": "scan:raise@1,commit:data@1"}
    with serving(acme.url, settings=faults) as daemon:
        assert send(daemon.port, mails, connections=1).count("2") == 3
    assert acme.count("dead_letters") == 2
    command(acme.url, "dead", "list")
    command(acme.url, "dead", "redrive", "--all", "--apply")
    assert acme.count("messages") == 3
    audit(acme.url, mails, [], dead=2)


def test_the_chores(acme: Town) -> None:
    """Each in this process, without waiting for its hour; old things are there for it to remove."""
    long_ago = "now() - interval '99 days'"
    with serving(acme.url) as daemon:
        send(daemon.port, letters(3, "support@acme.test"), connections=1)
        send(daemon.port, letters(1, "nobody@acme.test"), connections=1)
        assert daemon.terminate() == 0
    acme.ask(f"UPDATE claims SET expires_at = {long_ago}")
    acme.ask(f"UPDATE refusals SET minute = {long_ago}")
    acme.ask(f"UPDATE messages SET received_at = {long_ago}")
    acme.ask("UPDATE tenants SET retention_days = 30")
    asyncio.run(_do_chores(acme.url))
    assert [acme.count(table) for table in ("claims", "refusals", "messages", "parts", "threads")] == [0] * 5


async def _do_chores(url: str) -> None:
    app = App(load({"INGESTER_DNS__NAMESERVERS": nameservers()}, env="development", database_url=url))
    await app.open()
    try:
        await app.refusals.flush()
        await app._clean()
        await app._tidying.tidy()
        await app._retaining.retain()
        await app._after_upgrade.redrive()
        await app._sampling.count_dead_letters()
    finally:
        await app.close()


COMMANDS = """
tenant add initech
tenant list
tenant suspend initech
tenant resume initech
domain add initech.test --tenant initech --verified
domain list
mailbox add help@initech.test
mailbox list
mailbox set help@initech.test --auth-policy enforce
mailbox suspend help@initech.test
mailbox resume help@initech.test
route add alias aid@initech.test --to help@initech.test
route list
route remove alias aid@initech.test
sender block spam.test --tenant initech
sender mode allowlist --tenant initech
sender list --tenant initech
sender remove block spam.test --tenant initech
forwarder add authserv_id relay.test --network 192.0.2.0/24 --tenant initech
forwarder list
forwarder remove authserv_id relay.test --tenant initech
key list
intake add ours
intake list
quota set --tenant initech --mails 10
quota list
refusals list
dead list
rematch --since 7d
tenant set initech --retention 365d --attachments 90d
doctor
domain challenge initech.test --tenant initech
erase --address ada@initech.test --tenant initech --apply
tenant add passing
domain add passing.test --tenant passing --verified
mailbox add help@passing.test
erase --tenant passing --apply
domain add old.test --tenant initech
domain remove old.test --tenant initech
""".strip().splitlines()


@pytest.mark.usefixtures("bare_environment")
def test_the_commands(house: Walled, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process. Doctor has an opinion about this machine, and so may end with 1."""
    monkeypatch.setenv("INGESTER_DATABASE_URL", house.runtime)
    cli = Cli(url=house.runtime)
    for line in COMMANDS:
        told = cli.run(*line.split())
        assert told.exit_code == 0 or line == "doctor", (line, told.output)
    assert cli.json("tenant", "list")[-1]["slug"] == "initech"


def test_what_it_is_not_for_ends_in_a_sentence(house: Walled, log: Log) -> None:
    """The schema is complete, so `migrate` has nothing to do; to make roles is the owner's."""
    assert "up to date" in command(house.runtime, "migrate")
    with serving(house.runtime, arguments=["--migrate"]):
        pass
    command(house.runtime, "roles", status=1)


def test_roles_are_made_while_daemons_of_the_owner_receive(database_url: str, tmp_path: Path) -> None:
    """And a daemon of the new role beside them: every mail is stored once, and nobody is refused anything."""
    town = asyncio.run(settle(database_url, {"acme.test": ("support",)}))
    name = urlsplit(database_url).path.strip("/")
    role, api = f"late_{name}", f"late_api_{name}"
    (tmp_path / "password").write_text(PASSWORD)
    mails = letters(1500, "support@acme.test", name="meanwhile", size=1000)
    words = ["--runtime", role, "--api", api, "--password-file", tmp_path / "password", "--apply"]
    parts = urlsplit(database_url)
    runtime = parts._replace(netloc=f"{role}:{QUOTED}@{parts.hostname}:{parts.port}").geturl()
    with serving(database_url) as old, sending(old.port, mails, connections=6) as mta:
        mta.wait_for(lambda: mta.count("2") >= 50)
        command(database_url, "roles", *words)
        assert not mta.ended, "there was no load any more"
        with serving(runtime) as new:
            more = letters(30, "support@acme.test", name="beside")
            others = send(new.port, more, connections=3)
        mta.finish()
    assert mta.count("4") == mta.count("5") == 0
    audit(town.url, [*mails, *more], [*mta.attempts, *others.attempts])
    asyncio.run(remove(database_url, role, api))
