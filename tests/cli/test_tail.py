"""ingester tail: the past by its filters, and what comes, in a pipe, over a restart of the database, until Ctrl-C."""

import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import PIPE, Popen
from typing import Any

import msgspec
import pytest

from ingester.core.envelope import Door
from tests.cli.conftest import Cli
from tests.conftest import ROOT
from tests.daemon import clean_environment, town
from tests.postgres import Cluster

pytestmark = pytest.mark.thorough

SECONDS = 30


def mail(n: int, *, cites: int | None = None, subject: str = "") -> bytes:
    answer = "" if cites is None else f"In-Reply-To: <{cites}@customer.test>\r\n"
    head = f"From: ada@customer.test\r\nMessage-ID: <{n}@customer.test>\r\n{answer}Subject: {subject or f'mail {n}'}"
    return f"{head}\r\n\r\nHello\r\n".encode()


@pytest.fixture
def busy(cli: Cli) -> Cli:
    """A town with a mail of every kind, in this order."""
    cli.town()
    cli.accept(mail(1))
    cli.accept(mail(2, cites=1))
    cli.accept(mail(2, cites=1))
    cli.accept(mail(3), "sales@acme.test", door=Door.HTTP)
    cli.accept(mail(4), "support@globex.test")
    cli.accept(mail(5), faults="scan:raise")
    cli.ok("mailbox", "set", "sales@acme.test", "--thread-only")
    cli.accept(mail(6), "sales@acme.test")
    return cli


def told(cli: Cli, *options: object) -> list[dict[str, Any]]:
    lines = cli.ok("tail", "--no-follow", "--json", *options).splitlines()
    return [msgspec.json.decode(line) for line in lines]


def test_the_last_ones_are_told_oldest_first_an_object_a_line(busy: Cli) -> None:
    found = told(busy)
    assert [one["outcome"] for one in found] == [
        "unmatched",
        "matched",
        "duplicate",
        "unmatched",
        "unmatched",
        "dead_letter",
    ]
    assert [one["subject"] for one in found] == ["mail 1", "mail 2", "mail 2", "mail 3", "mail 4", None]
    assert [one["tenant"] for one in found] == ["acme"] * 4 + ["globex", "acme"]
    assert found[1]["method"] == "in_reply_to"
    assert (found[5]["reason"], found[5]["message_id"]) == ("scan_failed", None)
    assert [one["receipt_id"] for one in told(busy, "-n", 2)] == [one["receipt_id"] for one in found[-2:]]
    assert told(busy, "-n", 0) == []
    assert told(busy, "--since", "1h") == found
    assert told(busy, "--since", "1h", "-n", 3) == found[-3:]
    assert told(busy, "--since", "2100-01-01") == []


FILTERS: dict[tuple[object, ...], list[str | None]] = {
    ("--tenant", "globex"): ["mail 4"],
    ("--domain", "globex.test"): ["mail 4"],
    ("--mailbox", "SALES@acme.test"): ["mail 3"],
    ("--door", "http"): ["mail 3"],
    ("--matched",): ["mail 2"],
    ("--unmatched", "--tenant", "acme"): ["mail 1", "mail 3"],
    ("--reason", "attached", "-n", 1): ["mail 2"],
    ("--reason", "scan_failed"): [None],
    ("--reason", "mail_loop"): [],
}


def test_filters(busy: Cli) -> None:
    subjects = {options: [one["subject"] for one in told(busy, *options)] for options in FILTERS}
    assert subjects == FILTERS
    assert {
        options: [one["subject"] for one in told(busy, *options, "--since", "1h")] for options in FILTERS
    } == FILTERS


def test_refusals_are_told_on_request_or_by_their_reason(busy: Cli) -> None:
    assert [one["outcome"] for one in told(busy, "--refusals")][-1] == "refused"
    for options in (
        ("--refusals", "--since", "1h", "--mailbox", "sales@acme.test"),
        ("--reason", "cold_inbound_refused"),
    ):
        last = told(busy, *options)[-1]
        assert (last["outcome"], last["reason"], last["more"]) == ("refused", "cold_inbound_refused", 1)
        assert last["reply"].startswith("550 5.7.1 ")
    assert all(one["outcome"] != "refused" for one in told(busy, "--refusals", "--unmatched"))
    assert "cold_inbound_refused" in busy.ok("tail", "--no-follow", "--refusals").splitlines()[-1]


def test_lines_are_for_people_and_obey_no_stranger(busy: Cli) -> None:
    busy.accept(mail(7, subject="=?utf-8?q?=1B[2Jgone=0A?="))
    lines = busy.ok("tail", "--no-follow", "--tenant", "acme", "-n", 100).splitlines()
    assert [line[104:115].strip() for line in lines] == [
        "unmatched",
        "matched",
        "duplicate",
        "unmatched",
        "dead letter",
        "unmatched",
    ]
    assert "scan_failed" in lines[4]
    assert "\x1b" not in "".join(lines)
    assert "globex" in busy.ok("tail", "--no-follow")


def test_usage(cli: Cli) -> None:
    assert "is none of" in cli.usage("tail", "--reason", "nonsense")
    assert cli.fails("tail", "--tenant", "nobody").startswith("There is no tenant nobody")


class Tailing:
    """`ingester tail` as a process, its lines in a pipe."""

    def __init__(self, process: "Popen[bytes]") -> None:
        self.process = process

    def line(self) -> str:
        """The next line, which must come soon: it was not held back in a buffer."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], SECONDS)
        assert ready, "no line came"
        return self.process.stdout.readline().decode()

    def end(self) -> tuple[int, str]:
        """Exit status and what it complained of."""
        _, complaints = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, complaints.decode()


@contextmanager
def tailing(url: str, *options: object) -> Iterator[Tailing]:
    words = [sys.executable, "-m", "ingester", "tail", *map(str, options)]
    environment = clean_environment() | {"INGESTER_DATABASE_URL": url}
    with Popen(words, cwd=ROOT, env=environment, stdout=PIPE, stderr=PIPE, bufsize=0) as process:
        try:
            yield Tailing(process)
        finally:
            process.kill()


def test_it_follows_until_ctrl_c_which_is_silent(cli: Cli) -> None:
    cli.town()
    cli.accept(mail(1))
    with tailing(cli.url, "--refusals") as tail:
        assert "mail 1" in tail.line()
        for n in range(2, 5):
            cli.accept(mail(n))
            assert f"mail {n}" in tail.line()
        cli.accept(mail(5), "nobody@acme.test")
        assert "unknown_mailbox" in tail.line()
        tail.process.send_signal(signal.SIGINT)
        assert tail.end() == (0, "")


def test_a_reader_that_has_seen_enough_ends_it_silently(cli: Cli) -> None:
    cli.town()
    cli.accept(mail(1))
    with tailing(cli.url) as tail:
        assert "mail 1" in tail.line()
        assert tail.process.stdout is not None
        tail.process.stdout.close()
        cli.accept(mail(2))
        assert tail.process.wait(SECONDS) == 1
        assert tail.process.stderr is not None
        assert tail.process.stderr.read() == b""


def test_a_restart_of_the_database_is_said_once_and_nothing_is_lost_or_told_twice(
    own_postgres: Cluster, bare_environment: None
) -> None:
    town(own_postgres.url)
    cli = Cli(url=own_postgres.url)
    cli.accept(mail(1))
    with tailing(own_postgres.url, "--json") as tail:
        first = msgspec.json.decode(tail.line())
        own_postgres.server.stop()
        assert tail.process.stderr is not None
        assert tail.process.stderr.readline() == b"The database is away; waiting for it.\n"
        own_postgres.server.start()
        cli.accept(mail(2))
        second = msgspec.json.decode(tail.line())
        assert [first["subject"], second["subject"]] == ["mail 1", "mail 2"]
        cli.accept(mail(3))
        assert msgspec.json.decode(tail.line())["subject"] == "mail 3"
        tail.process.send_signal(signal.SIGINT)
        assert tail.end() == (0, "The database is back.\n")


def test_a_database_that_is_away_at_the_start_is_a_sentence(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGESTER_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    assert cli.fails("tail").startswith("The database cannot be reached")
