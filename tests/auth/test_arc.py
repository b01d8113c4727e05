"""ARC: the public suite, all of its 171 cases of validation, dkimpy as the oracle, and hostile chains."""

from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import dkim as dkimpy
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from ingester.auth.arc import verify_chain
from ingester.auth.report import Arc, Result
from ingester.auth.results import RESULTS_LIMIT, vouch
from tests.cost import assert_cheap_to_await
from tests.zones import ZoneLookup

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SIGNED = int(NOW.timestamp())
SUITE = "arc-valimail/tests/arc-draft-validation-tests.yml"
CASES = 171
MAIL = (
    b"From: Ann <ann@origin.example>\r\nTo: b@b.example\r\nSubject: hi\r\n"
    b"Date: Thu, 01 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@origin.example>\r\n\r\nHello  world\r\n\r\n"
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "number" in metafunc.fixturenames:
        metafunc.parametrize("number", range(CASES))


@pytest.fixture(scope="module")
def suite(corpora: Path) -> list[tuple[str, dict[str, Any], dict[str, str]]]:
    scenarios = yaml.safe_load_all((corpora / SUITE).read_text())
    return [(name, case, scenario["txt-records"]) for scenario in scenarios for name, case in scenario["tests"].items()]


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def record(key: rsa.RSAPrivateKey) -> str:
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return "v=DKIM1; p=" + "".join(public.decode().splitlines()[1:-1])


def zone(key: rsa.RSAPrivateKey, *domains: str) -> dict[str, list[Any]]:
    return {f"s._domainkey.{domain}": [("TXT", record(key))] for domain in domains}


def seal(raw: bytes, domain: str, key: rsa.RSAPrivateKey, statement: str, headers: list[bytes] | None = None) -> bytes:
    """The mail with one more set on top, sealed by dkimpy."""
    own = f"Authentication-Results: {domain}; {statement}\r\n".encode()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    fields = dkimpy.ARC(own + raw).sign(
        b"s", domain.encode(), pem, domain.encode(), include_headers=headers, timestamp=SIGNED
    )
    return b"".join(fields) + raw


def chain_of(count: int, key: rsa.RSAPrivateKey) -> bytes:
    raw = MAIL
    for instance in range(count):
        word = "pass" if instance else "none"
        raw = seal(raw, f"d{instance}.example", key, f"arc={word}; dmarc=pass header.from=origin.example")
    return raw


async def verify(raw: bytes, data: dict[str, list[Any]], **options: Any) -> Arc:
    return await verify_chain(ZoneLookup(data), raw, now=NOW, **options)


# The suite


async def test_suite(number: int, suite: list[tuple[str, dict[str, Any], dict[str, str]]]) -> None:
    """`cv` of the suite; where it is empty, the chain had ended before and there is nothing to say: a fail for us."""
    name, case, records = suite[number]
    raw = case["message"].replace("\n", "\r\n").encode()
    arc = await verify(raw, {domain: [("TXT", text)] for domain, text in records.items()})
    assert arc.result == (case["cv"] or "Fail").lower(), f"{name}: {case.get('description')}: {arc.reason}"
    if not case["cv"]:
        assert arc.reason == "a sealer found the chain broken already"
    assert (arc.reason is None) == (arc.result in (Result.PASS, Result.NONE))


def test_the_suite_is_whole(suite: list[tuple[str, dict[str, Any], dict[str, str]]]) -> None:
    assert len(suite) == CASES


# Chains made by dkimpy


@pytest.mark.parametrize("count", [1, 2, 3, 10])
async def test_chain(count: int, key: rsa.RSAPrivateKey) -> None:
    arc = await verify(chain_of(count, key), zone(key, *(f"d{i}.example" for i in range(count))))
    assert (arc.result, arc.oldest_pass, arc.partial) == (Result.PASS, 0, False)
    assert [(one.instance, one.domain, one.chain) for one in arc.seals] == [
        (i + 1, f"d{i}.example", "pass" if i else "none") for i in range(count)
    ]
    assert arc.seals[0].results == "i=1; d0.example; arc=none; dmarc=pass header.from=origin.example"


async def test_more_sets_than_are_checked_are_unknown(key: rsa.RSAPrivateKey) -> None:
    raw = chain_of(3, key)
    data = zone(key, *(f"d{i}.example" for i in range(3)))
    assert (await verify(raw, data, max_sets=2)).result is Result.UNKNOWN
    assert (await verify(raw.replace(b"Hello", b"Bye"), data, max_sets=2)).result is Result.UNKNOWN
    assert (await verify(raw, data, max_sets=3)).result is Result.PASS
    assert (await verify(b"X-Pad: " + b"x" * 300_000 + b"\r\n" + raw, data)).result is Result.UNKNOWN
    assert (
        await verify(raw.replace(b"From:", b"X-Pad: " + b"x" * 300_000 + b"\r\nFrom:", 1), data)
    ).result is Result.UNKNOWN
    assert (await verify(b"ARC-Seal: i=4; b=" + b"A" * 40_000 + b"\r\n" + raw, data)).result is Result.UNKNOWN
    names = (
        b"ARC-Message-Signature: i=4; a=rsa-sha256; b=AAAA; bh=AAAA; d=d.example; s=s; h=from" + b":x" * 500 + b"\r\n"
    )
    assert (await verify(names + raw, data)).result is Result.UNKNOWN


async def test_a_list_that_changes_the_mail(key: rsa.RSAPrivateKey) -> None:
    """RFC 8617, 5.2, step 5: the older signature no longer holds, which is what ARC is for."""
    changed = seal(MAIL, "d0.example", key, "arc=none").replace(b"Hello", b"[list] Hello")
    raw = seal(changed, "d1.example", key, "arc=pass")
    arc = await verify(raw, zone(key, "d0.example", "d1.example"))
    assert (arc.result, arc.oldest_pass) == (Result.PASS, 2)
    assert (await verify(raw.replace(b"Hello", b"Bye"), zone(key, "d0.example", "d1.example"))).result is Result.FAIL


@pytest.mark.parametrize("fault", ["TIMEOUT", "SERVFAIL"])
@pytest.mark.parametrize("domain", ["d0.example", "d1.example"])
async def test_a_key_that_dns_withholds_is_no_fail(fault: str, domain: str, key: rsa.RSAPrivateKey) -> None:
    data = zone(key, "d0.example", "d1.example") | {f"s._domainkey.{domain}": [fault]}
    assert (await verify(chain_of(2, key), data)).result is Result.TEMPERROR


async def test_no_key_no_chain(key: rsa.RSAPrivateKey) -> None:
    assert (await verify(chain_of(2, key), zone(key, "d0.example"))).result is Result.FAIL


Fields = list[tuple[bytes, bytes]]


def odd_seal(
    key: rsa.RSAPrivateKey, names: list[bytes], *, message: Fields | None = None, own: Fields | None = None
) -> bytes:
    """A set with another `h=` and other tags than dkimpy would write: they are changed while it signs."""
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    results = b"Authentication-Results: d0.example; arc=none; dmarc=pass header.from=origin.example\r\n"
    sealer = dkimpy.ARC(results + MAIL)
    gen_header = sealer.gen_header

    def changed(fields: Fields, include: Any, canon: Any, name: bytes, *rest: Any) -> Any:
        tags = dict(fields)
        if name == b"ARC-Message-Signature":
            tags[b"h"] = b":".join(names)
            include = names
        tags.update((message if name == b"ARC-Message-Signature" else own) or [])
        tags[b"b"] = tags.pop(b"b")
        return gen_header(list(tags.items()), include, canon, name, *rest)

    sealer.gen_header = changed
    fields = sealer.sign(b"s", b"d0.example", pem, b"d0.example", include_headers=[b"from"], timestamp=SIGNED)
    return b"".join(fields) + MAIL


HELLO = sha256(b"Hello world").digest()
WHOLE = sha256(b"Hello world\r\n").digest()


@pytest.mark.parametrize(
    ("names", "message", "result", "partial"),
    [
        ([b"from", b"subject"], [], Result.PASS, False),
        ([b"subject"], [], Result.PASS, True),
        ([b""], [], Result.PASS, True),
        ([b"from"], [(b"l", b"13")], Result.PASS, False),
        ([b"from"], [(b"l", b"11"), (b"bh", b64encode(HELLO))], Result.PASS, True),
        ([b"from"], [(b"l", b"14"), (b"bh", b64encode(WHOLE))], Result.FAIL, False),
        ([b"from"], [(b"bh", b64encode(HELLO))], Result.FAIL, False),
        ([b"from"], [(b"t", b"%d" % (SIGNED + 3600))], Result.PASS, False),
        ([b"from"], [(b"t", b"%d" % (SIGNED + 86_400))], Result.FAIL, False),
        ([b"from", b"arc-message-signature"], [], Result.PASS, False),
        ([b"from", b"arc-seal"], [], Result.FAIL, False),
    ],
)
async def test_what_a_message_signature_covers(
    names: list[bytes], message: Fields, result: Result, partial: bool, key: rsa.RSAPrivateKey
) -> None:
    """RFC 8617 lets it leave out From; such a chain holds, but on another author's mail it would hold, too."""
    arc = await verify(odd_seal(key, names, message=message), zone(key, "d0.example"))
    assert (arc.result, arc.partial) == (result, partial), arc.reason
    found = vouch(arc=arc, statements=(), trusted_sealers=("d0.example",), trusted_ids=(), from_domain="origin.example")
    assert (found is not None) is (result is Result.PASS and not partial)


@pytest.mark.parametrize("own", [[(b"h", b"from")], [(b"cv", b"pass")], [(b"cv", b"None")], [(b"i", b"01")]])
async def test_a_seal_that_rfc_8617_forbids(own: Fields, key: rsa.RSAPrivateKey) -> None:
    """4.1.3: it has no h=; the first says none, in lower case."""
    assert (await verify(odd_seal(key, [b"from"], own=own), zone(key, "d0.example"))).result is Result.FAIL
    assert (await verify(odd_seal(key, [b"from"], own=[(b"x", b"y")]), zone(key, "d0.example"))).result is Result.PASS


async def test_a_second_from_breaks_the_chain(key: rsa.RSAPrivateKey) -> None:
    raw = b"From: boss@victim.example\r\n" + odd_seal(key, [b"from"])
    assert (await verify(raw, zone(key, "d0.example"))).result is Result.FAIL


async def test_a_long_statement_is_cut(key: rsa.RSAPrivateKey) -> None:
    raw = seal(MAIL, "d0.example", key, f"arc=none; spf=none smtp.helo={'x' * 2000}; dmarc=pass header.from=a.example")
    arc = await verify(raw, zone(key, "d0.example"))
    assert arc.result is Result.PASS
    assert len(arc.seals[0].results) == RESULTS_LIMIT


async def test_large_bodies_are_hashed_beside(key: rsa.RSAPrivateKey) -> None:
    raw = seal(MAIL + b"line  of text \r\n" * 200_000, "d0.example", key, "arc=none")
    assert (await verify(raw, zone(key, "d0.example"))).result is Result.PASS


@pytest.mark.parametrize("seed", range(60))
async def test_dkimpy_agrees_on_damaged_chains(seed: int, key: rsa.RSAPrivateKey) -> None:
    """One byte of a chain of three is changed. dkimpy raises on some, and takes control characters for blanks.

    RFC 6376, 3.2, allows none in a tag list.
    """
    raw = chain_of(3, key)
    place = (seed * 7919) % len(raw)
    damaged = raw[:place] + bytes((raw[place] ^ (1 << seed % 5),)) + raw[place + 1 :]
    data = zone(key, *(f"d{i}.example" for i in range(3)))
    texts = {f"{name}.".encode(): entries[0][1].encode() for name, entries in data.items()}
    arc = await verify(damaged, data)
    try:
        theirs = dkimpy.ARC(damaged).verify(dnsfunc=lambda name, **_: texts.get(name))[0]
    except (IndexError, ValueError, dkimpy.DKIMException):
        assert arc.result is not Result.PASS
        return
    if arc.reason and arc.reason.endswith("has forbidden characters"):
        return
    assert arc.result == (theirs or b"fail").decode().lower(), arc.reason


# Hostile chains


def hostile() -> dict[str, bytes]:
    tags = b"a=rsa-sha256; d=d.example; s=s; b=" + b"A" * 344 + b"; "
    sets = b"".join(
        b"ARC-Seal: i=%d; cv=%s; %s\r\nARC-Message-Signature: i=%d; bh=AAAA; h=%s; %s\r\n"
        b"ARC-Authentication-Results: i=%d; x; spf=pass\r\n"
        % (i, b"pass" if i > 1 else b"none", tags, i, b"from:" * 400 + b"to", tags, i)
        for i in range(1, 11)
    )
    return {
        "a thousand seals": b"ARC-Seal: i=1; cv=none; " + tags + b"\r\n" + b"ARC-Seal: i=2\r\n" * 900,
        "ten sets, large": sets + b"X-Pad: " + b"a b " * 50_000 + b"\r\n",
        "a large seal": b"ARC-Seal: i=1; cv=none; b=" + b"A" * 250_000 + b"\r\n",
        "many tags": b"ARC-Seal: " + b"a=b;" * 7_000 + b"\r\n",
        "many names": b"ARC-Message-Signature: i=1; h=" + b"a:" * 15_000 + b"\r\n",
        "blanks": b"ARC-Authentication-Results:" + b" " * 250_000 + b"\r\n",
        "many instances": b"".join(b"ARC-Authentication-Results: i=%d;\r\n" % i for i in range(1, 100)),
        "a megabyte": b"ARC-Seal: i=1;" + b" x" * 500_000 + b"\r\n",
    }


@pytest.mark.parametrize("name", list(hostile()))
async def test_a_hostile_chain_is_cheap(name: str, key: rsa.RSAPrivateKey) -> None:
    raw = hostile()[name] + MAIL
    records = zone(key, "d.example")
    arc = await assert_cheap_to_await(lambda: verify(raw, records), seconds=0.05)
    assert arc.result in (Result.FAIL, Result.UNKNOWN)


@given(st.binary(max_size=200), st.binary(max_size=200), st.binary(max_size=200))
async def test_any_fields_are_judged(first: bytes, second: bytes, third: bytes) -> None:
    raw = b"ARC-Seal: i=1;%b\r\nARC-Message-Signature: i=1;%b\r\nARC-Authentication-Results: i=1;%b\r\n\r\n"
    arc = await verify(raw % (first, second, third), {})
    assert arc.result is not Result.PASS
