"""DKIM signing for the corpus (RFC 6376): seeded RSA-2048 keys, relaxed/relaxed, fast enough to sign every mail.

It only signs what this package composed. The daemon has its own code for verifying, and shares nothing with this.
"""

import base64
import hashlib
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

EXPONENT = 65537
SIGNED = (
    *(b"from", b"to", b"cc", b"subject", b"date", b"message-id", b"in-reply-to", b"references"),
    *(b"mime-version", b"content-type", b"content-transfer-encoding"),
)
"""Fields that are signed where the mail has them (RFC 6376, 5.4.1)."""

_BLANKS = re.compile(rb"[ \t]{2,}|\t")


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """One signing domain with its key."""

    domain: str
    selector: str
    key: rsa.RSAPrivateKey

    @property
    def record(self) -> str:
        """The TXT record that stands at `<selector>._domainkey.<domain>`."""
        der = self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return f"v=DKIM1; k=rsa; p={base64.b64encode(der).decode('ascii')}"

    def sign(self, fields: Sequence[bytes], body: bytes, *, unix_time: int) -> bytes:
        """The DKIM-Signature field with its CRLF. `fields` are whole fields with CRLF; signed names occur once."""
        by_name = {field[: field.index(b":")].lower(): field for field in fields}
        names = [name for name in SIGNED if name in by_name]
        digest = base64.b64encode(hashlib.sha256(relax_body(body)).digest())
        field = (
            b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=%b;\r\n s=%b; t=%d;\r\n h=%b;\r\n bh=%b;\r\n b="
            % (self.domain.encode(), self.selector.encode(), unix_time, b":".join(names), digest)
        )
        text = b"".join(relax_field(by_name[name]) + b"\r\n" for name in names) + relax_field(field)
        signature = base64.b64encode(self.key.sign(text, padding.PKCS1v15(), hashes.SHA256()))
        return field + b"\r\n  ".join(signature[at : at + 72] for at in range(0, len(signature), 72)) + b"\r\n"


def relax_field(field: bytes) -> bytes:
    """Relaxed header canonicalisation without the CRLF (RFC 6376, 3.4.2)."""
    name, _, value = field.replace(b"\r\n", b"").partition(b":")
    return name.strip().lower() + b":" + _BLANKS.sub(b" ", value).strip(b" ")


def relax_body(body: bytes) -> bytes:
    """Relaxed body canonicalisation (RFC 6376, 3.4.4), linear: blanks are compressed before those at line ends go."""
    if b"  " in body or b"\t" in body:
        body = _BLANKS.sub(b" ", body)
    body = body.replace(b" \r\n", b"\r\n")
    end = len(body)
    while body.endswith(b"\r\n", 0, end):
        end -= 2
    return body[:end] + b"\r\n" if end else b""


def make_signer(domain: str, *, selector: str, seed: int) -> Signer:
    """A signer whose key depends on the domain and the seed only. For benchmarks: the key is no secret."""
    rng = random.Random(f"dkim {seed} {domain}")
    while True:
        p, q = _prime(rng), _prime(rng)
        if p != q and math.gcd((p - 1) * (q - 1), EXPONENT) == 1 and (p * q).bit_length() == 2048:
            break
    d = pow(EXPONENT, -1, (p - 1) * (q - 1))
    numbers = rsa.RSAPrivateNumbers(
        p=p,
        q=q,
        d=d,
        dmp1=d % (p - 1),
        dmq1=d % (q - 1),
        iqmp=pow(q, -1, p),
        public_numbers=rsa.RSAPublicNumbers(EXPONENT, p * q),
    )
    return Signer(domain=domain, selector=selector, key=numbers.private_key())


@lru_cache(maxsize=1)
def _small_primes() -> tuple[int, ...]:
    sieve = bytearray([1]) * 20_000
    for step in range(2, 142):
        sieve[step * step :: step] = bytes(len(range(step * step, len(sieve), step)))
    return tuple(number for number in range(3, len(sieve)) if sieve[number])


def _prime(rng: random.Random) -> int:
    """The next probable prime after a random 1,024-bit number with its two top bits set, so that p*q has 2,048 bits."""
    start = rng.getrandbits(1024) | 3 << 1022 | 1
    window = bytearray(8192)
    for small in _small_primes():
        first = -start * pow(2, -1, small) % small  # the first i with start + 2*i divisible by small
        window[first::small] = b"\1" * len(range(first, len(window), small))
    for i, composite in enumerate(window):
        if not composite and _is_prime(start + 2 * i):
            return start + 2 * i
    return _prime(rng)


def _is_prime(number: int) -> bool:
    """Miller-Rabin; for random 1,024-bit numbers a few rounds err less often than the hardware does."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (2, 3, 5, 7):
        x = pow(base, odd, number)
        if x in (1, number - 1):
            continue
        for _ in range(twos - 1):
            x = x * x % number
            if x == number - 1:
                break
        else:
            return False
    return True
