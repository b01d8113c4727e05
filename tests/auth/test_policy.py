"""What a mailbox does about the verdicts: policy by outcome by what the door can know, as one table."""

from dataclasses import replace

import pytest

from ingester.auth.check import within_knowledge
from ingester.auth.policy import AuthPolicy, Posture, Treatment, rule, strength, verified
from ingester.auth.report import Aligned, Arc, AuthReport, Dkim, Dmarc, Policy, Result, Spf

STORE, FLAG, REFUSE, DEFER = Treatment.STORE, Treatment.QUARANTINE, Treatment.REFUSE, Treatment.DEFER
BY_DKIM = (Aligned(method="dkim", domain="example.com"),)


def dmarc(
    result: Result, disposition: Policy = Policy.NONE, *, aligned: bool = False, own_fault: bool = False
) -> Dmarc:
    return Dmarc(
        result=result,
        from_domain="example.com",
        disposition=disposition,
        aligned=BY_DKIM if aligned else (),
        mail_at_fault=own_fault,
    )


def report(verdict: Dmarc, *, spf: Result = Result.FAIL, dkim: Result = Result.NONE) -> AuthReport:
    own = Spf(result=spf)
    return AuthReport(
        spf=own, helo=None, dkim=Dkim(result=dkim), dmarc=within_knowledge(verdict, own), arc=Arc(result=Result.NONE)
    )


# What it is about, the verdict, then what is done where the door knows the client's address, and where it cannot:
# each as enforce, enforce that requires alignment.
TABLE: list[tuple[str, Dmarc, tuple[Treatment, Treatment], tuple[Treatment, Treatment]]] = [
    ("pass", dmarc(Result.PASS, aligned=True), (STORE, STORE), (STORE, STORE)),
    ("fail, p=reject", dmarc(Result.FAIL, Policy.REJECT), (REFUSE, REFUSE), (FLAG, FLAG)),
    ("fail, p=quarantine", dmarc(Result.FAIL, Policy.QUARANTINE), (FLAG, FLAG), (FLAG, FLAG)),
    ("fail, p=none", dmarc(Result.FAIL), (STORE, STORE), (FLAG, FLAG)),
    ("no record, nothing aligned", dmarc(Result.NONE), (STORE, REFUSE), (STORE, FLAG)),
    ("no record, DKIM aligned", dmarc(Result.NONE, aligned=True), (STORE, STORE), (STORE, STORE)),
    ("bad record", dmarc(Result.PERMERROR), (STORE, REFUSE), (STORE, FLAG)),
    ("bad record, DKIM aligned", dmarc(Result.PERMERROR, aligned=True), (STORE, STORE), (STORE, STORE)),
    ("two From fields", dmarc(Result.PERMERROR, own_fault=True), (REFUSE, REFUSE), (REFUSE, REFUSE)),
    ("DNS away", dmarc(Result.TEMPERROR), (DEFER, DEFER), (DEFER, DEFER)),
    ("unknown", dmarc(Result.UNKNOWN), (FLAG, FLAG), (FLAG, FLAG)),
]
IDS = [row[0] for row in TABLE]


@pytest.mark.parametrize("strict", [False, True], ids=["", "require_alignment"])
@pytest.mark.parametrize("blind", [False, True], ids=["client known", "client unknown"])
@pytest.mark.parametrize(("verdict", "seen", "unseen"), [row[1:] for row in TABLE], ids=IDS)
def test_the_table(
    verdict: Dmarc,
    seen: tuple[Treatment, Treatment],
    unseen: tuple[Treatment, Treatment],
    blind: bool,
    strict: bool,
) -> None:
    one = report(verdict, spf=Result.UNKNOWN if blind else Result.FAIL)
    wanted = (unseen if blind else seen)[strict]

    def treated(policy: AuthPolicy) -> Treatment:
        posture = Posture(policy=policy, require_alignment=strict, accept_forwarded=True)
        ruling = rule(one, posture)
        assert ruling.enforced is wanted
        assert ruling.why
        return ruling.treatment

    assert treated(AuthPolicy.ENFORCE) is wanted
    assert treated(AuthPolicy.QUARANTINE) is (STORE if wanted is STORE else FLAG)
    assert treated(AuthPolicy.MONITOR) is STORE
    assert treated(AuthPolicy.OFF) is STORE


def test_a_door_that_cannot_know_the_client_never_gives_a_fail() -> None:
    for row in TABLE:
        assert report(row[1], spf=Result.UNKNOWN).dmarc.result is not Result.FAIL


@pytest.mark.parametrize("accepts", [True, False])
def test_a_forwarders_word_counts_where_the_mailbox_takes_it(accepts: bool) -> None:
    one = report(dmarc(Result.PASS_VIA_FORWARDER, Policy.REJECT))
    posture = Posture(policy=AuthPolicy.ENFORCE, require_alignment=False, accept_forwarded=accepts)
    assert rule(one, posture).treatment is (STORE if accepts else REFUSE)
    assert verified(one, accept_forwarded=accepts) is accepts


def test_only_an_aligned_pass_is_verified() -> None:
    good = [row[0] for row in TABLE if verified(report(row[1]), accept_forwarded=True)]
    assert good == ["pass", "no record, DKIM aligned", "bad record, DKIM aligned"]


@pytest.mark.parametrize("checks", [{"spf": Result.TEMPERROR}, {"dkim": Result.TEMPERROR}], ids=["spf", "dkim"])
def test_alignment_is_not_missed_while_dns_is_away(checks: dict[str, Result]) -> None:
    one = report(dmarc(Result.NONE), **checks)
    posture = Posture(policy=AuthPolicy.ENFORCE, require_alignment=True, accept_forwarded=True)
    assert rule(one, posture).treatment is DEFER


def test_strength_grows_with_what_is_known_for_the_sender() -> None:
    ladder = [
        report(dmarc(Result.UNKNOWN), spf=Result.UNKNOWN),
        report(dmarc(Result.TEMPERROR)),
        report(dmarc(Result.FAIL, Policy.REJECT)),
        report(dmarc(Result.NONE)),
        report(dmarc(Result.NONE, aligned=True)),
        report(dmarc(Result.PASS_VIA_FORWARDER)),
        report(dmarc(Result.PASS, aligned=True)),
    ]
    ranks = [strength(one) for one in ladder]
    assert ranks == sorted(set(ranks))
    better = replace(ladder[-1], dkim=Dkim(result=Result.PASS))
    assert strength(better) > ranks[-1]
