"""SPF: what the report says, the limits and their words, names and macros. The public suite is next door."""

from datetime import UTC, datetime
from typing import Any

import pytest

from ingester.auth.report import Identity, Result, Spf
from ingester.auth.spf import check_helo, check_mail_from
from ingester.auth.spf_macro import parse_domain, parse_text
from ingester.auth.spf_record import MAX_RECORD, Fault, Record, is_spf, parse
from tests.zones import ZoneLookup

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Zone = dict[str, list[Any]]
VALUES = {"s": "strong-bad@email.example.com", "l": "strong-bad", "o": "email.example.com", "d": "email.example.com"}
VALUES |= {"i": "192.0.2.3", "p": "mx.example.com", "v": "in-addr", "h": "mx.example.org"}


def txt(record: str | bytes, *more: Any) -> list[Any]:
    return [("TXT", record), *more]


async def check(
    zone: Zone, *, ip: str = "192.0.2.1", helo: str = "h.test", mail_from: str = "user@d.test", **bounds: Any
) -> Spf:
    return await check_mail_from(
        ZoneLookup(zone), ip=ip, helo=helo, mail_from=mail_from, receiver="mx.our.test", now=NOW, **bounds
    )


async def test_the_report_says_what_was_asked_and_which_term_matched() -> None:
    spf = await check({"d.test": txt("v=spf1 ip4:198.51.100.0/24 +IP4:192.0.2.0/24 -all")}, mail_from="User@D.TEST")
    assert spf == Spf(
        result=Result.PASS,
        domain="d.test",
        identity=Identity.MAIL_FROM,
        client_ip="192.0.2.1",
        helo="h.test",
        envelope_from="User@D.TEST",
        mechanism="+IP4:192.0.2.0/24",
    )


@pytest.mark.parametrize(
    ("record", "mechanism", "result"),
    [
        ("v=spf1 a", "default", Result.NEUTRAL),
        ("v=spf1 redirect=r.test", "-all", Result.FAIL),
        ("v=spf1 include:i.test -all", "include:i.test", Result.PASS),
        ("v=spf1 include:r.test ?all", "?all", Result.NEUTRAL),
    ],
)
async def test_the_mechanism_is_that_of_the_record_that_decides(record: str, mechanism: str, result: Result) -> None:
    zone = {"d.test": txt(record), "r.test": txt("v=spf1 -all"), "i.test": txt("v=spf1 ip4:192.0.2.1")}
    spf = await check(zone)
    assert (spf.result, spf.mechanism, spf.problem) == (result, mechanism, None)


async def test_a_null_sender_is_judged_by_its_helo() -> None:
    zone = {"h.test": txt("v=spf1 exists:%{l}.%{o}.x.test -all"), "postmaster.h.test.x.test": [("A", "127.0.0.2")]}
    spf = await check(zone, mail_from="")
    assert (spf.result, spf.identity, spf.domain, spf.envelope_from) == (Result.PASS, Identity.HELO, "h.test", "")
    same = await check_helo(ZoneLookup(zone), ip="192.0.2.1", helo="h.test", receiver="r", now=NOW)
    assert same == spf


@pytest.mark.parametrize(
    "mail_from",
    [
        "a@localhost",
        "a@[192.0.2.1]",
        "a@",
        "a@d..test",
        f"a@{'x' * 64}.test",
        f"a@{'x.' * 130}test",
        "a@\ud800.test",
        f"a@{'ä' * 60}.test",
    ],
)
async def test_a_sender_without_a_full_name_is_none(mail_from: str) -> None:
    spf = await check({"*": []}, mail_from=mail_from)
    assert (spf.result, spf.domain) == (Result.NONE, "")
    assert spf.problem


async def test_a_name_in_its_own_script_is_asked_as_a_labels() -> None:
    spf = await check({"xn--bcher-kva.test": txt("v=spf1 +all")}, mail_from="a@Bücher.test")
    assert (spf.result, spf.domain) == (Result.PASS, "xn--bcher-kva.test")


async def test_a_local_part_that_is_not_ascii_matches_nothing() -> None:
    """RFC 8616, 4."""
    zone = {"d.test": txt("v=spf1 exists:%{L}.x.test include:%{l}.y.test -all"), "%c3%a4.x.test": [("A", "127.0.0.2")]}
    assert (await check(zone, mail_from="ä@d.test")).result is Result.FAIL


async def test_a_client_without_an_address_is_unknown() -> None:
    assert (await check({"d.test": txt("v=spf1 +all")}, ip="unix")).result is Result.UNKNOWN


async def test_ipv4_in_ipv6_is_ipv4() -> None:
    spf = await check({"d.test": txt("v=spf1 ip4:192.0.2.1 -all")}, ip="::ffff:192.0.2.1")
    assert (spf.result, spf.client_ip) == (Result.PASS, "192.0.2.1")


@pytest.mark.parametrize(
    ("terms", "result"),
    [
        (" a:here.test" * 10 + " -all", Result.FAIL),
        (" a:here.test" * 11 + " -all", Result.PERMERROR),
        (" a:here.test" * 10 + " redirect=here.test", Result.PERMERROR),
        (" a:gone1.test a:gone2.test -all", Result.FAIL),
        (" a:gone1.test a:gone2.test exists:gone3.test -all", Result.PERMERROR),
        (" mx:ten.test -all", Result.FAIL),
        (" mx:eleven.test -all", Result.PERMERROR),
        (" ptr -all", Result.FAIL),
        (" a:slow.test +all", Result.TEMPERROR),
        (" a:broken.test +all", Result.PERMERROR),
        (" include:slow.test +all", Result.TEMPERROR),
        (" include:here.test +all", Result.PERMERROR),
        (" include:%{h}..test +all", Result.PERMERROR),
        (" a:x..test -all", Result.FAIL),
        (" exists:%{p}.x.test -all", Result.FAIL),
    ],
)
async def test_every_limit_has_its_word(terms: str, result: Result) -> None:
    zone: Zone = {
        "d.test": txt("v=spf1" + terms),
        "here.test": [("A", "203.0.113.1")],
        "ten.test": [("MX", [n, "here.test"]) for n in range(10)],
        "eleven.test": [("MX", [n, "here.test"]) for n in range(11)],
        "1.2.0.192.in-addr.arpa": [("PTR", f"n{n}.d.test") for n in range(11)],
        **{f"n{n}.d.test": [("A", "192.0.2.1" if n == 10 else "203.0.113.1")] for n in range(11)},
        "slow.test": ["TIMEOUT"],
        "broken.test": ["FORMERR"],
    }
    spf = await check(zone)
    assert spf.result is result
    assert bool(spf.problem) is (result in (Result.TEMPERROR, Result.PERMERROR))


async def test_the_tenth_reverse_name_still_counts() -> None:
    pointers = [("PTR", f"n{n}.d.test") for n in range(10)]
    hosts: Zone = {f"n{n}.d.test": [("A", "192.0.2.1" if n == 9 else "203.0.113.1")] for n in range(10)}
    zone = {"d.test": txt("v=spf1 ptr -all"), "1.2.0.192.in-addr.arpa": pointers, **hosts}
    assert (await check(zone)).result is Result.PASS


@pytest.mark.parametrize(("name", "result"), [("d.test", "pass"), ("x.D.test", "pass"), ("notd.test", "fail")])
async def test_a_reverse_name_must_be_in_the_domain(name: str, result: str) -> None:
    zone: Zone = {"1.2.0.192.in-addr.arpa": [("PTR", name)], name: [("A", "192.0.2.1")]}
    zone["d.test"] = [*zone.get("d.test", []), ("TXT", "v=spf1 ptr -all")]
    assert (await check(zone)).result == result


async def test_a_check_has_a_bound_of_queries() -> None:
    zone = {"d.test": txt("v=spf1 a a a -all"), "h.test": []}
    zone["d.test"].append(("A", "203.0.113.1"))
    assert (await check(zone, max_queries=4)).result is Result.FAIL
    assert (await check(zone, max_queries=3)).result is Result.PERMERROR


async def test_the_budget_of_the_mail_is_a_temperror() -> None:
    lookup = ZoneLookup({"d.test": txt("v=spf1 a +all")}, max_queries=1)
    spf = await check_mail_from(lookup, ip="192.0.2.1", helo="h", mail_from="a@d.test", receiver="r", now=NOW)
    assert spf.result is Result.TEMPERROR


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"%{c} %{r} %{t} %{i}", "192.0.2.1 mx.our.test 1767225600 192.0.2.1"),
        (b"bell\x07", None),
        (b"\xc3\xa4", None),
        (b"%{x}", None),
        (b"%{l}", "a?b?c"),
        (b"x" * 1000, "x" * 256),
        (b"x" * 1001, None),
    ],
)
async def test_an_explanation_is_plain_text(text: bytes, said: str | None) -> None:
    zone = {"d.test": txt("v=spf1 -all exp=e.test"), "e.test": txt(text)}
    spf = await check(zone, mail_from="a\x07b\u00e4c@d.test")
    assert (spf.result, spf.explanation) == (Result.FAIL, said)


async def test_an_explanation_is_asked_for_only_after_a_fail() -> None:
    lookup = ZoneLookup({"d.test": txt("v=spf1 ~all exp=e.test"), "e.test": txt("no")})
    spf = await check_mail_from(lookup, ip="192.0.2.1", helo="h", mail_from="a@d.test", receiver="r", now=NOW)
    assert (spf.explanation, lookup.asked) == (None, [("d.test", "TXT")])


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("%{d4}.x.test", "email.example.com.x.test"),
        ("%{d1}.x.test", "com.x.test"),
        ("%{dr}", "com.example.email"),
        ("%{d2r}", "example.email"),
        ("%{l-}", "strong.bad"),
        ("%{lr-}", "bad.strong"),
        ("%{l1R-}", "strong"),
        ("%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"),
        ("%{S}", "strong-bad%40email.example.com"),
        ("%{d01}%%%_%-", "com% %20"),
        ("%{d-.}", "email.example.com"),
        ("%{o999999999}.", "email.example.com"),
    ],
)
def test_macros_expand_as_the_rfc_shows(text: str, name: str) -> None:
    parsed = parse_domain(text)
    assert parsed is not None or text.endswith(".")
    whole = parsed or parse_text(text)
    assert whole is not None
    assert whole.target_name(VALUES) == name


@pytest.mark.parametrize(
    "text", ["%{d0}", "%{c}", "%{t}", "%", "%x.test", "%{d", "%{d}x", "test", "a.-b", "a.b-", "a.1", "a b.c", "%{d1r2}"]
)
def test_what_is_no_domain_spec(text: str) -> None:
    assert parse_domain(text) is None


def test_a_long_name_loses_labels_at_the_left() -> None:
    parsed = parse_domain("%{h}." + "a." * 120 + "x.test")
    assert parsed is not None
    assert parsed.target_name({**VALUES, "h": "b" * 20 + ".cc"}) == "cc." + "a." * 120 + "x.test"
    assert parsed.target_name({**VALUES, "h": "b" * 6}) == "b" * 6 + "." + "a." * 120 + "x.test"
    assert len(parsed.target_name({**VALUES, "h": "b" * 7})) == 246


def test_a_fault_names_the_term() -> None:
    assert parse(b"v=spf1 a mx moo -all") == Fault(3, "moo", "is an unknown mechanism")
    assert parse(b"v=spf1 -all moo") == Fault(2, "moo", "is an unknown mechanism")
    assert isinstance(parse(b"v=spf1 " + b"a " * MAX_RECORD), Fault)


async def test_a_fault_is_told_with_its_place() -> None:
    spf = await check({"d.test": txt("v=spf1 include:i.test -all"), "i.test": txt("v=spf1 a ip4:1.2.3")})
    assert spf.problem == "The SPF record of i.test, term 2, ip4:1.2.3 names no network."


def test_what_can_never_be_reached_is_not_kept() -> None:
    record = parse(b"v=spf1" + b" a" * 20 + b" -all")
    assert isinstance(record, Record)
    assert len(record.directives) == 11
    record = parse(b"v=spf1 mx -all a a a redirect=x.test")
    assert isinstance(record, Record)
    assert [one.term for one in record.directives] == ["mx", "-all"]


@pytest.mark.parametrize(
    ("record", "is_one"), [(b"v=spf1", True), (b"V=SPF1 a", True), (b"v=spf10", False), (b" v=spf1", False)]
)
def test_which_record_is_spf(record: bytes, is_one: bool) -> None:
    assert is_spf(record) is is_one
