"""Strangers who mean harm: memory stays bounded, the loop stays free, the door serves on."""

import asyncio
import re
import time

import psutil
import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingester.core.outcome import Reason
from tests.transport.stubs import House, Peer, running
from tests.transport.test_smtp import STORED
from tests.transport.variants import VARIANTS

MB = 1 << 20
ALLOWED = 64 * MB
"""What the process may grow beyond the bytes admitted (issue 2, point 5)."""


class Scale:
    """The memory of this process, client included, against what it was at first."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._first = self._process.memory_info().rss
        self.most = 0

    def weigh(self) -> None:
        self.most = max(self.most, self._process.memory_info().rss - self._first)


async def pour(peer: Peer, megabytes: int, unit: bytes, scale: Scale) -> None:
    block = unit * (MB // len(unit))
    for _ in range(megabytes):
        await peer.send(block)
        scale.weigh()


async def serves_on(house: House) -> None:
    peer = await house.connect()
    await peer.begin()
    await peer.send(b"still here\r\n.\r\n")
    assert await peer.reply() == STORED
    peer.close()


async def test_200_mb_without_a_line_end_as_a_command() -> None:
    async with running() as house:
        peer = await house.connect()
        await peer.reply()
        scale = Scale()
        await pour(peer, 200, b"x", scale)
        peer.writer.write_eof()
        assert (await peer.rest()).startswith(b"500 5.5.6")
        assert scale.most < ALLOWED
        await serves_on(house)


@pytest.mark.parametrize("unit", [b"x", b"y" * 62 + b"\r\n", b"\n"], ids=["no line end", "lines", "bare LF"])
async def test_200_mb_of_data(unit: bytes) -> None:
    async with running(max_message_bytes=MB) as house:
        peer = await house.connect()
        await peer.begin()
        scale = Scale()
        await pour(peer, 200, unit, scale)
        await peer.send(b"\r\n.\r\n")
        assert (await peer.reply()).startswith("552 5.3.4")
        assert scale.most < ALLOWED
        await serves_on(house)


async def test_100_000_recipients() -> None:
    async with running() as house:
        house.pipeline.keep = False
        peer = await house.connect()
        await peer.reply()
        await peer.ask("EHLO a")
        await peer.ask("MAIL FROM:<a@b.test>")
        scale = Scale()
        codes = {"250": 0, "452": 0}
        for _ in range(100):
            await peer.send(b"RCPT TO:<support@demo.test>\r\n" * 1000)
            for _ in range(1000):
                codes[(await peer.reply())[:3]] += 1
            scale.weigh()
        assert codes == {"250": 1000, "452": 99_000}
        assert house.pipeline.refused == {Reason.TOO_MANY_RECIPIENTS: 99_000}
        assert scale.most < ALLOWED
        assert (await peer.ask("DATA")).startswith("354")
        await peer.send(b"x\r\n.\r\n")
        assert await peer.reply() == STORED


async def test_commands_pipelined_during_an_acceptance_are_left_in_the_network() -> None:
    async with running() as house:
        house.pipeline.gate = gate = asyncio.Event()
        peer = await house.connect()
        await peer.begin()
        await peer.send(b"x\r\n.\r\n")
        await house.pipeline.arrived.wait()
        scale = Scale()
        flood = asyncio.create_task(pour(peer, 50, b"NOOP\r\n", scale))
        for _ in range(2000):
            await asyncio.sleep(0)
        (dialog,) = house.dialogs
        assert 0 < len(dialog.inbox.peek()) < 600_000
        flood.cancel()
        gate.set()
        assert await peer.reply() == STORED


async def test_a_flood_of_commands_leaves_the_loop_free() -> None:
    """Law 9: no step holds the loop for more than about 25 ms; the bound here allows for a busy machine."""
    async with running() as house:
        peer = await house.connect()
        await peer.reply()
        flood = asyncio.create_task(peer.send(b"NOOP\r\n" * 30_000))
        replies, longest, last = 0, 0.0, time.thread_time()
        while replies < 30_000:
            replies += (await peer.reader.read(65536)).count(b"\r\n")
            now = time.thread_time()
            longest, last = max(longest, now - last), now
        await flood
        assert longest < 0.1


PIECES = st.one_of(
    st.binary(max_size=30),
    st.sampled_from(
        [
            b"\r\n",
            b"\n",
            b"\0",
            b".\r\n",
            b"EHLO a\r\n",
            b"HELO a\r\n",
            b"MAIL FROM:<a@b.test>\r\n",
            b"MAIL FROM:<> SIZE=99999999999\r\n",
            b"RCPT TO:<support@demo.test>\r\n",
            b"RCPT TO:<unknown@demo.test>\r\n",
            b"RCPT TO:<later@demo.test>\r\n",
            b"DATA\r\n",
            b"Subject: x\r\n\r\nbody\r\n.\r\n",
            b"RSET\r\n",
            b"STARTTLS\r\n",
            b"QUIT\r\n",
            b"NOOP\r\n",
            b"x" * 5000,
            b"x" * 70_000,
            *VARIANTS.values(),
        ]
    ),
)
REPLY = re.compile(
    r"220 mx\.demo\.test ESMTP ingester|250[ -][A-Za-z0-9. ]+|354 [ -~]+|([245])\d\d \1\.\d\.\d{1,3} [ -~]+"
)


async def babble(house: House, pieces: list[bytes]) -> None:
    peer = await house.connect()
    for piece in pieces:
        peer.writer.write(piece)
    peer.writer.write_eof()
    async with asyncio.timeout(20):
        replies = (await peer.rest()).decode("ascii").split("\r\n")
    assert replies.pop() == ""
    assert all(REPLY.fullmatch(reply) for reply in replies), replies
    peer.close()
    house.peers.clear()
    await house.until(lambda: not house.dialogs)
    assert len(house.door.desk.connections) == 0
    assert house.door.desk.flight.used == 0


def test_no_stream_of_octets_kills_the_door() -> None:
    """Any stream is answered in well-formed replies, the connection ends, nothing stays counted."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        entered = running(max_message_bytes=10_000, smtp__max_command_errors=5)
        house = runner.run(entered.__aenter__())

        @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(pieces=st.lists(PIECES, max_size=20))
        def stream(pieces: list[bytes]) -> None:
            runner.run(babble(house, pieces))

        stream()
        runner.run(serves_on(house))
        runner.run(entered.__aexit__(None, None, None))
