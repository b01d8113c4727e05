"""DKIM: what passes, what each refusal is called, and dkimpy as the judge wherever it judges soundly.

Where it does not, and we differ on purpose: it takes rsa-sha1 (RFC 8301, 3.1) and signatures without From (RFC 6376,
5.4); it ignores the key's t=s; it grants ten hours after x=; it takes appended text under l= without a word; it takes
keys that are not for sha256 (h=); it refuses a mail for a line that is no field or a blank
before a colon, and any q= but dns/txt; it leaves the blanks after b= in (RFC 6376, 3.5) and strips a CR that stands
alone from fields (3.4.2); it takes a bare LF for a line end.
"""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import dkim as dkimpy
import pytest

from ingester.auth import dkim, dmarc
from ingester.auth.header import split
from ingester.auth.report import Dkim, Result, Signature, Spf
from tests.auth.signing import DOMAIN, KEY_NAME, MAIL, NOW, Signer, ed25519_signer, rsa_signer, zone
from tests.zones import ZoneLookup

CANONS = ("simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed", "simple", "relaxed")
T = int(NOW.timestamp())


async def judge(raw: bytes, *records: str, **options: Any) -> Dkim:
    return await dkim.verify(ZoneLookup(zone(*records)), raw, now=NOW, **options)


async def only(raw: bytes, *records: str) -> Signature:
    report = await judge(raw, *records)
    assert len(report.signatures) == 1
    assert report.result is report.signatures[0].result or report.signatures[0].testing
    return report.signatures[0]


@pytest.mark.parametrize("canon", CANONS)
@pytest.mark.parametrize("signer", [rsa_signer(), rsa_signer(2048), ed25519_signer()], ids=["1024", "2048", "ed25519"])
async def test_a_true_signature_passes_and_a_changed_mail_fails(signer: Signer, canon: str) -> None:
    raw = signer.sign(MAIL, canon=canon)
    assert (await only(raw, signer.record())).result is Result.PASS
    for old, new in ((b"Hello", b"Hallo"), (b"Ann", b"Eve"), (b"Two", b"2"), (b"\r\n\r\nHello", b"\r\n\r\n\r\nHello")):
        one = await only(raw.replace(old, new), signer.record())
        assert one.result is Result.FAIL
        assert one.key_bits, "the key is told all the same"
    relaxed = (await only(raw.replace(b"Two  blanks", b"Two blanks"), signer.record())).result
    assert relaxed is (Result.PASS if canon.startswith("relaxed") else Result.FAIL)


async def test_what_is_said_of_a_pass() -> None:
    signer = rsa_signer()
    raw = signer.sign(MAIL, tags={"i": "Ann+x@mail.Example.test", "x": str(T + 60)})
    one = await only(raw, signer.record())
    assert (one.ordinal, one.result, one.reason) == (1, Result.PASS, None)
    assert (one.domain, one.selector, one.algorithm, one.key_bits) == (DOMAIN, "sel", "rsa-sha256", 1024)
    assert one.identity == "Ann+x@mail.Example.test"
    assert one.signed_headers == ("from", "to", "subject", "date")
    assert (one.signed_at, one.expires_at, one.body_length) == (T, T + 60, None)
    assert one.digest_prefix == raw.partition(b" b=")[2][:8].decode()


async def test_no_signature_and_double_signatures() -> None:
    assert await judge(MAIL) == Dkim(result=Result.NONE)
    rsa, other = rsa_signer(), ed25519_signer()
    raw = other.sign(rsa.sign(MAIL))
    both = await judge(raw, rsa.record(), other.record())
    assert [one.result for one in both.signatures] == [Result.PASS, Result.PASS]
    one = await judge(raw, rsa.record())
    assert [sig.result for sig in one.signatures] == [Result.PERMERROR, Result.PASS]
    assert one.result is Result.PASS
    assert [sig.ordinal for sig in one.signatures] == [1, 2]


async def test_a_signature_that_signs_another_signature() -> None:
    """Its own field was not there when it was made, however often h= names it."""
    rsa, other = rsa_signer(), ed25519_signer()
    raw = other.sign(rsa.sign(MAIL), headers=("from", "dkim-signature", "dkim-signature"))
    report = await judge(raw, rsa.record(), other.record())
    assert [one.result for one in report.signatures] == [Result.PASS, Result.PASS]


async def test_fields_are_taken_from_the_bottom_and_absent_ones_guarded() -> None:
    """RFC 6376, 5.4.2 and 8.15."""
    signer = rsa_signer()
    raw = signer.sign(b"X: one\r\nX: two\r\n" + MAIL, headers=("from", "x", "cc", "subject", "subject"))
    assert (await only(raw, signer.record())).result is Result.PASS
    assert (await only(b"X: zero\r\n" + raw, signer.record())).result is Result.PASS
    assert (await only(raw.replace(b"X: one", b"X: 1"), signer.record())).result is Result.PASS
    assert (await only(raw.replace(b"X: two", b"X: 2"), signer.record())).result is Result.FAIL
    assert (await only(b"Cc: eve@e.test\r\n" + raw, signer.record())).result is Result.FAIL
    assert (await only(b"Subject: new\r\n" + raw, signer.record())).result is Result.FAIL


async def test_a_name_that_is_signed_often_is_taken_as_often() -> None:
    signer = rsa_signer()
    raw = signer.sign(b"X: one\r\nX: two\r\nX: three\r\n" + MAIL, headers=("from", "x", "x", "x"))
    assert (await only(raw, signer.record())).result is Result.PASS
    assert (await only(raw.replace(b"X: one", b"X: 1"), signer.record())).result is Result.FAIL


@pytest.mark.parametrize("name", ["Subject", "To", "Reply-To", "Cc"])
async def test_a_signed_field_that_people_see_stands_once(name: str) -> None:
    """Else what was signed is the last, and what is shown the first (RFC 6376, 8.15)."""
    signer = rsa_signer()
    field = f"{name}: eve@e.test\r\n".encode()
    raw = field + signer.sign(field + MAIL, headers=("from", name.lower()))
    assert (await only(raw, signer.record())).reason == f"a second {name} field is not signed"
    unsigned = field + signer.sign(MAIL, headers=("from",))
    assert (await only(unsigned, signer.record())).result is Result.PASS


@pytest.mark.parametrize("field", [b"From: eve@e.test\r\n", b"from :eve@e.test\r\n"])
async def test_a_second_from_must_be_signed_too(field: bytes) -> None:
    signer = rsa_signer()
    one = await only(field + signer.sign(MAIL), signer.record())
    assert (one.result, one.reason) == (Result.PERMERROR, "a second From field is not signed")
    one = await only(field + signer.sign(MAIL, headers=("from", "from")), signer.record())
    assert one.result is Result.FAIL


_REFUSED: list[tuple[dict[str, str | None], Result, str]] = [
    ({"v": "2"}, Result.PERMERROR, "v= is not 1"),
    ({"v": None}, Result.PERMERROR, "the tag v= is missing"),
    ({"a": None}, Result.PERMERROR, "the tag a= is missing"),
    ({"bh": None}, Result.PERMERROR, "the tag bh= is missing"),
    ({"d": None}, Result.PERMERROR, "the tag d= is missing"),
    ({"h": None}, Result.PERMERROR, "the tag h= is missing"),
    ({"s": None}, Result.PERMERROR, "the tag s= is missing"),
    ({"a": "rsa-sha1"}, Result.PERMERROR, "rsa-sha1 is not accepted (RFC 8301, 3.1)"),
    ({"a": "rsa-md5"}, Result.PERMERROR, "the algorithm of a= is unknown"),
    ({"c": "relaxed/nofws"}, Result.PERMERROR, "the canonicalisation of c= is unknown"),
    ({"c": "relaxed/"}, Result.PERMERROR, "the canonicalisation of c= is unknown"),
    ({"d": "example..test"}, Result.PERMERROR, "d= is no domain name"),
    ({"d": "x" * 300}, Result.PERMERROR, "d= is no domain name"),
    ({"s": "a b"}, Result.PERMERROR, "s= is no domain name"),
    ({"s": ".".join(["x" * 60] * 4)}, Result.PERMERROR, "d= and s= make a name that is too long"),
    ({"i": "@other.test"}, Result.PERMERROR, "the domain of i= is not within d="),
    ({"i": "@badexample.test"}, Result.PERMERROR, "the domain of i= is not within d="),
    ({"i": "example.test"}, Result.PERMERROR, "the domain of i= is not within d="),
    ({"h": "to:subject"}, Result.PERMERROR, "From is not signed (RFC 6376, 5.4)"),
    ({"h": ""}, Result.PERMERROR, "h= is empty or no list of field names"),
    ({"h": "from::to"}, Result.PERMERROR, "h= is empty or no list of field names"),
    ({"q": "http"}, Result.PERMERROR, "q= names no method that is known"),
    ({"l": "-1"}, Result.PERMERROR, "l= is no number, or none that can be true"),
    ({"l": "9" * 70}, Result.PERMERROR, "l= is no number, or none that can be true"),
    ({"t": "soon"}, Result.PERMERROR, "t= is no number, or none that can be true"),
    ({"x": str(T - 1)}, Result.PERMERROR, "x= is before t="),
    ({"t": str(T - 900), "x": str(T - 301)}, Result.FAIL, "the signature has expired"),
    ({"t": str(T + 36_001)}, Result.NEUTRAL, "the time of the signature lies in the future"),
    ({"bh": "???"}, Result.PERMERROR, "bh= is empty or no base64"),
    ({"bh": "AAAA"}, Result.FAIL, "the body is not the one that was signed"),
    ({"l": "1000"}, Result.FAIL, "l= is 1,000, but the body has 24 bytes"),
    ({"v": "1; v=1"}, Result.PERMERROR, "the signature cannot be read: the tag v= stands twice"),
    ({"z": "a\x01b"}, Result.PERMERROR, "the signature cannot be read: the value of z= has forbidden characters"),
    ({"9": "x"}, Result.PERMERROR, "the signature cannot be read: it is no list of tags"),
]


@pytest.mark.parametrize(("tags", "result", "reason"), _REFUSED, ids=[reason for _, _, reason in _REFUSED])
async def test_what_is_refused(tags: dict[str, str | None], result: Result, reason: str) -> None:
    signer = rsa_signer()
    one = await only(signer.sign(MAIL, tags=tags), signer.record())
    assert (one.result, one.reason) == (result, reason)


@pytest.mark.parametrize(
    "tags",
    [
        {"q": "http:dns/txt"},
        {"x": str(T - 299), "t": None},
        {"t": str(T + 35_999)},
        {"t": None},
        {"i": "@sub.example.test"},
        {"i": "=20x@EXAMPLE.test"},
        {"d": "EXAMPLE.test"},
        {"zz": "unknown tags are passed over"},
        {"h": "From : to\r\n\t: Subject"},
    ],
)
async def test_what_is_not_refused(tags: dict[str, str | None]) -> None:
    signer = rsa_signer()
    headers = ("From", "to", "Subject")
    one = await only(signer.sign(MAIL, headers=headers, tags=tags if "h" not in tags else {}), signer.record())
    assert (one.result, one.reason) == (Result.PASS, None)


_KEYS: list[tuple[str, str]] = [
    ("v=DKIM1; p=", "the key is revoked"),
    ("v=DKIM1; k=rsa", "the key record has no p="),
    ("v=spf1 -all", "the key record is of another version"),
    ("spf", "the key record cannot be read: it is no list of tags"),
    (rsa_signer().record(v="DKIM2; n=x"), "the key record is of another version"),
    (rsa_signer().record(h="sha1"), "the key is not for sha256"),
    (rsa_signer().record(s="tlsrpt"), "the key is not for email"),
    (rsa_signer().record(k="ec"), "the key is of an unknown type"),
    (rsa_signer().record(k="ed25519"), "it is no ed25519 key"),
    (ed25519_signer().record(), "the key is for ed25519, the signature is not"),
    ("k=rsa; p=!!!!", "the key is no base64"),
    ("k=rsa; p=AAAA", "it is no rsa key"),
    (rsa_signer().record(n="x" * 9000), "the key record is too large"),
]


@pytest.mark.parametrize(("record", "reason"), _KEYS, ids=[reason for _, reason in _KEYS])
async def test_what_is_no_key(record: str, reason: str) -> None:
    one = await only(rsa_signer().sign(MAIL), record)
    assert (one.result, one.reason) == (Result.PERMERROR, reason)


@pytest.mark.parametrize(
    ("answer", "result", "reason"),
    [
        ("TIMEOUT", Result.TEMPERROR, "DNS did not answer for the key"),
        ("SERVFAIL", Result.TEMPERROR, "DNS did not answer for the key"),
        ("FORMERR", Result.PERMERROR, "the DNS answer for the key cannot be read"),
        ({"A": "192.0.2.1"}, Result.PERMERROR, "there is no key in DNS"),
    ],
)
async def test_what_dns_may_say(answer: object, result: Result, reason: str) -> None:
    report = await dkim.verify(ZoneLookup({KEY_NAME: [answer]}), rsa_signer().sign(MAIL), now=NOW)
    assert (report.result, report.signatures[0].reason) == (result, reason)


async def test_a_key_that_asks_for_the_very_domain() -> None:
    """RFC 6376, 3.6.1, t=s."""
    signer = rsa_signer()
    within = signer.sign(MAIL, tags={"i": "@sub.example.test"})
    assert (await only(within, signer.record(t="s"))).result is Result.PERMERROR
    assert (await only(signer.sign(MAIL, tags={"i": "ann@Example.test"}), signer.record(t="s"))).result is Result.PASS
    assert (await only(signer.sign(MAIL), signer.record(t="y : s"))).testing


@pytest.mark.parametrize("mail", [MAIL, MAIL.replace(b"Hello", b"Hallo")])
async def test_a_key_on_trial_counts_as_none(mail: bytes) -> None:
    """RFC 6376, 3.6.1, t=y: no other treatment than for unsigned mail, whatever the outcome."""
    signer = rsa_signer()
    raw = signer.sign(MAIL).replace(MAIL, mail)
    report = await judge(raw, signer.record(t="y"))
    assert report.result is Result.NONE
    assert report.signatures[0].testing
    assert report.signatures[0].result is (Result.PASS if mail is MAIL else Result.FAIL)


async def test_several_records_are_tried_in_an_order_of_their_own() -> None:
    signer, others = rsa_signer(), [rsa_signer(1024, DOMAIN, str(number)) for number in range(2)]
    records = [signer.record(), others[0].record(), others[1].record(), "v=spf1 -all"]
    for order in (records, records[::-1]):
        assert (await judge(signer.sign(MAIL), *order)).result is Result.PASS
    outcome = [await only(signer.sign(MAIL), *order) for order in (records[1:], records[:0:-1])]
    assert outcome[0] == outcome[1]
    assert outcome[0].result is Result.FAIL


async def test_a_body_that_is_signed_in_part() -> None:
    signer = rsa_signer()
    raw = signer.sign(MAIL, length=5)
    one = await only(raw + b"<script>", signer.record())
    assert (one.result, one.partial_body, one.body_length) == (Result.PASS, True, 5)
    assert "unsigned" in str(one.reason)
    whole = await only(signer.sign(MAIL, length=24), signer.record())
    assert (whole.result, whole.partial_body, whole.reason) == (Result.PASS, False, None)
    assert (await only(raw.replace(b"Hello", b"Hallo"), signer.record())).result is Result.FAIL


@pytest.mark.parametrize(
    ("length", "flags", "result"), [(None, {}, Result.PASS), (None, {"t": "y"}, Result.FAIL), (5, {}, Result.FAIL)]
)
async def test_dmarc_wants_the_whole_body_and_a_key_that_is_no_trial(
    length: int | None, flags: dict[str, str], result: Result
) -> None:
    """From the bytes to the verdict: the signature passes each time, DMARC only where it counts."""
    signer = rsa_signer()
    record = {f"_dmarc.{DOMAIN}": [{"TXT": "v=DMARC1; p=reject"}]}
    lookup = ZoneLookup({**zone(signer.record(**flags)), **record})
    signatures = await dkim.verify(lookup, signer.sign(MAIL, length=length), now=NOW)
    assert signatures.signatures[0].result is Result.PASS
    own = Spf(result=Result.NONE)
    verdict = await dmarc.evaluate(lookup, authors=[f"a@{DOMAIN}"], from_fields=1, spf=own, dkim=signatures)
    assert verdict.result is result
    assert [one.domain for one in verdict.aligned] == ([DOMAIN] if result is Result.PASS else [])


async def test_a_header_that_was_split_before_is_not_split_again(monkeypatch: pytest.MonkeyPatch) -> None:
    signer = rsa_signer()
    raw = signer.sign(MAIL)
    header = split(raw)
    monkeypatch.delattr(dkim, "split")
    assert (await judge(raw, signer.record(), header=header)).result is Result.PASS


async def test_internationalised_domains() -> None:
    """RFC 8616, 4: U-labels are asked for as A-labels."""
    signer = replace(rsa_signer(), domain="b\u00fccher.test")
    name = "sel._domainkey.xn--bcher-kva.test"
    report = await dkim.verify(ZoneLookup(zone(signer.record(), name=name)), signer.sign(MAIL), now=NOW)
    assert (report.result, report.signatures[0].domain) == (Result.PASS, "xn--bcher-kva.test")


async def test_a_bare_line_feed_is_a_character_like_any_other() -> None:
    """The doors store CRLF. In a mode that keeps bare LF the signature holds over what was sent, not over what a
    converted copy would be."""
    signer = rsa_signer()
    raw = signer.sign(MAIL)
    assert (await only(raw.replace(b"see\tyou.\r\n", b"see\tyou.\n"), signer.record())).result is Result.FAIL
    folded = raw.replace(b"blanks \r\n\tand", b"blanks \n\tand")
    assert (await only(folded, signer.record())).result is Result.PASS, "in a header the reader takes it for a line end"


async def test_a_header_that_is_too_large_is_unknown() -> None:
    signer = rsa_signer()
    raw = signer.sign(MAIL.replace(b"\r\n\r\n", b"\r\nX: " + b"y" * (300 << 10) + b"\r\n\r\n", 1))
    assert (await only(raw, signer.record())).result is Result.UNKNOWN


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["fail", "pass"], "pass"),
        (["fail", "temperror", "permerror"], "temperror"),
        (["fail", "neutral"], "neutral"),
        (["permerror", "fail"], "fail"),
        (["permerror", "unknown"], "unknown"),
        ([], "none"),
    ],
)
def test_one_word_for_all(words: list[str], expected: str) -> None:
    assert dkim.summary(Signature(ordinal=1, result=Result(word)) for word in words) == expected


def _dkimpy(raw: bytes, record: str) -> bool:
    try:
        return bool(dkimpy.DKIM(raw).verify(dnsfunc=lambda *_, **__: record.encode()))
    except Exception:  # noqa: BLE001 - it leaks ValueError, IndexError and others
        return False


def _mutate(raw: bytes, rng: Random) -> bytes:
    """Blanks, folds, letters and whole lines changed, never a bare CR or LF, never a line that is no field."""
    for _ in range(rng.choice([0, 1, 1, 2])):
        head, _, body = raw.partition(b"\r\n\r\n")
        kind = rng.randrange(7)
        if kind == 0:
            at = rng.randrange(len(body) + 1)
            body = body[:at] + rng.choice([b" ", b"\t", b"x"]) + body[at:]
        elif kind == 1:
            body += rng.choice([b"\r\n", b" \r\n", b"P.S.\r\n"])
        elif kind == 2:
            spaces = [found.start() for found in re.finditer(rb"(?<=[^\r\n]) (?=\S)", head)]
            at = rng.choice(spaces)
            head = head[:at] + rng.choice([b"  ", b"\t", b"\r\n "]) + head[at + 1 :]
        elif kind == 3:
            head = (
                rng.choice([b"X-New: 1\r\n", b"To: new@n.test\r\n", b"From: eve@e.test\r\n", b"Cc: c@c.test\r\n"])
                + head
            )
        elif kind == 4:
            letters = [found.start() for found in re.finditer(rb"[a-z]", head)]
            at = rng.choice(letters)
            head = head[:at] + rng.choice([b"q", head[at : at + 1].upper()]) + head[at + 1 :]
        elif kind == 5:
            lines = re.split(rb"\r\n(?![ \t])", head)
            rng.shuffle(lines)
            head = b"\r\n".join(lines)
        else:
            body = body.replace(b"  ", b" ", 1)
        raw = head + b"\r\n\r\n" + body
    return raw


def _random_headers(rng: Random) -> Sequence[str]:
    names = ["From", "from", "to", "subject", "Date", "cc", "x-absent", "received"]
    return [*rng.sample(names, rng.randrange(len(names))), "from"]


async def test_dkimpy_agrees_on_signed_and_mutated_mails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dkimpy.time, "time", NOW.timestamp)
    rng, signer = Random(6376), rsa_signer()
    record = signer.record()
    lookup = ZoneLookup(zone(record))
    passed = 0
    for _ in range(1500):
        length = rng.choice([None, None, None, 0, 5, 24])
        signed = signer.sign(MAIL, headers=_random_headers(rng), canon=rng.choice(CANONS), length=length)
        raw = _mutate(signed, rng)
        ours = await dkim.verify(lookup, raw, now=NOW)
        theirs = _dkimpy(raw, record)
        # theirs hashes what there is of a body, and minds no second field
        if any(str(one.reason).startswith(("l= is ", "a second ")) for one in ours.signatures):
            continue
        assert (ours.result is Result.PASS) is theirs, (ours, raw)
        passed += theirs
    assert 300 < passed < 1300, "both outcomes must be frequent"


def test_it_needs_no_running_loop_before_it_is_called() -> None:
    assert asyncio.run(judge(MAIL)).result is Result.NONE
