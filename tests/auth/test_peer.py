"""What is noted of a client: reverse names that point back, HELO names, lists. It decides nothing."""

import pytest

from ingester.auth.peer import MAX_NAMES, helo_problem, observe
from ingester.auth.report import Peer, Result
from tests.zones import Data, Fault, ZoneLookup

IP, IP6 = "192.0.2.1", "2001:db8::1"
REVERSE = "1.2.0.192.in-addr.arpa"
REVERSE6 = "1." + "0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa"


async def seen(zone: Data, *, ip: str = IP, helo: str = "mx.a.test", zones: tuple[str, ...] = ()) -> Peer:
    return await observe(ZoneLookup(zone), ip=ip, helo=helo, zones=zones, reverse_dns=True)


async def test_a_name_that_points_back_is_confirmed() -> None:
    one = await seen({REVERSE: [{"PTR": "other.test"}, {"PTR": "mx.a.test"}], "mx.a.test": [{"A": IP}]})
    assert (one.reverse, one.confirmed_name) == (Result.PASS, "mx.a.test")
    assert set(one.reverse_names) == {"other.test", "mx.a.test"}


async def test_ipv6_is_looked_up_by_its_nibbles() -> None:
    one = await seen({REVERSE6: [{"PTR": "mx.a.test"}], "mx.a.test": [{"AAAA": IP6}]}, ip=IP6)
    assert (one.reverse, one.confirmed_name) == (Result.PASS, "mx.a.test")


@pytest.mark.parametrize(
    ("zone", "result"),
    [
        ({}, Result.FAIL),
        ({REVERSE: [{"PTR": "mx.a.test"}], "mx.a.test": [{"A": "192.0.2.9"}]}, Result.FAIL),
        ({REVERSE: [{"PTR": "mx.a.test"}]}, Result.FAIL),
        ({REVERSE: [Fault.SERVFAIL]}, Result.TEMPERROR),
        ({REVERSE: [{"PTR": "mx.a.test"}], "mx.a.test": [Fault.TIMEOUT]}, Result.TEMPERROR),
        ({REVERSE: [Fault.BROKEN]}, Result.PERMERROR),
    ],
)
async def test_what_is_not_confirmed_says_why(zone: Data, result: Result) -> None:
    one = await seen(zone)
    assert (one.reverse, one.confirmed_name) == (result, None)


async def test_an_address_of_many_names_costs_a_few_questions() -> None:
    lookup = ZoneLookup({REVERSE: [{"PTR": f"n{n}.a.test"} for n in range(50)]})
    await observe(lookup, ip=IP, helo="mx.a.test", zones=(), reverse_dns=True)
    assert lookup.queries == 1 + MAX_NAMES


async def test_without_reverse_dns_nothing_is_asked() -> None:
    lookup = ZoneLookup({})
    one = await observe(lookup, ip=IP, helo="mx.a.test", zones=(), reverse_dns=False)
    assert (one.reverse, lookup.queries) == (Result.UNKNOWN, 0)


async def test_lists_are_asked_by_the_reversed_address() -> None:
    zone: Data = {
        "1.2.0.192.block.test": [{"A": "127.0.0.2"}, {"A": "127.0.0.10"}],
        "1.2.0.192.hijacked.test": [{"A": "203.0.113.1"}],
        "1.2.0.192.away.test": [Fault.TIMEOUT],
    }
    one = await seen(zone, zones=("block.test", "clean.test", "hijacked.test", "away.test"))
    assert [(listing.zone, listing.listed) for listing in one.listings] == [
        ("block.test", True),
        ("clean.test", False),
        ("hijacked.test", None),
        ("away.test", None),
    ]
    assert one.listings[0].codes == ("127.0.0.2", "127.0.0.10")


async def test_an_ipv6_address_is_listed_by_its_nibbles() -> None:
    name = REVERSE6.removesuffix("ip6.arpa") + "block.test"
    (listing,) = (await seen({name: [{"A": "127.0.0.2"}]}, ip=IP6, zones=("block.test",))).listings
    assert listing.listed


@pytest.mark.parametrize(
    ("helo", "fine"),
    [
        ("mx.a.test", True),
        ("mx.a.test.", True),
        ("xn--bcher-kva.example", True),
        ("[192.0.2.1]", True),
        ("", False),
        ("localhost", False),
        ("[192.0.2.9]", False),
        ("[nonsense]", False),
        ("192.0.2.1 or so", False),
        ("-mx.a.test", False),
        ("a." * 200 + "test", False),
        ("b\u00fccher.example", False),
    ],
)
def test_what_a_client_calls_itself(helo: str, fine: bool) -> None:
    assert (helo_problem(helo, IP) is None) is fine


def test_an_ipv6_literal_has_its_tag() -> None:
    assert helo_problem(f"[IPv6:{IP6}]", IP6) is None
