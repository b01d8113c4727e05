"""ingester sender, forwarder and mailbox set: what operators say about those who write."""

import pytest

from tests.cli.conftest import Cli

MAIL = b"From: Eve <eve@evil.test>\r\nTo: support@acme.test\r\nSubject: hi\r\nMessage-ID: <1@evil.test>\r\n\r\nhi\r\n"


@pytest.fixture
def town(cli: Cli) -> Cli:
    cli.town()
    return cli


def test_a_blocked_sender_is_refused_until_the_rule_is_removed(town: Cli) -> None:
    assert "block *.evil.test in all mailboxes" in town.ok("sender", "block", "*.Evil.test", "--tenant", "acme")
    assert town.accept(MAIL).stored
    town.ok("sender", "block", "evil.test", "--mailbox", "support@acme.test")
    assert town.accept(MAIL.replace(b"<1@", b"<2@")).smtp_line.startswith("550 5.7.1 ")
    assert town.accept(MAIL.replace(b"<1@", b"<3@"), "sales@acme.test").stored
    listed = town.json("sender", "list", "--tenant", "acme")
    assert [(one["action"], one["pattern"], one["mailbox"]) for one in listed] == [
        ("block", "*.evil.test", None),
        ("block", "evil.test", "support@acme.test"),
    ]
    assert "(all mailboxes)" in town.ok("sender", "list")
    town.ok("sender", "remove", "block", "evil.test", "--mailbox", "support@acme.test")
    assert town.accept(MAIL.replace(b"<1@", b"<4@")).stored


def test_an_allowlist_is_a_mode_of_the_tenant_or_of_a_mailbox(town: Cli) -> None:
    town.ok("sender", "mode", "allowlist", "--tenant", "acme")
    assert not town.accept(MAIL).stored
    town.ok("sender", "mode", "none", "--tenant", "acme")
    assert town.accept(MAIL).stored
    town.ok("mailbox", "set", "support@acme.test", "--sender-mode", "allowlist")
    assert not town.accept(MAIL.replace(b"<1@", b"<2@")).stored
    assert town.accept(MAIL.replace(b"<1@", b"<2@"), "sales@acme.test").stored


def test_rules_fail_with_a_sentence(town: Cli) -> None:
    assert "--tenant SLUG, or --mailbox ADDRESS" in town.fails("sender", "block", "evil.test")
    assert "is not name@example.com" in town.usage("sender", "block", "a..b", "--tenant", "acme")
    town.ok("sender", "allow", "ada@x.test", "--tenant", "acme")
    assert "already" in town.fails("sender", "allow", "Ada@x.test", "--tenant", "acme")
    assert "sender list" in town.fails("sender", "remove", "block", "ada@x.test", "--tenant", "acme")


def test_forwarders_are_trusted_for_one_tenant_or_for_all(town: Cli) -> None:
    assert "for all tenants" in town.ok("forwarder", "add", "arc", "Lists.Example.org")
    town.ok("forwarder", "add", "authserv_id", "up.example", "--network", "192.0.2.7/24", "--tenant", "acme")
    listed = town.json("forwarder", "list")
    assert [(one["tenant"], one["kind"], one["name"], one["networks"]) for one in listed] == [
        ("acme", "authserv_id", "up.example", ["192.0.2.0/24"]),
        ("system", "arc", "lists.example.org", []),
    ]
    assert "trusted already" in town.fails("forwarder", "add", "arc", "lists.example.org")
    town.ok("forwarder", "remove", "arc", "lists.example.org")
    assert "forwarder list" in town.fails("forwarder", "remove", "arc", "lists.example.org")


def test_an_upstream_without_a_network_is_not_trusted(town: Cli) -> None:
    assert "needs at least one" in town.usage("forwarder", "add", "authserv_id", "up.example")
    assert "--network" in town.usage("forwarder", "add", "arc", "up.example", "--network", "192.0.2.0/24")


def test_a_mailbox_is_changed_in_what_is_named_alone(town: Cli) -> None:
    before = town.json("mailbox", "set", "support@acme.test", "--auth-policy", "enforce", "--thread-only")
    after = town.json("mailbox", "set", "support@acme.test", "--require-alignment", "--direct-only", "--open")
    assert (before["auth_policy"], before["accepts_cold_inbound"]) == ("enforce", False)
    assert (after["auth_policy"], after["accepts_cold_inbound"]) == ("enforce", True)
    assert (after["require_alignment"], after["accept_forwarded"]) == (True, False)
    assert "open, alignment required, direct only" in town.ok("mailbox", "list")
    assert "Say what to change" in town.usage("mailbox", "set", "support@acme.test")
