"""Sockets and the drain."""

import asyncio
import socket

import pytest

from ingester.settings import Listen
from ingester.transport import command
from ingester.transport.smtp import SmtpDoor
from ingester.transport.sockets import bind
from tests.transport.stubs import StubPipeline, running, settings, tcp
from tests.transport.test_smtp import STORED

ANY4 = Listen(host="0.0.0.0", port=0)
ANY = Listen(host="::", port=0)
LOCAL4 = Listen(host="127.0.0.1", port=0)
LOCAL6 = Listen(host="::1", port=0)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@ipv6
async def test_the_default_takes_ipv4_and_ipv6_and_spells_ipv4_as_ipv4() -> None:
    async with running((ANY,)) as house:
        port = house.port
        for host in ("127.0.0.1", "::1"):
            reader, writer = await asyncio.open_connection(host, port)
            assert (await reader.readline()).startswith(b"220")
            writer.write(b"EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<support@demo.test>\r\nQUIT\r\n")
            assert b"221" in await reader.read()
            writer.close()
            assert house.pipeline.asked_for is not None
            assert house.pipeline.asked_for.ip == host


@ipv6
async def test_several_addresses() -> None:
    async with running((LOCAL4, LOCAL6)) as house:
        assert [tcp(house.door, at).host for at in (0, 1)] == ["127.0.0.1", "::1"]
        for at in (0, 1):
            peer = await house.connect(at)
            assert (await peer.reply()).startswith("220")


@ipv6
def test_both_families_on_one_port_do_not_clash() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for sock in bind((Listen(host="::", port=port), Listen(host="0.0.0.0", port=port)), reuse_port=False):
        sock.close()


def test_workers_share_a_port() -> None:
    (first,) = bind((LOCAL4,), reuse_port=True)
    shared = Listen(host="127.0.0.1", port=first.getsockname()[1])
    (second,) = bind((shared,), reuse_port=True)
    assert first.getsockname() == second.getsockname()
    first.close()
    second.close()


def test_an_address_in_use_is_an_error_that_names_it_and_leaves_nothing_open() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = Listen(host="127.0.0.1", port=taken.getsockname()[1])
        with pytest.raises(OSError, match=f"cannot listen on {where}"):
            bind((LOCAL4, where), reuse_port=False)


async def test_drain_sends_idle_clients_away_and_lets_data_end() -> None:
    async with running() as house:
        idle, mid, sending = [await house.connect() for _ in range(3)]
        await idle.reply()
        await mid.reply()
        await mid.ask("EHLO a")
        await mid.ask("MAIL FROM:<>")
        await sending.begin()
        await sending.send(b"first line\r\n")
        draining = asyncio.create_task(house.door.drain(30))
        assert await idle.rest() == await mid.rest() == command.CLOSING.encode() + b"\r\n"
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await asyncio.open_connection("127.0.0.1", house.port)
        assert not draining.done()
        await sending.send(b"last line\r\n.\r\n")
        assert await sending.rest() == f"{STORED}\r\n{command.CLOSING}\r\n".encode()
        await draining
        assert [mail.raw for mail in house.pipeline.mails] == [b"first line\r\nlast line\r\n"]
        assert not house.dialogs


async def test_drain_waits_for_acceptances_whose_client_is_gone() -> None:
    async with running() as house:
        house.pipeline.gate = gate = asyncio.Event()
        peer = await house.connect()
        await peer.begin()
        await peer.send(b"x\r\n.\r\n")
        await house.pipeline.arrived.wait()
        peer.reset()
        draining = asyncio.create_task(house.door.drain(30))
        await house.until(lambda: not house.dialogs)
        assert not draining.done()
        gate.set()
        await draining
        assert len(house.pipeline.mails) == 1


async def test_drain_aborts_what_does_not_end_in_time() -> None:
    async with running() as house:
        peer = await house.connect()
        await peer.begin()
        await peer.send(b"x\r\n")
        await house.door.drain(0.05)
        assert await peer.rest() == b""
        assert (house.dialogs, house.pipeline.mails) == (set(), [])


async def test_deadlines_run_by_themselves() -> None:
    """With the real clock: the timer, not the test, looks at the deadlines."""
    pipeline = StubPipeline()
    door = SmtpDoor(settings=settings(smtp__idle_seconds=0.05), pipeline=pipeline)
    await door.start(bind((LOCAL4,), reuse_port=False))
    reader, writer = await asyncio.open_connection("127.0.0.1", tcp(door).port)
    assert (await reader.read()).endswith(command.TIMED_OUT.encode() + b"\r\n")
    writer.close()
    await door.drain(5)
