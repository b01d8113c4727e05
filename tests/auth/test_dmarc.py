"""DMARC against RFC 9989: the table, the names asked, who counts as author and identifier, strangers' records."""

import asyncio
from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingester.auth.dmarc import evaluate, evidence
from ingester.auth.dmarc_record import RECORD_LIMIT, names_to_walk, parse, select
from ingester.auth.report import Aligned, Dkim, Dmarc, Identity, Policy, Result, Signature, Spf
from tests.auth.dmarc_cases import ALL, CASES, Case, R
from tests.cost import assert_cheap
from tests.zones import ZoneLookup


def zone_of(case: Case) -> dict[str, list[Any]]:
    zone: dict[str, list[Any]] = {name: [("A", "192.0.2.1")] for name in case.names}
    for domain, texts in case.records.items():
        zone[f"_dmarc.{domain}"] = [("TXT", text) for text in ([texts] if isinstance(texts, str) else texts)]
    for name, fault in case.faults.items():
        zone.setdefault(name, []).append(fault)
    return zone


async def judge(
    zone: dict[str, list[Any]], author: str, *, spf: Spf | None = None, dkim: Sequence[Signature] = ()
) -> tuple[Dmarc, ZoneLookup]:
    lookup = ZoneLookup(zone)
    verdict = await evaluate(
        lookup,
        authors=[f"someone@{author}"],
        from_fields=1,
        spf=spf or Spf(result=Result.NONE),
        dkim=Dkim(result=dkim[0].result if dkim else Result.NONE, signatures=tuple(dkim)),
    )
    return verdict, lookup


def signature(domain: str, result: Result = Result.PASS, *, partial: bool = False, testing: bool = False) -> Signature:
    return Signature(ordinal=1, result=result, domain=domain, partial_body=partial, testing=testing)


def words(verdict: Dmarc) -> str:
    values = (
        verdict.result,
        verdict.policy,
        verdict.disposition,
        verdict.organizational_domain,
        verdict.policy_domain,
    )
    return " ".join(str(value) if value else "-" for value in values)


def test_the_table_is_as_long_as_promised() -> None:
    assert len({case.source for case in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.source)
async def test_case(case: Case) -> None:
    spf = Spf(result=Result.PASS, domain=case.spf) if case.spf else None
    verdict, lookup = await judge(zone_of(case), case.author, spf=spf, dkim=[signature(one) for one in case.dkim])
    assert words(verdict) == case.want
    assert " ".join(f"{one.method}:{one.domain}" for one in verdict.aligned) == case.aligned
    assert not verdict.mail_at_fault
    assert (verdict.reason is None) == (verdict.result is Result.PASS)
    assert len(lookup.asked) == len(set(lookup.asked)), "nothing is asked twice for one mail"


# RFC 9989, 4.10: which names are asked


def test_the_rfcs_own_walk() -> None:
    """4.10: the example of thirteen labels."""
    assert names_to_walk("a.b.c.d.e.f.g.h.i.j.mail.example.com") == (
        "a.b.c.d.e.f.g.h.i.j.mail.example.com",
        "g.h.i.j.mail.example.com",
        "h.i.j.mail.example.com",
        "i.j.mail.example.com",
        "j.mail.example.com",
        "mail.example.com",
        "example.com",
        "com",
    )


@pytest.mark.parametrize("labels", range(1, 128))
def test_no_walk_is_longer_than_eight(labels: int) -> None:
    names = names_to_walk(".".join("abcdefgh"[i % 8] for i in range(labels)))
    assert len(names) == min(labels, 8)
    assert len(set(names)) == len(names)
    assert [name.count(".") + 1 for name in names] == [labels, *range(min(labels - 1, 7), 0, -1)]


async def test_a_walk_ends_at_psd() -> None:
    """4.10, step 2: nothing above `psd=n` is asked."""
    _, lookup = await judge({"_dmarc.mail.example.com": [("TXT", f"{R}; psd=n")]}, "mail.example.com")
    assert lookup.asked == [("_dmarc.mail.example.com", "TXT")]


async def test_identifiers_of_others_are_not_asked_about() -> None:
    """mailauth: does not walk identifiers outside the author org domain."""
    zone = {"_dmarc.example.com": [("TXT", R)]}
    strangers = [signature(name) for name in ("esp.example.net", "example.org", "notexample.com", "com")]
    _, lookup = await judge(zone, "example.com", dkim=strangers)
    assert [name for name, _ in lookup.asked] == ["_dmarc.example.com", "_dmarc.com"]


async def test_existence_is_asked_only_where_it_matters() -> None:
    """mailauth: does not query for existence when the record has no np, nor for the org domain itself."""
    for text, author in (
        (f"{R}; sp=none", "sub.example.com"),
        (ALL, "example.com"),
        (f"{R}; np=reject", "x.example.com"),
    ):
        _, lookup = await judge({"_dmarc.example.com": [("TXT", text)]}, author)
        assert all(kind == "TXT" for _, kind in lookup.asked)


async def test_what_five_signatures_and_spf_can_cost() -> None:
    deep = [signature(f"{'x.' * 20}s{i}.a.b.c.d.e.f.example.com") for i in range(5)]
    spf = Spf(result=Result.PASS, domain=f"{'y.' * 20}z.a.b.c.d.e.f.example.com")
    _, lookup = await judge({"_dmarc.example.com": [("TXT", R)]}, f"{'w.' * 20}example.com", spf=spf, dkim=deep)
    assert lookup.queries <= 8 * 7


@pytest.mark.parametrize("budget", range(6))
async def test_a_spent_budget_is_never_a_fail(budget: int) -> None:
    """5.3.6, and the budget of a mail: what may not be asked is unavailable."""
    zone = {"_dmarc.example.com": [("TXT", "v=DMARC1; p=reject; sp=reject; np=quarantine")]}
    verdict = await evaluate(
        ZoneLookup(zone, max_queries=budget),
        authors=["a@sub.mail.example.com"],
        from_fields=1,
        spf=Spf(result=Result.PASS, domain="bounce.example.com"),
        dkim=Dkim(result=Result.NONE),
    )
    assert verdict.result is (Result.PASS if budget == 5 else Result.TEMPERROR)
    assert verdict.disposition is Policy.NONE


def organization(records: dict[str, str], domain: str) -> str:
    """RFC 9989, 4.10 and 4.10.2, step by step, without our shortcuts. `records`: domains with their `psd`."""
    found: list[tuple[str, str]] = []
    target = domain.split(".")
    while target:
        name = ".".join(target)
        if name in records:
            found.append((name, records[name]))
            if records[name] in ("y", "n"):
                break
        target = target[-7:] if len(target) >= 8 and name == domain else target[1:]
    for name, psd in found:
        if psd == "n":
            return name
        if psd == "y" and name != domain:
            return ".".join(domain.split(".")[-name.count(".") - 2 :])
    return found[-1][0] if found else domain


NAMES = st.lists(st.sampled_from("ab"), min_size=1, max_size=10).map(".".join)


@settings(max_examples=400)
@given(st.dictionaries(NAMES, st.sampled_from("uuyn"), max_size=8), NAMES, st.lists(NAMES, max_size=4))
async def test_alignment_is_that_of_the_rfcs_own_steps(
    records: dict[str, str], author: str, domains: list[str]
) -> None:
    zone: dict[str, list[Any]] = {f"_dmarc.{name}": [("TXT", f"{R}; psd={psd}")] for name, psd in records.items()}
    verdict, lookup = await judge(zone, author, dkim=[signature(domain) for domain in domains])
    own = organization(records, author)
    related = [domain for domain in dict.fromkeys(domains) if organization(records, domain) == own]
    assert verdict.organizational_domain == own
    assert [one.domain for one in verdict.aligned] == related
    assert lookup.queries <= 8 * (1 + len(set(domains)))


# RFC 9989, 4.3: which identifiers count


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (signature("example.com", partial=True), "a part of the body is unsigned"),
        (signature("example.com", testing=True), "RFC 6376 3.6.1: a key in test mode is like no signature"),
        *(
            (signature("example.com", result), "4.4.1: only what passed")
            for result in Result
            if result is not Result.PASS
        ),
    ],
)
async def test_signature_that_does_not_count(one: Signature, why: str) -> None:
    verdict, _ = await judge({"_dmarc.example.com": [("TXT", R)]}, "example.com", dkim=[one])
    assert verdict.result is (Result.TEMPERROR if one.result is Result.TEMPERROR else Result.FAIL), why
    assert not verdict.aligned


@pytest.mark.parametrize(
    ("spf", "result"),
    [
        (Spf(result=Result.PASS, domain="example.com", envelope_from="a@example.com"), Result.PASS),
        (Spf(result=Result.PASS, domain="example.com", identity=Identity.HELO), Result.PASS),
        (
            Spf(result=Result.PASS, domain="example.com", identity=Identity.HELO, envelope_from="a@b.example"),
            Result.FAIL,
        ),
        (Spf(result=Result.SOFTFAIL, domain="example.com"), Result.FAIL),
        (Spf(result=Result.NEUTRAL, domain="example.com"), Result.FAIL),
        (Spf(result=Result.PERMERROR, domain="example.com"), Result.FAIL),
        (Spf(result=Result.UNKNOWN, domain="example.com"), Result.FAIL),
        (Spf(result=Result.TEMPERROR, domain="example.com"), Result.TEMPERROR),
        (Spf(result=Result.TEMPERROR, domain="other.net"), Result.FAIL),
    ],
)
async def test_spf_counts_for_mail_from(spf: Spf, result: Result) -> None:
    """4.4.2: MAIL FROM only, which is HELO where it is null (RFC 7208, 2.4); mail-auth: dmarc_verify_temp_errors."""
    verdict, _ = await judge({"_dmarc.example.com": [("TXT", R)]}, "example.com", spf=spf)
    assert verdict.result is result


async def test_a_pass_outweighs_an_undecided_identifier() -> None:
    """mail-auth: dmarc_verify_temp_errors, SPF in error and DKIM passing."""
    spf = Spf(result=Result.TEMPERROR, domain="example.com")
    verdict, _ = await judge(
        {"_dmarc.example.com": [("TXT", R)]}, "example.com", spf=spf, dkim=[signature("example.com")]
    )
    assert verdict.aligned == (Aligned(method="dkim", domain="example.com"),)
    assert verdict.result is Result.PASS


@pytest.mark.parametrize(
    "domain", ["evil.com\x00.example.com", "example.com\x00", " example.com", "(x).example.com", ""]
)
async def test_an_identifier_that_is_no_name_aligns_with_nothing(domain: str) -> None:
    verdict, _ = await judge(
        {"_dmarc.example.com": [("TXT", R)]},
        "example.com",
        spf=Spf(result=Result.PASS, domain=domain),
        dkim=[signature(domain)],
    )
    assert verdict.result is Result.FAIL


# RFC 9989, 4.2, 5.3.1 and 11.5: one author


@pytest.mark.parametrize(
    ("authors", "from_fields"),
    [
        ([], 0),
        ([], 1),
        (["a@example.com"], 2),
        (["a@example.com", "b@example.com"], 1),
        (["a@example.com", "b@example.com"], 2),
        (["a@example.com"], 0),
        (["nobody"], 1),
        (["a@"], 1),
        (["a@example..com"], 1),
        (["a@legitimate.com\x00.attack.com"], 1),
        (["a@legitimate.com(.attack.com"], 1),
        ([f"a@{'x' * 64}.com"], 1),
        ([f"a@{'x.' * 127}com"], 1),
        (["a@\u2028.com"], 1),
    ],
)
async def test_anything_but_one_author_is_the_mails_fault(authors: list[str], from_fields: int) -> None:
    lookup = ZoneLookup({"_dmarc.example.com": [("TXT", R)]})
    verdict = await evaluate(
        lookup,
        authors=authors,
        from_fields=from_fields,
        spf=Spf(result=Result.PASS, domain="example.com"),
        dkim=Dkim(result=Result.PASS, signatures=(signature("example.com"),)),
    )
    assert (verdict.result, verdict.mail_at_fault, verdict.aligned) == (Result.PERMERROR, True, ())
    assert verdict.disposition is Policy.NONE
    assert not lookup.asked


# Strangers' records


def test_a_record_is_read_up_to_its_limit() -> None:
    long = b"v=DMARC1; p=reject; x=" + b"a" * 70_000 + b"; adkim=s"
    record = select((long,))
    assert record is not None
    assert (record.policy, record.strict_dkim) == (Policy.REJECT, False)
    cut = b"v=DMARC1; p=quarantine; sp=none; rua=mailto:" + b"a" * RECORD_LIMIT
    assert parse(cut[: RECORD_LIMIT + 1]).policy is Policy.QUARANTINE
    assert len(record.text) <= 256


@given(st.lists(st.binary(max_size=200).map(lambda tail: b"v=DMARC1;" + tail) | st.binary(max_size=60), max_size=3))
def test_any_record_is_read(texts: list[bytes]) -> None:
    record = select(tuple(texts))
    assert record is None or record.text.isprintable()


@given(st.text(max_size=80), st.text(max_size=80), st.integers(0, 2))
def test_any_names_are_judged(author: str, domain: str, from_fields: int) -> None:
    verdict = asyncio.run(
        evaluate(
            ZoneLookup({}),
            authors=[author],
            from_fields=from_fields,
            spf=Spf(result=Result.PASS, domain=domain),
            dkim=Dkim(result=Result.PASS, signatures=(signature(domain),)),
        )
    )
    assert verdict.result in (Result.NONE, Result.PERMERROR)


@pytest.mark.parametrize(
    "text",
    [
        b"v=DMARC1;" + b"p=reject;" * 8_000,
        b"v=DMARC1;" + b" " * 65_000,
        b"v" + b" " * 65_000,
        b"v=DMARC1; rua=" + b"a:" * 32_000,
        b"v=DMARC1; rua=" + b"!1" * 32_000,
        b"v=DMARC1;" + b"=" * 65_000,
    ],
)
def test_a_hostile_record_is_cheap(text: bytes) -> None:
    assert_cheap(lambda: select((text,)), seconds=0.05)


async def test_what_has_the_same_evidence_has_the_same_verdict() -> None:
    zone: dict[str, list[Any]] = {
        "_dmarc.a.test": [{"TXT": "v=DMARC1; p=reject; aspf=s"}],
        "_dmarc.sub.a.test": [{"TXT": "v=DMARC1; p=none; psd=n"}],
    }
    authors = ("x@a.test", "y@a.test", "x@sub.a.test", "a.test", "x@", "x@[192.0.2.1]", "x@A.test")
    results, domains, either = (Result.PASS, Result.FAIL, Result.TEMPERROR), ("a.test", "sub.a.test"), (False, True)
    spfs = [
        Spf(result=result, domain=domain, identity=identity, envelope_from=sender)
        for result, domain, identity, sender in product(results, domains, Identity, ("", "x@b.test"))
    ]
    signatures = [
        Signature(ordinal=1, result=result, domain=domain, partial_body=partial, testing=testing)
        for result, domain, partial, testing in product(results, domains, either, either)
    ]
    dkims = [Dkim(result=Result.NONE, signatures=found) for found in [(), *[(one,) for one in signatures]]]
    seen: dict[Any, Dmarc] = {}
    for author, spf, dkim in product(authors, spfs, dkims):
        verdict = await evaluate(ZoneLookup(zone), authors=(author,), from_fields=1, spf=spf, dkim=dkim)
        assert seen.setdefault(evidence((author,), 1, spf, dkim), verdict) == verdict


@pytest.mark.parametrize(("authors", "fields"), [((), 0), (("x@a.test", "x@a.test"), 1), (("x@a.test",), 2)])
def test_what_names_no_one_author_has_no_evidence(authors: tuple[str, ...], fields: int) -> None:
    assert evidence(authors, fields, Spf(result=Result.NONE), Dkim(result=Result.NONE)) is None
