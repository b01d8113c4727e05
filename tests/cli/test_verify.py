"""`ingester domain challenge` and `verify`: a domain is a tenant's when live DNS says so."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from ingester.doctor.ownership import missing
from ingester.settings import load
from ingester.store.registry import owners, verify_domain
from tests.cli.conftest import Cli
from tests.nameserver import NameServer, in_thread
from tests.zones import Fault, Zone

MX: dict[str, list[Any]] = {"acme.test": [{"MX": [10, "mx.host.test"]}], "mx.host.test": [{"A": "192.0.2.25"}]}


@dataclass(slots=True)
class Registrar:
    """DNS, and a tenant with the pending domain acme.test."""

    cli: Cli
    server: NameServer

    def publish(self, zone: dict[str, list[Any]]) -> None:
        self.server.zone = Zone(zone)

    def proof(self, tenant: str = "acme") -> dict[str, list[Any]]:
        record = self.cli.json("domain", "challenge", "acme.test", "--tenant", tenant)
        assert record["type"] == "TXT"
        return {record["name"]: [{"TXT": record["value"]}]}

    def fails(self, *options: str, tenant: str = "acme") -> list[str]:
        first, *lacking = self.cli.fails("domain", "verify", "acme.test", "--tenant", tenant, *options).splitlines()
        assert first == f"acme.test is not proved to be of the tenant {tenant} yet:"
        assert all(one["status"] == "pending" for one in self.cli.json("domain", "list"))
        return [one.strip() for one in lacking]


@pytest.fixture
def registrar(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registrar]:
    with in_thread(NameServer(zone={})) as server:
        monkeypatch.setenv("INGESTER_DNS__NAMESERVERS", f"{server.host}:{server.port}")
        monkeypatch.setenv("INGESTER_SMTP__HOSTNAME", "mx.host.test")
        monkeypatch.setenv("INGESTER_DNS__TRY_SECONDS", "0.3")
        for slug in ("acme", "globex"):
            cli.ok("tenant", "add", slug)
            cli.ok("domain", "add", "acme.test", "--tenant", slug)
        yield Registrar(cli, server)


def test_a_pending_domain_says_what_to_publish(cli: Cli) -> None:
    cli.ok("tenant", "add", "acme")
    said = cli.ok("domain", "add", "acme.test", "--tenant", "acme")
    record = cli.json("domain", "challenge", "acme.test", "--tenant", "acme")
    assert record["name"] == "_ingester-challenge.acme.test"
    assert record["status"] == "pending"
    assert record["value"] in said
    assert "Then: ingester domain verify acme.test --tenant acme" in said
    assert record["value"] in cli.ok("domain", "challenge", "acme.test", "--tenant", "acme")
    assert record["value"] not in cli.ok("domain", "add", "b.test", "--tenant", "acme", "--verified")
    cli.ok("domain", "remove", "acme.test", "--tenant", "acme")
    cli.ok("domain", "add", "acme.test", "--tenant", "acme")
    assert cli.json("domain", "challenge", "acme.test", "--tenant", "acme")["value"] != record["value"]


def test_with_the_record_and_the_mx_it_is_verified(registrar: Registrar) -> None:
    registrar.publish(MX | registrar.proof())
    said = registrar.cli.ok("domain", "verify", "acme.test", "--tenant", "acme")
    assert said == "verified domain acme.test of tenant acme\n"
    registrar.publish({})
    assert registrar.cli.json("domain", "verify", "acme.test", "--tenant", "acme")["status"] == "verified"


def test_each_thing_that_is_missing_is_told(registrar: Registrar) -> None:
    proof, mx = registrar.fails()
    assert proof.startswith('the TXT record at _ingester-challenge.acme.test is not there: publish "ingester-verif')
    assert proof.endswith("(asked: the resolver, whose answer may be as old as the record's time to live)")
    assert mx.startswith("acme.test has no MX that takes mail: publish `acme.test. MX 10 mx.host.test.`")
    registrar.publish(registrar.proof())
    assert len(registrar.fails()) == 1
    registrar.publish(MX)
    assert len(registrar.fails()) == 1


def test_the_record_of_another_tenant_proves_nothing(registrar: Registrar) -> None:
    registrar.publish(MX | registrar.proof("globex"))
    (lacking,) = registrar.fails()
    assert "says something else" in lacking
    registrar.cli.ok("domain", "verify", "acme.test", "--tenant", "globex")
    words = registrar.cli.fails("domain", "verify", "acme.test", "--tenant", "acme")
    assert words == "acme.test is verified for another tenant (globex): a name has one verified owner"


def test_an_mx_that_leads_elsewhere(registrar: Registrar) -> None:
    elsewhere: dict[str, list[Any]] = {"acme.test": [{"MX": [10, "mx.isp.test"]}], "mx.isp.test": [{"A": "192.0.2.99"}]}
    registrar.publish(registrar.proof() | elsewhere)
    (lacking,) = registrar.fails()
    assert lacking.startswith("the MX records of acme.test lead elsewhere (mx.isp.test): let one name mx.host.test")
    registrar.publish(registrar.proof() | {"acme.test": [{"MX": [0, "."]}]})
    (lacking,) = registrar.fails()
    assert "no MX that takes mail" in lacking
    registrar.publish(registrar.proof() | elsewhere)
    registrar.cli.ok("domain", "verify", "acme.test", "--tenant", "acme", "--mx", "MX.isp.test.")


def test_an_mx_by_another_name_and_our_address(registrar: Registrar) -> None:
    ours: Any = {"A": "192.0.2.25"}
    registrar.publish(
        registrar.proof()
        | {"acme.test": [{"MX": [10, "mail.acme.test"]}], "mail.acme.test": [ours], "mx.host.test": [ours]}
    )
    registrar.cli.ok("domain", "verify", "acme.test", "--tenant", "acme")


def test_dns_that_does_not_answer_is_no_proof_and_no_refusal_for_good(registrar: Registrar) -> None:
    registrar.publish({"acme.test": [Fault.SERVFAIL], "_ingester-challenge.acme.test": [Fault.SERVFAIL]})
    proof, mx = registrar.fails()
    assert proof.startswith("DNS does not answer for _ingester-challenge.acme.test now")
    assert mx.startswith("DNS does not answer for the MX of acme.test now")
    assert proof.endswith("try again in a minute")


def test_trust_asks_nobody(registrar: Registrar) -> None:
    registrar.cli.ok("domain", "verify", "acme.test", "--tenant", "acme", "--trust")
    assert registrar.server.asked == []


def test_of_two_who_verify_at_once_one_wins(registrar: Registrar) -> None:
    async def race() -> list[str | None]:
        connections = [await asyncpg.connect(registrar.cli.url) for _ in range(2)]
        try:
            held = await owners(connections[0], "acme.test")
            made = await asyncio.gather(
                *(
                    verify_domain(connection, one.tenant_id, "acme.test")
                    for connection, one in zip(connections, held, strict=True)
                )
            )
        finally:
            for connection in connections:
                await connection.close()
        return [None if one is None else one.tenant for one in made]

    ended = asyncio.run(race())
    assert sorted(one is None for one in ended) == [False, True]
    statuses = sorted(one["status"] for one in registrar.cli.json("domain", "list"))
    assert statuses == ["pending", "verified"]


async def test_a_server_of_the_zone_that_is_behind_is_waited_for() -> None:
    """The zone's own servers decide: both must have it, whatever the resolver's cache says."""
    records: dict[str, list[Any]] = {
        "acme.test": [{"NS": "ns1.dns.test"}, {"NS": "ns2.dns.test"}, {"MX": [10, "mx.host.test"]}],
        "ns1.dns.test": [{"A": "127.0.0.2"}],
        "ns2.dns.test": [{"A": "127.0.0.3"}],
    }
    proof = {"_ingester-challenge.acme.test": [{"TXT": "ingester-verification=abc"}]}
    async with (
        NameServer(zone=records | proof) as resolver,
        NameServer(zone=records | proof, host="127.0.0.2") as first,
        NameServer(zone=records, host="127.0.0.3", port=first.port) as second,
    ):
        settings = load(
            {
                "INGESTER_DNS__NAMESERVERS": f"127.0.0.1:{resolver.port}",
                "INGESTER_SMTP__HOSTNAME": "mx.host.test",
            }
        )
        (lacking,) = await missing(settings, "acme.test", "abc", port=first.port)
        assert "not all name servers have the TXT record" in lacking
        assert "ns2.dns.test (127.0.0.3) lack it" in lacking
        second.zone = Zone(records | proof)
        assert await missing(settings, "acme.test", "abc", port=first.port) == []
        assert not any(kind == "TXT" for _, kind, _ in resolver.asked)
