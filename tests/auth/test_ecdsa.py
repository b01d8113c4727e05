"""ECDSA signatures: a published one holds, nothing else does, and nothing raises."""

import hashlib
from base64 import b64decode, b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from ingester.auth.ecdsa import is_true

# RFC 6979, A.2.5: P-256, SHA-256, "sample".
POINT = (
    0x60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6,
    0x7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299,
)
R = 0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716
S = 0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8
HASH = hashlib.sha256(b"sample").digest()
SIGNATURE = b64encode(encode_dss_signature(R, S)).decode()


def text_of(key: PublicKeyTypes) -> str:
    return b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


KEY = text_of(ec.EllipticCurvePublicNumbers(*POINT, ec.SECP256R1()).public_key())


def test_a_published_signature_is_true() -> None:
    assert is_true(KEY, SIGNATURE, HASH)
    assert not is_true(KEY, SIGNATURE, hashlib.sha256(b"test").digest())
    assert not is_true(KEY, b64encode(encode_dss_signature(S, R)).decode(), HASH)


def test_only_a_key_on_p256_is_one() -> None:
    another = ec.generate_private_key(ec.SECP256R1()).public_key()
    assert not is_true(text_of(another), SIGNATURE, HASH)
    assert not is_true(text_of(ec.generate_private_key(ec.SECP256K1()).public_key()), SIGNATURE, HASH)
    assert not is_true(text_of(rsa.generate_private_key(65537, 2048).public_key()), SIGNATURE, HASH)
    for key in ("", "x", "\u00fc", KEY[:-4], b64encode(b64decode(KEY)[:-1]).decode()):
        assert not is_true(key, SIGNATURE, HASH)


@pytest.mark.parametrize("r", [0, 1, R])
@pytest.mark.parametrize("s", [0, 1])
def test_degenerate_numbers_are_no_signature(r: int, s: int) -> None:
    assert not is_true(KEY, b64encode(encode_dss_signature(r, s)).decode(), HASH)


@given(st.text(max_size=300) | st.binary(max_size=100).map(lambda der: b64encode(der).decode()), st.binary(max_size=40))
def test_anything_else_is_no_signature(signature: str, digest: bytes) -> None:
    assert not is_true(KEY, signature, HASH)
    assert not is_true(KEY, signature, digest)
