"""Sender rules: the forms of a pattern, what matches a From address, and who gets in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingester.core.outcome import Reason
from ingester.core.senders import Action, MatchedRule, SenderMode, pattern_of, patterns_for, sender_gate

ALLOW = MatchedRule(action=Action.ALLOW, pattern="example.com", mailbox_only=False)
BLOCK = MatchedRule(action=Action.BLOCK, pattern="*.example.com", mailbox_only=True)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("Alice@Example.COM", "alice@example.com"),
        ("example.com.", "example.com"),
        ("*.Example.com", "*.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("*.bücher.example", "*.xn--bcher-kva.example"),
        ('"a b"@example.com', '"a b"@example.com'),
        ("*", None),
        ("*example.com", None),
        ("a.*.example.com", None),
        ("@example.com", None),
        ("", None),
    ],
)
def test_patterns_have_one_form(text: str, pattern: str | None) -> None:
    assert pattern_of(text) == pattern


def test_a_from_address_is_asked_for_by_itself_its_domain_and_its_parents() -> None:
    assert patterns_for("Bob@mail.EU.example.com") == (
        "bob@mail.eu.example.com",
        "mail.eu.example.com",
        "*.eu.example.com",
        "*.example.com",
        "*.com",
    )
    assert patterns_for(None) == patterns_for("no address") == ()
    assert len(patterns_for("x@" + "a." * 100 + "com")) <= 22


@pytest.mark.parametrize(
    "address",
    [
        "a,b@mail.example.com",
        "a b@mail.example.com",
        f"{'a' * 200}@mail.example.com",
        '"open@mail.example.com',
        "x@mail.example.com.",
        "x@xn--0.mail.example.com",
        f"x@{'a.' * 60}mail.example.com",
        "x@MAIL.Example.\uff43\uff4f\uff4d",
    ],
)
def test_no_strange_address_leads_round_a_rule_for_its_domain(address: str) -> None:
    assert "*.example.com" in patterns_for(address)


@given(local=st.from_regex(r"[A-Za-z0-9+.]{1,20}", fullmatch=True), host=st.from_regex(r"[a-z]{1,8}", fullmatch=True))
def test_a_rule_for_an_address_its_domain_or_its_parent_matches_it(local: str, host: str) -> None:
    address = f"{local}@{host}.example.com"
    for rule in (address, f"{host}.example.com", "*.example.com"):
        assert pattern_of(rule) in patterns_for(address)
    assert pattern_of("example.com") not in patterns_for(address)


@pytest.mark.parametrize("verified", [True, False])
def test_a_block_wins_over_an_allow(verified: bool) -> None:
    refusal, why = sender_gate([ALLOW, BLOCK], SenderMode.ALLOWLIST, verified=verified, unsure=False)
    assert refusal is not None
    assert refusal.reason is Reason.SENDER_BLOCKED
    assert why == "blocked by *.example.com"


@pytest.mark.parametrize(
    ("rules", "mode", "verified", "unsure", "reason"),
    [
        ([], SenderMode.NONE, False, False, None),
        ([ALLOW], SenderMode.NONE, False, False, None),
        ([ALLOW], SenderMode.ALLOWLIST, True, False, None),
        ([ALLOW], SenderMode.ALLOWLIST, False, False, Reason.SENDER_BLOCKED),
        ([ALLOW], SenderMode.ALLOWLIST, False, True, Reason.AUTHENTICATION_UNAVAILABLE),
        ([], SenderMode.ALLOWLIST, True, False, Reason.SENDER_BLOCKED),
        ([], SenderMode.ALLOWLIST, False, True, Reason.SENDER_BLOCKED),
    ],
)
def test_who_gets_in(
    rules: list[MatchedRule], mode: SenderMode, verified: bool, unsure: bool, reason: Reason | None
) -> None:
    refusal, _ = sender_gate(rules, mode, verified=verified, unsure=unsure)
    assert (refusal.reason if refusal else None) is reason
