"""Certificates of providers: which are usable, and which signatures they prove."""

import base64
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from hypothesis import given
from hypothesis import strategies as st

from ingester.auth.certificate import MAX_CERTIFICATE, Certificate, Digest, read_certificate
from tests.cost import assert_cheap
from tests.sns import pem_of, rsa_key

BEGINS = datetime(2026, 1, 1, tzinfo=UTC)
ENDS = datetime(2026, 12, 31, tzinfo=UTC)
TEXT = b"Message\nhello\n"
HASHES = {Digest.SHA1: hashes.SHA1(), Digest.SHA256: hashes.SHA256()}


def armour(der: bytes) -> bytes:
    """DER as a PEM file."""
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


@cache
def pem() -> bytes:
    """Made once: its serial number is random, and so is its length."""
    return pem_of(rsa_key(), begins=BEGINS, ends=ENDS)


def certificate() -> Certificate:
    read = read_certificate(pem())
    assert isinstance(read, Certificate)
    return read


def signature(digest: Digest, text: bytes = TEXT, key: rsa.RSAPrivateKey | None = None) -> str:
    return base64.b64encode((key or rsa_key()).sign(text, PKCS1v15(), HASHES[digest])).decode()


@pytest.mark.parametrize("digest", Digest)
def test_a_signature_is_proved_by_its_key(digest: Digest) -> None:
    one = certificate()
    made = signature(digest)
    assert one.verifies(made, TEXT, digest)
    assert not one.verifies(made, TEXT + b"x", digest)
    assert not one.verifies(made, TEXT, Digest.SHA1 if digest is Digest.SHA256 else Digest.SHA256)
    assert not one.verifies(signature(digest, key=rsa_key(2048, 1)), TEXT, digest)


@pytest.mark.parametrize("wrong", ["", "A", "====", "not base64!", "\u00e4", "AAAA", "A" * 344, "A" * 100_000, "\0"])
def test_what_is_no_signature_proves_nothing(wrong: str) -> None:
    assert not certificate().verifies(wrong, TEXT, Digest.SHA256)


def test_a_signature_with_something_around_it_proves_nothing() -> None:
    made = signature(Digest.SHA256)
    for other in (f" {made}", f"{made}\n", f"{made}=", made[:-4], made.replace("=", ""), "AAAA" + made):
        assert not certificate().verifies(other, TEXT, Digest.SHA256)


def test_a_certificate_holds_within_its_dates() -> None:
    one, second = certificate(), timedelta(seconds=1)
    assert (one.begins, one.ends) == (BEGINS, ENDS)
    assert one.holds_at(BEGINS)
    assert one.holds_at(ENDS)
    assert not one.holds_at(BEGINS - second)
    assert not one.holds_at(ENDS + second)


@pytest.mark.parametrize(("bits", "usable"), [(1024, False), (2048, True), (4096, True), (4352, False)])
def test_keys_are_neither_weak_nor_huge(bits: int, usable: bool) -> None:
    read = read_certificate(pem_of(rsa_key(bits), begins=BEGINS, ends=ENDS))
    assert isinstance(read, Certificate) is usable


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()])
def test_keys_are_rsa(key: object) -> None:
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    assert read_certificate(pem_of(key, begins=BEGINS, ends=ENDS, algorithm=algorithm)) == "the key is not an RSA key"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"<html>not found</html>",
        b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        b"-----BEGIN CERTIFICATE-----\n" * 1000,
        b"\0" * MAX_CERTIFICATE,
        b"a" * (MAX_CERTIFICATE + 1),
    ],
)
def test_what_is_no_certificate_is_told_so(data: bytes) -> None:
    assert isinstance(read_certificate(data), str)


@given(st.binary() | st.binary().map(armour))
def test_any_bytes_have_an_answer(data: bytes) -> None:
    assert isinstance(read_certificate(data), str)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")  # a negative serial number
@given(st.data())
def test_a_certificate_that_was_touched_is_one_or_none(data: st.DataObject) -> None:
    """Its own signature is not looked at: whoever fetched it knows from whom."""
    der = bytearray(base64.b64decode(b"".join(pem().splitlines()[1:-1])))
    for _ in range(data.draw(st.integers(1, 4))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    read = read_certificate(armour(bytes(der)))
    if isinstance(read, Certificate):
        assert 2048 <= read.public.key_size <= 4096
        read.verifies(signature(Digest.SHA256), TEXT, Digest.SHA256)


def test_the_worst_certificates_cost_little() -> None:
    worst = [armour(bytes((0x30,)) * 45_000), b"-----BEGIN CERTIFICATE-----" * 2300, b"-" * MAX_CERTIFICATE]
    assert_cheap(lambda: [read_certificate(one) for one in worst], seconds=0.05)
