"""Attacks on the whole way, from the bytes to the rows: nobody becomes a sender that he is not.

The ten attacks of espoofer (USENIX Security 2020), and a table of our own: what strangers write so that one reader sees
another author than the one who was judged.
"""

import json
from base64 import b64decode
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from ingester.app import App
from ingester.clock import new_id, now
from ingester.core.address import parse_path
from ingester.core.envelope import Client, Door, Envelope, Recipient
from ingester.core.outcome import Outcome, Reason
from ingester.settings import load
from tests.auth.signing import Signer, rsa_signer
from tests.daemon import Town, settle
from tests.nameserver import NameServer
from tests.signing import key_record, sealed
from tests.zones import Fault

ATTACKER, SERVICE = "203.0.113.5", "198.51.100.7"
OURS = "mx.acme.test"


def signer(domain: str, selector: str = "s") -> Signer:
    """The one key of an attacker, or of a victim."""
    owner = "the attacker" if domain in ("attack.com", "evil.test") else domain
    return Signer(key=rsa_signer(1024, owner).key, domain=domain, selector=selector)


SPF = [{"TXT": f"v=spf1 ip4:{ATTACKER} -all"}]
VICTIMS, ATTACKERS = [{"TXT": signer("victim.test").record()}], [{"TXT": signer("evil.test").record()}]
MANY = [{"MX": [1, f"mx{n}.evil.test"]} for n in range(10)]
ZONE: dict[str, list[Any]] = {
    # espoofer's names
    **dict.fromkeys(("attack.com", "helo.attack.com", "33.attack.com", "a.attack.com"), SPF),
    "selector._domainkey.attack.com": ATTACKERS,
    "legitimate.com": [{"TXT": "v=spf1 ip4:192.0.2.0/24 -all"}],
    "_dmarc.legitimate.com": [{"TXT": "v=DMARC1; p=reject"}],
    "example.com": [{"TXT": f"v=spf1 ip4:{SERVICE} -all"}],
    "_dmarc.example.com": [{"TXT": "v=DMARC1; p=reject"}],
    "s._domainkey.example.com": [{"TXT": signer("example.com").record()}],
    # ours
    "victim.test": [{"TXT": "v=spf1 ip4:192.0.2.0/24 -all"}],
    "_dmarc.victim.test": [{"TXT": "v=DMARC1; p=reject"}],
    "s._domainkey.victim.test": VICTIMS,
    "xn--bcher-kva.test": [{"TXT": "v=spf1 -all"}],
    "_dmarc.xn--bcher-kva.test": [{"TXT": "v=DMARC1; p=reject"}],
    **dict.fromkeys(("evil.test", "victim.test.evil.test", "mx.evil.test"), SPF),
    "_dmarc.evil.test": [{"TXT": "v=DMARC1; p=reject"}],
    "s._domainkey.evil.test": ATTACKERS,
    # those who seal
    "s._domainkey.list.test": [{"TXT": key_record()}],
    "s._domainkey.sealer.evil.test": [{"TXT": key_record()}],
    "s._domainkey.away.test": [Fault.SERVFAIL],
    "5.113.0.203.in-addr.arpa": [{"PTR": "a\0b.evil.test"}],
    # what costs
    "many.evil.test": [{"TXT": "v=spf1 " + " ".join(f"mx:m{n}.evil.test" for n in range(10)) + " -all"}],
    **{f"m{n}.evil.test": MANY for n in range(10)},
    **{f"mx{n}.evil.test": [{"A": "192.0.2.77"}] for n in range(10)},
    "slow.evil.test": [Fault.TIMEOUT],
}
FORGED = (
    b"Authentication-Results: mx.acme.test; spf=pass smtp.mailfrom=legitimate.com; dkim=pass header.d=legitimate.com;"
    b"\r\n dmarc=pass header.from=legitimate.com\r\n"
    b"Authentication-Results: MX.ACME.TEST 1; dmarc=pass header.from=example.com\r\n"
    b"Authentication-Results: up.test; dmarc=pass (p=REJECT) header.from=legitimate.com\r\n"
    b"Received-SPF: pass client-ip=203.0.113.5; envelope-from=admin@legitimate.com\r\n"
)


@pytest.fixture
async def town(database_url: str) -> Town:
    return await settle(database_url, {"acme.test": ("support", "sales")})


@pytest.fixture
async def app(town: Town) -> AsyncIterator[App]:
    async with NameServer(zone=ZONE) as server:
        host, port = server.address
        settings: dict[str, Any] = {"dns__nameservers": f"{host}:{port}", "auth__authserv_id": OURS}
        one = App(load({}, env="development", database_url=town.url, **settings))
        await one.open()
        yield one
        await one.close()


@dataclass(frozen=True, kw_only=True)
class Attack:
    """What one attacker sends."""

    raw: bytes
    mail_from: str = "x@evil.test"
    ip: str = ATTACKER
    helo: str = "mx.evil.test"


async def send(app: App, one: Attack, *recipients: str) -> Outcome:
    """As a door does it: a source route is dropped (RFC 5321, appendix C)."""
    path = parse_path(one.mail_from)
    addresses = [parse_path(text) for text in recipients or ("support@acme.test",)]
    return await app.pipeline.accept(
        Envelope(
            door=Door.SMTP,
            raw=one.raw,
            mail_from=str(path) if path else one.mail_from,
            recipients=tuple(Recipient(address=address) for address in addresses if address is not None),
            client=Client(ip=one.ip, helo=one.helo),
            arrival_id=new_id(),
            received_at=now(),
        )
    )


async def rows(town: Town) -> list[asyncpg.Record]:
    return await town.fetch(
        "SELECT m.* FROM messages m JOIN mailboxes b ON b.tenant_id = m.tenant_id AND b.id = m.mailbox_id"
        " ORDER BY b.local_part DESC"
    )


async def policy(town: Town, name: str) -> None:
    await town.fetch("UPDATE mailboxes SET auth_policy = $1 WHERE local_part = 'support'", name)


# -- espoofer --------------------------------------------------------------------------------------------------------

ESPOOFER = (
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


def espoofed(corpora: Path, name: str, *, prefix: bytes = b"") -> Attack:
    """The attack as its author means it: signed where he signs, or where the service that he abuses does."""
    case = json.loads((corpora / "auth-espoofer" / "cases.json").read_text())[name]
    data = {part: b64decode(value["b64"]) for part, value in case["data"].items()}
    raw = b"".join(data[part] for part in ("from_header", "to_header", "subject_header", "other_headers", "body"))
    if name == "client_a1":
        raw = signer("example.com").sign(raw)
    elif "dkim_para" in case:
        para = {part: b64decode(value["b64"]).decode() for part, value in case["dkim_para"].items()}
        raw = Signer(key=signer("attack.com").key, domain=para["d"], selector=para["s"]).sign(raw)
    return Attack(
        raw=prefix + raw,
        mail_from=b64decode(case["mailfrom"]["b64"]).decode()[1:-1],
        helo=b64decode(case["helo"]["b64"]).decode(),
        ip=SERVICE if name == "client_a1" else ATTACKER,
    )


@pytest.mark.parametrize("name", ESPOOFER)
async def test_espoofer_never_becomes_the_victim(app: App, town: Town, corpora: Path, name: str) -> None:
    await send(app, espoofed(corpora, name))
    (row,) = await rows(town)
    assert row["dmarc"] in ("fail", "permerror")
    assert not row["sender_verified"]
    assert row["contact_id"] is None
    assert await town.fetch("SELECT 1 FROM contacts") == []


@pytest.mark.parametrize("name", ESPOOFER)
async def test_espoofer_is_refused_where_policies_are_enforced(app: App, town: Town, corpora: Path, name: str) -> None:
    await policy(town, "enforce")
    assert (await send(app, espoofed(corpora, name))).reason is Reason.AUTHENTICATION_FAILED
    await policy(town, "quarantine")
    await send(app, espoofed(corpora, name))
    assert [row["quarantined"] for row in await rows(town)] == [True]


@pytest.mark.parametrize("name", ESPOOFER)
async def test_forged_results_change_no_verdict(app: App, town: Town, corpora: Path, name: str) -> None:
    await town.fetch("INSERT INTO forwarders SELECT id, 'arc', 'legitimate.com' FROM tenants WHERE slug = 'acme'")
    await town.fetch(
        "INSERT INTO forwarders SELECT id, 'authserv_id', 'up.test', '{192.0.2.0/24}' FROM tenants WHERE slug = 'acme'"
    )
    columns = "spf, dkim, dmarc, arc, sender_verified, quarantined, from_address, from_name, contact_id, kind, subject"
    seen = []
    for prefix in (b"", FORGED):
        await send(app, espoofed(corpora, name, prefix=prefix))
        seen += await town.fetch(f"SELECT {columns} FROM messages")
        reports = await town.fetch("SELECT auth_report FROM receipts")
        assert msgspec.json.decode(reports[0]["auth_report"])["set_aside"] == 2 * bool(prefix)
        await town.fetch("TRUNCATE messages, receipts, claims")
    assert seen[0] == seen[1]


def test_all_of_espoofer_is_here(corpora: Path) -> None:
    assert set(json.loads((corpora / "auth-espoofer" / "cases.json").read_text())) == set(ESPOOFER)


# -- our own table ---------------------------------------------------------------------------------------------------


def mail(head: str | bytes, *, more: str = "", body: str = "Pay at once.\r\n") -> bytes:
    """A mail that begins with these lines, which hold its From."""
    start = head if isinstance(head, bytes) else head.encode()
    return start + f"\r\nTo: support@acme.test\r\nSubject: Hi\r\nMessage-ID: <a@evil.test>\r\n{more}\r\n{body}".encode()


def evil(head: str | bytes, **more: Any) -> Attack:
    """A mail from the attacker's own host, for which SPF speaks: only its From is doubtful."""
    return Attack(raw=mail(head, **more))


CEO = "ceo@victim.test"
X = "x@evil.test"
FROM_SHAPES: dict[str, str | bytes] = {
    "plain": f"From: {CEO}",
    "two fields": f"From: {X}\r\nFrom: {CEO}",
    "two fields, the other way": f"From: {CEO}\r\nFrom: {X}",
    "a blank before the colon": f"From: {X}\r\nFrom : {CEO}",
    "a tab before the colon": f"From\t: {CEO}\r\nFrom: {X}",
    "another case": f"FROM: {CEO}\r\nfrom: {X}",
    "two addresses": f"From: {X}, {CEO}",
    "two addresses, the other way": f"From: {CEO}, {X}",
    "two addresses with a semicolon": f"From: {CEO}; {X}",
    "two in brackets": f"From: <{CEO}> <{X}>",
    "two words": f"From: {CEO} {X}",
    "two words in brackets": f"From: <{CEO} {X}>",
    "a comma in brackets": f"From: <{CEO},{X}>",
    "a bracket left open": f"From: <{CEO}\r\n <{X}>",
    "brackets in brackets": f"From: <{CEO}<{X}>>",
    "a second at sign": f"From: <{CEO}@evil.test>",
    "a second at sign, bare": f"From: {CEO}@evil.test",
    "a second at sign, the other way": f"From: <{X}@victim.test>",
    "quoted, then another": f'From: <"x"@victim.test, {X}>',
    "quoted and a blank": f'From: <"x" {CEO} {X}>',
    "a group's name is an address": f"From: {CEO}:{X};",
    "a group's name, brackets": f"From: {CEO}: <{X}>;",
    "an empty group, then an address": f"From: {CEO}:;, {X}",
    "a source route": f"From: <@evil.test:{CEO}>",
    "a source route, the other way": f"From: <@evil.test,@x.test:{CEO}>",
    "a comment as the domain": f"From: {CEO}(.evil.test)",
    "a comment in brackets": "From: <ceo@(evil.test)victim.test>",
    "an open comment": f"From: {CEO}({X}",
    "an open comment in brackets": f"From: <{CEO}(>{X})>",
    "an encoded address": "From: =?utf-8?q?ceo=40victim=2Etest?=",
    "an encoded address, and another": f"From: =?utf-8?b?PGNlb0B2aWN0aW0udGVzdD4=?=,<{X}>",
    "an encoded local part": "From: =?utf-8?q?ceo=40victim=2Etest?=@evil.test",
    "an encoded domain": "From: ceo@=?utf-8?q?victim=2Etest?=",
    "a NUL after the domain": f"From: <{CEO}\0.evil.test>",
    "a NUL before the other": f"From: <{CEO}\0{X}>",
    "a NUL field name": f"From\0: {CEO}\r\nFrom: {X}",
    "a control character": f"From: <{CEO}\x01@evil.test>",
    "a bare CR": f"From: {X}\rFrom: {CEO}",
    "a bare CR, the other way": f"From: {CEO}\rFrom: {X}",
    "a bare LF": f"From: {X}\nFrom: {CEO}",
    "a vertical tab": f"From: {CEO}\x0b{X}",
    "a line separator": f"From: {CEO}\u2028{X}",
    "a byte order mark": f"\ufeffFrom: {CEO}\r\nFrom: {X}",
    "a byte order mark alone": f"\ufeffFrom: {CEO}",
    "a line of mbox": f"From {CEO} Thu Jan  1 00:00:00 1970\r\nFrom: {X}",
    "a line of mbox that is a field": f"From : {CEO}\r\nFrom: {X}",
    "behind a line that is no field": f"From: {X}\r\nno field at all\r\nFrom: {CEO}",
    "behind a boundary": f"From: {X}\r\n--boundary\r\nFrom: {CEO}",
    "folded away": f"From:\r\n {CEO}\r\n\t{X}",
    "a continuation first": f" {CEO}\r\nFrom: {X}",
    "an empty field first": f"From:\r\nFrom: {X}",
    "a fold of blanks": f"From: {X}\r\n \r\n {CEO}",
    "trailing dot": f"From: <{CEO}.>",
    "two trailing dots": f"From: <{CEO}..>",
    "upper case": "From: <CEO@VICTIM.TEST>",
    "full width letters": "From: <ceo@\uff56\uff49\uff43\uff54\uff49\uff4d.test>",
    "a full width at sign": "From: <ceo\uff20victim.test@evil.test>",
    "a full stop of another script": "From: <ceo@victim\u3002test>",
    "a soft hyphen": "From: <ceo@vic\u00adtim.test>",
    "a zero width joiner": "From: <ceo@vic\u200dtim.test>",
    "a U-label": "From: <ceo@bücher.test>",
    "an upper U-label": "From: <ceo@BÜCHER.test>",
    "decomposed": "From: <ceo@bu\u0308cher.test>",
    "a literal that is none": "From: <ceo@[victim.test]>",
    "a literal of the victim": "From: <ceo@[192.0.2.1]>",
    "no domain": "From: <ceo>",
    "nothing": "From:",
    "no From": "Reply-To: ceo@victim.test",
    "many before it": f"From: {X}{',' * 10_001}{CEO}",
    "blanks before it": f"From: {X}," + " ," * 10_001 + CEO,
    "a long local part": f"From: <{'a' * 2000}@evil.test{CEO}>",
    "beyond the fields": f"From: {X}" + "\r\nX: y" * 1000 + f"\r\nFrom: {CEO}",
    "beyond the bytes": f"From: {X}\r\nX: {'y' * (256 << 10)}\r\nFrom: {CEO}",
    "a name that is an address": f'From: "{CEO}" <{X}>',
    "an unquoted name that is an address": f"From: {CEO} <{X}>",
    "a quoted local part": f'From: <"{CEO}"@evil.test>',
    "a subdomain of the attacker": f"From: <{CEO}.evil.test>",
}
READ_ONE_WAY = {
    "a name that is an address",
    "an unquoted name that is an address",
    "a quoted local part",
    "a subdomain of the attacker",
    "a byte order mark",
    "a NUL field name",
    "a line of mbox",
    "a continuation first",
    "behind a boundary",
}
"""What names the attacker alone, by the one From field that is there."""


@pytest.mark.thorough
@pytest.mark.parametrize("shape", FROM_SHAPES)
async def test_what_people_see_is_what_was_judged(app: App, town: Town, shape: str) -> None:
    await town.fetch("UPDATE mailboxes SET auth_policy = 'enforce' WHERE local_part = 'sales'")
    await send(app, evil(FROM_SHAPES[shape]), "support@acme.test", "sales@acme.test")
    row, *enforced = await rows(town)
    passed = row["sender_verified"] or row["dmarc"] in ("pass", "pass_via_forwarder")
    assert passed == (shape in READ_ONE_WAY)
    if passed:
        assert row["from_address"] in (X, f'"{CEO}"@evil.test', f"{CEO}.evil.test")
    else:
        assert await town.fetch("SELECT 1 FROM contacts") == []
    assert len(enforced) == (passed or row["dmarc"] == "none")


# -- envelopes, signatures, seals ------------------------------------------------------------------------------------


def victims(more: str = "") -> bytes:
    """A mail that the victim really signed, for somebody else."""
    return signer("victim.test").sign(mail(f"From: {CEO}", more=more), headers=("from", "to", "subject"))


def own(**more: Any) -> bytes:
    """A mail in the victim's name that the attacker signed: with his key, and with the tags he likes."""
    return signer("evil.test").sign(mail(f"From: {CEO}"), **more)


RESULTS = "dmarc=pass header.from=victim.test"
ON_TOP = f"Authentication-Results: up.test; {RESULTS}\r\n".encode()
ATTACKS: dict[str, Attack] = {
    "null sender": Attack(raw=mail(f"From: {CEO}"), mail_from=""),
    "null sender, the victim's HELO": Attack(raw=mail(f"From: {CEO}"), mail_from="", helo="victim.test"),
    "the victim's HELO": Attack(raw=mail(f"From: {CEO}"), helo="victim.test"),
    "the victim's MAIL FROM": Attack(raw=mail(f"From: {CEO}"), mail_from=CEO),
    "a subdomain that is not there": Attack(raw=mail(f"From: {CEO}"), mail_from="x@no.victim.test"),
    "a subdomain of the victim as HELO": Attack(raw=mail(f"From: {CEO}"), mail_from="", helo="no.victim.test"),
    "the victim below the attacker": Attack(raw=mail(f"From: {CEO}"), mail_from="x@victim.test.evil.test"),
    "two at signs in MAIL FROM": Attack(raw=mail(f"From: {CEO}"), mail_from="x@evil.test@victim.test"),
    "a NUL in MAIL FROM": Attack(raw=mail(f"From: {CEO}"), mail_from="x@victim.test\0.evil.test"),
    "a comment in MAIL FROM": Attack(raw=mail(f"From: {CEO}"), mail_from="x@victim.test(.evil.test"),
    "a NUL in HELO": Attack(raw=mail(f"From: {CEO}"), mail_from="", helo="victim.test\0.evil.test"),
    "a surrogate in HELO": Attack(raw=mail(f"From: {CEO}"), helo="\udcff.evil.test"),
    "another's signature": Attack(raw=own()),
    "i= of the victim": Attack(raw=own(tags={"i": CEO})),
    "d= of the victim": Attack(raw=own(tags={"d": "victim.test"})),
    "d= twice": Attack(raw=own(tags={"d": "evil.test; d=victim.test"})),
    "d= of the root": Attack(raw=own(tags={"d": "test"})),
    "d= with a NUL": Attack(raw=own(tags={"d": "victim.test\0.evil.test"})),
    "s= that ends elsewhere": Attack(raw=own(tags={"d": "victim.test", "s": "s._domainkey.evil.test.\0"})),
    "s= with a slash": Attack(raw=own(tags={"d": "victim.test", "s": "s._domainkey.evil.test\\."})),
    "d= in full width": Attack(raw=own(tags={"d": "\uff56ictim.test"})),
    "From is not signed": Attack(raw=own(headers=("to",), tags={"d": "victim.test"})),
    "no algorithm": Attack(raw=own(tags={"d": "victim.test", "a": "none"})),
    "the victim's, another From": Attack(raw=victims().replace(b"From: ceo@", b"From: cfo@")),
    "the victim's, a From added": Attack(raw=f"From: {X}\r\n".encode() + victims()),
    "the victim's, a From added below": Attack(raw=victims().replace(b"\r\n\r\n", b"\r\nFrom: x@evil.test\r\n\r\n", 1)),
    "the victim's, a Subject added": Attack(raw=b"Subject: Pay Eve\r\n" + victims()),
    "the victim's, a Reply-To added": Attack(
        raw=b"Reply-To: x@evil.test\r\n"
        + signer("victim.test").sign(mail(f"From: {CEO}", more=f"Reply-To: {CEO}\r\n"), headers=("from", "reply-to"))
    ),
    "the victim's, another body": Attack(raw=victims() + b"And to Eve.\r\n"),
    "the victim's, signed in part": Attack(
        raw=signer("victim.test").sign(mail(f"From: {CEO}"), length=5) + b"And to Eve.\r\n"
    ),
    "a signature of nothing": Attack(raw=signer("victim.test").sign(mail(f"From: {CEO}"), length=0)),
    "a stranger's seal": Attack(raw=sealed(mail(f"From: {CEO}"), "sealer.evil.test", RESULTS)),
    "a seal for another From": Attack(
        raw=sealed(mail(f"From: {CEO}"), "list.test", "dmarc=pass header.from=evil.test")
    ),
    "a seal on a failure": Attack(
        raw=sealed(
            mail(f"From: {CEO}"), "list.test", "dmarc=fail header.from=victim.test; spf=pass smtp.mailfrom=evil.test"
        )
    ),
    "a seal, another From later": Attack(
        raw=sealed(mail(f"From: {X}"), "list.test", RESULTS).replace(b"From: x@evil.test", b"From: ceo@victim.test")
    ),
    "a seal, another body later": Attack(raw=sealed(mail(f"From: {CEO}"), "list.test", RESULTS) + b"And to Eve.\r\n"),
    "a seal, two From": Attack(raw=f"From: {CEO}\r\n".encode() + sealed(mail(f"From: {X}"), "list.test", RESULTS)),
    "the upstream's name": Attack(raw=ON_TOP + mail(f"From: {CEO}")),
    "our name": Attack(raw=ON_TOP.replace(b"up.test", OURS.encode()) + mail(f"From: {CEO}")),
    "the sealer's name": Attack(raw=ON_TOP.replace(b"up.test", b"list.test") + mail(f"From: {CEO}")),
    "many questions": Attack(raw=mail(f"From: {CEO}"), mail_from="x@many.evil.test", helo="many.evil.test"),
    "many signatures": Attack(raw=b"DKIM-Signature: v=1\r\n" * 900 + mail(f"From: {CEO}")),
}


@pytest.mark.parametrize("name", ATTACKS)
async def test_nobody_is_taken_for_the_victim(app: App, town: Town, name: str) -> None:
    """With a trusted sealer and upstream in the registry, and the victim on an allowlist."""
    await town.fetch(
        "INSERT INTO forwarders SELECT id, v.* FROM tenants,"
        " (VALUES ('arc', 'list.test', '{}'::cidr[]), ('authserv_id', 'up.test', '{192.0.2.0/24}')) AS v"
        " WHERE slug = 'acme'"
    )
    await town.fetch(
        "INSERT INTO sender_rules (tenant_id, action, pattern) SELECT id, 'allow', 'victim.test' FROM tenants"
        " WHERE slug = 'acme'"
    )
    await town.fetch("UPDATE mailboxes SET sender_mode = 'allowlist' WHERE local_part = 'sales'")
    await send(app, ATTACKS[name], "support@acme.test", "sales@acme.test")
    (row,) = await rows(town)
    assert row["dmarc"] in ("fail", "permerror")
    assert not row["sender_verified"]
    assert await town.fetch("SELECT 1 FROM contacts") == []
    (refusal,) = await town.fetch("SELECT reason FROM refusals")
    assert refusal["reason"] == "sender_blocked"


async def test_the_victim_himself_passes(app: App, town: Town) -> None:
    """Otherwise the attacks would fail for a wrong reason."""
    await send(app, Attack(raw=victims()))
    (row,) = await rows(town)
    assert (row["dmarc"], row["sender_verified"]) == ("pass", True)


# -- what follows from a verdict -------------------------------------------------------------------------------------


async def test_a_forger_cannot_spend_what_the_policy_check_needs(town: Town) -> None:
    """His zone is silent until the mail's time is up: the policy of the domain that he forges is found all the same."""
    async with NameServer(zone=ZONE) as server:
        host, port = server.address
        own: dict[str, Any] = {"dns__nameservers": f"{host}:{port}", "dns__try_seconds": 1, "dns__mail_seconds": 3}
        app = App(load({}, env="development", database_url=town.url, **own))
        await app.open()
        await send(app, Attack(raw=mail(f"From: {CEO}"), mail_from="x@slow.evil.test"))
        await app.close()
    (row,) = await rows(town)
    assert (row["spf"], row["dmarc"]) == ("temperror", "fail")


@pytest.mark.parametrize("head", [f"From: {CEO}", f"From: {CEO}\r\nFrom: {X}", f"From: {CEO}, {X}"])
async def test_no_forger_joins_or_adopts_a_conversation(app: App, town: Town, head: str) -> None:
    answer = mail(f"From: {CEO}", more="In-Reply-To: <absent@acme.test>\r\n").replace(b"<a@", b"<honest@")
    await send(app, Attack(raw=signer("victim.test").sign(answer)))
    forged = mail(head, more="In-Reply-To: <honest@evil.test>\r\n")
    await send(app, Attack(raw=forged.replace(b"<a@evil.test>", b"<absent@acme.test>")))
    seen = await rows(town)
    assert [row["sender_verified"] for row in sorted(seen, key=lambda row: str(row["rfc_message_id"]))] == [False, True]
    assert [row["reply_match_status"] for row in seen] == ["unmatched"] * 2
    assert len({row["thread_id"] for row in seen}) == 2


@pytest.mark.parametrize("address", ["a,b@evil.test", f"{'a' * 200}@evil.test", '"a@evil.test', "x@xn--0.evil.test"])
async def test_no_strange_address_leads_round_a_block(app: App, town: Town, address: str) -> None:
    for pattern in ("evil.test", "*.evil.test"):
        await town.fetch(
            "INSERT INTO sender_rules (tenant_id, action, pattern) SELECT id, 'block', $1 FROM tenants", pattern
        )
    assert (await send(app, Attack(raw=mail(f"From: <{address}>")))).reason is Reason.SENDER_BLOCKED


@pytest.mark.parametrize("sealer", ["away.test", "list.test"])
async def test_a_seal_that_dns_does_not_tell_of_defers(app: App, town: Town, sealer: str) -> None:
    """Where the tenant trusts the sealer, a refusal for good would be one for want of DNS."""
    await town.fetch("INSERT INTO forwarders SELECT id, 'arc', 'away.test' FROM tenants WHERE slug = 'acme'")
    await policy(town, "enforce")
    outcome = await send(app, Attack(raw=sealed(mail(f"From: {CEO}"), sealer, RESULTS)))
    awaited = sealer == "away.test"
    assert outcome.reason is (Reason.AUTHENTICATION_UNAVAILABLE if awaited else Reason.AUTHENTICATION_FAILED)
    await policy(town, "monitor")
    await send(app, Attack(raw=sealed(mail(f"From: {CEO}"), sealer, RESULTS)))
    assert [(row["dmarc"], row["sender_verified"]) for row in await rows(town)] == [("fail", False)]


@pytest.mark.parametrize("setting", ["require_alignment = true, auth_policy = 'enforce'", "sender_mode = 'allowlist'"])
async def test_no_sender_is_refused_for_good_for_want_of_dns(app: App, town: Town, setting: str) -> None:
    """A domain without a policy, whose key DNS does not tell, beside another signature that holds."""
    await town.fetch(
        "INSERT INTO sender_rules (tenant_id, action, pattern) SELECT id, 'allow', 'away.test' FROM tenants"
    )
    await town.fetch(f"UPDATE mailboxes SET {setting} WHERE local_part = 'support'")
    raw = signer("away.test").sign(signer("evil.test").sign(mail("From: a@away.test")))
    assert (await send(app, Attack(raw=raw))).reason is Reason.AUTHENTICATION_UNAVAILABLE


async def test_what_is_no_address_literal_is_no_author(app: App, town: Town) -> None:
    await policy(town, "enforce")
    assert (await send(app, evil("From: <ceo@[victim.test]>"))).reason is Reason.AUTHENTICATION_FAILED
    assert (await send(app, evil("From: <ceo@[192.0.2.1]>"))).reason is Reason.ACCEPTED
