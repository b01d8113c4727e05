"""The resolver, against a real server on the loopback: every answer, every fault, the cache, the bounds."""

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest
import uvloop

from ingester.auth.dns import TRIES, MailLookup, Resolver
from ingester.auth.dns_exchange import server
from ingester.auth.dns_message import UNAVAILABLE_SECONDS
from ingester.auth.dns_outage import AWAY_SECONDS
from ingester.auth.dns_servers import NoNameserver
from ingester.auth.lookup import Answer, Exchange, Lookup, Status
from tests.nameserver import NameServer
from tests.zones import Fault, ZoneLookup

V4, V6 = IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1")
TRY = 0.05
"""Seconds of a try where the server is known to be silent."""
ANSWERED = 30
"""Seconds of a try where it answers, which no pause of this process reaches."""
ZONE: dict[str, list[Any]] = {
    "a.test": [("A", "192.0.2.1"), ("A", "192.0.2.2"), ("TXT", ["v=spf1 ", "-all"]), ("TXT", b"\xff\x00"), ("TXT", "")],
    "6.a.test": [("AAAA", "2001:db8::1")],
    "mx.test": [("MX", [20, "b.mx.test"]), ("MX", [10, "A.mx.test"])],
    "null.test": [("MX", [0, ""])],
    "long.test": [("TXT", ["x" * 255] * 12)],
    "huge.test": [("TXT", ["x" * 255] * 230)],
    "deep.under.here.test": [("A", "192.0.2.3")],
    "alias.test": [("CNAME", "alias2.test")],
    "alias2.test": [("CNAME", "a.test")],
    "lost.test": [("CNAME", "nowhere.test")],
    "loop.test": [("CNAME", "loop2.test")],
    "loop2.test": [("CNAME", "loop.test")],
    "self.test": [("CNAME", "self.test")],
    "odd!name_.test": [("TXT", "odd")],
    V4.reverse_pointer: [("PTR", "a.test"), ("PTR", "B.test")],
    V6.reverse_pointer: [("PTR", "6.a.test")],
}
PROBE = b"\7invalid\0\0\1\0\1"
"""The question whether a name server is there at all: A of a name that never exists."""
FAULTS: dict[str, list[Any]] = {f"{fault.lower()}.test": [("TXT", fault), ("TXT", "hello")] for fault in Fault}


@dataclass(slots=True)
class Clock:
    """A clock that a test sets."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass(slots=True)
class House:
    """Makes servers and resolvers, and closes them."""

    opened: list[Any] = field(default_factory=list)

    async def server(self, zone: Any = None, **how: Any) -> NameServer:
        server = await NameServer(zone={**ZONE, **FAULTS} if zone is None else zone, **how).__aenter__()
        self.opened.append(server)
        return server

    def resolver(self, *servers: NameServer, **how: Any) -> Resolver:
        resolver = Resolver([one.address for one in servers], **how)
        self.opened.append(resolver)
        return resolver


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    yield house
    for one in reversed(house.opened):
        await (one.close() if isinstance(one, Resolver) else one.__aexit__())


def questions(lookup: Lookup) -> list[Coroutine[Any, Any, Answer[Any]]]:
    """Every name of the zone and some beside it, with every type."""
    names = [*ZONE, "A.TEST.", "here.test", "nowhere.test", "a.nowhere.test", "test"]
    asks: list[Callable[[str], Coroutine[Any, Any, Answer[Any]]]] = [lookup.txt, lookup.a, lookup.aaaa, lookup.mx]
    reverse = [lookup.ptr(ip) for ip in (V4, V6, IPv4Address("192.0.2.9"))]
    return [ask(name) for name in names for ask in asks] + reverse


# The answers


@pytest.mark.parametrize("whole_chains", [True, False])
@pytest.mark.parametrize("soa", [True, False])
async def test_it_answers_as_the_zone_does(house: House, whole_chains: bool, soa: bool) -> None:
    """The lookup of the other tests, made of zone data, and the real one over the network say the same."""
    server = await house.server(whole_chains=whole_chains, soa=soa)
    lookup = house.resolver(server).lookup(max_queries=1000)
    expected = [await answer for answer in questions(ZoneLookup(ZONE))]
    assert [await answer for answer in questions(lookup)] == expected
    assert {answer.status for answer in expected} == set(Status) - {Status.UNAVAILABLE}


async def test_the_records_are_these(house: House) -> None:
    lookup = house.resolver(await house.server()).lookup()
    assert (await lookup.txt("a.test")).records == (b"v=spf1 -all", b"\xff\x00", b"")
    assert (await lookup.a("alias.test")).records == (V4, IPv4Address("192.0.2.2"))
    assert (await lookup.aaaa("6.a.test")).records == (V6,)
    assert (await lookup.mx("mx.test")).records == (Exchange(10, "A.mx.test"), Exchange(20, "b.mx.test"))
    assert (await lookup.mx("null.test")).records == (Exchange(0, ""),)
    assert (await lookup.ptr(V4)).records == ("a.test", "B.test")
    assert (await lookup.ptr(V6)).records == ("6.a.test",)


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault.TIMEOUT, Status.UNAVAILABLE),
        (Fault.SERVFAIL, Status.UNAVAILABLE),
        (Fault.REFUSED, Status.UNAVAILABLE),
        (Fault.REFERRAL, Status.UNAVAILABLE),
        (Fault.WRONG_ID, Status.UNAVAILABLE),
        (Fault.WRONG_QUESTION, Status.UNAVAILABLE),
        (Fault.WRONG_PORT, Status.UNAVAILABLE),
        (Fault.GARBAGE, Status.UNAVAILABLE),
        (Fault.FLOOD, Status.UNAVAILABLE),
        (Fault.FORMERR, Status.MALFORMED),
        (Fault.BROKEN, Status.MALFORMED),
        (Fault.TRUNCATE, Status.FOUND),
    ],
)
async def test_faults_are_told_apart(house: House, fault: Fault, status: Status) -> None:
    try_seconds = TRY if status is Status.UNAVAILABLE else ANSWERED
    lookup = house.resolver(await house.server(), try_seconds=try_seconds).lookup()
    assert (await lookup.txt(f"{fault.lower()}.test")).status is status
    assert (await ZoneLookup(FAULTS).txt(f"{fault.lower()}.test")).status is status


async def test_an_answer_that_comes_after_lies_is_taken(house: House) -> None:
    """A spoofer who is faster than the server does not win by it, nor does he silence the server."""
    server = await house.server()
    assert (await house.resolver(server).lookup().txt("spoofed.test")).records == (b"hello",)
    assert len(server.asked) == 1


@pytest.mark.parametrize("name", ["truncate.test", "long.test", "huge.test"])
async def test_what_is_cut_short_is_fetched_over_tcp(house: House, name: str) -> None:
    server = await house.server()
    answer = await house.resolver(server).lookup().txt(name)
    assert answer == await ZoneLookup({**ZONE, **FAULTS}).txt(name)
    assert [by for _, _, by in server.asked] == ["udp", "tcp"]


async def test_without_tcp_what_is_cut_short_is_unavailable(house: House) -> None:
    lookup = house.resolver(await house.server(tcp=False), try_seconds=TRY).lookup()
    assert (await lookup.txt("truncate.test")).status is Status.UNAVAILABLE


async def test_a_server_without_edns_is_asked_without(house: House) -> None:
    server = await house.server(edns=False)
    assert (await house.resolver(server).lookup().txt("a.test")).status is Status.FOUND
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a..test",
        ".test",
        "a.test..",
        "x" * 64 + ".test",
        ".".join(["x" * 63] * 3 + ["x" * 62]),
        "ü.test",
        "x" * 10**6,
    ],
)
async def test_a_name_that_nobody_can_ask_for_is_malformed(house: House, name: str) -> None:
    server = await house.server()
    lookup = house.resolver(server).lookup()
    assert await lookup.txt(name) == Answer(Status.MALFORMED) == await ZoneLookup(ZONE).txt(name)
    assert lookup.queries == 0
    assert server.asked == []


async def test_the_longest_name_can_be_asked_for(house: House) -> None:
    longest = ".".join(["x" * 63] * 3 + ["x" * 61])
    lookup = house.resolver(await house.server({longest: [("A", "192.0.2.1")]})).lookup()
    assert (await lookup.a(f"{longest}.")).records == (V4,)


async def test_an_answer_beyond_the_bound_is_malformed_not_cut(house: House) -> None:
    zone = {"many.test": [("A", f"192.0.{n >> 8}.{n & 255}") for n in range(257)]}
    lookup = house.resolver(await house.server(zone)).lookup()
    assert await lookup.a("many.test") == Answer(Status.MALFORMED)


async def test_each_question_has_a_port_of_its_own(house: House) -> None:
    server = await house.server({f"{n}.test": [("A", "192.0.2.1")] for n in range(40)})
    lookup = house.resolver(server).lookup()
    await asyncio.gather(*(lookup.a(f"{n}.test") for n in range(40)))
    ports = {port for _, port in server.clients}
    assert len(ports) == 40
    assert max(ports) - min(ports) > 1000


async def test_a_server_may_have_an_ipv6_address(house: House) -> None:
    lookup = house.resolver(await house.server(host="::1")).lookup()
    assert (await lookup.a("a.test")).status is Status.FOUND
    assert (await lookup.txt("truncate.test")).status is Status.FOUND
    assert server("fe80::1%lo", 5353).address == ("fe80::1", 5353, 0, socket.if_nametoindex("lo"))


def test_the_loop_of_production_does_as_well() -> None:
    """uvloop has its own sockets and readers."""

    async def ask() -> list[Status]:
        async with NameServer(zone={**ZONE, **FAULTS}) as server:
            resolver = Resolver([server.address], try_seconds=TRY)
            names = ("a.test", "truncate.test", "huge.test", "timeout.test", "broken.test")
            answers = [await resolver.lookup().txt(name) for name in names]
            await resolver.close()
        gone = Resolver([server.address], try_seconds=30)
        return [*(answer.status for answer in answers), (await gone.lookup().a("a.test")).status]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found, unavailable = Status.FOUND, Status.UNAVAILABLE
        assert runner.run(ask()) == [found, found, found, unavailable, Status.MALFORMED, unavailable]


# Several servers


@pytest.mark.parametrize("fault", ["SERVFAIL", "REFUSED", "REFERRAL", "TIMEOUT", "BROKEN", "FORMERR"])
async def test_the_next_server_is_asked(house: House, fault: str) -> None:
    bad = await house.server({"a.test": [fault]})
    good = await house.server()
    lookup = house.resolver(bad, good, try_seconds=TRY).lookup()
    assert (await lookup.a("a.test")).status is Status.FOUND


async def test_a_closed_port_costs_no_time(house: House) -> None:
    gone = await house.server()
    await gone.__aexit__()
    house.opened.remove(gone)
    lookup = house.resolver(gone, await house.server(), try_seconds=30).lookup()
    assert (await lookup.a("a.test")).status is Status.FOUND


async def test_after_a_silence_the_server_that_answers_comes_first(house: House) -> None:
    silent = await house.server({name: ["TIMEOUT"] for name in ZONE})
    good = await house.server()
    lookup = house.resolver(silent, good, try_seconds=0.5).lookup()
    assert (await lookup.a("a.test")).status is Status.FOUND
    assert (await lookup.txt("a.test")).status is Status.FOUND
    assert len(silent.asked) == 1


async def test_a_fault_of_one_zone_does_not_change_the_order(house: House) -> None:
    first = await house.server({**ZONE, "a.test": ["SERVFAIL"]})
    second = await house.server()
    lookup = house.resolver(first, second).lookup()
    await lookup.a("a.test")
    await lookup.mx("mx.test")
    assert [name for name, _, _ in second.asked] == ["a.test"]


# The budget


async def test_beyond_the_queries_all_is_unavailable_at_once(house: House) -> None:
    server = await house.server()
    resolver = house.resolver(server)
    lookup = resolver.lookup()
    answers = [await lookup.a("a.test") for _ in range(76)]
    assert [answer.status for answer in answers] == [Status.FOUND] * 75 + [Status.UNAVAILABLE]
    assert (lookup.queries, len(server.asked)) == (75, 1)
    assert (await resolver.lookup().a("a.test")).status is Status.FOUND


async def test_aliases_that_lead_out_count(house: House) -> None:
    server = await house.server(whole_chains=False)
    resolver = house.resolver(server)
    lookup = resolver.lookup(max_queries=1)
    assert (await lookup.a("alias.test")).status is Status.UNAVAILABLE
    assert lookup.queries == len(server.asked) == 1
    assert (await resolver.lookup(max_queries=2).a("alias.test")).status is Status.FOUND
    assert len(server.asked) == 2
    loop = resolver.lookup()
    assert (await loop.a("loop.test")).status is Status.MALFORMED
    assert loop.queries == 11


async def test_beyond_the_deadline_all_is_unavailable_at_once(house: House) -> None:
    server = await house.server()
    resolver = house.resolver(server, try_seconds=ANSWERED)
    lookup = resolver.lookup(deadline=time.monotonic() + 0.5)
    waiting = asyncio.create_task(lookup.txt("slow.test"))
    await server.wait_for(1)
    assert (await waiting).status is Status.UNAVAILABLE
    assert (await lookup.a("a.test")).status is Status.UNAVAILABLE
    assert len(server.asked) == 1
    server.let_go()
    assert (await resolver.lookup().txt("slow.test")).status is Status.FOUND
    assert len(server.asked) == 1  # the first question was still on its way


# The cache


@pytest.mark.parametrize(
    ("name", "how", "seconds"),
    [
        ("a.test", {"seconds": 300}, 300),
        ("a.test", {"seconds": 1 << 30}, 86400),
        ("alias.test", {"seconds": 77}, 77),
        ("nowhere.test", {"minimum": 99}, 99),
        ("nowhere.test", {"minimum": 1 << 30}, 3600),
        ("nowhere.test", {"soa": False}, 60),
        ("6.a.test", {"minimum": 99}, 99),
        ("servfail.test", {}, UNAVAILABLE_SECONDS),
        ("timeout.test", {}, UNAVAILABLE_SECONDS),
        ("broken.test", {}, 60),
    ],
)
async def test_an_answer_holds_for_its_time(house: House, name: str, how: dict[str, Any], seconds: float) -> None:
    clock = Clock()
    server = await house.server(**how)
    resolver = house.resolver(server, clock=clock, try_seconds=TRY if name == "timeout.test" else ANSWERED)
    first = await resolver.lookup().txt(name)
    asked = _times(server, name)
    clock.now += seconds - 0.01
    assert await resolver.lookup().txt(name) == first
    assert _times(server, name) == asked
    clock.now += 0.01
    assert await resolver.lookup().txt(name) == first
    assert _times(server, name) == 2 * asked


def _times(server: NameServer, name: str) -> int:
    """How often a name was asked for."""
    return sum(asked == name for asked, *_ in server.asked)


@pytest.mark.parametrize("seconds", [0, 1 << 31])
async def test_an_answer_without_time_is_given_once(house: House, seconds: int) -> None:
    """RFC 2181, 8: a time with its first bit set is none."""
    server = await house.server(seconds=seconds)
    resolver = house.resolver(server)
    assert [(await resolver.lookup().a("a.test")).status for _ in range(2)] == [Status.FOUND] * 2
    assert len(server.asked) == 2


async def test_the_cache_is_bounded_and_the_least_used_goes(house: House) -> None:
    server = await house.server({f"{n}.test": [("A", "192.0.2.1")] for n in range(4)})
    resolver = house.resolver(server, cache_entries=3)
    for n in (0, 1, 2, 0, 3, 0, 1):
        await resolver.lookup().a(f"{n}.test")
    assert [name for name, _, _ in server.asked] == ["0.test", "1.test", "2.test", "3.test", "1.test"]
    assert len(resolver._cache) == 3


async def test_the_cache_is_bounded_in_bytes(house: House) -> None:
    server = await house.server({f"{n}.test": [("TXT", "x" * 10_000)] for n in range(9)})
    resolver = house.resolver(server, cache_bytes=30_000)
    for n in range(9):
        assert (await resolver.lookup().txt(f"{n}.test")).status is Status.FOUND
    assert len(resolver._cache) == 2
    assert resolver._cache.bytes <= 30_000


async def test_a_spent_budget_is_not_remembered(house: House) -> None:
    resolver = house.resolver(await house.server())
    assert (await resolver.lookup(max_queries=0).a("a.test")).status is Status.UNAVAILABLE
    assert (await resolver.lookup(deadline=0).a("a.test")).status is Status.UNAVAILABLE
    assert (await resolver.lookup().a("a.test")).status is Status.FOUND


# Many at once


async def test_what_many_ask_is_asked_once(house: House) -> None:
    server = await house.server()
    resolver = house.resolver(server)
    mails = [asyncio.create_task(resolver.lookup().txt("slow.test")) for _ in range(100)]
    await server.wait_for(1)
    server.let_go()
    assert {(await mail).records for mail in mails} == {(b"hello",)}
    assert len(server.asked) == 1


@pytest.mark.parametrize("who", [0, 1])
async def test_one_who_gives_up_takes_nobody_with_him(house: House, who: int) -> None:
    server = await house.server()
    resolver = house.resolver(server)
    mails = [asyncio.create_task(resolver.lookup().txt("slow.test")) for _ in range(2)]
    await server.wait_for(1)
    mails[who].cancel()
    with pytest.raises(asyncio.CancelledError):
        await mails[who]
    server.let_go()
    assert (await mails[1 - who]).status is Status.FOUND
    assert len(server.asked) == 1


async def test_a_thousand_lookups_are_fifty_questions_at_a_time(house: House) -> None:
    server = await house.server({f"{n}.test": [("A", Fault.SLOW), ("A", "192.0.2.1")] for n in range(1000)})
    resolver = house.resolver(server, try_seconds=30)
    mails = [asyncio.create_task(resolver.lookup().a(f"{n}.test")) for n in range(1000)]
    await server.wait_for(50)
    server.let_go()
    assert {(await mail).status for mail in mails} == {Status.FOUND}
    assert server.most_waiting == 50
    assert len(server.asked) == 1000


async def test_what_nobody_waits_for_any_more_is_not_asked(house: House) -> None:
    server = await house.server()
    resolver = house.resolver(server, in_flight=1, try_seconds=30)
    first = asyncio.create_task(resolver.lookup().txt("slow.test"))
    await server.wait_for(1)
    assert (await resolver.lookup(deadline=time.monotonic() + TRY).a("a.test")).status is Status.UNAVAILABLE
    server.let_go()
    assert (await first).status is Status.FOUND
    assert (await resolver.lookup().mx("mx.test")).status is Status.FOUND
    assert [name for name, _, _ in server.asked] == ["slow.test", "mx.test"]


async def test_while_nobody_answers_nothing_waits(house: House) -> None:
    """The first question costs its tries; once the probe is unanswered too, the next cost nothing until it is over."""
    clock = Clock()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        resolver = Resolver([deaf.getsockname()], try_seconds=TRY, clock=clock)
        house.opened.append(resolver)
        assert (await resolver.lookup().a("a.test")).status is Status.UNAVAILABLE
        assert await resolver.outage.known()
        asked = asyncio.create_task(resolver.lookup().a("b.test"))
        for _ in range(10):
            await asyncio.sleep(0)
        assert asked.done(), "without any wait for the network or the clock"
        assert asked.result().status is Status.UNAVAILABLE
        clock.now += AWAY_SECONDS
        assert not resolver.outage.lasts


async def test_a_dead_zone_is_no_outage(house: House) -> None:
    server = await house.server()
    resolver = house.resolver(server, try_seconds=TRY)
    resolver.outage._try_seconds = ANSWERED
    assert (await resolver.lookup().txt("timeout.test")).status is Status.UNAVAILABLE
    assert not await resolver.outage.known()
    assert ("invalid", "A", "udp") in server.asked
    assert (await resolver.lookup().a("a.test")).status is Status.FOUND


async def test_closing_ends_what_is_on_its_way(house: House) -> None:
    server = await house.server()
    resolver = house.resolver(server, try_seconds=30)
    mail: MailLookup = resolver.lookup()
    waiting = asyncio.create_task(mail.txt("slow.test"))
    await server.wait_for(1)
    await resolver.close()
    assert (await waiting).status is Status.UNAVAILABLE
    assert (await mail.a("a.test")).status is Status.UNAVAILABLE
    assert len(server.asked) == 1


# The name servers


def name_server_file(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "resolv.conf"
    file.write_text(text)
    return file


def ports(resolver: Resolver) -> list[tuple[Any, ...]]:
    return [one.address for one in resolver._servers.current()]


async def test_without_given_ones_the_systems_are_asked(tmp_path: Path) -> None:
    file = name_server_file(
        tmp_path,
        "# comment\nsearch example.com\noptions ndots:5\nnameserver\nnameserver 192.0.2.1 # first\n"
        "nameserver not-an-address\n nameserver 2001:db8::1\nnameserver \xff\n",
    )
    resolver = Resolver(system_file=file)
    assert ports(resolver) == [("192.0.2.1", 53), ("2001:db8::1", 53, 0, 0)]


async def test_the_systems_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    clock = Clock()
    file = name_server_file(tmp_path, "nameserver 192.0.2.1\n")
    resolver = Resolver(system_file=file, clock=clock)
    file.write_text("nameserver 192.0.2.22\n")
    assert ports(resolver) == [("192.0.2.1", 53)]
    clock.now += 1
    assert ports(resolver) == [("192.0.2.22", 53)]
    for spoil in (lambda: file.write_text("nothing"), file.unlink):
        spoil()
        clock.now += 1
        assert ports(resolver) == [("192.0.2.22", 53)]


@pytest.mark.parametrize("text", ["", "search example.com\n", "nameserver example.com\n"])
async def test_a_system_without_name_servers_is_told_what_to_set(tmp_path: Path, text: str) -> None:
    with pytest.raises(NoNameserver, match="names no name server: set INGESTER_DNS__NAMESERVERS"):
        Resolver(system_file=name_server_file(tmp_path, text))


async def test_a_system_without_the_file_is_told_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(NoNameserver, match=r"No such file.*: set INGESTER_DNS__NAMESERVERS"):
        Resolver(system_file=tmp_path / "absent")


async def test_a_name_server_is_an_address_not_a_name() -> None:
    with pytest.raises(NoNameserver, match=r"must name IP addresses: ns\.test is no IP address"):
        Resolver([("192.0.2.1", 53), ("ns.test", 53)])


# What strangers send


async def test_random_bytes_over_the_network_find_nothing(house: House) -> None:
    """With the right id and question before them, and without. The probe after a silence is answered well."""
    rng = random.Random(4)
    sent = 0

    def forge(query: bytes) -> bytes:
        nonlocal sent
        end = query.index(b"\0", 12) + 5
        if query[12:end] == PROBE:
            return bytes(query[:2]) + b"\x81\x83\0\1" + bytes(6) + query[12:end]
        sent += 1
        start = bytes(query[:2]) + b"\x81\x80\0\1" + rng.randbytes(6) + query[12:end] if sent % 2 else b""
        return start + rng.randbytes(rng.randrange(200))

    resolver = house.resolver(await house.server(forge=forge), try_seconds=0.005)
    resolver.outage._try_seconds = ANSWERED
    answers = [await resolver.lookup().txt(f"name-{n}.test") for n in range(300)]
    assert sent >= 300
    assert {answer.status for answer in answers} <= set(Status) - {Status.FOUND}
    assert Status.MALFORMED in {answer.status for answer in answers}


async def test_a_flood_of_strange_answers_ends_a_try(house: House) -> None:
    """Each costs a look; nobody is listened to for a hundred of them."""
    server = await house.server()
    lookup = house.resolver(server, try_seconds=30).lookup()
    assert (await asyncio.wait_for(lookup.txt("flood.test"), 10)).status is Status.UNAVAILABLE
    assert len(server.asked) == TRIES
