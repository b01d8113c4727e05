"""What deploy/operations.md says of backups, restores and the rotation of reply tokens, with the real programs."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from ingester.store import binaries
from tests import mta
from tests.daemon import Town, command, serving
from tests.e2e.caller import calling
from tests.postgres import FAST, Cluster, running

pytestmark = pytest.mark.thorough

OLD = "the secret of last year long enough to be taken for one"
NEW = "the secret of this year long enough to be taken for one"


def program(name: str, *words: object) -> None:
    path = binaries.find()[0].directory / name
    subprocess.run([path, *map(str, words)], check=True, capture_output=True, timeout=120, env=dict(os.environ))


@pytest.fixture
def restored(acme: Town, postgres: Cluster, tmp_path: Path) -> "Restored":
    return Restored(town=acme, postgres=postgres, file=tmp_path / "ingester.dump")


class Restored:
    """A dump of the town as it is when asked for, and the town as it was."""

    def __init__(self, *, town: Town, postgres: Cluster, file: Path) -> None:
        self.town, self._postgres, self._file = town, postgres, file

    def dump(self) -> None:
        program("pg_dump", "--format=custom", f"--file={self._file}", self.town.url)

    def restore(self, url: str) -> Town:
        program("pg_restore", "--exit-on-error", "--no-owner", f"--dbname={url}", self._file)
        return Town(url=url)


def contents(town: Town) -> dict[str, str]:
    """A fingerprint of every table."""
    tables = town.ask(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY relname"
    )
    return {
        row[0]: str(town.ask(f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {row[0]} t")[0][0])
        for row in tables
    }


def test_a_dump_holds_everything(restored: Restored, postgres: Cluster) -> None:
    """Every row; the schema is complete; a mail comes in, one that came before the dump is known as a duplicate."""
    before, after = mta.letters(5, name="before"), mta.letters(3, name="after")
    with serving(restored.town.url) as daemon:
        assert mta.send(daemon.port, before).count("2") == 5
    restored.dump()
    was = contents(restored.town)
    with postgres.clone("template0") as url:
        town = restored.restore(url)
        assert contents(town) == was
        assert len(was) > 20
        assert command(url, "migrate").strip()
        assert contents(town) == was
        with serving(url) as daemon:
            assert mta.send(daemon.port, [*before, *after]).count("2") == 8
        assert town.count("messages") == 8


def test_what_a_restore_to_yesterday_loses(restored: Restored, postgres: Cluster) -> None:
    """Mail since then, though it was answered yes; what was erased is back; a route of since is refused for good."""
    with serving(restored.town.url) as daemon:
        mta.send(daemon.port, mta.letters(1, name="before"))
        restored.dump()
        mta.send(daemon.port, mta.letters(1, name="since"))
    (erased,) = restored.town.ask("SELECT id FROM messages WHERE rfc_message_id = 'before-0@customer.test'")[0]
    command(restored.town.url, "delete", erased, "--apply")
    command(restored.town.url, "mailbox", "add", "late@acme.test")
    with postgres.clone("template0") as url:
        town = restored.restore(url)
        found = {row[0] for row in town.ask("SELECT rfc_message_id FROM messages")}
        assert found == {"before-0@customer.test"}
        with serving(url) as daemon, calling(daemon.port) as caller:
            assert caller.ask("MAIL FROM:<ada@customer.test>").startswith("250")
            assert caller.ask("RCPT TO:<late@acme.test>").startswith("550")


def test_messages_registered_since_can_be_registered_again(restored: Restored, postgres: Cluster) -> None:
    """With the id and the token that they were sent with. The reply that came meanwhile is then matched."""
    restored.dump()
    words = ("outbound", "register", "support@acme.test", "--to", "ada@customer.test")
    told = command(restored.town.url, *words, INGESTER_REPLY_TOKEN_SECRETS=NEW)
    token = re.search(r"osr_[a-z2-7]+_[a-z2-7]+", told)
    assert token is not None
    sent = restored.town.ask("SELECT id, rfc_message_id FROM messages WHERE direction = 'outbound'")[0]
    with postgres.clone("template0") as url:
        town = restored.restore(url)
        with serving(url, settings={"INGESTER_REPLY_TOKEN_SECRETS": NEW}) as daemon:
            reply = mta.letter("reply@customer.test", f"reply+{token[0]}@acme.test")
            assert mta.send(daemon.port, [reply]).count("2") == 1
        assert _status(town) == "unmatched"
        known = ("--sent-id", sent["id"], "--sent-message-id", sent["rfc_message_id"], "--sent-token", token[0])
        command(url, *words, *known, INGESTER_REPLY_TOKEN_SECRETS=NEW)
        command(url, "rematch", "--since", "2d", "--apply", INGESTER_REPLY_TOKEN_SECRETS=NEW)
        assert _status(town) == "matched"


def _status(town: Town) -> str:
    return str(town.ask("SELECT reply_match_status FROM messages WHERE direction = 'inbound'")[0][0])


def test_rotating_the_secrets_of_reply_tokens(acme: Town) -> None:
    """`new,old`: what was sent with the old one still comes home, the new one signs. Without the old it does not."""
    words = ("outbound", "register", "support@acme.test", "--to", "ada@customer.test")
    tokens = {}
    for name, secrets in (("old", OLD), ("new", f"{NEW},{OLD}")):
        told = command(acme.url, *words, INGESTER_REPLY_TOKEN_SECRETS=secrets)
        found = re.search(r"osr_[a-z2-7]+_[a-z2-7]+", told)
        assert found is not None
        tokens[name] = found[0]
    assert _matching(acme, f"{NEW},{OLD}", tokens) == {"old", "new"}
    assert _matching(acme, NEW, tokens) == {"new"}


def _matching(town: Town, secrets: str, tokens: dict[str, str]) -> set[str]:
    """The tokens that bring a reply home to a daemon with these secrets."""
    with serving(town.url, settings={"INGESTER_REPLY_TOKEN_SECRETS": secrets}) as daemon:
        ids = {f"{name}-{daemon.port}@customer.test": name for name in tokens}
        replies = [mta.letter(one, f"reply+{tokens[name]}@acme.test") for one, name in ids.items()]
        assert mta.send(daemon.port, replies).count("2") == len(tokens)
    rows = town.ask("SELECT rfc_message_id FROM messages WHERE reply_match_status = 'matched'")
    return {ids[row[0]] for row in rows if row[0] in ids}


def test_a_restore_on_another_server_wants_the_roles_first(own_postgres: Cluster, tmp_path: Path) -> None:
    """Rights and policies name roles, which a dump does not hold."""
    town, file, password = Town(url=own_postgres.url), tmp_path / "ingester.dump", tmp_path / "password"
    password.write_text("the password of the runtime role of this test")
    command(town.url, "roles", "--password-file", password, "--apply")
    program("pg_dump", "--format=custom", f"--file={file}", town.url)
    with running(FAST) as other, other.clone("template0") as url, pytest.raises(subprocess.CalledProcessError):
        program("pg_restore", "--exit-on-error", "--no-owner", f"--dbname={url}", file)
    with running(FAST) as other, other.clone("template0") as url:
        program("psql", url, "-c", "CREATE ROLE ingester_runtime LOGIN", "-c", "CREATE ROLE ingester_api")
        program("pg_restore", "--exit-on-error", "--no-owner", f"--dbname={url}", file)
        command(url, "roles", "--password-file", password, "--apply")
        assert contents(Town(url=url)) == contents(town)
