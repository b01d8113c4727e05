"""SPF on hostile records and names: bounded in queries and CPU, never an exception, never a pass that nobody gave."""

from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingester.auth.report import Result, Spf
from ingester.auth.spf import check_helo, check_mail_from
from ingester.auth.spf_check import MAX_QUERIES
from ingester.auth.spf_record import MAX_RECORD, is_spf, parse
from tests.cost import assert_cheap_to_await
from tests.zones import ZoneLookup

CPU_SECONDS = 0.05
"""For one check."""
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LONG_SENDER = "a-" * 60 + "a@" + "d." * 120 + "example.com"


def filled(term: str, size: int = MAX_RECORD) -> str:
    """A record of that many bytes, of one term over and over; `#` is its number."""
    terms, length = ["v=spf1"], 6
    while length + len(term) + 5 < size:
        terms.append(term.replace("#", str(len(terms) % 250)))
        length += len(terms[-1]) + 1
    return " ".join(terms)


def chain(term: str) -> dict[str, list[Any]]:
    """Records as long as can be, each of which includes the next one, all different to the cache."""
    return {
        f"d{n}.example.com": [("TXT", f"v=spf1 include:d{n + 1}.example.com {filled(term, MAX_RECORD - 50)[7:]}")]
        for n in range(12)
    }


HOSTS = [("MX", [n, f"h{n}.example.com"]) for n in range(10)]
SHAPES: dict[str, dict[str, list[Any]]] = {
    "500 queries": {
        "d0.example.com": [("TXT", filled("mx:m#.example.com", 1000))],
        **{f"m{n}.example.com": HOSTS for n in range(50)},
        **{f"h{n}.example.com": [("A", "203.0.113.1")] for n in range(10)},
    },
    "an include of itself": {"d0.example.com": [("TXT", "v=spf1 include:d0.example.com -all")]},
    "ten includes deep, twice at each": {
        f"d{n}.example.com": [("TXT", f"v=spf1 include:d{n + 1}.example.com include:d{n + 1}.example.com -all")]
        for n in range(12)
    },
    "a redirect loop": {"d0.example.com": [("TXT", "v=spf1 redirect=d0.example.com")]},
    "long records of ip4": chain("ip4:1.2.3.#"),
    "long records of ip6": chain("ip6:1::#"),
    "long records of a": chain("a/1"),
    "long records of modifiers": chain("x="),
    "long records of macros": chain("x=%{d1r-}%{s}"),
    "endless macros": {
        "d0.example.com": [("TXT", "v=spf1" + 10 * (" exists:" + "%{d1r-}" * 110) + " -all")],
    },
    "macros of nothing": {"d0.example.com": [("TXT", "v=spf1 exists:" + "%{l1r.-+,/_=}" * 500 + " -all")]},
    "too long": {"d0.example.com": [("TXT", "v=spf1 " + "a " * 30_000)]},
    "a long explanation": {
        "d0.example.com": [("TXT", "v=spf1 exp=d1.example.com -all")],
        "d1.example.com": [("TXT", "%{S}" * 16_000)],
    },
    "many records": {"d0.example.com": [("TXT", f"v=spf1 {n}") for n in range(1000)]},
    "unclosed macros": {"d0.example.com": [("TXT", "v=spf1 a:" + "%{d" * 2000)]},
    "digits": {"d0.example.com": [("TXT", "v=spf1 a:%{d" + "9" * 5000 + "} a/" + "9" * 2000)]},
    "a long top label": {"d0.example.com": [("TXT", "v=spf1 a:a." + "1" * 4000)]},
    "many reverse names": {
        "d0.example.com": [("TXT", "v=spf1" + " ptr" * 11)],
        "1.2.0.192.in-addr.arpa": [("PTR", f"p{n}.d0.example.com") for n in range(500)],
        **{f"p{n}.d0.example.com": [("A", "203.0.113.1")] for n in range(500)},
    },
}


async def check(zone: dict[str, list[Any]], mail_from: str = "user@d0.example.com") -> tuple[Spf, ZoneLookup]:
    lookup = ZoneLookup(zone)
    spf = await check_mail_from(
        lookup, ip="192.0.2.1", helo="h.example.com", mail_from=mail_from, receiver="mx.example.net", now=NOW
    )
    return spf, lookup


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_hostile_record_costs_little(shape: str) -> None:
    spf, lookup = await assert_cheap_to_await(lambda: check(SHAPES[shape]), seconds=CPU_SECONDS)
    assert spf.result is not Result.PASS
    assert lookup.queries <= MAX_QUERIES
    assert all(len(text or "") <= 256 for text in (spf.problem, spf.explanation, spf.mechanism))


@pytest.mark.parametrize(
    "shape",
    [
        "500 queries",
        "an include of itself",
        "ten includes deep, twice at each",
        "a redirect loop",
        "long records of a",
        "long records of modifiers",
        "too long",
        "many records",
        "unclosed macros",
        "digits",
        "a long top label",
    ],
)
async def test_what_can_never_be_evaluated_is_a_permerror(shape: str) -> None:
    spf, _ = await check(SHAPES[shape])
    assert spf.result is Result.PERMERROR
    assert spf.problem


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
async def test_random_bytes_never_pass(record: bytes) -> None:
    spf, _ = await check({"d0.example.com": [("TXT", b"v=spf1 " + record + b" %")]})
    assert spf.result is Result.PERMERROR


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "mx", ":", "/", "//", "%{", "}", "d", "1", ".", " ", "=", "exp", "-", "é", "\0"]))
)
async def test_what_looks_like_a_record_never_raises(pieces: list[str]) -> None:
    record = ("v=spf1 " + "".join(pieces)).encode()
    assert is_spf(record)
    parse(record)
    spf, lookup = await check({"d0.example.com": [("TXT", record)]})
    assert spf.result in (Result.PERMERROR, Result.NEUTRAL, Result.NONE)
    assert lookup.queries <= MAX_QUERIES


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=50))
async def test_any_sender_helo_and_address_is_taken(sender: str, helo: str, ip: str) -> None:
    lookup = ZoneLookup({})
    for one in (
        await check_mail_from(lookup, ip="192.0.2.1", helo=helo, mail_from=sender, receiver="r", now=NOW),
        await check_mail_from(lookup, ip=ip, helo=helo, mail_from="@" + sender, receiver="r", now=NOW),
        await check_helo(lookup, ip="2001:db8::1", helo=helo, receiver="r", now=NOW),
    ):
        assert one.result in (Result.NONE, Result.UNKNOWN)
        told = f"{one.domain}{one.helo}{one.envelope_from}{one.client_ip}{one.problem or ''}"
        assert told.isprintable()
        assert all(len(text) <= 256 for text in (one.domain, one.helo, one.envelope_from, one.client_ip))


async def test_a_long_sender_costs_little() -> None:
    for zone, sender in (
        (SHAPES["endless macros"], LONG_SENDER),
        ({}, "a" * 100_000 + "@d0.example.com"),
        ({}, "a@" + "\u00e4" * 100_000 + ".com"),
    ):
        spf, _ = await assert_cheap_to_await(partial(check, zone, sender), seconds=CPU_SECONDS)
        assert spf.result is Result.NONE
