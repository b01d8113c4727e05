"""Authentication-Results: what we write, what we read, and whose word counts."""

from functools import partial
from typing import Any

import pytest
from authres import AuthenticationResultsHeader
from hypothesis import given
from hypothesis import strategies as st

from ingester.auth.report import (
    Aligned,
    Arc,
    AuthReport,
    Dkim,
    Dmarc,
    Identity,
    Peer,
    Policy,
    Result,
    Seal,
    Signature,
    Spf,
    Voucher,
)
from ingester.auth.results import RESULTS_LIMIT, authentication_results, claims_to_be, vouch
from ingester.auth.statements import MAX_STATEMENTS, Claim, Statement, read_statements, read_value
from tests.cost import assert_cheap

VICTIM = "legitimate.com"
TEXT = st.text(max_size=60)


def report(**changes: Any) -> AuthReport:
    values: dict[str, Any] = {
        "spf": Spf(result=Result.PASS, domain="bounce.example.com", envelope_from="a@bounce.example.com"),
        "helo": Spf(result=Result.NONE, domain="mx.example.com", helo="mx.example.com", identity=Identity.HELO),
        "dkim": Dkim(
            result=Result.PASS,
            signatures=(
                Signature(
                    ordinal=1,
                    result=Result.PASS,
                    domain="example.com",
                    selector="s1",
                    algorithm="rsa-sha256",
                    digest_prefix="abc/+=12",
                ),
                Signature(ordinal=2, result=Result.FAIL, domain="esp.example", reason="the body was changed"),
            ),
        ),
        "dmarc": Dmarc(
            result=Result.PASS,
            from_domain="example.com",
            policy=Policy.REJECT,
            aligned=(Aligned(method="dkim", domain="example.com"),),
        ),
        "arc": Arc(result=Result.PASS, oldest_pass=0),
        "peer": Peer(ip="2001:db8::1", reverse=Result.PASS, confirmed_name="mx.example.com"),
    }
    return AuthReport(**(values | changes))


# What we write


def test_our_field() -> None:
    assert authentication_results(report(), "mx.ours.example").split("\r\n\t") == [
        "Authentication-Results: mx.ours.example;",
        "spf=pass smtp.mailfrom=a@bounce.example.com;",
        "spf=none smtp.helo=mx.example.com;",
        'dkim=pass header.d=example.com header.s=s1 header.a=rsa-sha256 header.b="abc/+=12";',
        "dkim=fail (the body was changed) header.d=esp.example;",
        "dmarc=pass header.from=example.com policy.dmarc=reject;",
        "arc=pass header.oldest-pass=0;",
        'iprev=pass (mx.example.com) policy.iprev="2001:db8::1"',
    ]


def test_nothing_known_is_none() -> None:
    empty = report(
        spf=Spf(result=Result.UNKNOWN),
        helo=None,
        dkim=Dkim(result=Result.UNKNOWN),
        dmarc=Dmarc(result=Result.UNKNOWN),
        arc=Arc(result=Result.UNKNOWN),
        peer=None,
    )
    assert authentication_results(empty, "mx.ours.example") == "Authentication-Results: mx.ours.example;\r\n\tnone"


def test_a_voucher_is_no_pass_of_ours() -> None:
    vouched = report(
        dmarc=Dmarc(result=Result.PASS_VIA_FORWARDER, from_domain="example.com"),
        voucher=Voucher(kind="arc", name="lists.example", statement="dmarc=pass"),
    )
    assert "dmarc=fail (vouched for by lists.example) header.from" in authentication_results(vouched, "mx.ours.example")


@given(*[TEXT] * 6)
def test_strangers_text_cannot_leave_its_place(a: str, b: str, c: str, d: str, e: str, f: str) -> None:
    forged = report(
        spf=Spf(result=Result.PASS, domain=a, envelope_from=b, problem=c),
        helo=None,
        dkim=Dkim(
            result=Result.FAIL,
            signatures=(
                Signature(ordinal=1, result=Result.FAIL, domain=d, selector=e, algorithm=f, reason=a, digest_prefix=b),
            ),
        ),
        dmarc=Dmarc(result=Result.FAIL, from_domain=c, reason=d),
        arc=Arc(result=Result.FAIL, reason=e),
        peer=None,
    )
    field = authentication_results(forged, "mx.ours.example")
    assert field.isascii()
    assert all(line.startswith("\t") for line in field.split("\r\n")[1:])
    assert "\n" not in field.replace("\r\n\t", "")
    read = AuthenticationResultsHeader.parse(field.replace("\r\n\t", " "))
    assert [(one.method, one.result) for one in read.results] == [
        ("spf", "pass"),
        ("dkim", "fail"),
        ("dmarc", "fail"),
        ("arc", "fail"),
    ]
    again = read_value(field.partition(":")[2])
    assert (again[0], [claim.method for claim in again[1]]) == ("mx.ours.example", ["spf", "dkim", "dmarc", "arc"])


@pytest.mark.parametrize(
    "text",
    [
        "x\r\nSubject: forged",
        "x; dmarc=pass header.from=legitimate.com",
        'x" dmarc=pass',
        "a(b",
        "a)b",
        "x\\",
        "\x00",
        "é",
    ],
)
def test_injection(text: str) -> None:
    forged = report(
        spf=Spf(result=Result.FAIL, envelope_from=f"{text}@attack.com", problem=text),
        dmarc=Dmarc(result=Result.FAIL, from_domain=text, reason=text),
    )
    read = AuthenticationResultsHeader.parse(authentication_results(forged, text).replace("\r\n\t", " "))
    assert [one.result for one in read.results if one.method == "dmarc"] == ["fail"]


# What we read


@pytest.mark.parametrize(
    ("text", "authserv_id", "claims"),
    [
        ("example.org 1; none", "example.org", []),
        ("example.org", "example.org", []),
        (
            "Example.ORG (why not) 1 ; SPF = Pass smtp.mailfrom = a@b.example",
            "example.org",
            ["spf pass smtp.mailfrom a@b.example"],
        ),
        ('"example.org"; dkim/1=pass header.d=b.example', "example.org", ["dkim pass header.d b.example"]),
        (
            "foo.example.net (foobar) 1 (baz); dkim (Because I like it) / 1 (One yay) = (wait for it) fail\r\n"
            " policy (A dot can go here) . (like that) expired (this surprised me) = (not expected) 1362471462",
            "foo.example.net",
            ["dkim fail policy.expired 1362471462"],
        ),
        (
            'x.example; spf=fail reason="no ; dmarc=pass" smtp.helo=y',
            "x.example",
            ["spf fail reason no ; dmarc=pass smtp.helo y"],
        ),
        ('x; spf=pass smtp.mailfrom="a ; b"@c.example', "x", ["spf pass smtp.mailfrom a ; b@c.example"]),
        ('x.example; dkim=pass header.b="ab=/" header.i=@y', "x.example", ["dkim pass header.b ab=/ header.i @y"]),
        (
            "mx.google.com;\r\n dmarc=pass (p=NONE sp=(x) dis=NONE) header.from=g.example",
            "mx.google.com",
            ["dmarc pass header.from g.example"],
        ),
        (
            "x; dmarc=pass action=none header.from=c.example;compauth=pass",
            "x",
            ["dmarc pass action none header.from c.example", "compauth pass"],
        ),
        ("two words; spf=pass", "", ["spf pass"]),
        ("; spf=pass", "", ["spf pass"]),
        ("x; =pass; spf=; spf; y=z", "x", ["y z"]),
        ("", "", []),
    ],
)
def test_reading(text: str, authserv_id: str, claims: list[str]) -> None:
    """RFC 8601, 2.2 and appendix B; and how large providers write it."""
    read_id, read = read_value(text)
    flat = [" ".join([one.method, one.result, *(word for pair in one.properties for word in pair)]) for one in read]
    assert (read_id, flat) == (authserv_id, claims)


@pytest.mark.parametrize(
    "text",
    [
        "x; spf=pass smtp.mailfrom=any@legitimate.com(a.attack.com",
        "x; spf=pass smtp.mailfrom=any@legitimate.com)a.attack.com",
        'x; spf=pass smtp.mailfrom="any@legitimate.com',
        "x; spf=pass smtp.mailfrom=any@legitimate.com\\",
        "x; dmarc=pass (p=(reject) header.from=legitimate.com",
    ],
)
def test_a_field_that_an_envelope_spoilt_says_nothing(text: str) -> None:
    """espoofer A5: a parenthesis in MAIL FROM makes the rest of the domain a comment."""
    assert read_value(text) == ("", ())


def test_what_was_cut_is_not_believed() -> None:
    """`header.from=legitimate.com.attack.com` cut after `.com` is another domain."""
    text = "x; spf=pass; dmarc=pass header.from=legitimate.com"
    assert [claim.method for claim in read_value(f"{text}.attack.com", len(text))[1]] == ["spf"]
    assert [claim.method for claim in read_value(text, len(text) + 1)[1]] == ["spf", "dmarc"]


def test_fields_of_a_mail() -> None:
    raw = (
        b"Authentication-Results: a.example; spf=pass\r\n"
        b"Received: from x (by nobody) by MX.A.example with ESMTP\r\n"
        b"authentication-results : mx.ours.example;\r\n\tdmarc=pass header.from=legitimate.com\r\n"
        b"Received: nonsense\r\n"
        b"Authentication-Results: (oops\r\n"
        b"From: a@legitimate.com\r\n\r\n"
        b"Authentication-Results: body.example; spf=pass\r\n"
    )
    read = read_statements(raw)
    assert [(one.authserv_id, one.hops) for one in read] == [
        ("a.example", ()),
        ("mx.ours.example", ("mx.a.example",)),
        ("", ("mx.a.example", "")),
    ]
    assert [claims_to_be(one, "MX.ours.example") for one in read] == [False, True, False]


def test_only_so_many_are_read() -> None:
    raw = b"Received: by a.example; x\r\n" * 30 + b"Authentication-Results: x; spf=pass\r\n" * 200 + b"\r\n"
    read = read_statements(raw)
    assert len(read) == MAX_STATEMENTS
    assert read[0].hops == ("a.example",) * 10 + ("",)


@given(st.text(max_size=200) | st.text(alphabet='()"\\;=./ a@1\r\n\t', max_size=200))
def test_any_value_is_read(text: str) -> None:
    authserv_id, claims = read_value(text)
    assert all(claim.method and claim.result for claim in claims)
    assert authserv_id == authserv_id.lower()


@given(st.binary(max_size=300))
def test_any_mail_is_read(tail: bytes) -> None:
    read_statements(b"Authentication-Results:" + tail)


@pytest.mark.parametrize(
    "value",
    [
        b"(" * 250_000,
        b"a;" * 120_000,
        b'"\\"' * 80_000,
        b'"' * 250_000,
        b"(\\" * 120_000,
        b"x=" * 120_000,
        b" " * 250_000,
    ],
)
def test_a_hostile_field_is_cheap(value: bytes) -> None:
    many = b"\r\n".join(b"Authentication-Results: x; " + value[:200] for _ in range(1000))
    for raw in (b"Authentication-Results: x; " + value, b"Received: " + value, value, many):
        assert_cheap(partial(read_statements, raw), seconds=0.05)


# Whose word counts


def sealed(*seals: tuple[str, str], result: Result = Result.PASS) -> Arc:
    return Arc(
        result=result,
        seals=tuple(
            Seal(instance=place, domain=domain, selector="s", chain="pass", results=f"i={place}; {text}")
            for place, (domain, text) in enumerate(seals, start=1)
        ),
    )


GOOD = "mx.list.example; dmarc=pass header.from=legitimate.com"
BAD = "mx.list.example; dmarc=fail header.from=legitimate.com; dkim=pass header.d=legitimate.com"


def by_arc(arc: Arc, *trusted: str) -> Voucher | None:
    return vouch(arc=arc, statements=(), trusted_sealers=frozenset(trusted), trusted_ids=(), from_domain=VICTIM)


def test_a_trusted_newest_sealer_vouches() -> None:
    assert by_arc(sealed(("List.example", GOOD)), "list.example") == Voucher(
        kind="arc", name="list.example", statement="dmarc=pass for legitimate.com"
    )
    assert by_arc(sealed(("stranger.example", BAD), ("list.example", GOOD)), "list.example")


@pytest.mark.parametrize(
    "arc",
    [
        sealed(("list.example", GOOD), result=Result.FAIL),
        sealed(("list.example", GOOD), result=Result.UNKNOWN),
        sealed(("list.example", GOOD), result=Result.TEMPERROR),
        sealed(("list.example", GOOD), result=Result.NONE),
        sealed(("other.example", GOOD)),
        sealed(("list.example.attack.com", GOOD)),
        sealed(("list.example", BAD)),
        sealed(("list.example", GOOD), ("stranger.example", GOOD)),
        sealed(("list.example", GOOD), ("stranger.example", GOOD), ("list.example", BAD)),
        Arc(result=Result.PASS),
    ],
    ids=lambda arc: f"{arc.result.value} {' '.join(seal.domain for seal in arc.seals)}",
)
def test_a_chain_that_does_not_vouch(arc: Arc) -> None:
    assert by_arc(arc, "list.example") is None


def test_all_after_the_trusted_one_must_be_trusted() -> None:
    chain = sealed(("first.example", GOOD), ("second.example", BAD))
    assert by_arc(chain, "first.example") is None
    found = by_arc(chain, "first.example", "second.example")
    assert found is not None
    assert found.name == "first.example"


@pytest.mark.parametrize(
    ("claims", "vouched"),
    [
        ("dmarc=pass header.from=legitimate.com", True),
        ("dmarc=pass (p=REJECT) header.from=Legitimate.com", True),
        ("dmarc=pass", False),
        ("dmarc=pass header.from=attack.com", False),
        ("dmarc=pass header.from=legitimate.com header.from=attack.com", False),
        ("dmarc=pass header.from=legitimate.com; dmarc=fail header.from=legitimate.com", False),
        ("dmarc=pass header.from=legitimate.com; dmarc=pass header.from=legitimate.com", False),
        ("dmarc=pass header.from=sub.legitimate.com", False),
        ("dmarc=pass header.from=legitimate.com.attack.com", False),
        ("dmarc=fail header.from=legitimate.com; dkim=pass header.d=legitimate.com", False),
        ("dmarc=pass header.from=attack.com; dkim=pass header.d=legitimate.com", False),
        ("dmarc=none header.from=legitimate.com; dkim=pass header.d=legitimate.com", True),
        ("dkim=pass header.d=legitimate.com", True),
        ("dkim=pass header.i=@legitimate.com header.s=x", True),
        ("dkim=pass header.d=attack.com header.i=@legitimate.com", False),
        ("dkim=fail header.d=legitimate.com", False),
        ("spf=pass smtp.mailfrom=any@legitimate.com", True),
        ("spf=pass smtp.mailfrom=legitimate.com", True),
        ("spf=pass smtp.helo=legitimate.com", False),
        ("spf=softfail smtp.mailfrom=legitimate.com", False),
        ('spf=pass smtp.mailfrom="any@legitimate.com; "@attack.com', False),
        ("spf=pass smtp.mailfrom=any@legitimate.com(a.attack.com", False),
        ("x-dmarc=pass header.from=legitimate.com", False),
        ("none", False),
    ],
)
def test_which_claims_vouch(claims: str, vouched: bool) -> None:
    assert (by_arc(sealed(("list.example", f"mx.list.example; {claims}")), "list.example") is not None) is vouched


def test_a_cut_seal_is_read_up_to_its_last_whole_claim() -> None:
    head = "i=1; mx.list.example; spf=none ("
    padding = "x" * (RESULTS_LIMIT - len(head) - len("); dmarc=pass header.from=legitimate.com"))
    text = f"{head}{padding}); dmarc=pass header.from=legitimate.com"
    assert len(text) == RESULTS_LIMIT
    for results, vouched in ((text, False), (text.replace("xx", "x", 1), True)):
        seal = Seal(instance=1, domain="list.example", selector="s", chain="none", results=results)
        assert (by_arc(Arc(result=Result.PASS, seals=(seal,)), "list.example") is not None) is vouched


def said(authserv_id: str, *hops: str, result: str = "pass") -> Statement:
    claim = Claim(method="dmarc", result=result, properties=(("header.from", VICTIM),))
    return Statement(authserv_id=authserv_id, claims=(claim,), hops=hops)


@pytest.mark.parametrize(
    ("statements", "vouched"),
    [
        ([said("up.example")], True),
        ([said("up.example", "up.example")], True),
        ([said("up.example", "mx1.up.example", "up.example")], True),
        ([said("other.example"), said("up.example")], True),
        ([said("up.example", result="fail"), said("up.example")], True),
        ([said("up.example", "up.example", result="fail"), said("up.example", "up.example")], False),
        ([said("other.example", "up.example"), said("up.example", "up.example")], False),
        ([said("other.example"), said("up.example", "up.example")], False),
        ([said("up.example", "stranger.example")], False),
        ([said("up.example", "up.example", "stranger.example")], False),
        ([said("up.example", "xup.example")], False),
        ([said("up.example", "up.example.attack.com")], False),
        ([said("up.example", "")], False),
        ([said("mx.up.example")], False),
        ([said("")], False),
        ([], False),
    ],
)
def test_an_upstream_vouches_at_the_top_only(statements: list[Statement], vouched: bool) -> None:
    found = vouch(
        arc=Arc(result=Result.NONE),
        statements=statements,
        trusted_sealers=(),
        trusted_ids=frozenset({"up.example"}),
        from_domain=VICTIM,
    )
    assert (found is not None) is vouched
    assert found is None or (found.kind, found.name) == ("authserv_id", "up.example")


def test_no_from_domain_no_voucher() -> None:
    arc = sealed(("list.example", "x; dkim=pass header.d="))
    assert vouch(arc=arc, statements=(), trusted_sealers={"list.example"}, trusted_ids=(), from_domain="") is None
