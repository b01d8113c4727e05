"""POST /events/inbound: every answer of the table, asked of the running door, with its body and what is left of it."""

import base64
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest

from ingester.clock import now
from tests.inbound import PATH, RFC822, TOKEN, House, Reply, mail, receiving
from tests.nameserver import NameServer, in_thread
from tests.zones import Fault

NAMES: dict[str, list[Any]] = {
    "_dmarc.victim.test": [{"TXT": "v=DMARC1; p=reject"}],
    "victim.test": [{"TXT": "v=spf1 -all"}],
    "_dmarc.away.test": [Fault.SERVFAIL],
    "away.test": [Fault.SERVFAIL],
}
SENT_BY = "client_ip=203.0.113.5&mail_from="


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    async with receiving(database_url, max_message_bytes=20_000, smtp__max_recipients=100) as one:
        yield one


async def all_left(house: House) -> tuple[list[str], dict[str, int]]:
    """Messages by subject, and refusals by reason."""
    rows = await house.town.fetch("SELECT subject FROM messages ORDER BY id")
    return [row["subject"] for row in rows], await house.refusals()


# -- what is done ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["raw", "base64", "text"])
async def test_a_mail_is_stored_and_then_known(house: House, form: str) -> None:
    raw = mail("first")

    async def bring() -> Reply:
        if form == "raw":
            return await house.post(raw, headers={"X-Ingester-Event-Id": "evt-1"})
        if form == "text":
            return await house.json(raw, event_id="evt-1", raw_mime=raw.decode(), raw_mime_base64=None)
        return await house.json(raw, event_id="evt-1")

    first = await bring()
    assert first.said == (202, "accepted", None)
    assert (first.body["match"], first.body["attachments"]) == ("unmatched", 0)
    again = await bring()
    assert again.said == (200, "duplicate", None)
    assert again.body["message_ids"] == first.body["message_ids"] == [str(one) for one in await house.stored()]
    assert again.body["arrival_id"] != first.body["arrival_id"]
    (row,) = await house.town.fetch("SELECT data FROM raws")
    assert row["data"] == raw
    receipts = await house.town.fetch("SELECT * FROM receipts ORDER BY received_at")
    assert [one["duplicate"] for one in receipts] == [False, True]
    assert {(one["door"], one["provider"], one["provider_event_id"]) for one in receipts} == {
        ("http", "generic", "evt-1")
    }
    assert {one["client_ip"] for one in receipts} == {None}


async def test_a_url_may_ask_for_200_where_a_mail_is_stored(house: House) -> None:
    """Mailgun and Postmark bring again what is answered 202. Nothing but the status of that answer changes."""
    path = f"{PATH}/mime?accepted=200"
    stored = await house.post(mail("one"), path=path)
    assert stored.said == (200, "accepted", None)
    assert stored.body["message_ids"] == [str(one) for one in await house.stored()]
    assert (await house.post({"event_id": "e", "raw_mime": mail("two").decode()}, path=path)).said[0] == 200
    assert (await house.post(mail("one"), path=path)).said == (200, "duplicate", None)
    assert (await house.post(mail("one"), path=path, token="x")).said == (401, "refused", "unauthorized")
    await house.execute("UPDATE mailboxes SET status = 'suspended', status_since = now()")
    assert (await house.post(mail("three"), path=path)).said == (503, "deferred", "mailbox_suspended")


async def test_no_other_status_can_be_asked_for(house: House) -> None:
    for query in ("accepted", "accepted=", "accepted=202", "accepted=500", "accepted=200&accepted=201"):
        reply = await house.post(mail("m"), path=f"{PATH}?{query}")
        assert reply.no == (422, "unprocessable", "accepted"), query
    assert await house.stored() == []


async def test_attachments_are_counted_and_an_answer_is_matched(house: House) -> None:
    first = await house.post(mail("question"))
    body = "--b\r\n\r\nHello\r\n--b\r\nContent-Disposition: attachment; filename=a.txt\r\n\r\nx\r\n--b--\r\n"
    head = mail("answer", In_Reply_To="<question@customer.test>", Content_Type="multipart/mixed; boundary=b")
    second = await house.post(head.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + body.encode())
    assert second.said == (202, "accepted", None)
    assert (second.body["attachments"], second.body["match"]) == (1, "matched")
    assert second.body["messages"][0]["mailbox_id"] == first.body["messages"][0]["mailbox_id"]


async def test_a_mail_that_our_code_cannot_digest_is_a_yes(database_url: str) -> None:
    async with receiving(database_url, test__faults="scan:raise") as house:
        reply = await house.post(mail("hard"))
        assert reply.said == (202, "accepted", None)
        assert reply.body["message_ids"] == []
        assert len(await house.town.fetch("SELECT FROM dead_letters")) == 1


async def test_what_a_dead_letter_holds_is_a_duplicate_without_a_message(database_url: str) -> None:
    """Its id is no message's: whoever asked for that would not find it."""
    async with receiving(database_url, test__faults="scan:raise@1") as house:
        assert (await house.post(mail("hard"))).said == (202, "accepted", None)
        again = await house.post(mail("hard"), path=f"{PATH}?recipient=support@acme.test&recipient=sales@acme.test")
        assert again.said == (202, "accepted", None)
        assert again.body["message_ids"] == [str(one) for one in await house.stored()]
        assert len(again.body["message_ids"]) == 1
        last = await house.post(mail("hard"))
        assert last.said == (200, "duplicate", None)
        assert (last.body["message_ids"], last.body["messages"]) == ([], [])


# -- what is final --------------------------------------------------------------------------------------------------

OVER_A_HUNDRED = b"Received: x\r\n" * 101
FINAL: dict[str, tuple[str, bytes, str, str]] = {
    "unknown_domain": ("", mail("m"), "?recipient=a@nowhere.test", "missing_domain"),
    "unknown_mailbox": ("", mail("m"), "?recipient=nobody@acme.test", "missing_domain"),
    "nobody": ("", mail("m", to="friend@elsewhere.test"), "", "missing_domain"),
    "cold": ("UPDATE mailboxes SET accepts_cold_inbound = false", mail("m"), "", "cold_inbound_refused"),
    "blocked": (
        "INSERT INTO sender_rules (tenant_id, action, pattern) SELECT id, 'block', 'customer.test' FROM tenants",
        mail("m"),
        "",
        "sender_blocked",
    ),
    "loop": ("", OVER_A_HUNDRED + mail("m"), "", "mail_loop"),
    "closed": (
        "UPDATE mailboxes SET status = 'suspended', status_since = now() - interval '4 days'",
        mail("m"),
        "",
        "mailbox_suspended",
    ),
}


@pytest.mark.parametrize("case", FINAL)
async def test_what_is_final_is_200_and_a_refusal(house: House, case: str) -> None:
    change, raw, query, reason = FINAL[case]
    if change:
        await house.execute(change)
    reply = await house.post(raw, path=PATH + query)
    assert reply.said == (200, "refused", reason)
    subjects, refusals = await all_left(house)
    assert subjects == []
    assert list(refusals.values()) == [1]
    noted = {"missing_domain": {"unknown_domain", "unknown_mailbox"}}.get(reason, {reason})
    assert set(refusals) <= noted


@pytest.fixture
def names() -> Iterator[str]:
    """A name server that knows a domain which forbids forgeries, and one that does not answer."""
    with in_thread(NameServer(zone=NAMES)) as server:
        host, port = server.address
        yield f"{host}:{port}"


async def test_a_mailbox_that_enforces_refuses_forgeries_and_waits_for_dns(database_url: str, names: str) -> None:
    async with receiving(database_url, dns__nameservers=names, dns__try_seconds=0.2) as house:
        await house.execute("UPDATE mailboxes SET auth_policy = 'enforce'")
        forged = mail("m").replace(b"customer.test", b"victim.test")
        query = f"{PATH}?{SENT_BY}ceo@victim.test"
        assert (await house.post(forged, path=query)).said == (200, "refused", "authentication_failed")
        unsure = mail("m").replace(b"customer.test", b"away.test")
        reply = await house.post(unsure, path=f"{PATH}?{SENT_BY}ceo@away.test")
        assert reply.said == (503, "deferred", "authentication_unavailable")
        assert await house.stored() == []


async def test_some_are_stored_and_others_told(house: House) -> None:
    query = "?recipient=support@acme.test&recipient=nobody@acme.test&recipient=a@nowhere.test"
    reply = await house.post(mail("m"), path=PATH + query)
    assert reply.said == (202, "accepted", None)
    assert len(reply.body["messages"]) == 1
    assert reply.body["refused"] == [
        {"recipient": "nobody@acme.test", "reason": "missing_domain"},
        {"recipient": "a@nowhere.test", "reason": "missing_domain"},
    ]
    assert await house.refusals() == {"unknown_mailbox": 1, "unknown_domain": 1}


# -- what may come again --------------------------------------------------------------------------------------------

LATER = {
    "pending": ("UPDATE domains SET status = 'pending'", "domain_pending"),
    "suspended": ("UPDATE mailboxes SET status = 'suspended', status_since = now()", "mailbox_suspended"),
    "quota": ("UPDATE mailboxes SET quota_mails = 0", "quota_exceeded"),
}


@pytest.mark.parametrize("case", LATER)
async def test_what_may_pass_is_503(house: House, case: str) -> None:
    change, reason = LATER[case]
    await house.execute(change)
    reply = await house.post(mail("m"))
    assert reply.said == (503, "deferred", reason)
    assert reply.headers["Retry-After"] == "5"
    assert await house.stored() == []
    assert await house.refusals() == {reason: 1}


async def test_a_database_that_is_away_is_a_503(database_url: str) -> None:
    """Whoever asks: the operator's own token is known without it, others are not."""
    async with receiving(database_url, away=True, store__commit_seconds=1) as house:
        for token in (TOKEN, "igi_unknown"):
            assert (await house.post(mail("m"), token=token)).said == (503, "deferred", "store_unavailable")
        assert (await house.post(mail("m"), token=None)).status == 401


async def test_what_is_stored_beside_a_deferral_is_told(house: House) -> None:
    await house.execute("UPDATE mailboxes SET quota_mails = 0 WHERE local_part = 'sales'")
    query = f"{PATH}?recipient=support@acme.test&recipient=sales@acme.test"
    first = await house.post(mail("m"), path=query)
    assert first.said == (503, "deferred", "quota_exceeded")
    await house.execute("UPDATE mailboxes SET quota_mails = NULL")
    again = await house.post(mail("m"), path=query)
    assert again.said == (202, "accepted", None)
    assert first.body["message_ids"][0] in again.body["message_ids"]
    assert sorted(one["duplicate"] for one in again.body["messages"]) == [False, True]
    assert len(await house.stored()) == 2


# -- what is wrong with the request ---------------------------------------------------------------------------------


async def test_another_mail_under_the_same_event_is_a_conflict(house: House) -> None:
    assert (await house.json(mail("one"), event_id="evt")).status == 202
    reply = await house.json(mail("two"), event_id="evt")
    assert reply.said == (409, "refused", "event_conflict")
    # Another provider counts for itself.
    assert (await house.json(mail("two"), event_id="evt", provider="other")).status == 202
    assert await house.refusals() == {"event_conflict": 1}


async def test_a_mail_is_at_most_so_large(house: House) -> None:
    fits = mail("m").ljust(20_000, b"x")
    assert (await house.post(fits)).status == 202
    large = fits + b"x"
    told = [
        await house.post(large),
        await house.post(large, headers={"X-Ingester-Recipient": "support@acme.test"}),
        await house.json(large),
        await house.json(large, raw_mime=large.decode(), raw_mime_base64=None),
        # It grows beyond the bound when its line ends become CRLF.
        await house.post((mail("lf") + b"x\n" * 9_950)[:20_000]),
        await house.post({"event_id": "x", "raw_mime": "x" * (3 * 20_000 + (1 << 20))}),
    ]
    assert {one.said for one in told} == {(413, "refused", "oversized_message")}
    assert await house.refusals() == {"oversized": len(told)}


async def test_a_mail_has_at_most_so_many_recipients(house: House) -> None:
    names = [f"n{number}@acme.test" for number in range(101)]
    told = [
        await house.json(mail("m"), recipients=names),
        await house.json(mail("m"), envelope={"recipients": names}),
        await house.post(mail("m"), headers={"X-Ingester-Recipient": ", ".join(names)}),
        await house.json(mail("m"), recipients=["x" * 100] * 10_300),
    ]
    assert {one.said for one in told} == {(413, "refused", "too_many_recipients")}
    assert await house.refusals() == {"too_many_recipients": len(told)}
    assert (await house.json(mail("m"), recipients=[*names[:99], "support@acme.test"])).status == 202


JSON = {"Content-Type": "application/json"}
UNSUPPORTED = [
    {"Content-Type": "text/plain"},
    {"Content-Type": "application/octet-stream"},
    {"Content-Type": ""},
    {"Content-Type": "application/json; charset=latin-1"},
    RFC822 | {"Content-Encoding": "gzip"},
    JSON | {"Content-Encoding": "deflate"},
    {"Content-Type": "multipart/form-data; boundary=b", "Content-Encoding": "gzip"},
    {"Content-Type": "multipart/form-data"},
]


async def test_another_body_is_unsupported(house: House) -> None:
    for headers in UNSUPPORTED:
        assert (await house.post(mail("m"), headers=headers)).no == (415, "unsupported", None), headers


async def test_what_is_not_what_it_says_is_a_bad_request(house: House) -> None:
    for body in (b"", b"nonsense", b"{", b'{"event_id":"x","raw_mime":"y"} {}'):
        assert (await house.post(body, headers=JSON)).no == (400, "bad_request", None), body[:20]


def given(**fields: Any) -> dict[str, Any]:
    """A body that is sound but for what is said here; None takes a field away."""
    sound = {"event_id": "x", "raw_mime_base64": base64.b64encode(mail("m")).decode()}
    return {name: value for name, value in (sound | fields).items() if value is not None}


UNPROCESSABLE: dict[str, tuple[Any, str | None]] = {
    "no object": ([], None),
    "no event": (given(event_id=None), "event_id"),
    "empty event": (given(event_id=""), "event_id"),
    "long event": (given(event_id="x" * 999), "event_id"),
    "event with NUL": (given(event_id="x\0"), "event_id"),
    "event with a line end": (given(event_id="x\r\n"), "event_id"),
    "event that is a number": (given(event_id=5), "event_id"),
    "provider": (given(provider="A B"), "provider"),
    "provider with NUL": (given(provider="a\0"), "provider"),
    "message id": (given(message_id="a\nb"), "message_id"),
    "no mail": (given(raw_mime_base64=None), "raw_mime_base64"),
    "two mails": (given(raw_mime="x"), "raw_mime"),
    "mail and url": (given(raw_mime_url="https://a.test/"), "raw_mime_url"),
    "empty mail": (given(raw_mime_base64=""), "raw_mime_base64"),
    "empty text": (given(raw_mime_base64=None, raw_mime=""), "raw_mime"),
    "bad base64": (given(raw_mime_base64="=not base64="), "raw_mime_base64"),
    "base64 cut": (given(raw_mime_base64="abcde"), "raw_mime_base64"),
    "base64 of a URL": (given(raw_mime_base64="a-b_"), "raw_mime_base64"),
    "mail that is a number": (given(raw_mime_base64=5), "raw_mime_base64"),
    "url": (given(raw_mime_base64=None, raw_mime_url="https://a.test/"), "raw_mime_url"),
    "surrogate": (b'{"event_id":"x","raw_mime":"a\\ud800 and more text"}', "raw_mime"),
    "surrogate at the end": (b'{"event_id":"x","raw_mime":"\\ud800"}', "raw_mime"),
    "no UTF-8": (b'{"event_id":"x","raw_mime":"\xff"}', "raw_mime"),
    "recipients": (given(recipients="a@b.test"), "recipients"),
    "recipient": (given(recipients=["support@acme.test", "nobody"]), "recipients[1]"),
    "recipient with NUL": (given(recipients=["a\0@acme.test"]), "recipients[0]"),
    "recipient that is a number": (given(recipients=[5]), "recipients"),
    "metadata": (given(metadata=[]), "metadata"),
    "metadata with NUL": (given(metadata={"a": "\0"}), "metadata"),
    "large metadata": (given(metadata={"a": "x" * (64 << 10)}), "metadata"),
    "deep metadata": (b'{"event_id":"x","raw_mime":"x","metadata":' + b'{"a":' * 30 + b"1" + b"}" * 31, "metadata"),
    "unknown field": (given(raw_mine="x"), "raw_mine"),
    "envelope": (given(envelope=5), "envelope"),
    "envelope's sender": (given(envelope={"mail_from": "nobody"}), "envelope.mail_from"),
    "envelope's client": (given(envelope={"client_ip": "localhost"}), "envelope.client_ip"),
    "envelope's zone": (given(envelope={"client_ip": "fe80::1%eth0"}), "envelope.client_ip"),
    "envelope's name": (given(envelope={"helo": "a\0"}), "envelope.helo"),
    "envelope's recipient": (given(envelope={"recipients": ["x"]}), "envelope.recipients[0]"),
    "envelope's field": (given(envelope={"rcpt": 1}), "envelope.rcpt"),
}


async def test_a_value_that_cannot_be_used_is_named(house: House) -> None:
    for name, (body, field) in UNPROCESSABLE.items():
        reply = await house.post(body, headers=JSON)
        assert reply.no == (422, "unprocessable", field), name
    assert await all_left(house) == ([], {})


QUERIES = {
    "event_id=": "event_id",
    "event_id=a%00": "event_id",
    f"event_id={'x' * 999}": "event_id",
    "event_id=a&event_id=b": "event_id",
    "provider=A+B": "provider",
    "provider=": "provider",
    "recipient=": "recipient[0]",
    "recipient=a@b.test&recipient=nobody": "recipient[1]",
    "mail_from=x": "mail_from",
    "client_ip=x": "client_ip",
    "client_ip=": "client_ip",
    "helo=%0a": "helo",
    "recipients=a@b.test": "recipients",
    "recipient%00=a@b.test": None,
}


async def test_so_is_one_beside_a_mail(house: House) -> None:
    for query, field in QUERIES.items():
        reply = await house.post(mail("m"), path=f"{PATH}?{query}")
        assert reply.no == (422, "unprocessable", field), query
    headers = {"X-Ingester-Event-Id": "a"}
    assert (await house.post(mail("m"), path=f"{PATH}?event_id=b", headers=headers)).no[2] == "event_id"
    assert (await house.post(mail("m"), path=f"{PATH}?event_id=a", headers=headers)).status == 202
    assert (await house.post(b"")).no == (422, "unprocessable", None)


async def test_a_body_that_does_not_come_is_cut(database_url: str) -> None:
    async with receiving(database_url, http__intake_seconds=0.05) as house:
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 20\r\n"
        for kind, status in (("message/rfc822", b"408"), ("application/json", b"408")):
            reply = await house.raw(f"{head}Content-Type: {kind}\r\n\r\nx")
            assert reply.startswith(b"HTTP/1.1 " + status)
        # A provider of forms would bounce the mail at any 4xx.
        reply = await house.raw(f"{head}Content-Type: application/x-www-form-urlencoded\r\n\r\nx")
        assert reply.startswith(b"HTTP/1.1 503")
        assert b"request_timeout" in reply


async def test_a_body_that_is_broken_off_is_a_bad_request(house: House) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nTransfer-Encoding: chunked\r\n"
    reply = await house.raw(f"{head}Content-Type: message/rfc822\r\n\r\n5\r\nhello\r\nnonsense\r\n\r\n")
    assert b" 400 Bad Request" in reply.partition(b"\r\n")[0]
    assert await house.stored() == []


async def test_a_year_from_now_an_event_may_come_again(house: House) -> None:
    """The claims of an event end; then its id stands for another mail."""
    assert (await house.json(mail("one"), event_id="evt")).status == 202
    later = now() - timedelta(days=1)
    await house.execute("UPDATE provider_events SET expires_at = $1", later)
    await house.execute("UPDATE claims SET expires_at = $1", later)
    assert (await house.json(mail("two"), event_id="evt")).status == 202
