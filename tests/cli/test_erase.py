"""ingester erase: after it no table and no object knows the tenant, or the person, but for what the receipt lists."""

import asyncio
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import msgspec
import pytest

from ingester.core.outcome import Reason
from ingester.core.person import ERASED
from tests.blobs import Bucket
from tests.cli.conftest import Cli
from tests.cli.planting import ADA, GRACE, SECRET, do, everything, holds, letter, naming, plant, tenant_id
from tests.postgres import Cluster
from tests.quiet_dns import nameservers

pytestmark = pytest.mark.thorough

TABLES = {
    *("api_keys", "claims", "contacts", "dead_letters", "delivery_events", "domains", "forwarders", "intake_tokens"),
    *("mailboxes", "messages", "participants", "parts", "provider_events", "quota_usage", "raws", "receipts"),
    *("refusals", "routes", "sender_rules", "thread_ids", "threads"),
}
"""All that can have rows of a tenant, but what outlives it."""


@pytest.fixture(scope="module")
def template(postgres: Cluster) -> Iterator[tuple[str, dict[str, str]]]:
    """A database with Ada everywhere, made once; and the ids of the messages."""
    with pytest.MonkeyPatch.context() as patch, postgres.clone() as url:
        patch.setenv("INGESTER_DATABASE_URL", url)
        patch.setenv("INGESTER_REPLY_TOKEN_SECRETS", SECRET)
        patch.setenv("INGESTER_DNS__NAMESERVERS", nameservers())
        town = Cli(url=url)
        town.town()
        yield urlsplit(url).path.lstrip("/"), plant(town)


@pytest.fixture
def planted(
    postgres: Cluster,
    template: tuple[str, dict[str, str]],
    bare_environment: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[Cli, dict[str, str]]]:
    """The commands on a copy of it."""
    name, ids = template
    monkeypatch.setenv("INGESTER_REPLY_TOKEN_SECRETS", SECRET)
    with postgres.clone(name) as url:
        monkeypatch.setenv("INGESTER_DATABASE_URL", url)
        yield Cli(url=url), ids


@pytest.fixture
def town(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The commands on a town that has no mail yet."""
    monkeypatch.setenv("INGESTER_REPLY_TOKEN_SECRETS", SECRET)
    cli.town()
    return cli


@pytest.fixture
def in_bucket(town: Cli, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """Raw mails lie in an object store."""
    for name, value in bucket.settings.items():
        monkeypatch.setenv(name, value)
    return bucket


def mentions_of(receipt: Mapping[str, Any]) -> dict[tuple[str, str], set[str]]:
    return {(one["table"], one["id"]): set(one["where"]) for one in receipt["mentions"]}


def raw_ids(url: str, listed: Mapping[tuple[str, str], set[str]]) -> set[str]:
    """The raw mails of the rows that are listed for their bytes."""
    tables = everything(url)
    by_id = {(table, str(row["id"])): row for table in ("messages", "dead_letters") for row in tables[table]}
    return {str(by_id[one]["raw_id"]) for one, where in listed.items() if "bytes" in where}


# -- a person ---------------------------------------------------------------------------------------------------------


def test_a_person_is_nowhere_but_where_it_is_listed(planted: tuple[Cli, dict[str, str]]) -> None:
    town, ids = planted
    assert {table for table, _, _ in naming(town.url)} >= {
        *("messages", "receipts", "dead_letters", "refusals", "delivery_events"),
        *("contacts", "participants", "sender_rules", "raws"),
    }
    receipt = town.json("erase", "--address", "Ada@Customer.TEST", "--apply")
    assert receipt["complete"]
    listed = mentions_of(receipt)
    assert {key for table, key in listed if table == "messages"} == {ids["answer"], ids["copied"], ids["quoting"]}
    assert [table for table, _ in listed if table != "messages"] == ["dead_letters"]
    assert len(everything(town.url)["dead_letters"]) == 1, "of three, two were hers"
    innocent = {("messages", ids["innocent"]): {"bytes"}}
    raws = raw_ids(town.url, listed | innocent)
    for table, key, column in naming(town.url):
        if table == "raws":
            assert key in raws
        elif key != ids["innocent"]:
            assert column in listed[table, key], (table, key, column)


def test_a_person_is_in_no_object_but_where_it_is_listed(town: Cli, in_bucket: Bucket) -> None:
    ids = plant(town)
    receipt = town.json("erase", "--address", ADA, "--apply")
    assert receipt["complete"]
    assert receipt["objects"]["queued"] > 5
    raws = raw_ids(town.url, mentions_of(receipt) | {("messages", ids["innocent"]): {"bytes"}})
    naming_her = {url.rpartition("/")[2] for url in in_bucket.urls() if holds(in_bucket.read(url), ADA)}
    assert naming_her <= raws
    assert in_bucket.urls() == {row["blob_key"] for row in everything(town.url)["raws"] if row["blob_key"]}


def test_what_was_changed_still_says_what_it_said_of_others(planted: tuple[Cli, dict[str, str]]) -> None:
    town, ids = planted
    town.ok("erase", "--address", ADA, "--apply")
    tables = everything(town.url)
    by_id = {str(row["id"]): row for row in tables["messages"]}
    assert by_id[ids["copied"]]["cc_addresses"] == [ERASED, "third@other.test"]
    assert by_id[ids["to both"]]["to_addresses"] == [ERASED, GRACE]
    answer = by_id[ids["answer"]]
    assert (answer["reply_match_status"], answer["reply_to_email_id"]) == ("matched", None)
    by_http = [row for row in tables["receipts"] if str(row["message_id"]) == ids["by HTTP"]]
    assert [msgspec.json.decode(row["metadata"]) for row in by_http] == [{"to": f"<{ERASED}>", "spam": [1]}]
    assert [row["envelope_from"] for row in by_http] == [GRACE]
    (event,) = tables["delivery_events"]
    assert event["recipients"] == [ERASED, GRACE]
    for row in tables["threads"]:
        assert row["message_count"] == sum(one["thread_id"] == row["id"] for one in tables["messages"]) > 0


def test_that_something_came_stays_without_the_person(planted: tuple[Cli, dict[str, str]]) -> None:
    town, _ = planted
    town.ok("erase", "--address", ADA, "--apply")
    tables = everything(town.url)
    (refused,) = [row for row in tables["refusals"] if row["envelope"]]
    envelope = msgspec.json.decode(refused["envelope"])
    assert (envelope["envelope_from"], envelope["client_ip"], envelope["auth_report"]) == ("", None, {})
    (counted,) = [row for row in tables["refusals"] if not row["envelope"]]
    assert counted["count"] == 2
    assert [one["mail_from"] for one in msgspec.json.decode(counted["samples"])] == [GRACE]
    there = {row["id"] for row in tables["messages"]}
    bared = [row for row in tables["receipts"] if row["message_id"] and row["message_id"] not in there]
    assert len(bared) > 5
    assert {(row["envelope_from"], row["client_ip"], row["helo"], row["auth_report"]) for row in bared} == {
        ("", None, None, "{}")
    }


def test_a_dry_run_says_the_same_and_writes_nothing(planted: tuple[Cli, dict[str, str]]) -> None:
    town, _ = planted
    before = everything(town.url)
    receipt = town.json("erase", "--address", ADA)
    said = town.ok("erase", "--address", ADA)
    assert "Nothing was erased: add --apply to do it." in said
    assert everything(town.url) == before
    assert (receipt["applied"], receipt["complete"]) == (False, False)
    done = town.json("erase", "--address", ADA, "--apply")
    for table in ("messages", "dead_letters", "contacts", "sender_rules", "delivery_events"):
        assert receipt["removed"][table] == done["removed"][table], table
    assert receipt["mentions"] == done["mentions"]


def test_in_one_tenant_alone(planted: tuple[Cli, dict[str, str]]) -> None:
    town, ids = planted
    town.ok("erase", "--address", ADA, "--tenant", "acme", "--apply")
    left = {key for table, key, _ in naming(town.url) if table == "messages"}
    assert left == {ids[name] for name in ("elsewhere", "answer", "quoting", "innocent")}


def test_again_there_is_nothing_to_do_and_the_checksum_is_of_the_rest(planted: tuple[Cli, dict[str, str]]) -> None:
    town, _ = planted
    first = town.json("erase", "--address", ADA, "--apply")
    again = town.json("erase", "--address", ADA, "--apply")
    assert (again["removed"], again["changed"], again["mentions"]) == ({}, {}, first["mentions"])
    for receipt in (first, again):
        assert receipt["sha256"] == sha256(msgspec.json.encode(receipt | {"sha256": ""}, order="sorted")).hexdigest()


def test_a_retry_of_an_erased_mail_does_not_bring_the_person_back(town: Cli) -> None:
    outcome = town.accept(letter("hers"))
    town.ok("erase", "--address", ADA, "--apply")
    again = town.accept(letter("hers"))
    assert again.reason is Reason.DUPLICATE
    assert again.stored[0].message_id == outcome.stored[0].message_id
    assert naming(town.url) == set()
    assert town.accept(letter("new")).reason is Reason.ACCEPTED, "whoever writes anew is stored anew"


def test_a_redrive_of_an_erased_letter_finds_nothing(town: Cli) -> None:
    town.accept(letter("dead"), faults="scan:raise")
    (one,) = town.json("dead", "list")
    town.ok("erase", "--address", ADA, "--apply")
    assert town.json("dead", "list") == []
    assert town.run("dead", "redrive", one["id"], "--apply").exit_code == 1
    assert naming(town.url) == set()


def test_plus_tags_are_another_address_unless_told(town: Cli) -> None:
    town.accept(letter("tagged", From="ada+shop@customer.test"), mail_from="ada+shop@customer.test")
    assert town.json("erase", "--address", ADA, "--apply")["removed"] == {}
    assert town.json("erase", "--address", ADA, "--tags", "--apply")["removed"]["messages"] == 1
    assert naming(town.url, "ada+shop@customer.test") == set()


def test_a_domain_in_any_spelling(town: Cli) -> None:
    town.accept(letter("one", From="ada@xn--bcher-kva.test"), mail_from="ada@xn--bcher-kva.test")
    town.accept(letter("two", text="ADA@B\u00dcCHER.test said so", From=GRACE), mail_from=GRACE)
    done = town.json("erase", "--address", "ada@b\u00fccher.test", "--apply")
    assert done["removed"]["messages"] == 1
    assert [one["table"] for one in done["mentions"]] == ["messages"]


def test_what_cannot_be_erased(town: Cli) -> None:
    assert "leads to the mailbox support@acme.test" in town.fails("erase", "--address", "Support@acme.test")
    assert town.fails("erase", "--tenant", "nobody") == "There is no tenant nobody: see `ingester tenant list`"
    assert "belongs to the program itself" in town.fails("erase", "--tenant", "system", "--apply")
    town.usage("erase")
    town.usage("erase", "--tenant", "acme", "--tags")
    town.usage("erase", "--address", "nonsense")


def test_a_table_that_nobody_thought_of(planted: tuple[Cli, dict[str, str]]) -> None:
    """Whatever is added to the schema later: it is in the catalog."""
    town, _ = planted
    owner = do(town.url, lambda app: tenant_id(app, "acme"))
    asyncio.run(_add_table(town.url, owner))
    assert town.json("erase", "--address", ADA, "--apply")["changed"]["later"] == 1
    assert [row["notes"] for row in everything(town.url)["later"] if row["notes"]] == [[f"<{ERASED}> called"]]
    assert town.json("erase", "--tenant", "acme", "--apply")["removed"]["later"] == 2500
    assert everything(town.url)["later"] == []


async def _add_table(url: str, owner: UUID) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(
        "CREATE TABLE later (tenant_id uuid REFERENCES tenants (id), day date, number integer, mailbox_id uuid,"
        " notes text[], PRIMARY KEY (tenant_id, day, number),"
        " FOREIGN KEY (tenant_id, mailbox_id) REFERENCES mailboxes (tenant_id, id))"
    )
    await connection.execute(
        "INSERT INTO later SELECT $1, current_date + n % 3, n, b.id, CASE WHEN n = 3 THEN ARRAY[$2::text] END"
        " FROM generate_series(1, 2500) n, (SELECT id FROM mailboxes WHERE tenant_id = $1 LIMIT 1) b",
        owner,
        f"<{ADA}> called",
    )
    await connection.close()


# -- a tenant ---------------------------------------------------------------------------------------------------------


def of_others(tables: Mapping[str, list[dict[str, Any]]], owner: UUID) -> dict[str, list[str]]:
    """All rows that belong to other customers, as text."""

    def whose(table: str, row: Mapping[str, Any]) -> object:
        return row["id"] if table == "tenants" else row.get("tenant_id")

    return {
        table: sorted(repr(row) for row in rows if whose(table, row) not in (owner, None, UUID(int=0)))
        for table, rows in tables.items()
        if table != "erased_tenants"
    }


def is_erased(town: Cli, before: Mapping[str, list[dict[str, Any]]], owner: UUID) -> None:
    """Nothing is left of acme but the tombstone, and of the others everything, to the byte."""
    after = everything(town.url)
    assert [row["tenant_id"] for row in after["erased_tenants"]] == [owner]
    named = {
        table
        for table, rows in after.items()
        for row in rows
        if table != "erased_tenants" and (str(owner) in repr(row) or "acme" in repr(row))
    }
    assert named == set()
    assert of_others(after, owner) == of_others(before, owner)


def test_a_tenant_leaves_nothing_but_its_tombstone(planted: tuple[Cli, dict[str, str]]) -> None:
    town, _ = planted
    owner = do(town.url, lambda app: tenant_id(app, "acme"))
    before = everything(town.url)
    with_tenant = {table for table, rows in before.items() for row in rows if row.get("tenant_id") == owner}
    assert with_tenant == TABLES
    dry = town.json("erase", "--tenant", "acme")
    assert everything(town.url) == before
    receipt = town.json("erase", "--tenant", "acme", "--apply")
    assert receipt["complete"]
    assert set(dry["removed"]) == TABLES | {"tenants"}
    assert dry["removed"] == receipt["removed"], "the token that was for its domain alone among it"
    is_erased(town, before, owner)
    assert town.fails("erase", "--tenant", "acme", "--apply") == "There is no tenant acme: see `ingester tenant list`"
    assert town.accept(letter("late")).reason is Reason.UNKNOWN_DOMAIN
    town.ok("tenant", "add", "acme")


def test_a_tenant_leaves_no_object(town: Cli, in_bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one that no row has ever named; while the store is away it is not done, and goes on later."""
    plant(town)
    owner = do(town.url, lambda app: tenant_id(app, "acme"))
    before = everything(town.url)
    secret = in_bucket.server.s3.secret_access_key.get_secret_value()
    monkeypatch.setenv("INGESTER_S3__SECRET_ACCESS_KEY", "wrong")
    half = town.run("erase", "--tenant", "acme", "--apply", "--json")
    assert half.exit_code == 1
    assert msgspec.json.decode(half.stdout)["objects"]["left"] > 5
    assert town.json("tenant", "list")[1]["status"] == "erasing"
    assert "is being erased" in town.fails("tenant", "resume", "acme")
    monkeypatch.setenv("INGESTER_S3__SECRET_ACCESS_KEY", secret)
    assert town.json("erase", "--tenant", "acme", "--apply")["complete"]
    is_erased(town, before, owner)
    assert not [url for url in in_bucket.urls() if str(owner) in url]
