"""ECDSA signatures of providers (P-256 over SHA-256): whether one is true. Knows no provider and nothing raises."""

from base64 import b64decode
from binascii import Error
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

_SCHEME: Final = ECDSA(Prehashed(SHA256()))
_MAX_SIGNATURE: Final = 200
"""Characters of base64: two numbers of 33 bytes in DER (RFC 3279, 2.2.3) have 96."""


def is_true(public_key: str, signature: str, sha256: bytes) -> bool:
    """Whether the signature (base64 of DER) of what has this hash is the key's (base64 of SubjectPublicKeyInfo)."""
    key = _p256(public_key)
    if key is None or len(signature) > _MAX_SIGNATURE:
        return False
    try:
        key.verify(b64decode(signature, validate=True), sha256, _SCHEME)
    except (Error, InvalidSignature, ValueError):
        return False
    return True


@lru_cache(maxsize=4)  # a key of our settings
def _p256(public_key: str) -> EllipticCurvePublicKey | None:
    try:
        key = load_der_public_key(b64decode(public_key, validate=True))
    except (Error, UnsupportedAlgorithm, ValueError):
        return None
    return key if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1) else None
