"""Signs mails for the tests with dkimpy's parts and `cryptography`: nothing of ours canonicalises here."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

import dkim as dkimpy
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from dkim.canonicalization import CanonicalizationPolicy

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
DOMAIN, SELECTOR = "example.test", "sel"
KEY_NAME = f"{SELECTOR}._domainkey.{DOMAIN}"
MAIL = (
    b"Received: from a.test\r\n\tby b.test;  Wed, 1 Jul 2026 12:00:00 +0000\r\n"
    b"From: Ann <ann@example.test>\r\nTo: Bob <bob@b.test>\r\nSubject:  Two  blanks \r\n\tand a fold\r\n"
    b"Date: Wed, 1 Jul 2026 12:00:00 +0000\r\n\r\nHello  Bob, \r\n\r\nsee\tyou.\r\n\r\n\r\n"
)


class _Collect:
    """Looks like a hash to dkimpy and keeps what it is fed."""

    def __init__(self) -> None:
        self.data = b""

    def update(self, data: bytes) -> None:
        self.data += data


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """One key, and the domain it signs for."""

    key: rsa.RSAPrivateKey | Ed25519PrivateKey
    domain: str = DOMAIN
    selector: str = SELECTOR

    @property
    def algorithm(self) -> str:
        return "rsa-sha256" if isinstance(self.key, rsa.RSAPrivateKey) else "ed25519-sha256"

    def record(self, **tags: str) -> str:
        """The TXT record; `tags` come before `p=`."""
        kind = self.algorithm.partition("-")[0]
        stated = {"v": "DKIM1", "k": kind} | tags
        return "; ".join(f"{name}={value}" for name, value in stated.items()) + f"; p={self.public()}"

    def public(self) -> str:
        if isinstance(self.key, Ed25519PrivateKey):
            return base64.b64encode(self.key.public_key().public_bytes_raw()).decode()
        der, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        return base64.b64encode(self.key.public_key().public_bytes(der, form)).decode()

    def sign(
        self,
        raw: bytes,
        *,
        headers: Sequence[str] = ("from", "to", "subject", "date"),
        canon: str = "relaxed/relaxed",
        length: int | None = None,
        tags: Mapping[str, str | None] | None = None,
    ) -> bytes:
        """The mail with a signature on top. `tags` replace those that would stand there; None leaves one out."""
        fields, body = dkimpy.rfc822_parse(raw)
        policy = CanonicalizationPolicy.from_c_value(canon.encode())
        digest = base64.b64encode(hashlib.sha256(policy.canonicalize_body(body)[:length]).digest()).decode()
        stated: dict[str, str | None] = {"v": "1", "a": self.algorithm, "c": canon, "d": self.domain}
        stated |= {"s": self.selector, "t": str(int(NOW.timestamp())), "h": ":".join(headers), "bh": digest}
        stated |= {"l": None if length is None else str(length)} | dict(tags or {})
        value = "".join(f" {name}={text};\r\n" for name, text in stated.items() if text is not None).encode() + b" b="
        collected = _Collect()
        named = [name.encode().lower() for name in (stated["h"] or "").split(":")]
        own = (b"DKIM-Signature", value)
        dkimpy.hash_headers(collected, policy, policy.canonicalize_headers(fields), named, own, None)
        return b"DKIM-Signature:" + value + base64.b64encode(self._sign(collected.data)) + b"\r\n" + raw

    def _sign(self, text: bytes) -> bytes:
        if isinstance(self.key, Ed25519PrivateKey):
            return self.key.sign(hashlib.sha256(text).digest())
        return self.key.sign(text, padding.PKCS1v15(), hashes.SHA256())


@cache
def rsa_signer(bits: int = 1024, domain: str = DOMAIN, selector: str = SELECTOR) -> Signer:
    return Signer(key=rsa.generate_private_key(65537, bits), domain=domain, selector=selector)


@cache
def ed25519_signer(domain: str = DOMAIN, selector: str = SELECTOR) -> Signer:
    return Signer(key=Ed25519PrivateKey.generate(), domain=domain, selector=selector)


def zone(*records: str, name: str = KEY_NAME) -> dict[str, list[dict[str, list[str] | str]]]:
    """Zone data with the records at the name of a key."""
    return {name: [{"TXT": [record[at : at + 255] for at in range(0, len(record), 255)]} for record in records]}
