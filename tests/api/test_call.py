"""What every call goes through: the key, the body, the store. Each status once at least."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Mapping

import pytest

from ingester.clock import now
from ingester.store.keys import holder, key_text, revoke_key
from tests.api.house import KEYS, House, running

PATH = "/v1/messages/00000000-0000-7000-8000-000000000001/sent"


async def test_whoever_shows_no_live_key_gets_one_and_the_same_answer(house: House) -> None:
    (row,) = await house.town.fetch(
        "SELECT id FROM api_keys k WHERE tenant_id = (SELECT id FROM tenants WHERE slug = 'globex')"
    )
    async with house.database.connection() as connection:
        await revoke_key(connection, row["id"], now())
    shown = [None, KEYS["globex"], key_text(b"u" * 32), KEYS["acme"].upper(), "", "igk_", "x" * 7000, "\u00e9"]
    replies = [await house.ask("POST", PATH, {}, key=one) for one in shown]
    for scheme in ("Basic", "Bearerx", "Token", ""):
        header = {"Authorization": f"{scheme} {KEYS['acme']}"}
        replies.append(await house.ask("POST", PATH, {}, key=None, headers=header))
    assert {reply.no for reply in replies} == {(401, "unauthorized", None)}
    assert all(reply.body == replies[0].body for reply in replies)
    assert {reply.headers["WWW-Authenticate"] for reply in replies} == {"Bearer"}


async def test_unknown_and_revoked_keys_cost_the_same_queries(house: House) -> None:
    asked: list[str] = []
    async with house.database.connection() as connection:
        found = await holder(connection, KEYS["globex"], now())
        assert found is not None
        await revoke_key(connection, found.key_id, now())
        counted = []
        with connection.query_logger(lambda record: asked.append(record.query)):
            for key in (KEYS["globex"], key_text(b"u" * 32)):
                assert await holder(connection, key, now()) is None
                await asyncio.sleep(0)  # the loop calls the logger, after the query
                counted.append(asked.copy())
                asked.clear()
    assert len(counted[0]) == 1
    assert counted[0] == counted[1]


async def test_the_scheme_is_in_any_case(house: House) -> None:
    header = {"Authorization": f"bEARER  {KEYS['acme']}"}
    assert (await house.ask("POST", PATH, {}, key=None, headers=header)).status == 404


async def test_two_authorizations_are_none(house: House) -> None:
    reply = await house.raw(
        f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEYS['acme']}\r\n"
        f"Authorization: Bearer {KEYS['acme']}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
    )
    assert reply.startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": ""},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Encoding": "gzip"},
        {"Content-Type": "application/x-www-form-urlencoded"},
    ],
)
async def test_what_is_not_json_by_its_own_word_is_not_read(house: House, headers: Mapping[str, str]) -> None:
    body = gzip.compress(b"{}") if "Content-Encoding" in headers else b"{}"
    assert (await house.ask("POST", PATH, body, headers=headers)).no == (415, "unsupported", None)


@pytest.mark.parametrize("content_type", ["application/json; charset=UTF-8", "Application/JSON"])
async def test_what_is_json_by_its_own_word_is_read(house: House, content_type: str) -> None:
    assert (await house.ask("POST", PATH, {}, headers={"Content-Type": content_type})).status == 404


@pytest.mark.parametrize("body", [b"", b"nonsense", b"{", b'{"a', b'{"rfc_message_id":"\xff"}', b"{} {}", b"\xff\xfe"])
async def test_what_is_no_json_is_a_bad_request(house: House, body: bytes) -> None:
    assert (await house.ask("POST", PATH, body)).no == (400, "bad_request", None)


@pytest.mark.parametrize("body", [[], 5, "x", [[]]])
async def test_json_that_is_no_object_is_unprocessable(house: House, body: object) -> None:
    assert (await house.ask("POST", PATH, body)).no == (422, "unprocessable", None)


async def test_a_field_that_nobody_knows_is_named_within_bounds(house: House) -> None:
    reply = await house.ask("POST", PATH, {"x" * 500_000: 1})
    assert reply.no == (422, "unprocessable", "x" * 64)
    assert (await house.ask("POST", PATH, {"\x1b[2J": 1})).no == (422, "unprocessable", "\ufffd[2J")


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_is_at_most_a_megabyte(house: House, chunked: bool) -> None:
    """Declared or not, the answer is told before or after the megabyte and never the whole read."""

    async def chunks(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b" " * 1024

    fits = b"{}" + b" " * ((1 << 20) - 2)
    assert (await house.ask("POST", PATH, chunks(1023) if chunked else fits)).status == (400 if chunked else 404)
    too_much = chunks(1025) if chunked else fits + b" "
    assert (await house.ask("POST", PATH, too_much)).no == (413, "oversized_message", None)


async def test_a_body_that_does_not_come_is_cut(database_url: str) -> None:
    async with running(database_url, http__body_seconds=0.05) as house:
        reply = await house.raw(
            f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEYS['acme']}\r\n"
            "Content-Type: application/json\r\nContent-Length: 20\r\n\r\n{"
        )
        assert reply.startswith(b"HTTP/1.1 408 ")


async def test_a_database_that_is_away_is_a_503(database_url: str) -> None:
    async with running(database_url, away=True) as house:
        reply = await house.register()
        assert reply.no == (503, "store_unavailable", None)
        assert reply.headers["Retry-After"] == "5"


async def test_a_database_that_goes_away_in_the_middle_is_a_503(house: House) -> None:
    async with house.database.connection() as connection:
        await connection.execute("ALTER TABLE messages RENAME TO gone")
    assert (await house.register()).no == (503, "store_unavailable", None)


async def test_a_value_that_the_store_cannot_take_is_unprocessable(house: House) -> None:
    async with house.database.connection() as connection:
        await connection.execute("ALTER TABLE messages ADD CONSTRAINT short CHECK (length(subject) < 3)")
    reply = await house.register()
    assert reply.no == (422, "unprocessable", None)


async def test_a_surprise_is_a_503_without_its_text(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def surprise(*_: object, **__: object) -> None:
        raise KeyError("text of a stranger")

    monkeypatch.setattr("ingester.api.outbound.register", surprise)
    reply = await house.register()
    assert reply.no == (503, "store_unavailable", None)
    assert (await house.ask("POST", PATH, {})).status == 404


async def test_many_who_ask_leave_connections_for_the_mail(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the pool at most, however many ask at once."""
    async with running(database_url, store__connections=4) as house:
        gate, held = asyncio.Event(), 0
        full = asyncio.Event()

        async def slow(*_: object, **__: object) -> None:
            nonlocal held
            held += 1
            if held == 2:
                full.set()
            await gate.wait()

        monkeypatch.setattr("ingester.api.call.holder", slow)
        calls = [asyncio.create_task(house.ask("POST", PATH, {})) for _ in range(6)]
        await asyncio.wait_for(full.wait(), 10)
        async with asyncio.timeout(10), house.database.connection(), house.database.connection():
            assert held == 2
        gate.set()
        assert {(await one).status for one in calls} == {401}
