"""Signing as senders and forwarders do, by dkimpy: DKIM and ARC, with a key made for the test run."""

from functools import cache

import dkim
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from ingester.auth.sign import sign
from tests.auth.signing import Signer

SELECTOR = "s"


@cache
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def key_pem() -> bytes:
    """The private key."""
    return _key().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


@cache
def key_record() -> str:
    """The TXT record of the key, for `s._domainkey` of any domain (RFC 6376, 3.6.1)."""
    return Signer(key=_key()).record()


def signed(raw: bytes, domain: str) -> bytes:
    """The mail with a DKIM signature of this domain on top."""
    return sign(raw, domain=domain, selector=SELECTOR, key=key_pem())


def sealed(raw: bytes, domain: str, results: str) -> bytes:
    """The mail with an ARC set of this domain on top; `results` is what it found, after its authserv-id."""
    found = f"Authentication-Results: {domain}; {results}\r\n".encode()
    name, headers = domain.encode(), [b"from", b"subject"]
    fields = dkim.arc_sign(found + raw, SELECTOR.encode(), name, key_pem(), name, include_headers=headers)
    return b"".join(fields) + raw
