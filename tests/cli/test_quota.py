"""ingester quota: set, seen, used, removed."""

import pytest

from tests.cli.conftest import Cli

MAIL = b"From: ada@customer.test\r\nSubject: x\r\nMessage-ID: <%d@customer.test>\r\n\r\nx\r\n"


@pytest.fixture
def town(cli: Cli) -> Cli:
    cli.town()
    return cli


def test_a_quota_is_set_used_and_removed(town: Cli) -> None:
    assert town.ok("quota", "list") == "There are no quotas.\n"
    town.ok("quota", "set", "--mailbox", "support@acme.test", "--mails", 1)
    town.ok("quota", "set", "--tenant", "acme", "--bytes", 1_000_000, "--matched-share", 25)
    assert town.accept(MAIL % 1).stored
    assert town.accept(MAIL % 2).smtp_line.startswith("452 4.2.2 ")
    tenant, mailbox = town.json("quota", "list", "--tenant", "acme")
    assert (tenant["mailbox"], tenant["used_bytes"], tenant["matched_share"]) == (None, len(MAIL % 1), 25)
    assert (mailbox["mailbox"], mailbox["used_mails"], mailbox["mails"]) == ("support@acme.test", 1, 1)
    assert "1 of 1" in town.ok("quota", "list")
    assert "removed" in town.ok("quota", "set", "--mailbox", "support@acme.test")
    assert town.accept(MAIL % 2).stored


def test_whose_it_is_must_be_said(town: Cli) -> None:
    assert "--tenant SLUG, or --mailbox ADDRESS" in town.fails("quota", "set", "--mails", 1)
