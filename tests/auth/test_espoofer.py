"""The ten attacks of espoofer (USENIX Security 2020): none may make the victim's domain the verified sender.

The attacker controls attack.com with all that DNS may hold below it, and sends from an address that SPF lets send for
it. Each attack is also tried with forged Authentication-Results on top, which must change no verdict.
"""

import json
from base64 import b64decode
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dkim as dkimpy
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from ingester.auth import arc, dkim, dmarc, spf
from ingester.auth.policy import verified
from ingester.auth.report import AuthReport
from ingester.auth.results import claims_to_be, read_statements, vouch
from ingester.core.address import parse_path
from ingester.core.message import digest
from ingester.core.mime import Bounds
from tests.zones import ZoneLookup

NOW = datetime.now(UTC)
"""The time at which dkimpy signs."""
OURS = "mx.victim.com"
ATTACKER, SERVICE = "203.0.113.5", "198.51.100.7"
NAMES = (
    "server_a1",
    "server_a3",
    "server_a5",
    "server_a7",
    "server_a9",
    "server_a11",
    "server_a13",
    "server_a15",
    "server_a17",
    "client_a1",
)
FORGED = (
    b"Authentication-Results: mx.victim.com; spf=pass smtp.mailfrom=legitimate.com; dkim=pass header.d=legitimate.com;"
    b"\r\n dmarc=pass header.from=legitimate.com\r\n"
    b"Authentication-Results: MX.VICTIM.COM 1; dmarc=pass header.from=example.com\r\n"
    b"Authentication-Results: mx.google.com; dmarc=pass (p=REJECT) header.from=legitimate.com\r\n"
    b"Received-SPF: pass client-ip=203.0.113.5; envelope-from=admin@legitimate.com\r\n"
    b"X-Authentication-Results: mx.victim.com; dmarc=pass\r\n"
)


@dataclass(frozen=True, kw_only=True)
class Attack:
    """What one attacker sends."""

    raw: bytes
    helo: str
    mail_from: str
    ip: str


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def cases(corpora: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((corpora / "auth-espoofer" / "cases.json").read_text())
    return read


@pytest.fixture(scope="module")
def zone(key: rsa.RSAPrivateKey) -> dict[str, list[Any]]:
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    record = "v=DKIM1; p=" + "".join(public.decode().splitlines()[1:-1])
    attackers = ("attack.com", "helo.attack.com", "33.attack.com", "a.attack.com", "legitimate.com(a.attack.com")
    return {
        **{name: [("TXT", "v=spf1 ip4:203.0.113.5 -all")] for name in attackers},
        "selector._domainkey.attack.com": [("TXT", record)],
        "selector._domainkey.example.com": [("TXT", record)],
        "legitimate.com": [("TXT", "v=spf1 ip4:192.0.2.0/24 -all")],
        "_dmarc.legitimate.com": [("TXT", "v=DMARC1; p=reject")],
        "example.com": [("TXT", "v=spf1 ip4:198.51.100.7 -all")],
        "_dmarc.example.com": [("TXT", "v=DMARC1; p=reject")],
    }


def attack(name: str, case: dict[str, Any], key: rsa.RSAPrivateKey) -> Attack:
    """The attack as its author means it: signed where he signs, or where the service that he abuses does."""
    data = {part: b64decode(value["b64"]) for part, value in case["data"].items()}
    parts = ("from_header", "to_header", "subject_header", "other_headers", "body")
    raw = b"".join(data[part] for part in parts)
    if name == "client_a1":
        raw = sign(raw, b"selector", b"example.com", key) + raw
    elif "dkim_para" in case:
        given = {part: b64decode(value["b64"]) for part, value in case["dkim_para"].items()}
        raw = sign(raw, given["s"], given["d"], key) + raw
    return Attack(
        raw=raw,
        helo=b64decode(case["helo"]["b64"]).decode(),
        mail_from=b64decode(case["mailfrom"]["b64"]).decode()[1:-1],
        ip=SERVICE if name == "client_a1" else ATTACKER,
    )


def sign(raw: bytes, selector: bytes, domain: bytes, key: rsa.RSAPrivateKey) -> bytes:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    signed: bytes = dkimpy.sign(raw, selector, domain, pem, canonicalize=(b"relaxed", b"relaxed"))
    return signed


async def judge(one: Attack, zone: dict[str, list[Any]]) -> AuthReport:
    """As a door does it: a sender that is no address is not taken; a source route is dropped (RFC 5321, appendix C)."""
    lookup = ZoneLookup(zone)
    path = parse_path(one.mail_from)
    sender = str(path) if path else one.mail_from
    own = await spf.check_mail_from(lookup, ip=one.ip, helo=one.helo, mail_from=sender, receiver=OURS, now=NOW)
    signatures = await dkim.verify(lookup, one.raw, now=NOW, beside=None)
    message = digest(one.raw, Bounds())
    return AuthReport(
        spf=own,
        helo=None,
        dkim=signatures,
        dmarc=await dmarc.evaluate(
            lookup, authors=message.authors, from_fields=message.from_fields, spf=own, dkim=signatures
        ),
        arc=await arc.verify_chain(lookup, one.raw, now=NOW, beside=None),
    )


@pytest.mark.parametrize("name", NAMES)
async def test_attack(name: str, cases: dict[str, Any], zone: dict[str, list[Any]], key: rsa.RSAPrivateKey) -> None:
    report = await judge(attack(name, cases[name], key), zone)
    assert report.dmarc.result in ("fail", "permerror")
    assert report.dmarc.mail_at_fault or report.dmarc.disposition == "reject"
    assert not report.dmarc.aligned
    assert not verified(report, accept_forwarded=True)


@pytest.mark.parametrize("name", NAMES)
async def test_forged_results_change_nothing(
    name: str, cases: dict[str, Any], zone: dict[str, list[Any]], key: rsa.RSAPrivateKey
) -> None:
    plain = attack(name, cases[name], key)
    forged = replace(plain, raw=FORGED + plain.raw)
    first, second = await judge(plain, zone), await judge(forged, zone)
    assert first == second
    statements = read_statements(forged.raw)
    assert [claims_to_be(one, OURS) for one in statements] == [True, True, False]
    assert not vouch(
        arc=second.arc,
        statements=statements,
        trusted_sealers=("google.com", "legitimate.com"),
        trusted_ids=(),  # the attacker's address is not the upstream's
        from_domain=second.dmarc.from_domain,
    )


def test_all_attacks_are_here(cases: dict[str, Any]) -> None:
    assert set(cases) == set(NAMES)


async def test_the_zone_would_let_an_honest_mail_pass(zone: dict[str, list[Any]], key: rsa.RSAPrivateKey) -> None:
    """Otherwise the attacks would fail for a wrong reason."""
    raw = b"From: <someone@example.com>\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\nSubject: hi\r\n\r\nHi\r\n"
    signed = sign(raw, b"selector", b"example.com", key) + raw
    report = await judge(Attack(raw=signed, helo="mx.example.com", mail_from="someone@example.com", ip=SERVICE), zone)
    assert [one.method for one in report.dmarc.aligned] == ["spf", "dkim"]
    assert verified(report, accept_forwarded=False)
