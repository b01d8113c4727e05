"""Crafted signatures and keys: each within 50 ms of CPU, with a word and a reason, and nothing raises."""

import asyncio
import base64
from collections.abc import Callable
from random import Random

import pytest

from ingester.auth import dkim
from ingester.auth.dkim_key import Key, read_key
from ingester.auth.dkim_signature import tags
from ingester.auth.report import Dkim, Result
from tests.auth.signing import MAIL, NOW, ed25519_signer, rsa_signer, zone
from tests.cost import assert_cheap
from tests.zones import ZoneLookup

MOST_SECONDS = 0.05
MB = 1 << 20


def der(modulus: int, exponent: int) -> str:
    """The p= of an RSA key of these numbers (RFC 8017, A.1.1)."""

    def value(tag: int, content: bytes) -> bytes:
        return bytes([tag, 0x82]) + len(content).to_bytes(2, "big") + content

    def integer(number: int) -> bytes:
        return value(2, number.to_bytes(number.bit_length() // 8 + 1, "big"))

    return base64.b64encode(value(0x30, integer(modulus) + integer(exponent))).decode()


def number(bits: int) -> int:
    return Random(bits).getrandbits(bits) | 1 << (bits - 1) | 1


def judge(raw: bytes, *records: str) -> Dkim:
    return asyncio.run(dkim.verify(ZoneLookup(zone(*records)), raw, now=NOW))


@pytest.mark.parametrize(
    ("modulus", "exponent", "reason"),
    [
        (number(16_384), 65_537, "the key has 16,384 bits; 1,024 to 4,096 are accepted"),
        (number(4_097), 65_537, "the key has 4,097 bits; 1,024 to 4,096 are accepted"),
        (number(1_023), 65_537, "the key has 1,023 bits; 1,024 to 4,096 are accepted"),
        (number(2_048), number(16_384), "the exponent of the key has 16,384 bits; 33 are accepted"),
        (number(2_048), number(34), "the exponent of the key has 34 bits; 33 are accepted"),
        (number(2_048), 1, "it is no rsa key"),
        (number(2_048), 65_536, "it is no rsa key"),
        (number(2_048) - 1, 65_537, "it is no rsa key"),
    ],
    ids=["16384", "4097", "1023", "e16384", "e34", "e1", "even e", "even n"],
)
def test_a_key_out_of_bounds_is_refused_cheaply(modulus: int, exponent: int, reason: str) -> None:
    record, raw = f"v=DKIM1; p={der(modulus, exponent)}", rsa_signer().sign(MAIL)
    one = assert_cheap(lambda: judge(raw, record), seconds=MOST_SECONDS).signatures[0]
    assert (one.result, one.reason) == (Result.PERMERROR, reason)


def test_keys_at_the_bounds_are_taken() -> None:
    for bits, exponent in ((1024, 3), (4096, 65_537), (2048, (1 << 32) + 1)):
        key = read_key(f"p={der(number(bits), exponent)}".encode())
        assert isinstance(key, Key)
        assert key.bits == bits


def _below(head: bytes, body: bytes = b"x\r\n") -> bytes:
    return head + MAIL.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + body


_SIGNED = rsa_signer(4096).sign(MAIL)
_FIELD = _SIGNED.removesuffix(MAIL)
_SHAPES: dict[str, Callable[[], bytes]] = {
    "50 true signatures": lambda: _FIELD * 50 + MAIL,
    "5 of 32 KB": lambda: _FIELD.replace(b"h=from:", b"h=from" + b":x" * 15_000 + b":") * 5 + MAIL,
    "5 over 256 KB of folding": lambda: _below(_FIELD * 5, b"").replace(b"Ann", b"\r\n " * 40_000 + b"Ann"),
    "a signature of 1 MB": lambda: b"DKIM-Signature: v=1; h=" + b"from:" * (MB // 5) + b"\r\n" + MAIL,
    "a signature of 1 MB of blanks": lambda: b"DKIM-Signature: v=1;" + b" " * MB + b"\r\n" + MAIL,
    "a signature of folds": lambda: b"DKIM-Signature: v=1;" + b"\r\n " * (MB // 3) + b"\r\n" + MAIL,
    "30 KB of tags": lambda: b"DKIM-Signature: " + b"a=;" * 10_000 + b"\r\n" + MAIL,
    "30 KB of other tags": lambda: b"DKIM-Signature: " + b"".join(b"a%d=;" % i for i in range(4000)) + b"\r\n" + MAIL,
    "1,000 signatures": lambda: b"DKIM-Signature: v=1\r\n" * 1000 + MAIL,
    "1 MB of blanks in a field": lambda: _FIELD + b"X:" + b" " * MB + b"\r\n" + MAIL,
    "1 MB of blanks in the body": lambda: _SIGNED + b" " * MB,
    "1 MB of empty lines": lambda: _SIGNED + b"\r\n" * (MB // 2) + b"x",
    "1 MB of single blanks": lambda: _SIGNED + b"x " * (MB // 2),
    "1 MB of blank lines": lambda: _SIGNED + b" \r\n" * (MB // 3),
    "a domain of many dots": lambda: _FIELD.replace(b"d=example.test", b"d=" + b"a." * 120 + b"\xc3\xbc") + MAIL,
    "a domain of one label": lambda: _FIELD.replace(b"d=example.test", b"d=" + b"\xc3\xbc" * 120) + MAIL,
}


@pytest.mark.parametrize("name", _SHAPES)
def test_a_crafted_mail_is_cheap(name: str) -> None:
    raw = _SHAPES[name]()
    record = rsa_signer(4096).record()
    report = assert_cheap(lambda: judge(raw, record), seconds=MOST_SECONDS)
    assert len(report.signatures) <= 5


_ALGORITHM = bytes.fromhex("300d06092a864886f70d0101010500")
"""rsaEncryption with its NULL (RFC 3279, 2.3.1)."""


def _value(tag: int, content: bytes, octets: int = 3) -> bytes:
    """A DER value with the length in so many octets (X.690, 8.1.3.5)."""
    return bytes([tag, 0x80 | octets]) + len(content).to_bytes(octets, "big") + content


def _subject_key(algorithm: bytes = _ALGORITHM, unused: bytes = b"\0", tail: bytes = b"", octets: int = 3) -> bytes:
    key = base64.b64decode(der(number(2_048), 65_537))
    return _value(0x30, algorithm + _value(3, unused + key), octets) + tail


@pytest.mark.parametrize(
    ("data", "good"),
    [
        (_subject_key(), True),
        (_subject_key(algorithm=bytes.fromhex("300d06092a864886f70d01010a0500")), False),  # RSASSA-PSS
        (_subject_key(unused=b"\4"), False),
        (_subject_key(tail=b"\0"), False),
        (_subject_key(octets=4), False),
        (_subject_key()[:-1], False),
        (_subject_key().replace(b"\x02\x82\x00\x03\x01", b"\x02\x82\x00\x04\x01"), False),
        (bytes([0x30, 0x80]), False),
        (b"", False),
    ],
    ids=["good", "other algorithm", "odd bits", "tail", "wide length", "cut", "short value", "no length", "empty"],
)
def test_a_key_is_read_strictly(data: bytes, good: bool) -> None:
    """RFC 5280, 4.1: what other readers might take for another key is none."""
    found = read_key(b"v=DKIM1; k=rsa; p=" + (base64.b64encode(data) or b"AA=="))
    assert isinstance(found, Key) is good
    assert good or found == "it is no rsa key"


def test_a_record_may_have_long_notes() -> None:
    assert isinstance(read_key(rsa_signer().record(n="x" * 7_000).encode()), Key)


def test_signatures_beyond_the_bound_are_counted() -> None:
    report = judge(_FIELD * 50 + MAIL, rsa_signer(4096).record())
    assert [one.result for one in report.signatures] == [Result.PASS] * 5
    assert report.unjudged == 45


def test_what_a_stranger_wrote_is_cut() -> None:
    field = _FIELD.replace(b"h=from:", b"h=from" + b":x" * 500 + b":").replace(b"a=rsa", b"a=" + b"y" * 5000)
    one = judge(field + MAIL).signatures[0]
    assert len(one.signed_headers) == 100
    assert len(one.algorithm) <= 256
    one = judge(_FIELD.replace(b"d=example", b"i=\xff\x80@x.example.test; d=example") + MAIL).signatures[0]
    assert one.identity.isprintable()
    one.identity.encode()


def test_no_mutation_raises() -> None:
    rng = Random(8301)
    base = ed25519_signer().sign(rsa_signer().sign(MAIL))
    lookup = ZoneLookup(zone(rsa_signer().record(), ed25519_signer().record()))
    end = base.index(b"Received:")
    odd = [b";", b"=", b":", b"\0", b"\xff", b"\r\n ", b"\n", b"\r", b"@", b"xn--", b"\xe2\x80\x8d", b"9" * 20, b" "]

    async def run() -> set[Result]:
        seen: set[Result] = set()
        for _ in range(4000):
            raw = bytearray(base)
            for _ in range(rng.randint(1, 8)):
                at = rng.randrange(end if rng.random() < 0.8 else len(raw))
                raw[at : at + rng.choice([0, 1, 1, 9])] = rng.choice([*odd, bytes([rng.randrange(256)])])
            report = await dkim.verify(lookup, bytes(raw), now=NOW)
            for one in report.signatures:
                seen.add(one.result)
                "".join((one.domain, one.selector, one.algorithm, one.identity, one.digest_prefix)).encode()
        return seen

    assert {Result.PASS, Result.FAIL, Result.PERMERROR} <= asyncio.run(run())


def test_no_key_record_and_no_tag_list_raises() -> None:
    rng = Random(6376)
    record = rsa_signer().record().encode()
    odd = [b";", b"=", b":", b"\0", b"\xff", b"MII", b"AAAA", b"p=", b"k=ed25519;", b" "]
    for _ in range(4000):
        raw = bytearray(record)
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(raw))
            raw[at : at + rng.choice([0, 1, 4])] = rng.choice([*odd, bytes([rng.randrange(256)])])
        assert isinstance(read_key(bytes(raw)), Key | str)
        assert isinstance(tags(bytes(raw)), dict | str)
