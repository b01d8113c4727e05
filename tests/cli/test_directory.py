"""ingester tenant, domain, mailbox and route: each command, its JSON, each sentence with which it refuses."""

from uuid import uuid4

import pytest

from tests.cli.conftest import Cli

# -- tenants -----------------------------------------------------------------------------------------------------------


def test_a_tenant_is_added_listed_suspended_and_resumed(cli: Cli) -> None:
    made = cli.json("tenant", "add", "acme", "--name", "Acme Corp")
    assert (made["slug"], made["name"], made["status"]) == ("acme", "Acme Corp", "active")
    assert "Acme Corp" in cli.ok("tenant", "list")
    assert cli.ok("tenant", "suspend", "acme") == f"suspended tenant acme ({made['id']})\n"
    assert cli.json("tenant", "resume", "acme")["status"] == "active"
    assert [one["slug"] for one in cli.json("tenant", "list")] == ["system", "acme"]


def test_a_suspension_keeps_its_beginning_when_it_is_said_twice(cli: Cli) -> None:
    cli.town()
    first = cli.json("mailbox", "suspend", "support@acme.test")["status_since"]
    assert cli.json("mailbox", "suspend", "support@acme.test")["status_since"] == first
    assert cli.json("mailbox", "resume", "support@acme.test")["status_since"] > first


def test_tenants_that_cannot_be(cli: Cli) -> None:
    cli.ok("tenant", "add", "acme")
    assert cli.fails("tenant", "add", "acme") == "There is a tenant acme already"
    assert cli.fails("tenant", "suspend", "nobody") == "There is no tenant nobody: see `ingester tenant list`"
    assert "cannot be changed" in cli.fails("tenant", "suspend", "system")
    for slug in ("Acme", "-acme", "a b", "a" * 64, ""):
        assert "lower-case letters" in cli.usage("tenant", "add", "--", slug)


# -- domains -----------------------------------------------------------------------------------------------------------


def test_a_domain_comes_with_its_system_mailboxes_and_no_route(cli: Cli) -> None:
    cli.ok("tenant", "add", "acme")
    made = cli.json("domain", "add", "Acme.TEST.", "--tenant", "acme")
    assert (made["name"], made["tenant"], made["status"]) == ("acme.test", "acme", "pending")
    boxes = cli.json("mailbox", "list", "--tenant", "acme")
    assert [(box["address"], box["system"]) for box in boxes] == [
        ("postmaster@acme.test", "postmaster"),
        ("reply@acme.test", "reply"),
    ]
    assert cli.json("route", "list") == []
    assert "pending" in cli.ok("domain", "list")
    assert cli.json("domain", "verify", "acme.test", "--tenant", "acme", "--trust")["status"] == "verified"


def test_an_international_domain_is_kept_as_its_a_label(cli: Cli) -> None:
    cli.ok("tenant", "add", "acme")
    assert cli.json("domain", "add", "b\u00fccher.test", "--tenant", "acme")["name"] == "xn--bcher-kva.test"


def test_a_second_verified_owner_is_refused(cli: Cli) -> None:
    cli.ok("tenant", "add", "acme")
    cli.ok("tenant", "add", "globex")
    cli.ok("domain", "add", "acme.test", "--tenant", "acme", "--verified")
    words = "acme.test is verified for another tenant (acme): a name has one verified owner"
    assert cli.fails("domain", "add", "acme.test", "--tenant", "globex", "--verified") == words
    cli.ok("domain", "add", "acme.test", "--tenant", "globex")
    assert cli.fails("domain", "verify", "acme.test", "--tenant", "globex") == words
    assert [(one["tenant"], one["status"]) for one in cli.json("domain", "list")] == [
        ("acme", "verified"),
        ("globex", "pending"),
    ]


def test_domains_that_cannot_be(cli: Cli) -> None:
    cli.ok("tenant", "add", "acme")
    cli.ok("domain", "add", "acme.test", "--tenant", "acme")
    assert "has the domain acme.test already" in cli.fails("domain", "add", "acme.test", "--tenant", "acme")
    assert cli.fails("domain", "add", "x.test", "--tenant", "nobody").startswith("There is no tenant nobody")
    assert "cannot be changed" in cli.fails("domain", "add", "x.test", "--tenant", "system")
    assert cli.fails("domain", "verify", "x.test", "--tenant", "acme").startswith("There is no domain x.test")
    assert "'no domain' is not a domain name" in cli.usage("domain", "add", "no domain", "--tenant", "acme")
    assert "--tenant" in cli.usage("domain", "add", "x.test")


def test_a_domain_is_removed_only_when_no_route_names_it_and_comes_back_whole(cli: Cli) -> None:
    cli.town()
    words = cli.fails("domain", "remove", "globex.test", "--tenant", "globex")
    assert words.startswith("Routes still name globex.test: remove them first")
    cli.ok("route", "remove", "exact", "support@globex.test")
    assert cli.json("domain", "remove", "globex.test", "--tenant", "globex") == {
        "removed": "globex.test",
        "tenant": "globex",
    }
    assert cli.fails("mailbox", "add", "new@globex.test").startswith("There is no domain globex.test")
    cli.ok("domain", "add", "globex.test", "--tenant", "globex", "--verified")
    cli.ok("route", "add", "exact", "support@globex.test", "--to", "support@globex.test")
    assert cli.accept(b"Subject: x\r\n\r\nx\r\n", "support@globex.test").stored


# -- mailboxes ---------------------------------------------------------------------------------------------------------


def test_a_mailbox_has_its_posture_and_its_exact_route(cli: Cli) -> None:
    cli.ok("tenant", "add", "acme")
    cli.ok("domain", "add", "acme.test", "--tenant", "acme", "--verified")
    made = cli.json(
        "mailbox", "add", "Agent@acme.test", "--external-id", "uc_1", "--email-type", "marketing", "--thread-only",
        "--unsubscribable", "--auth-policy", "enforce", "--strict-senders",
    )  # fmt: skip
    wanted = {
        "tenant": "acme", "address": "agent@acme.test", "external_id": "uc_1", "email_type": "marketing",
        "accepts_cold_inbound": False, "unsubscribable": True, "auth_policy": "enforce", "strict_senders": True,
        "system": None, "status": "active",
    }  # fmt: skip
    assert wanted.items() <= made.items()
    assert "thread-only, strict senders" in cli.ok("mailbox", "list")
    routes = cli.json("route", "list")
    assert [(one["kind"], one["address"], one["to"], one["mailbox_id"]) for one in routes] == [
        ("exact", "agent@acme.test", "agent@acme.test", made["id"])
    ]


def test_a_marketing_mailbox_must_be_unsubscribable(cli: Cli) -> None:
    assert "--unsubscribable" in cli.usage("mailbox", "add", "news@acme.test", "--email-type", "marketing")


def test_the_usual_mailbox_takes_cold_mail_and_only_watches(cli: Cli) -> None:
    cli.town()
    box = next(one for one in cli.json("mailbox", "list") if one["address"] == "sales@acme.test")
    assert (box["accepts_cold_inbound"], box["auth_policy"], box["email_type"]) == (True, "monitor", "transactional")


def test_a_tenant_may_have_a_postmaster_of_its_own(cli: Cli) -> None:
    cli.town()
    cli.ok("mailbox", "add", "postmaster@acme.test")
    outcome = cli.accept(b"Subject: x\r\n\r\nx\r\n", "postmaster@acme.test")
    assert cli.json("show", outcome.stored[0].message_id)["decision"][0].endswith("by the exact route.")


def test_mailboxes_that_cannot_be(cli: Cli) -> None:
    cli.town()
    assert cli.fails("mailbox", "add", "SUPPORT@acme.test").startswith("There is a mailbox SUPPORT@acme.test")
    assert cli.fails("mailbox", "add", "a@else.test") == (
        "There is no domain else.test: add it with `ingester domain add else.test --tenant SLUG`"
    )
    assert cli.fails("mailbox", "add", "a@acme.test", "--tenant", "globex") == (
        "The tenant globex does not have the domain acme.test"
    )
    assert cli.fails("mailbox", "suspend", "nobody@acme.test").startswith("There is no mailbox nobody@acme.test")
    assert cli.fails("mailbox", "list", "--tenant", "nobody").startswith("There is no tenant nobody")
    for text in ("postmaster", "no address", "@acme.test", "a@b@acme.test"):
        assert "is not an address like" in cli.usage("mailbox", "add", text)


def test_a_mailbox_whose_exact_route_is_taken_is_not_made_by_half(cli: Cli) -> None:
    cli.town()
    cli.ok("route", "add", "exact", "info@acme.test", "--to", "support@acme.test")
    assert "exact route for it already" in cli.fails("mailbox", "add", "info@acme.test")
    assert "info@acme.test" not in [one["address"] for one in cli.json("mailbox", "list")]


def test_two_tenants_with_a_pending_domain_must_be_told_apart(cli: Cli) -> None:
    for slug in ("acme", "globex"):
        cli.ok("tenant", "add", slug)
        cli.ok("domain", "add", "shared.test", "--tenant", slug)
    assert cli.fails("mailbox", "add", "a@shared.test") == (
        "Several tenants have shared.test pending (acme, globex): say which with --tenant"
    )
    assert cli.json("mailbox", "add", "a@shared.test", "--tenant", "globex")["tenant"] == "globex"
    assert cli.json("mailbox", "add", "a@shared.test", "--tenant", "acme")["tenant"] == "acme"


# -- routes ------------------------------------------------------------------------------------------------------------


def test_aliases_and_the_catch_all_lead_to_mailboxes(cli: Cli) -> None:
    cli.town()
    assert cli.json("route", "add", "alias", "Info@acme.test", "--to", "support@acme.test") == {
        "kind": "alias",
        "address": "info@acme.test",
        "to": "support@acme.test",
    }
    assert cli.ok("route", "add", "catch_all", "acme.test", "--to", "sales@acme.test") == (
        "added route catch_all @acme.test to sales@acme.test\n"
    )
    listed = cli.json("route", "list", "--tenant", "acme")
    assert [(one["kind"], one["address"], one["to"]) for one in listed] == [
        ("exact", "sales@acme.test", "sales@acme.test"),
        ("exact", "support@acme.test", "support@acme.test"),
        ("alias", "info@acme.test", "support@acme.test"),
        ("catch_all", "@acme.test", "sales@acme.test"),
    ]
    boxes = {one["id"]: one["address"] for one in cli.json("mailbox", "list")}
    reached = [
        boxes[str(cli.accept(b"Subject: %d\r\n\r\nx\r\n" % n, to).stored[0].mailbox_id)]
        for n, to in enumerate(["INFO+x@acme.test", "anything@acme.test"])
    ]
    assert reached == ["support@acme.test", "sales@acme.test"]
    assert "catch_all" in cli.ok("route", "list")
    assert cli.ok("route", "remove", "catch_all", "@acme.test") == "removed route catch_all @acme.test\n"
    assert not cli.accept(b"Subject: y\r\n\r\nx\r\n", "anything@acme.test").stored


def test_routes_that_cannot_be(cli: Cli) -> None:
    cli.town()
    cli.ok("route", "add", "alias", "info@acme.test", "--to", "support@acme.test")
    assert cli.fails("route", "add", "alias", "info@acme.test", "--to", "sales@acme.test") == (
        "There is a route alias info@acme.test already: remove it first"
    )
    assert cli.fails("route", "add", "alias", "x@globex.test", "--to", "sales@acme.test") == (
        "globex.test and sales@acme.test belong to different tenants: a route never crosses tenants"
    )
    assert cli.fails("route", "add", "catch_all", "acme.test", "--to", "nobody@acme.test").startswith(
        "There is no mailbox nobody@acme.test"
    )
    assert cli.fails("route", "remove", "alias", "x@acme.test").startswith("There is no route alias x@acme.test")
    assert "is not a domain name" in cli.usage("route", "add", "catch_all", "a@acme.test", "--to", "sales@acme.test")
    assert "'prefix' is not one of" in cli.usage("route", "add", "prefix", "a@acme.test", "--to", "sales@acme.test")


@pytest.mark.parametrize("command", ["show", "raw"])
def test_an_id_that_is_none_is_wrong_usage_and_an_unknown_one_a_sentence(cli: Cli, command: str) -> None:
    assert "is not a valid UUID" in cli.usage(command, "12345678")
    unknown = uuid4()
    assert cli.fails(command, unknown) == f"No message has the id {unknown}"
