"""The listener: what it answers by itself, its bounds, and the drain."""

import asyncio

import pytest

from ingester.settings import Listen
from ingester.store.outbound import register
from ingester.transport.sockets import bind
from ingester.web.server import HttpDoor
from tests.api.house import KEYS, House, running, settings

PATH = "/v1/messages/00000000-0000-7000-8000-000000000001/sent"
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEYS['acme']}\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/mailboxes//outbound", "/v1/messages/x/sent/", "/v2/<script>", "//"])
async def test_an_unknown_path_is_not_found(house: House, path: str) -> None:
    reply = await house.ask("POST", path, {})
    assert reply.no == (404, "not_found", None)
    assert "script" not in str(reply.body)


async def test_another_method_is_told_which_one_is_right(house: House) -> None:
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS"):
        reply = await house.ask(method, PATH, {})
        assert reply.no == (405, "method_not_allowed", None)
        assert reply.headers["Allow"] == "POST"


@pytest.mark.parametrize(
    "text",
    [
        "nonsense\r\n\r\n",
        "POST / HTTP/9.9\r\nHost: x\r\n\r\n",
        f"POST /{'x' * 9000} HTTP/1.1\r\nHost: x\r\n\r\n",
        f"POST / HTTP/1.1\r\nHost: x\r\nX: {'secret' * 2000}\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\n" + "".join(f"X{n}: secret\r\n" for n in range(200)) + "\r\n",
        f"{HEAD}Content-Length: -1\r\n\r\n",
        f"{HEAD}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}",
        f"{HEAD}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{{}}",
        f"{HEAD}Transfer-Encoding: chunked\r\n\r\nsecret\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03secret\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_answered_without_its_words(house: House, text: str) -> None:
    reply = await house.raw(text)
    assert reply.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert b'{"ok":false,"status":"refused","reason":"bad_request"' in reply
    assert b"secret" not in reply
    assert b"xxxx" not in reply


async def test_an_expectation_that_nobody_knows_is_answered_without_its_words(house: House) -> None:
    reply = await house.raw(f"{HEAD}Expect: secret\r\nContent-Length: 2\r\n\r\n{{}}")
    assert reply.startswith(b"HTTP/1.1 417 ")
    assert b"secret" not in reply


async def test_a_connection_serves_many_calls(house: House) -> None:
    reader, writer = await house.connect()
    for _ in range(3):
        writer.write(f"{HEAD}Content-Length: 2\r\n\r\n{{}}".encode())
        assert b"404" in await reader.readuntil(b"}")
    writer.close()


async def test_a_silent_connection_is_closed(database_url: str) -> None:
    async with running(database_url, http__idle_seconds=0.05) as house:
        reader, writer = await house.connect()
        writer.write(b"POST / HTT")
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


async def test_connections_are_bounded_and_the_place_is_given_back(database_url: str) -> None:
    async with running(database_url, http__max_connections=2) as house:
        first, second = await house.connect(), await house.connect()
        await _served(*first)
        await _served(*second)
        third = await house.connect()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await _served(*third)
        first[1].transport.abort()
        for _ in range(100):
            again = await house.connect()
            try:
                await _served(*again)
                break
            except (ConnectionError, asyncio.IncompleteReadError):
                again[1].transport.abort()
        else:
            pytest.fail("the place was not given back")
        for _, writer in (second, third, again):
            writer.transport.abort()


async def test_workers_share_a_port(house: House) -> None:
    """Behind SO_REUSEPORT the door that is drained loses no caller to come: the other one has the port."""
    sockets = bind((Listen(host="127.0.0.1", port=0),), reuse_port=True)
    port = sockets[0].getsockname()[1]
    doors = [HttpDoor(settings=settings(house.town.url), routes=()) for _ in range(2)]
    await doors[0].start(sockets)
    await doors[1].start(bind((Listen(host="127.0.0.1", port=port),), reuse_port=True))
    await doors[0].drain(5)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await _served(reader, writer)
    writer.close()
    await doors[1].drain(5)


async def test_a_drain_finishes_the_call_in_flight(house: House) -> None:
    """A body on its way is read to its end, answered, stored; idle connections go at once and new ones get nothing."""
    idle_reader, idle_writer = await house.connect()
    await _served(idle_reader, idle_writer)
    reader, writer = await house.connect()
    path = f"/v1/mailboxes/{house.mailboxes['support@acme.test']}/outbound"
    body = b'{"to":["ada@customer.test"]}'
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nAuthorization: Bearer {KEYS['acme']}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body[:5])
    assert b"100 Continue" in await reader.readuntil(b"\r\n\r\n")
    drain = asyncio.create_task(house.door.drain(30))
    assert await asyncio.wait_for(idle_reader.read(), 10) == b""
    with pytest.raises(OSError, match=r"."):
        await house.connect()
    assert not drain.done()
    writer.write(body[5:])
    reply = await asyncio.wait_for(reader.read(), 10)
    assert reply.startswith(b"HTTP/1.1 201 ")
    assert b"connection: close" in reply.lower()
    await asyncio.wait_for(drain, 10)
    assert len(await house.town.fetch("SELECT FROM messages")) == 1
    for one in (idle_writer, writer):
        one.close()


async def test_a_drain_ends_within_its_bound(house: House) -> None:
    reader, writer = await house.connect()
    writer.write(f"{HEAD}Expect: 100-continue\r\nContent-Length: 20\r\n\r\n{{".encode())
    assert b"100 Continue" in await reader.readuntil(b"\r\n\r\n")
    await asyncio.wait_for(house.door.drain(0.05), 10)
    assert b"HTTP/1.1 2" not in await asyncio.wait_for(reader.read(), 10)
    writer.close()


async def test_a_caller_who_hangs_up_does_not_undo_what_it_asked(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection does not own the acceptance (design page, law 6)."""
    begun, gate, done = asyncio.Event(), asyncio.Event(), asyncio.Event()
    real = register

    async def slow(*arguments: object, **named: object) -> object:
        begun.set()
        await gate.wait()
        try:
            return await real(*arguments, **named)  # type: ignore[arg-type]
        finally:
            done.set()

    monkeypatch.setattr("ingester.api.outbound.register", slow)
    _, writer = await house.connect()
    path = f"/v1/mailboxes/{house.mailboxes['support@acme.test']}/outbound"
    body = '{"to":["ada@customer.test"]}'
    writer.write(f"{HEAD.replace(PATH, path)}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    await asyncio.wait_for(begun.wait(), 10)
    writer.transport.abort()
    gate.set()
    await asyncio.wait_for(done.wait(), 10)
    await house.door.drain(5)
    assert len(await house.town.fetch("SELECT FROM messages")) == 1


async def _served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One call on this connection."""
    writer.write(f"{HEAD}Content-Length: 2\r\n\r\n{{}}".encode())
    assert b"404" in await asyncio.wait_for(reader.readuntil(b"}"), 10)
