"""Public keys as DNS publishes them (RFC 6376, 3.6.1; RFC 8463, 4). Pure; never raises.

A key is measured before anything is computed with it: a large one, or one with a large exponent, would cost seconds.
"""

from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256

from ingester.auth.dkim_signature import from_base64, listed, tags

LEAST_BITS = 1024
MOST_BITS = 4096
"""RFC 8301, 3.2, and a bound of ours above."""
MOST_EXPONENT_BITS = 33
MAX_RECORD = 8 << 10

_PADDING = PKCS1v15()
_SHA256 = Prehashed(SHA256())
_SEQUENCE, _INTEGER, _BIT_STRING = 0x30, 0x02, 0x03
_RSA = bytes.fromhex("06092a864886f70d010101")
"""rsaEncryption (RFC 8017, A.1)."""
_ED25519_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A usable key. `testing` and `strict` are its flags `t=y` and `t=s` (RFC 6376, 3.6.1)."""

    public: RSAPublicKey | Ed25519PublicKey
    kind: str
    """`rsa` or `ed25519`."""
    bits: int
    testing: bool
    strict: bool

    def verifies(self, signature: bytes, digest: bytes) -> bool:
        """Whether the signature is this key's, of the text with this SHA-256 (for Ed25519: RFC 8463, 3)."""
        try:
            if isinstance(self.public, Ed25519PublicKey):
                self.public.verify(signature, digest)
            else:
                self.public.verify(signature, digest, _PADDING, _SHA256)
        except (InvalidSignature, UnsupportedAlgorithm, ValueError):
            return False
        return True


@lru_cache(maxsize=1024)  # by the bytes of the record; each at most MAX_RECORD
def _read(record: bytes) -> Key | str:
    found = tags(record)
    if isinstance(found, str):
        return f"the key record cannot be read: {found}"
    if found.get("v", "DKIM1") != "DKIM1":
        return "the key record is of another version"
    if "p" not in found:
        return "the key record has no p="
    if not found["p"]:
        return "the key is revoked"
    if "sha256" not in listed(found.get("h", "sha256")):
        return "the key is not for sha256"
    if not {"*", "email"}.intersection(listed(found.get("s", "*"))):
        return "the key is not for email"
    data = from_base64(found["p"])
    if data is None:
        return "the key is no base64"
    flags = listed(found.get("t", ""))
    kind = found.get("k", "rsa")
    public = _public(kind, data)
    if isinstance(public, str):
        return public
    bits = public.key_size if isinstance(public, RSAPublicKey) else 8 * _ED25519_BYTES
    return Key(public=public, kind=kind, bits=bits, testing="y" in flags, strict="s" in flags)


def read_key(record: bytes) -> Key | str:
    """The key of a TXT record, or a sentence on why it cannot be used."""
    return "the key record is too large" if len(record) > MAX_RECORD else _read(record)


def _public(kind: str, data: bytes) -> RSAPublicKey | Ed25519PublicKey | str:
    try:
        if kind == "rsa":
            return _rsa(data)
        if kind == "ed25519":
            return Ed25519PublicKey.from_public_bytes(data)
    except (ValueError, UnsupportedAlgorithm):
        return f"it is no {kind} key"
    return "the key is of an unknown type"


def _rsa(data: bytes) -> RSAPublicKey | str:
    numbers = _rsa_numbers(data)
    if numbers is None:
        return "it is no rsa key"
    modulus, exponent = numbers
    bits = modulus.bit_length()
    if not LEAST_BITS <= bits <= MOST_BITS:
        return f"the key has {bits:,} bits; {LEAST_BITS:,} to {MOST_BITS:,} are accepted"
    if exponent.bit_length() > MOST_EXPONENT_BITS:
        return f"the exponent of the key has {exponent.bit_length():,} bits; {MOST_EXPONENT_BITS} are accepted"
    return RSAPublicNumbers(exponent, modulus).public_key()


def _rsa_numbers(data: bytes) -> tuple[int, int] | None:
    """Modulus and exponent of a SubjectPublicKeyInfo or of a bare RSAPublicKey (RFC 6376, 3.6.1 and erratum 3017)."""
    inner = _only(data, _SEQUENCE)
    if inner is not None and inner[:1] == bytes((_SEQUENCE,)):
        algorithm, rest = _take(inner, _SEQUENCE)
        bits = _only(rest, _BIT_STRING)
        if algorithm is None or not algorithm.startswith(_RSA) or bits is None or bits[:1] != b"\0":
            return None
        inner = _only(bits[1:], _SEQUENCE)
    if inner is None:
        return None
    modulus, rest = _take(inner, _INTEGER)
    exponent = _only(rest, _INTEGER)
    if not modulus or not exponent or not modulus[-1] & 1:
        return None
    return int.from_bytes(modulus, "big"), int.from_bytes(exponent, "big")


def _only(data: bytes, tag: int) -> bytes | None:
    """The contents of a DER value with nothing after it."""
    contents, rest = _take(data, tag)
    return None if rest else contents


def _take(data: bytes, tag: int) -> tuple[bytes | None, bytes]:
    """The contents of the DER value that begins here (X.690, 8.1), and what follows. None when it is another."""
    if len(data) < 2 or data[0] != tag:
        return None, b""
    size, begin = data[1], 2
    if size >= 0x80:
        begin += size & 0x7F
        if not 2 < begin <= 5 or len(data) < begin:
            return None, b""
        size = int.from_bytes(data[2:begin], "big")
    if len(data) < begin + size:
        return None, b""
    return data[begin : begin + size], data[begin + size :]
