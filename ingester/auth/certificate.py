"""Certificates with which a provider signs what it hands in, and whether a signature is theirs.

It knows no provider and fetches nothing. Hostile bytes are the normal case: nothing here raises, and a key is measured
before anything is computed with it.
"""

import hashlib
from binascii import Error, a2b_base64
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA1, SHA256

LEAST_BITS: Final = 2048
MOST_BITS: Final = 4096
MOST_EXPONENT_BITS: Final = 33
MAX_CERTIFICATE: Final = 64 << 10
MAX_SIGNATURE: Final = 1 << 10
"""Characters of a signature: RSA of 4,096 bits has 684."""

_PADDING: Final = PKCS1v15()


class Digest(StrEnum):
    """What is signed of a text."""

    SHA1 = "sha1"
    """Only where a provider's protocol has no other, or has it as its default."""
    SHA256 = "sha256"


_DIGESTS: Final = {Digest.SHA1: Prehashed(SHA1()), Digest.SHA256: Prehashed(SHA256())}  # noqa: S303


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """An RSA key and when it is to be believed. Who issued it is the matter of whoever fetched it."""

    public: RSAPublicKey
    begins: datetime
    ends: datetime

    def holds_at(self, now: datetime) -> bool:
        """Whether the moment is within its validity (RFC 5280, 4.1.2.5)."""
        return self.begins <= now <= self.ends

    def verifies(self, signature_base64: str, text: bytes, digest: Digest) -> bool:
        """Whether the signature of the text is this key's (RSASSA-PKCS1-v1_5; RFC 8017, 8.2)."""
        signature = _from_base64(signature_base64)
        if signature is None:
            return False
        try:
            self.public.verify(signature, hashlib.new(digest, text).digest(), _PADDING, _DIGESTS[digest])
        except (InvalidSignature, UnsupportedAlgorithm, ValueError):
            return False
        return True


def read_certificate(pem: bytes) -> Certificate | str:
    """The certificate in a PEM file, or a sentence on why it cannot be used."""
    if len(pem) > MAX_CERTIFICATE:
        return "the certificate is too large"
    try:
        read = x509.load_pem_x509_certificate(pem)
        public = read.public_key()
        begins, ends = read.not_valid_before_utc, read.not_valid_after_utc
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        return "it is no certificate"
    if not isinstance(public, RSAPublicKey):
        return "the key is not an RSA key"
    if not LEAST_BITS <= public.key_size <= MOST_BITS:
        return f"the key has {public.key_size:,} bits; {LEAST_BITS:,} to {MOST_BITS:,} are accepted"
    if public.public_numbers().e.bit_length() > MOST_EXPONENT_BITS:
        return "the exponent of the key is too large"
    return Certificate(public=public, begins=begins, ends=ends)


def _from_base64(text: str) -> bytes | None:
    """The bytes of a base64 text; None when it is none, or too long."""
    if len(text) > MAX_SIGNATURE:
        return None
    try:
        return a2b_base64(text, strict_mode=True)
    except (Error, ValueError):
        return None
