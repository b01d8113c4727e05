"""From the verdicts to the rows, on a real Postgres and a name server: policies, rules, forwarders, contacts."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import msgspec
import pytest

from ingester.app import App
from ingester.auth.report import AuthReport, Result
from ingester.clock import new_id, now
from ingester.core.address import parse_path
from ingester.core.envelope import Client, Door, Envelope, Recipient
from ingester.core.outcome import Outcome, Reason
from ingester.settings import load
from tests.daemon import OF_THIS_TEST, Town, settle
from tests.nameserver import NameServer
from tests.signing import key_record, sealed, signed
from tests.zones import Fault

pytestmark = pytest.mark.usefixtures("blobs")

GOOD_IP, OTHER_IP = "192.0.2.1", "198.51.100.9"
ZONE: dict[str, list[Any]] = {
    "strict.test": [{"TXT": f"v=spf1 ip4:{GOOD_IP} -all"}],
    "_dmarc.strict.test": [{"TXT": "v=DMARC1; p=reject"}],
    "s._domainkey.strict.test": [{"TXT": key_record()}],
    "_dmarc.soft.test": [{"TXT": "v=DMARC1; p=quarantine"}],
    "_dmarc.away.test": [Fault.SERVFAIL],
    "s._domainkey.list.test": [{"TXT": key_record()}],
}


@pytest.fixture
async def town(database_url: str) -> Town:
    return await settle(database_url, {"acme.test": ("support", "sales"), "globex.test": ("support",)})


@pytest.fixture
async def app(town: Town) -> AsyncIterator[App]:
    async with NameServer(zone=ZONE) as server:
        host, port = server.address
        one = App(load(OF_THIS_TEST, env="development", database_url=town.url, dns__nameservers=f"{host}:{port}"))
        await one.open()
        yield one
        await one.close()


def mail(sender: str = "ada@strict.test", *, name: str = "first", **more: str) -> bytes:
    lines = [f"From: {sender}", "To: support@acme.test", "Subject: A question", f"Message-ID: <{name}@strict.test>"]
    lines += [f"{field.replace('_', '-')}: {value}" for field, value in more.items()]
    return "\r\n".join([*lines, "", f"Body of {name}.", ""]).encode()


async def send(app: App, raw: bytes, *recipients: str, ip: str = OTHER_IP, door: Door = Door.SMTP) -> Outcome:
    addresses = [parse_path(text) for text in recipients or ("support@acme.test",)]
    return await app.pipeline.accept(
        Envelope(
            door=door,
            raw=raw,
            mail_from="ada@strict.test",
            recipients=tuple(Recipient(address=address) for address in addresses if address is not None),
            client=Client(ip=ip, helo="mx.strict.test"),
            arrival_id=new_id(),
            received_at=now(),
        )
    )


async def only(town: Town, outcome: Outcome) -> asyncpg.Record:
    (stored,) = outcome.stored
    return (await town.fetch("SELECT * FROM messages WHERE id = $1", stored.message_id))[0]


async def set_mailbox(town: Town, **values: object) -> None:
    for name, value in values.items():
        await town.fetch(f"UPDATE mailboxes SET {name} = $1 WHERE local_part = 'support'", value)


async def report_of(town: Town, outcome: Outcome) -> AuthReport:
    rows = await town.fetch("SELECT auth_report FROM receipts WHERE arrival_id = $1", outcome.arrival_id)
    return msgspec.json.decode(rows[0]["auth_report"], type=AuthReport)


# -- verdicts in the rows --------------------------------------------------------------------------------------------


async def test_an_aligned_pass_is_stored_with_all_its_evidence(app: App, town: Town) -> None:
    outcome = await send(app, signed(mail(), "strict.test"), ip=GOOD_IP)
    message = await only(town, outcome)
    assert [message[name] for name in ("spf", "dkim", "dmarc", "arc")] == ["pass", "pass", "pass", "none"]
    assert message["sender_verified"]
    assert not message["quarantined"]
    report = await report_of(town, outcome)
    assert report.spf.mechanism == f"ip4:{GOOD_IP}"
    assert [(one.domain, one.result) for one in report.dkim.signatures] == [("strict.test", Result.PASS)]
    assert {one.method for one in report.dmarc.aligned} == {"spf", "dkim"}


async def test_a_forged_mail_is_stored_as_what_it_is_where_nobody_minds(app: App, town: Town) -> None:
    message = await only(town, await send(app, mail()))
    assert [message[name] for name in ("spf", "dkim", "dmarc")] == ["fail", "none", "fail"]
    assert not message["sender_verified"]
    assert message["contact_id"] is None


async def test_two_from_fields_are_the_mails_own_fault(app: App, town: Town) -> None:
    await set_mailbox(town, auth_policy="enforce")
    raw = b"From: ada@soft.test\r\n" + signed(mail(), "strict.test")
    outcome = await send(app, raw, ip=GOOD_IP)
    assert outcome.reason is Reason.AUTHENTICATION_FAILED


@pytest.mark.parametrize("policy", ["off", "monitor", "quarantine", "enforce"])
@pytest.mark.parametrize(
    ("sender", "verdict"), [("ada@strict.test", "reject"), ("ada@soft.test", "flag"), ("ada@away.test", "defer")]
)
async def test_each_policy_does_what_its_name_says(
    app: App, town: Town, sender: str, verdict: str, policy: str
) -> None:
    await set_mailbox(town, auth_policy=policy)
    outcome = await send(app, mail(sender))
    if policy == "enforce" and verdict == "reject":
        assert outcome.smtp_line.startswith("550 5.7.26 ")
        (row,) = await town.fetch("SELECT reason, detail, envelope FROM refusals")
        assert row["reason"] == "authentication_failed"
        assert "DMARC failed" in row["detail"]
        assert msgspec.json.decode(row["envelope"])["auth_report"]["dmarc"]["result"] == "fail"
        return
    if policy == "enforce" and verdict == "defer":
        assert outcome.smtp_line.startswith("451 4.4.3 ")
        assert await town.fetch("SELECT 1 FROM messages") == []
        return
    assert (await only(town, outcome))["quarantined"] == (policy in ("quarantine", "enforce"))


async def test_one_mailbox_may_refuse_what_another_takes(app: App, town: Town) -> None:
    await set_mailbox(town, auth_policy="enforce")
    outcome = await send(app, mail(), "support@acme.test", "sales@acme.test")
    assert outcome.reason is Reason.ACCEPTED
    assert len(outcome.stored) == 1
    assert len(await town.fetch("SELECT 1 FROM refusals WHERE reason = 'authentication_failed'")) == 1


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1", "", "unix"])
async def test_without_the_clients_address_a_fail_is_unknown(app: App, town: Town, ip: str) -> None:
    await set_mailbox(town, auth_policy="enforce")
    message = await only(town, await send(app, mail(), ip=ip, door=Door.HTTP))
    assert [message[name] for name in ("spf", "dmarc", "quarantined")] == ["unknown", "unknown", True]


async def test_a_failed_sender_does_not_join_a_conversation(app: App, town: Town) -> None:
    first = await only(town, await send(app, signed(mail(), "strict.test"), ip=GOOD_IP))
    forged = await only(town, await send(app, mail(name="forged", In_Reply_To="<first@strict.test>")))
    honest = signed(mail(name="honest", In_Reply_To="<first@strict.test>"), "strict.test")
    joined = await only(town, await send(app, honest))
    assert forged["reply_match_status"] == "unmatched"
    assert msgspec.json.decode(forged["decision"])["reason"] == "candidate_unverified"
    assert forged["thread_id"] != first["thread_id"] == joined["thread_id"]


async def test_who_sends_an_id_first_does_not_have_all_that_cite_it(app: App, town: Town) -> None:
    """A forged mail bears the id before the true one comes: those who cite it find the true one."""
    forged = await only(town, await send(app, mail(Reply_To="eve@evil.test", Date="Mon, 2 Nov 2026 09:00:00 +0000")))
    true = await only(town, await send(app, signed(mail(), "strict.test"), ip=GOOD_IP))
    honest = signed(mail(name="honest", In_Reply_To="<first@strict.test>"), "strict.test")
    answer = await only(town, await send(app, honest))
    assert forged["dmarc"] == "fail"
    assert answer["reply_to_email_id"] == true["id"] != forged["id"]


async def test_strict_senders_ask_for_a_verified_one(app: App, town: Town) -> None:
    await set_mailbox(town, strict_senders=True)
    await send(app, signed(mail(), "strict.test"), ip=GOOD_IP)
    unknown = await only(town, await send(app, mail("x@none.test", name="x", In_Reply_To="<first@strict.test>")))
    verified = signed(mail(name="honest", In_Reply_To="<first@strict.test>"), "strict.test")
    assert unknown["reply_match_status"] == "unmatched"
    assert (await only(town, await send(app, verified)))["reply_match_status"] == "matched"


# -- sender rules ----------------------------------------------------------------------------------------------------


async def rule(town: Town, action: str, pattern: str, *, mailbox: str | None = None) -> None:
    await town.fetch(
        """
        INSERT INTO sender_rules (tenant_id, mailbox_id, action, pattern)
        SELECT t.id, coalesce((SELECT m.id FROM mailboxes m WHERE m.tenant_id = t.id AND m.local_part = $3
                               AND m.system IS NULL), '00000000-0000-0000-0000-000000000000'), $1, $2
        FROM tenants t WHERE t.slug = 'acme'
        """,
        action,
        pattern,
        mailbox,
    )


@pytest.mark.parametrize("pattern", ["ada@strict.test", "strict.test", "*.test"])
async def test_a_blocked_sender_is_refused_and_seen(app: App, town: Town, pattern: str) -> None:
    await rule(town, "block", pattern)
    await rule(town, "allow", "ada@strict.test")
    outcome = await send(app, signed(mail("Ada <ADA@strict.test>"), "strict.test"), ip=GOOD_IP)
    assert outcome.reason is Reason.SENDER_BLOCKED
    (row,) = await town.fetch("SELECT reason, detail FROM refusals")
    assert (row["reason"], row["detail"]) == ("sender_blocked", f"blocked by {pattern}")


async def test_a_rule_binds_its_own_tenant_and_mailbox_only(app: App, town: Town) -> None:
    await rule(town, "block", "strict.test", mailbox="support")
    outcome = await send(app, mail(), "support@acme.test", "sales@acme.test", "support@globex.test")
    rows = await town.fetch(
        "SELECT b.local_part, b.domain FROM messages m JOIN mailboxes b ON b.tenant_id = m.tenant_id"
        " AND b.id = m.mailbox_id ORDER BY 2"
    )
    assert outcome.reason is Reason.ACCEPTED
    assert [tuple(row) for row in rows] == [("sales", "acme.test"), ("support", "globex.test")]


async def test_an_allowlist_lets_in_the_allowed_when_they_are_verified(app: App, town: Town) -> None:
    await town.fetch("UPDATE tenants SET sender_mode = 'allowlist' WHERE slug = 'acme'")
    await rule(town, "allow", "strict.test")
    await rule(town, "allow", "away.test")
    good = await send(app, signed(mail(name="good"), "strict.test"), ip=GOOD_IP)
    forged = await send(app, mail(name="forged"))
    stranger = await send(app, mail("x@none.test", name="x"))
    unsure = await send(app, mail("x@away.test", name="y"))
    postmaster = await send(app, mail("x@none.test", name="z"), "postmaster@acme.test")
    assert [one.reason for one in (good, forged, stranger, unsure, postmaster)] == [
        Reason.ACCEPTED,
        Reason.SENDER_BLOCKED,
        Reason.SENDER_BLOCKED,
        Reason.AUTHENTICATION_UNAVAILABLE,
        Reason.ACCEPTED,
    ]


# -- forwarders ------------------------------------------------------------------------------------------------------

FORWARDED = "dmarc=pass header.from=strict.test"


async def trust(town: Town, kind: str, name: str, *, tenant: str = "acme", network: str | None = None) -> None:
    await town.fetch(
        "INSERT INTO forwarders (tenant_id, kind, name, networks) SELECT id, $1, $2, $3 FROM tenants WHERE slug = $4",
        kind,
        name,
        [] if network is None else [network],
        tenant,
    )


def through_a_list() -> bytes:
    """A mail whose signature the list broke, and which the list sealed."""
    changed = signed(mail(), "strict.test").replace(b"Body of", b"[list] Body of")
    return sealed(changed, "list.test", FORWARDED)


async def test_a_trusted_sealer_vouches_for_a_mail_that_fails(app: App, town: Town) -> None:
    await set_mailbox(town, auth_policy="enforce")
    refused = await send(app, through_a_list())
    assert refused.reason is Reason.AUTHENTICATION_FAILED
    await trust(town, "arc", "list.test")
    outcome = await send(app, through_a_list(), "support@acme.test", "support@globex.test")
    message = await only(town, outcome)  # globex trusts nobody, and refuses
    assert [message["dmarc"], message["arc"], message["sender_verified"]] == ["pass_via_forwarder", "pass", True]
    report = await report_of(town, outcome)
    assert report.voucher is not None
    assert report.voucher.name == "list.test"


async def test_everybody_trusts_what_the_system_trusts(app: App, town: Town) -> None:
    await trust(town, "arc", "list.test", tenant="system")
    outcome = await send(app, through_a_list(), "support@acme.test", "support@globex.test")
    verdicts = await town.fetch("SELECT dmarc FROM messages")
    assert len(outcome.stored) == 2
    assert [row["dmarc"] for row in verdicts] == ["pass_via_forwarder"] * 2


async def test_a_mailbox_may_decline_the_word_of_forwarders(app: App, town: Town) -> None:
    await trust(town, "arc", "list.test")
    await set_mailbox(town, accept_forwarded=False)
    message = await only(town, await send(app, through_a_list()))
    assert (message["dmarc"], message["sender_verified"]) == ("pass_via_forwarder", False)


@pytest.mark.parametrize(("ip", "dmarc"), [("203.0.113.7", "pass_via_forwarder"), (OTHER_IP, "fail")])
async def test_an_upstreams_header_counts_only_from_its_own_network(app: App, town: Town, ip: str, dmarc: str) -> None:
    await trust(town, "authserv_id", "up.test", network="203.0.113.0/24")
    raw = f"Authentication-Results: up.test; {FORWARDED}\r\n".encode() + mail()
    assert (await only(town, await send(app, raw, ip=ip)))["dmarc"] == dmarc


async def test_a_relay_of_our_own_can_be_a_trusted_upstream(app: App, town: Town) -> None:
    """Its address is nobody's, so DMARC is unknown here: what it found itself is all there is to know."""
    raw = f"Authentication-Results: up.test; {FORWARDED}\r\n".encode() + mail()
    assert (await only(town, await send(app, raw, ip="127.0.0.1")))["dmarc"] == "unknown"
    await trust(town, "authserv_id", "up.test", network="127.0.0.0/8")
    raw = f"Authentication-Results: up.test; {FORWARDED}\r\n".encode() + mail(name="second")
    assert (await only(town, await send(app, raw, ip="127.0.0.1")))["dmarc"] == "pass_via_forwarder"
    await set_mailbox(town, accept_forwarded=False, auth_policy="enforce")
    raw = f"Authentication-Results: up.test; {FORWARDED}\r\n".encode() + mail(name="third")
    third = await only(town, await send(app, raw, ip="127.0.0.1"))
    assert (third["dmarc"], third["quarantined"]) == ("unknown", True)


# -- contacts, and second arrivals -----------------------------------------------------------------------------------


async def test_contacts_are_made_of_verified_senders_only(app: App, town: Town) -> None:
    forged = await only(town, await send(app, mail("Ada <Ada@strict.test>", name="forged")))
    raw = signed(mail("Ada <Ada@strict.test>", name="good"), "strict.test")
    good = await only(town, await send(app, raw, "support@acme.test"))
    again = await only(town, await send(app, signed(mail(name="again"), "strict.test")))
    later = await only(town, await send(app, mail(name="later")))
    (contact,) = await town.fetch("SELECT id, address, name FROM contacts")
    assert (contact["address"], contact["name"]) == ("ada@strict.test", "Ada")
    assert forged["contact_id"] is None
    assert good["contact_id"] == again["contact_id"] == later["contact_id"] == contact["id"]


async def test_contacts_belong_to_one_tenant(app: App, town: Town) -> None:
    await send(app, signed(mail(), "strict.test"), "support@acme.test", "support@globex.test")
    rows = await town.fetch(
        "SELECT m.tenant_id, m.contact_id, c.tenant_id FROM messages m JOIN contacts c ON c.id = m.contact_id"
    )
    assert len({row["contact_id"] for row in rows}) == 2
    assert all(row[0] == row[2] for row in rows)


async def test_a_message_shows_the_strongest_of_its_receipts(app: App, town: Town) -> None:
    raw = mail()
    weak = await only(town, await send(app, raw, ip="127.0.0.1"))
    outcome = await send(app, b"Received: from x by y\r\n" + raw, ip=GOOD_IP)
    assert outcome.reason is Reason.DUPLICATE
    strong = await only(town, outcome)
    assert (weak["dmarc"], weak["sender_verified"]) == ("unknown", False)
    assert (strong["id"], strong["dmarc"], strong["sender_verified"]) == (weak["id"], "pass", True)
    await send(app, b"Received: from x by z\r\n" + raw)
    assert (await only(town, outcome))["dmarc"] == "pass"


async def test_a_second_arrival_lends_nothing_to_one_that_shows_something_else(app: App, town: Town) -> None:
    forged = await only(town, await send(app, mail(Reply_To="eve@evil.test")))
    outcome = await send(app, mail(), ip=GOOD_IP)
    assert outcome.reason is Reason.DUPLICATE
    message = await only(town, outcome)
    assert message["id"] == forged["id"]
    assert (message["dmarc"], message["sender_verified"]) == ("fail", False)
