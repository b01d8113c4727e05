"""What the owner of a name says now: asked of the zone's own servers, past every cache."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from ingester.auth.authority import Live, Owners
from ingester.auth.dns import Resolver
from ingester.auth.dns_message import Kind
from ingester.auth.lookup import Status
from tests.nameserver import NameServer
from tests.zones import Fault, Zone

NAME = "_proof.acme.test"
DELEGATION = {
    "acme.test": [{"NS": "ns1.dns.test"}, {"NS": "ns2.dns.test"}],
    "other.test": [{"NS": "ns2.dns.test"}],
    "ns1.dns.test": [{"A": "127.0.0.2"}],
    "ns2.dns.test": [{"A": "127.0.0.3"}],
}


@dataclass(frozen=True, slots=True)
class World:
    """The resolver, and the two servers of the zone acme.test."""

    resolver: NameServer
    first: NameServer
    second: NameServer

    async def ask(self, name: str = NAME, kind: Kind = Kind.TXT) -> Live:
        asking = Resolver([self.resolver.address], cache_entries=0, try_seconds=0.3)
        try:
            return await Owners(asking, port=self.first.port, seconds=0.3).ask(name, kind)
        finally:
            await asking.close()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with (
        NameServer(zone=DELEGATION | {NAME: [{"TXT": "old"}]}) as resolver,
        NameServer(zone={NAME: [{"TXT": "new"}]}, host="127.0.0.2") as first,
        NameServer(zone={NAME: [{"TXT": "new"}]}, host="127.0.0.3", port=first.port) as second,
    ):
        yield World(resolver, first, second)


def texts(live: Live) -> list[tuple[str, tuple[bytes, ...]]]:
    return [(one.who, one.answer.records) for one in live.told]


async def test_the_zones_own_servers_are_asked_and_not_the_resolver(world: World) -> None:
    live = await world.ask()
    assert texts(live) == [("ns1.dns.test (127.0.0.2)", (b"new",)), ("ns2.dns.test (127.0.0.3)", (b"new",))]
    assert live.authoritative
    assert live.asked == "ns1.dns.test (127.0.0.2), ns2.dns.test (127.0.0.3)"
    assert not [name for name, kind, _ in world.resolver.asked if kind == "TXT"]


async def test_a_server_that_is_behind_is_seen(world: World) -> None:
    world.second.zone = Zone({"acme.test": [{"A": "192.0.2.1"}]})
    live = await world.ask()
    assert [one.answer.status for one in live.told] == [Status.FOUND, Status.NO_NAME]


async def test_one_that_is_silent_is_left_out(world: World) -> None:
    world.first.zone = Zone({NAME: [Fault.TIMEOUT]})
    assert texts(await world.ask()) == [("ns2.dns.test (127.0.0.3)", (b"new",))]


async def test_where_none_answers_it_is_the_resolvers_word_and_says_so(world: World) -> None:
    for one in (world.first, world.second):
        one.zone = Zone({NAME: [Fault.REFUSED]})
    live = await world.ask()
    assert texts(live) == [("the resolver", (b"old",))]
    assert not live.authoritative
    assert live.asked.endswith("may be as old as the record's time to live")


async def test_without_servers_of_the_zone_too(world: World) -> None:
    live = await world.ask("nowhere.else.example")
    assert [(one.who, one.answer.status) for one in live.told] == [("the resolver", Status.NO_NAME)]


async def test_an_alias_is_followed_to_its_own_zone(world: World) -> None:
    for one in (world.first, world.second):
        one.whole_chains = False
        one.soa = False
        # It names an alias and goes no further.
        one.zone = Zone({NAME: [{"CNAME": "proofs.other.test"}], "proofs.other.test": [{"CNAME": "further.test"}]})
    world.second.zone = Zone({NAME: [{"CNAME": "proofs.other.test"}], "proofs.other.test": [{"TXT": "there"}]})
    assert texts(await world.ask()) == [("ns2.dns.test (127.0.0.3)", (b"there",))]


async def test_one_server_cannot_lead_away_what_another_answers(world: World) -> None:
    """A name server of the zone that its owner has forgotten, and that somebody else has now."""
    world.second.zone = Zone({NAME: [{"CNAME": "proofs.other.test"}], "proofs.other.test": [{"TXT": "forged"}]})
    world.second.whole_chains = False
    world.second.soa = False
    live = await world.ask()
    assert texts(live) == [("ns1.dns.test (127.0.0.2)", (b"new",)), ("ns2.dns.test (127.0.0.3)", (b"forged",))]


async def test_an_alias_whose_zone_is_silent_is_no_answer(world: World) -> None:
    world.second.zone = Zone({NAME: [{"CNAME": "nowhere.example"}], "nowhere.example": [{"A": "192.0.2.1"}]})
    world.second.whole_chains = False
    world.second.soa = False
    assert [one.answer.status for one in (await world.ask()).told] == [Status.FOUND, Status.UNAVAILABLE]


async def test_what_comes_from_a_cache_is_not_taken_for_the_owners_word(world: World) -> None:
    """A firewall that leads port 53 to a resolver of its own, or a server that the zone has left."""
    world.first.authoritative = False
    assert texts(await world.ask()) == [("ns2.dns.test (127.0.0.3)", (b"new",))]
    world.second.authoritative = False
    assert not (await world.ask()).authoritative


async def test_a_circle_of_aliases_ends(world: World) -> None:
    for one in (world.first, world.second):
        one.whole_chains = False
        one.soa = False
        one.zone = Zone({NAME: [{"CNAME": "b.acme.test"}], "b.acme.test": [{"CNAME": NAME}]})
    live = await world.ask()
    assert not live.authoritative


@pytest.mark.parametrize("name", ["a..test", "x" * 300, ""])
async def test_a_name_that_nobody_can_ask_for(world: World, name: str) -> None:
    assert [one.answer.status for one in (await world.ask(name)).told] == [Status.MALFORMED]


async def test_mail_exchanges(world: World) -> None:
    for one in (world.first, world.second):
        one.zone = Zone({"acme.test": [{"MX": [10, "mx.acme.test"]}]})
    live = await world.ask("acme.test", Kind.MX)
    assert [record.host for one in live.told for record in one.answer.records] == ["mx.acme.test", "mx.acme.test"]
