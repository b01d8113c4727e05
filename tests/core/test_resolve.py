"""ingester.core.resolve: the attaching rule, the order of candidates, the claims."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

import pytest

from ingester.core.resolve import (
    MAX_CITATIONS,
    Candidate,
    Citation,
    Method,
    Sender,
    Step,
    attach,
    citations,
    content_claim,
    own_id,
    raw_claim,
)

PARENT = Candidate(message_id=UUID(int=1), thread_id=UUID(int=10))
OLDER = Candidate(message_id=UUID(int=2), thread_id=UUID(int=20))


def test_in_reply_to_comes_first_then_references_newest_to_oldest() -> None:
    cited = citations("own@x", ["parent@x"], ["root@x", "middle@x", "parent@x"])
    assert [(c.rfc_id, c.method) for c in cited] == [
        ("parent@x", Method.IN_REPLY_TO),
        ("middle@x", Method.REFERENCES),
        ("root@x", Method.REFERENCES),
    ]


def test_what_a_report_names_comes_last() -> None:
    cited = citations("own@x", ["parent@x"], ["root@x"], ["root@x", "ours@x", "own@x"])
    assert [(c.rfc_id, c.method) for c in cited] == [
        ("parent@x", Method.IN_REPLY_TO),
        ("root@x", Method.REFERENCES),
        ("ours@x", Method.REPORT),
    ]


def test_a_mail_does_not_cite_itself_and_citations_are_bounded() -> None:
    cited = citations("own@x", ["own@x"], [f"{n}@x" for n in range(1000)])
    assert len(cited) == MAX_CITATIONS
    assert cited[0].rfc_id == "999@x", "the newest are kept"


def looked_up(cited: Sequence[Citation], found: Mapping[str, Candidate]) -> list[Step]:
    return [Step(by=one.method, names=one.rfc_id, candidate=found.get(one.rfc_id)) for one in cited]


def test_the_first_candidate_that_exists_is_taken() -> None:
    cited = citations("own@x", ["gone@x"], ["root@x", "parent@x"])
    decision = attach(looked_up(cited, {"parent@x": PARENT, "root@x": OLDER}), cited, Sender(), strict=False)
    assert (decision.reply_to, decision.thread_id, decision.method) == (UUID(int=1), UUID(int=10), Method.REFERENCES)
    assert [step["found"] for step in decision.trail] == ["nothing", str(UUID(int=1))]


def test_nothing_found_leaves_the_citations_for_a_late_join() -> None:
    cited = citations("own@x", ["gone@x"], [])
    decision = attach(looked_up(cited, {}), cited, Sender(), strict=False)
    assert (decision.reply_to, decision.method, decision.reason) == (None, None, "nothing_cited_is_here")
    assert decision.cites == cited


@pytest.mark.parametrize(
    ("sender", "expected", "strict", "allowed"),
    [
        (Sender(), False, False, True),
        (Sender(), False, True, False),
        (Sender(verified=True), False, True, True),
        (Sender(), True, True, True),
        (Sender(dmarc="fail"), False, False, False),
        (Sender(dmarc="fail", verified=True), True, False, False),
        (Sender(dmarc="pass_via_forwarder"), False, False, True),
    ],
)
@pytest.mark.parametrize("method", [one for one in Method if one is not Method.LATE_JOIN])
def test_the_attaching_rule(sender: Sender, expected: bool, strict: bool, allowed: bool, method: Method) -> None:
    candidate = replace(PARENT, expected=expected, ours=True)
    cited = citations("own@x", ["parent@x"], [])
    decision = attach([Step(by=method, names="x", candidate=candidate)], cited, sender, strict=strict)
    if method is Method.TOKEN_RECIPIENT:
        allowed = True
    assert (decision.reply_to is not None) is allowed
    if allowed:
        assert (decision.expected, decision.ours, decision.method) == (expected, True, method)
    else:
        assert decision.reason == "candidate_unverified"
        assert decision.cites == (), "it must not join late either"
        assert decision.trail[0]["found"] == str(PARENT.message_id), "the candidate is kept in the trail"


@pytest.mark.parametrize(
    ("whys", "reason"),
    [
        ([], "cites_nothing"),
        ([None], "nothing_cited_is_here"),
        (["token_invalid", None], "token_invalid"),
        (["token_invalid", "cross_mailbox", None], "cross_mailbox"),
    ],
)
def test_the_most_telling_reason_is_kept(whys: list[str | None], reason: str) -> None:
    found = [Step(by=Method.TOKEN_HEADER, names="x", candidate=None, why_not=why) for why in whys]
    assert attach(found, (), Sender(), strict=False).reason == reason


def test_a_mail_without_message_id_gets_a_deterministic_one() -> None:
    assert own_id(None, b"\1" * 32) == own_id(None, b"\1" * 32) != own_id(None, b"\2" * 32)
    assert own_id("given@x", b"\1" * 32) == "given@x"


def test_claims_differ_by_mailbox_and_kind() -> None:
    first, second = UUID(int=1), UUID(int=2)
    keys = {raw_claim(first, b"x"), raw_claim(second, b"x"), content_claim(first, b"x"), content_claim(second, b"x")}
    assert len(keys) == 4
