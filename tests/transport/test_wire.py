"""The inbox: lines, their faults, bounds, diversion."""

import asyncio
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from ingester.transport.wire import ENDLESS_LIMIT, HIGH_MARK, LINE_LIMIT, Inbox, LineFault


class Tap(asyncio.ReadTransport):
    """A transport that remembers whether it is to read."""

    def __init__(self) -> None:
        super().__init__()
        self.paused = False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


def inbox() -> tuple[Inbox, Tap]:
    loop = asyncio.new_event_loop()
    loop.close()  # none of these tests waits
    made, tap = Inbox(loop), Tap()
    made.attach(tap)
    return made, tap


def lines(made: Inbox) -> list[bytes | LineFault]:
    out = []
    while (line := made.line()) is not None:
        out.append(line)
    return out


def test_lines_come_whole_and_in_order() -> None:
    made, _ = inbox()
    made.feed(b"EHLO a\r\nMAIL")
    assert lines(made) == [b"EHLO a"]
    made.feed(b" FROM:<>\r")
    assert lines(made) == []
    made.feed(b"\nQUIT\r\n")
    assert lines(made) == [b"MAIL FROM:<>", b"QUIT"]


def test_faults() -> None:
    made, _ = inbox()
    made.feed(b"EHLO a\nNO\0OP\r\nNO\rOP\r\n\0\nNOOP\r\r\nNOOP\r\n")
    assert lines(made) == [
        LineFault.BARE_LF,
        LineFault.STRAY,
        LineFault.STRAY,
        LineFault.STRAY,
        LineFault.STRAY,
        b"NOOP",
    ]


def test_the_longest_line_and_one_more() -> None:
    made, _ = inbox()
    made.feed(b"x" * (LINE_LIMIT - 2) + b"\r\n" + b"x" * (LINE_LIMIT - 1) + b"\r\nNOOP\r\n")
    assert lines(made) == [b"x" * (LINE_LIMIT - 2), LineFault.TOO_LONG, b"NOOP"]


def test_a_long_line_in_pieces_is_thrown_away_as_it_comes() -> None:
    made, _ = inbox()
    for _ in range(10):
        made.feed(b"x" * 4000)
        assert lines(made) == []
        assert len(made.peek()) <= LINE_LIMIT
    made.feed(b"\r\nNOOP\r\n")
    assert lines(made) == [LineFault.TOO_LONG, b"NOOP"]


def test_an_endless_line_is_told_at_once() -> None:
    made, _ = inbox()
    made.feed(b"x" * (ENDLESS_LIMIT + 1))
    assert made.line() is LineFault.ENDLESS
    assert made.peek() == b""


def test_reading_pauses_above_the_mark_and_resumes_below() -> None:
    made, tap = inbox()
    made.feed(b"NOOP\r\n" * (HIGH_MARK // 6 + 2))
    assert tap.paused
    for _ in range(3):
        made.line()
    assert not tap.paused


def test_a_diversion_gets_what_waits_and_gives_back_the_rest() -> None:
    made, _ = inbox()
    got: list[bytes] = []
    made.feed(b"DATA\r\nearly")
    assert made.line() == b"DATA"
    made.divert(got.append)
    made.feed(b"late")
    assert got == [b"early", b"late"]
    made.restore(b"QUIT\r")
    made.feed(b"\n")
    assert lines(made) == [b"QUIT"]


async def test_a_fast_peer_gives_way_to_others_between_big_chunks() -> None:
    made, tap = Inbox(asyncio.get_running_loop()), Tap()
    made.attach(tap)
    made.divert(lambda _: None)
    states = []
    for size in (1000, 256_000):
        made.feed(b"x" * size)
        states.append(tap.paused)
    await asyncio.sleep(0)
    assert [*states, tap.paused] == [False, True, False]


async def test_more_waits_for_bytes_a_wake_or_the_end() -> None:
    made = Inbox(asyncio.get_running_loop())
    acts: list[tuple[Callable[[], None], bool]] = [
        (lambda: made.feed(b"x"), True),
        (made.wake, True),
        (made.clear, True),
        (made.end, False),
    ]
    for act, expected in acts:
        waiting = asyncio.create_task(made.more())
        await asyncio.sleep(0)
        assert not waiting.done()
        act()
        made.wake()
        assert await waiting is expected
    assert await made.more() is False


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"\r\n", b"\n", b"NOOP\r\n", b"x" * 5000]), max_size=30))
def test_any_bytes_in_any_pieces_give_the_same_lines(pieces: list[bytes]) -> None:
    made, _ = inbox()
    got: list[bytes | LineFault] = []
    for piece in pieces:
        made.feed(piece)
        got += lines(made)
    expected: list[bytes | LineFault] = []
    whole = b"".join(pieces)
    for line in whole.split(b"\n")[:-1]:
        if len(line) + 1 > LINE_LIMIT:
            expected.append(LineFault.TOO_LONG if len(line) <= ENDLESS_LIMIT else LineFault.ENDLESS)
        elif b"\0" in line or b"\r" in line[:-1]:
            expected.append(LineFault.STRAY)
        else:
            expected.append(line[:-1] if line.endswith(b"\r") else LineFault.BARE_LF)
    assert [line for line in got if line is not LineFault.ENDLESS] == [
        line for line in expected if line is not LineFault.ENDLESS
    ]
