"""The public vectors: each signature has the state that its collection expects."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingester.auth import dkim
from ingester.auth.dkim_key import Key, read_key
from ingester.auth.header import split
from ingester.auth.report import Dkim, Result
from tests.auth.signing import NOW
from tests.zones import Fault, ZoneLookup

_STATES = {
    "SUCCESS": {Result.PASS},
    "PERMFAIL": {Result.FAIL, Result.PERMERROR},
    "TEMPFAIL": {Result.TEMPERROR},
}
_CHASQUID = (
    *("01-rfc8463", "02-too_many_headers", "03-bad_message", "04-bad_dkim_signature_header", "05-dns_temp_error"),
    *("06-dns_perm_error", "07-algo_mismatch", "08-our_signature", "09-limited_body", "10-strict_domain_check_pass"),
    "11-strict_domain_check_fail",
)
_RSA_2003 = (
    "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/"
    "J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryO"
    "TIKT+l/K4w3QIDAQAB"
)
_ED25519_2018 = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
"""The keys of RFC 8463, A."""


def wire(path: Path) -> bytes:
    """A file as a door would have received it: lines end with CRLF."""
    return re.sub(rb"\r?\n", b"\r\n", path.read_bytes())


def zone_of(path: Path) -> dict[str, list[object]]:
    """`name: record` lines, folded with a backslash."""
    out: dict[str, list[object]] = {}
    for line in path.read_text("ascii").replace("\\\n", "").splitlines() if path.exists() else ():
        name, colon, value = line.partition(":")
        if colon:
            text = " ".join(value.split())
            fault = {"TEMPERROR": Fault.SERVFAIL, "PERMERROR": Fault.FORMERR}.get(text)
            out.setdefault(name, []).append(fault or {"TXT": [text]})
    return out


def collection(corpora: Path, name: str) -> Path:
    path = corpora / name
    if not path.is_dir():
        pytest.skip(f"{path} is absent")
    return path


async def judge(raw: bytes, zone: dict[str, list[object]], now: datetime = NOW) -> Dkim:
    return await dkim.verify(ZoneLookup(zone), raw, now=now)


@pytest.mark.parametrize("name", _CHASQUID)
async def test_chasquid(corpora: Path, name: str) -> None:
    folder = collection(corpora, "dkim-chasquid")
    report = await judge(wire(folder / f"{name}.msg"), zone_of(folder / f"{name}.dns"))
    result = folder / f"{name}.result"
    expected = json.loads(result.read_bytes())["Results"] if result.exists() else []
    assert len(report.signatures) == len(expected)
    for ours, theirs in zip(report.signatures, expected, strict=True):
        assert ours.result in _STATES[theirs["State"]], ours
        if theirs["Domain"]:
            assert (ours.domain, ours.selector) == (theirs["Domain"], theirs["Selector"])
            assert ours.digest_prefix == theirs["B"][:8]


async def test_chasquid_in_detail(corpora: Path) -> None:
    folder = collection(corpora, "dkim-chasquid")
    many = await judge(wire(folder / "02-too_many_headers.msg"), zone_of(folder / "02-too_many_headers.dns"))
    assert many.unjudged == 2
    limited = await judge(wire(folder / "09-limited_body.msg"), zone_of(folder / "09-limited_body.dns"))
    assert [one.partial_body for one in limited.signatures] == [True, False, False]
    strict = await judge(
        wire(folder / "11-strict_domain_check_fail.msg"), zone_of(folder / "11-strict_domain_check_fail.dns")
    )
    assert strict.signatures[0].reason == "the key asks that i= be of the very domain d="


@pytest.mark.parametrize("number", range(1, 7))
async def test_stalwart(corpora: Path, number: int) -> None:
    """Each file is a record for each key, an empty line, a mail whose signatures all hold, at the time it was sent."""
    records, _, raw = wire(collection(corpora, "dkim-stalwart") / "dkim" / f"00{number}.txt").partition(b"\r\n\r\n")
    zone: dict[str, list[object]] = {}
    for line in records.decode().splitlines():
        name, _, record = line.partition(" ")
        zone[name] = [{"TXT": [record]}]
    report = await judge(raw, zone, _sent_at(raw))
    assert report.signatures
    assert {one.result for one in report.signatures} == {Result.PASS}
    changed = await judge(raw[:-4] + b"x" + raw[-4:], zone, _sent_at(raw))
    assert {one.result for one in changed.signatures} == {Result.FAIL}


def _sent_at(raw: bytes) -> datetime:
    found = re.search(rb"[;\s]t=(\d+)", raw)
    return datetime.fromtimestamp(int(found[1]), UTC) if found else NOW


async def test_dkimpy_the_example_of_rfc_8463(corpora: Path) -> None:
    folder = collection(corpora, "dkim-dkimpy") / "data"
    zone: dict[str, list[object]] = {
        "brisbane._domainkey.football.example.com": [{"TXT": [_ED25519_2018]}],
        "test._domainkey.football.example.com": [{"TXT": [_RSA_2003]}],
    }
    report = await judge(wire(folder / "rfc6376.signed.msg"), zone)
    assert [(one.result, one.algorithm) for one in report.signatures] == [
        (Result.PASS, "ed25519-sha256"),
        (Result.PASS, "rsa-sha256"),
    ]
    report = await judge(wire(folder / "rfc6376.signed.msg").replace(b"hungry", b"angry"), zone)
    assert {one.result for one in report.signatures} == {Result.FAIL}


async def test_dkimpy_a_signature_of_exim(corpora: Path) -> None:
    folder = collection(corpora, "dkim-dkimpy") / "data"
    record = (folder / "eximtest.dns").read_text().strip()
    report = await judge(wire(folder / "ed25519test2.msg"), {"sed._domainkey.test.ex": [{"TXT": [record]}]})
    assert report.result is Result.PASS


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("test.txt", None),
        ("test2.txt", None),
        ("ed25519test.dns", None),
        ("eximtest.dns", None),
        ("badk.txt", "the key is of an unknown type"),
        ("badversion.txt", "the key record is of another version"),
        ("test_bad.txt", "it is no rsa key"),
        ("test_tlsrpt.txt", "the key is not for email"),
    ],
)
def test_dkimpy_keys(corpora: Path, name: str, reason: str | None) -> None:
    folder = collection(corpora, "dkim-dkimpy") / "data"
    key = read_key((folder / name).read_bytes().strip())
    assert isinstance(key, Key) if reason is None else key == reason


@pytest.mark.parametrize(
    "name", ["test.message", "test2.message", "test_extra.message", "test_nofrom.message", "message.mbox"]
)
async def test_dkimpy_mails_without_their_keys(corpora: Path, name: str) -> None:
    raw = wire(collection(corpora, "dkim-dkimpy") / "data" / name)
    report = await judge(raw, {})
    signed = len(split(raw).all("dkim-signature"))
    assert [one.reason for one in report.signatures] == ["there is no key in DNS"] * signed
    assert report.result is (Result.PERMERROR if signed else Result.NONE)


def every_mail(corpora: Path) -> Iterator[bytes]:
    for pattern in (
        "dkim-*/**/*.msg",
        "dkim-*/**/*.message",
        "dkim-*/**/*.txt",
        "auth-espoofer/**/*",
        "mime-*/**/*.eml",
    ):
        yield from (path.read_bytes() for path in sorted(corpora.glob(pattern)) if path.is_file())


async def test_every_mail_of_the_corpora_is_judged_without_a_key(corpora: Path) -> None:
    mails = 0
    for raw in every_mail(corpora):
        report = await judge(raw, {})
        assert report.result in {Result.NONE, Result.PERMERROR, Result.FAIL, Result.NEUTRAL}
        mails += 1
    assert mails > 100
