"""ingester.transport.http: who may hand in mail, what it costs, the bytes in flight, and the drain."""

import asyncio
import base64
import hmac
import random
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest

from ingester.clock import now
from ingester.settings import SettingsError, load
from ingester.store.intake_tokens import bearer, revoke_token
from ingester.transport.limits import Ticket
from ingester.web.fetch import Fetcher, FetchFailed, FetchRefused, FetchTooLarge
from tests.cost import assert_loop_goes_on
from tests.inbound import NOWHERE, PATH, RFC822, TOKEN, House, mail, receiving


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    async with receiving(database_url) as one:
        yield one


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


# -- who ------------------------------------------------------------------------------------------------------------


async def test_whoever_shows_no_live_token_gets_one_and_the_same_answer(house: House) -> None:
    """Whatever the body and its type: nothing of it is looked at."""
    revoked = await house.token()
    (row,) = await house.town.fetch("SELECT id FROM intake_tokens")
    async with house.app.database.connection() as connection:
        await revoke_token(connection, row["id"], now())
    shown: list[Mapping[str, str]] = [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {revoked}"},
        {"Authorization": "Bearer igi_unknown"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN.upper()}"},
        {"Authorization": f"Token {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer \u00e9"},
        {"Authorization": "Basic nonsense"},
        {"Authorization": "Basic " + base64.b64encode(TOKEN.encode()).decode()},
        {"Authorization": "Basic " + base64.b64encode(b"\xff:\xff").decode()},
        basic("user", ""),
        basic(TOKEN, "x"),
        basic("user", revoked),
    ]
    replies = [await house.post(mail("m"), token=None, headers=headers) for headers in shown]
    replies += [
        await house.post(b"x", token=None, headers={"Content-Type": kind})
        for kind in ("application/json", "text/plain", "multipart/form-data; boundary=b")
    ]
    replies.append(await house.post(b"x" * (40 << 20), token=None))
    assert {reply.no for reply in replies} == {(401, "unauthorized", None)}
    assert all(reply.body == replies[0].body for reply in replies)
    assert {reply.headers["WWW-Authenticate"] for reply in replies} == {'Basic realm="ingester", Bearer'}
    assert await house.stored() == []


async def test_a_token_is_shown_as_a_bearers_or_as_a_password(house: House) -> None:
    theirs = await house.token()
    shown = [
        {"Authorization": f"Bearer {TOKEN}"},
        {"Authorization": f"bEARER  {theirs}"},
        basic("anybody", TOKEN),
        basic("", theirs),
        {"Authorization": "basic " + base64.b64encode(f"x:{theirs}".encode()).decode()},
    ]
    for number, headers in enumerate(shown):
        assert (await house.post(mail(f"m{number}"), token=None, headers=headers)).status == 202
    async with receiving(house.town.url, inbound_token="a:token with a colon: of 32 characters") as other:
        headers = basic("u", "a:token with a colon: of 32 characters")
        assert (await other.post(mail("m0"), token=None, headers=headers)).status == 200


async def test_two_authorizations_are_none(house: House) -> None:
    one = f"Authorization: Bearer {TOKEN}\r\n"
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\n{one}{one}Content-Type: message/rfc822\r\nContent-Length: 1\r\n\r\nx"
    assert (await house.raw(head)).startswith(b"HTTP/1.1 401 ")


async def test_the_body_is_not_read_before_it_is_known_who_asks(house: House) -> None:
    """Nothing of it has come, and the answer is there."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: message/rfc822\r\nContent-Length: 1000\r\n\r\n"
    assert (await house.raw(head)).startswith(b"HTTP/1.1 401 ")


async def test_a_client_that_waits_is_not_asked_for_its_body_before_it_is_known_who_asks(house: House) -> None:
    """RFC 9110, 10.1.1: curl does so with every larger mail."""
    raw = mail("m")
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: message/rfc822\r\nContent-Length: {len(raw)}\r\n"
    head += "Expect: 100-continue\r\n"
    assert (await house.raw(f"{head}\r\n")).startswith(b"HTTP/1.1 401 ")
    head += f"Authorization: Bearer {TOKEN}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(head.encode())
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(raw)
    assert (await asyncio.wait_for(reader.readuntil(b"}"), 10)).startswith(b"HTTP/1.1 202 ")
    writer.transport.abort()


async def test_unknown_and_revoked_tokens_cost_the_same_queries(house: House) -> None:
    token = await house.token()
    asked: list[str] = []
    async with house.app.database.connection() as connection:
        found = await bearer(connection, token, now())
        assert found is not None
        await revoke_token(connection, found.token_id, now())
        counted = []
        with connection.query_logger(lambda record: asked.append(record.query)):
            for text in (token, "igi_unknown"):
                assert await bearer(connection, text, now()) is None
                await asyncio.sleep(0)  # the loop calls the logger, after the query
                counted.append(asked.copy())
                asked.clear()
    assert len(counted[0]) == 1
    assert counted[0] == counted[1]


async def test_without_any_token_nobody_is_let_in(database_url: str) -> None:
    """In development; production does not even start."""
    async with receiving(database_url, inbound_token=None) as house:
        for token in ("", "None", "igi_", TOKEN):
            assert (await house.post(mail("m"), token=token)).status == 401
        assert (await house.post(mail("m"), token=await house.token())).status == 202
    with pytest.raises(SettingsError, match="INGESTER_INBOUND_TOKEN"):
        load({}, database_url=NOWHERE, http__listen="127.0.0.1:0", reply_token_secrets="x" * 32)


async def test_many_strangers_leave_connections_for_the_mail(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiving(database_url, store__connections=4) as house:
        gate, asking = asyncio.Event(), asyncio.Event()
        held = 0

        async def slow(*_: object) -> None:
            nonlocal held
            held += 1
            asking.set()
            await gate.wait()

        monkeypatch.setattr("ingester.transport.credentials.bearer", slow)
        strangers = [asyncio.create_task(house.post(mail("m"), token="igi_x")) for _ in range(6)]
        await asyncio.wait_for(asking.wait(), 10)
        assert (await house.post(mail("m"))).status == 202
        assert held == 1
        gate.set()
        assert {(await one).status for one in strangers} == {401}


# -- the ways -------------------------------------------------------------------------------------------------------


async def test_the_path_that_mailgun_wants_is_the_same(house: House) -> None:
    assert (await house.post(mail("m"), path=f"{PATH}/mime")).status == 202
    assert (await house.post(mail("m"))).status == 200


async def test_a_mail_of_any_bytes_is_stored_as_it_is(house: House) -> None:
    """But for its line ends; what was odd is a flag."""
    body = bytes(random.Random(6).randbytes(70_000)).replace(b"\n", b"").replace(b"\r", b"")
    raw = mail("m").replace(b"\r\n", b"\n") + b"\r\0" + body
    kept = raw.replace(b"\n", b"\r\n")
    replies = [await house.post(raw), await house.json(raw)]
    assert [reply.status for reply in replies] == [202, 200]
    (row,) = await house.town.fetch("SELECT r.data, m.flags FROM messages m JOIN raws r ON r.id = m.raw_id")
    assert row["data"] == kept
    assert {"bare_cr", "bare_lf", "nul", "long_line"} <= set(row["flags"])
    # What a client has folded is no fault of the mail's.
    lines = base64.encodebytes(raw).decode().replace("\n", "\r\n")
    assert (await house.json(raw, raw_mime_base64=lines)).status == 200


async def test_text_in_json_is_utf_8(house: House) -> None:
    raw = mail("m").replace(b"A question", "Grüße \U0001f600 \u0394".encode()) + b"\0"
    given = {"event_id": "e", "raw_mime": raw.decode()}
    assert (await house.post(given)).status == 202
    escaped = str(given["raw_mime"]).encode("unicode-escape")
    assert escaped != raw
    (row,) = await house.town.fetch("SELECT data FROM raws")
    assert row["data"] == raw


async def test_metadata_and_ids_are_on_the_receipt(house: House) -> None:
    said = {"spam": {"score": 1.5}, "tags": ["a", None]}
    token = await house.token(provider="acme-relay")
    assert (await house.json(mail("m"), event_id="e-1", message_id="<m@x>", metadata=said, token=token)).status == 202
    (row,) = await house.town.fetch("SELECT provider, provider_event_id, metadata::text FROM receipts")
    assert tuple(row)[:2] == ("acme-relay", "e-1")
    assert '"score": 1.5' in row["metadata"]
    assert '"message_id": "<m@x>"' in row["metadata"]


async def test_a_token_binds_the_name_of_its_provider(house: House) -> None:
    token = await house.token(provider="acme-relay")
    for fields in ({}, {"provider": "acme-relay"}):
        assert (await house.json(mail("m"), token=token, **fields)).status in (200, 202)
    for other in ("generic", "mailgun"):
        reply = await house.json(mail("x"), token=token, provider=other)
        assert reply.no == (422, "unprocessable", "provider")
        reply = await house.post(mail("x"), token=token, path=f"{PATH}?provider={other}")
        assert reply.no == (422, "unprocessable", "provider")
    assert len(await house.stored()) == 1


# -- a signature in the place of a token ----------------------------------------------------------------------------

SIGNING_KEY = "key-0123456789abcdef0123456789abcdef"


def signed(raw: bytes, *, key: str = SIGNING_KEY, token: str = "t" * 50) -> aiohttp.FormData:
    """What Mailgun posts: its signature stands in the form."""
    timestamp = str(int(now().timestamp()))
    form = aiohttp.FormData({"recipient": "support@acme.test", "sender": "ada@customer.test"})
    form.add_field("timestamp", timestamp)
    form.add_field("token", token)
    form.add_field("signature", hmac.digest(key.encode(), (timestamp + token).encode(), "sha256").hex())
    form.add_field("body-mime", raw.decode())
    return form


async def test_a_provider_may_sign_instead(database_url: str) -> None:
    async with receiving(database_url, providers__mailgun_signing_key=SIGNING_KEY) as house:

        async def bring(form: aiohttp.FormData, **headers: str) -> tuple[int, dict[str, Any]]:
            url = f"http://127.0.0.1:{house.port}{PATH}/mime"
            async with house.session.post(url, data=form(), headers=headers) as reply:
                return reply.status, await reply.json()

        assert (await bring(signed(mail("m"))))[0] == 202
        assert (await bring(signed(mail("m"))))[0] == 200
        assert (await bring(signed(mail("other"))))[0] == 409, "a token is for one mail"
        (row,) = await house.town.fetch("SELECT provider, envelope_from FROM receipts WHERE NOT duplicate")
        assert tuple(row) == ("mailgun", "ada@customer.test")
        unknown = (await house.post(mail("m"), token=None)).body
        assert await bring(signed(mail("n"), key="another key", token="n" * 50)) == (401, unknown)
        # Who shows a token is judged by it.
        assert (await bring(signed(mail("n"), token="n" * 50), Authorization="Bearer x"))[0] == 401
        assert len(await house.stored()) == 1
    async with receiving(database_url) as house:
        reply = await house.session.post(f"http://127.0.0.1:{house.port}{PATH}", data=signed(mail("n"))())
        assert reply.status == 401
        reply.release()


# -- a mail that lies elsewhere -------------------------------------------------------------------------------------


def answering(monkeypatch: pytest.MonkeyPatch, found: bytes | Exception) -> list[tuple[str, int, float]]:
    """Let every URL have this behind it."""
    asked: list[tuple[str, int, float]] = []

    async def get(_: Fetcher, url: str, *, max_bytes: int, seconds: float) -> bytes:
        asked.append((url, max_bytes, seconds))
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(Fetcher, "get", get)
    return asked


async def test_a_url_is_fetched_where_that_is_allowed(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, mail("far"))
    given: dict[str, Any] = {"event_id": "e", "raw_mime_url": "https://mail.example/1?sig=x"}
    async with receiving(database_url, http__raw_mime_url=True, http__raw_mime_url_seconds=7) as house:
        assert (await house.post(given)).status == 202
        assert asked == [("https://mail.example/1?sig=x", 25 << 20, 7.0)]
    async with receiving(database_url) as house:
        assert (await house.post(given)).no == (422, "unprocessable", "raw_mime_url")
        assert len(asked) == 1


async def test_what_is_being_fetched_counts_as_bytes_in_flight(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the largest mail there may be: nobody knows before how large it is."""
    megabyte, gate, asking = 1 << 20, asyncio.Event(), asyncio.Event()

    async def get(*_: object, **__: object) -> bytes:
        asking.set()
        await gate.wait()
        return mail("far")

    monkeypatch.setattr(Fetcher, "get", get)
    given = {"event_id": "e", "raw_mime_url": "https://mail.example/1"}
    limits: dict[str, Any] = {"max_bytes_in_flight": 3 * megabyte, "max_message_bytes": 2 * megabyte}
    async with receiving(database_url, http__raw_mime_url=True, **limits) as house:
        first = asyncio.create_task(house.post(given))
        await asyncio.wait_for(asking.wait(), 10)
        assert house.app._flight.used == 2 * megabyte
        assert (await house.post(given)).said == (503, "deferred", "overloaded")
        gate.set()
        assert (await first).status == 202
        assert house.app._flight.used == 0


@pytest.mark.parametrize(
    ("found", "answer"),
    [
        (FetchRefused("x"), (422, "refused", "unprocessable")),
        (FetchFailed("x"), (503, "deferred", "fetch_failed")),
        (FetchTooLarge("x"), (413, "refused", "oversized_message")),
        (b"", (422, "refused", "unprocessable")),
    ],
)
async def test_what_cannot_be_fetched(
    database_url: str, monkeypatch: pytest.MonkeyPatch, found: bytes | Exception, answer: tuple[int, str, str]
) -> None:
    answering(monkeypatch, found)
    async with receiving(database_url, http__raw_mime_url=True) as house:
        reply = await house.post({"event_id": "e", "raw_mime_url": "https://mail.example/1"})
        assert reply.said == answer
        assert await house.stored() == []


async def test_our_own_network_is_never_asked(database_url: str) -> None:
    """The real fetcher: the strict form of a URL, and no address."""
    async with receiving(database_url, http__raw_mime_url=True) as house:
        for url in (f"http://127.0.0.1:{house.port}/openapi.json", "https://127.0.0.1/", "https://[::1]/", "x"):
            reply = await house.post({"event_id": "e", "raw_mime_url": url})
            assert reply.no == (422, "unprocessable", "raw_mime_url")


# -- bytes in flight ------------------------------------------------------------------------------------------------


async def test_both_doors_share_the_bytes_in_flight(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mail by SMTP that is on its way leaves no room; the newest goes first, and the place is given back."""
    megabyte = 1 << 20
    async with receiving(database_url, max_bytes_in_flight=4 * megabyte, max_message_bytes=4 * megabyte) as house:
        large = mail("m") + b"x" * (2 * megabyte)
        flight, full = house.app._flight, asyncio.Event()
        real = flight.hold

        def hold(ticket: Ticket, held: int) -> None:
            real(ticket, held)
            if flight.used >= 3 * megabyte:
                full.set()

        monkeypatch.setattr(flight, "hold", hold)
        reader, writer = await asyncio.open_connection("127.0.0.1", house.smtp)
        writer.write(b"EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<support@acme.test>\r\nDATA\r\n")
        while not (await reader.readline()).startswith(b"354"):
            pass
        writer.write(mail("smtp") + b"x" * (3 * megabyte))
        await writer.drain()
        await asyncio.wait_for(full.wait(), 10)
        for reply in (await house.post(large), await house.json(large)):
            assert reply.said == (503, "deferred", "overloaded")
        # Told before the rest of it has come.
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: message/rfc822\r\n"
        part = "x" * (2 * megabyte)
        assert (await house.raw(f"{head}Content-Length: {3 * megabyte}\r\n\r\n{part}")).startswith(b"HTTP/1.1 503 ")
        assert (await house.refusals())["overloaded"] == 3
        writer.write(b"\r\n.\r\n")
        assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"250")
        writer.close()
        assert (await house.post(large)).status == 202
        assert flight.used == 0


async def test_what_goes_wrong_leaves_nothing_in_flight(house: House) -> None:
    for body, headers in (
        (b"", RFC822),
        (b"{", {"Content-Type": "application/json"}),
        (b"x" * 1000, {"Content-Type": "multipart/form-data; boundary=b"}),
        (mail("m", to="x@nowhere.test"), RFC822),
        (mail("m"), RFC822),
        (b"x" * (26 << 20), RFC822),
    ):
        await house.post(body, headers=headers)
        assert house.app._flight.used == 0


async def test_a_large_mail_does_not_hold_the_loop(database_url: str) -> None:
    """25 MB of base64 in JSON, and of bare line ends as they are (design page, law 9)."""
    raw = mail("m") + random.Random(6).randbytes(12 << 20)
    lines = mail("n").replace(b"\r\n", b"\n") + b"a line of text\n" * (1 << 20)
    as_json = base64.b64encode(raw)
    async with receiving(database_url, store__commit_seconds=30) as house:

        async def bring() -> None:
            body = b'{"event_id":"e","raw_mime_base64":"' + as_json + b'"}'
            assert (await house.post(body, headers={"Content-Type": "application/json"})).status in (200, 202)
            assert (await house.post(lines)).status in (200, 202)

        await assert_loop_goes_on(bring, seconds=0.1)


# -- the connection does not own the acceptance ---------------------------------------------------------------------


async def test_a_client_that_hangs_up_does_not_undo_its_mail(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, gate = asyncio.Event(), asyncio.Event()
    real = house.app.pipeline.accept

    async def slow(envelope: Any) -> Any:
        begun.set()
        await gate.wait()
        return await real(envelope)

    monkeypatch.setattr(house.app.pipeline, "accept", slow)
    raw = mail("m")
    _, writer = await asyncio.open_connection("127.0.0.1", house.port)
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: message/rfc822\r\n"
    writer.write(f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
    await asyncio.wait_for(begun.wait(), 10)
    writer.transport.abort()
    await asyncio.sleep(0)
    assert house.app._flight.used == len(raw)
    gate.set()
    await house.app.intake.drain(10)
    assert len(await house.stored()) == 1
    assert (await house.post(raw)).status == 200


async def knock_for_ever(port: int) -> None:
    """Connect again and again, as long as somebody listens."""
    while True:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()


async def test_the_drain_waits_for_what_is_being_accepted(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, gate = asyncio.Event(), asyncio.Event()
    async with receiving(database_url) as house:
        real = house.app.pipeline.accept

        async def slow(envelope: Any) -> Any:
            begun.set()
            await gate.wait()
            return await real(envelope)

        monkeypatch.setattr(house.app.pipeline, "accept", slow)
        posted = asyncio.create_task(house.post(mail("m")))
        await asyncio.wait_for(begun.wait(), 10)
        drained = asyncio.create_task(house.app.drain())
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(knock_for_ever(house.port), 10)
        assert not drained.done()
        gate.set()
        assert (await asyncio.wait_for(posted, 10)).status == 202
        await asyncio.wait_for(drained, 10)
        assert len(await house.stored()) == 1


async def test_a_surprise_is_a_503_without_its_text(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def surprise(*_: object) -> None:
        raise KeyError("text of a stranger")

    monkeypatch.setattr(house.app.pipeline, "accept", surprise)
    reply = await house.post(mail("m"))
    assert reply.said == (503, "deferred", "store_unavailable")
    monkeypatch.setattr("ingester.transport.http.door.read_json", surprise)
    monkeypatch.setattr("ingester.transport.http.door.read_provider_json", lambda *_, **__: 1 / 0)
    reply = await house.json(mail("m"))
    assert reply.said == (503, "deferred", "store_unavailable")
    assert house.app._flight.used == 0
