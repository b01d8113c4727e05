"""ingester.batcher"""

import asyncio
from collections.abc import Sequence

import pytest

from ingester.batcher import Batcher


class Handler:
    """Holds each batch until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()

    async def __call__(self, works: Sequence[int]) -> list[int]:
        self.batches.append(list(works))
        self.entered.set()
        await self.gate.wait()
        if -1 in works:
            raise RuntimeError("a bad one")
        return [work * 2 for work in works]


def make(
    handler: Handler, *, runners: int = 1, most: int = 4, heaviest: int = 100, enough: int = 1
) -> Batcher[int, int]:
    return Batcher(handler, weigh=abs, runners=runners, most=most, heaviest=heaviest, enough=enough)


async def turns() -> None:
    """Let everything happen that is due."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_first_piece_goes_alone_and_what_waits_meanwhile_goes_together() -> None:
    handler = Handler()
    batcher = make(handler)
    futures = [batcher.submit(1)]
    await handler.entered.wait()
    futures += [batcher.submit(n) for n in range(2, 8)]
    handler.gate.set()
    assert await asyncio.gather(*futures) == [2, 4, 6, 8, 10, 12, 14]
    assert handler.batches == [[1], [2, 3, 4, 5], [6, 7]]


async def test_a_batch_is_bounded_by_weight_but_one_piece_may_be_heavier() -> None:
    handler = Handler()
    batcher = make(handler)
    futures = [batcher.submit(1)]
    await handler.entered.wait()
    futures += [batcher.submit(n) for n in (500, 60, 50, 40)]
    handler.gate.set()
    await asyncio.gather(*futures)
    assert handler.batches == [[1], [500], [60], [50, 40]]


async def test_no_more_runners_than_allowed() -> None:
    handler = Handler()
    batcher = make(handler, runners=2, most=1)
    futures = [batcher.submit(n) for n in range(5)]
    await handler.entered.wait()
    assert len(handler.batches) <= 2
    handler.gate.set()
    assert await asyncio.gather(*futures) == [0, 2, 4, 6, 8]


async def test_a_further_batch_begins_only_with_enough_to_do() -> None:
    handler = Handler()
    batcher = make(handler, runners=2, enough=3)
    futures = [batcher.submit(1)]
    await turns()
    futures += [batcher.submit(2), batcher.submit(3)]
    await turns()
    assert handler.batches == [[1]]
    futures.append(batcher.submit(4))
    await turns()
    assert handler.batches == [[1], [2, 3, 4]]
    futures += [batcher.submit(n) for n in (5, 6, 7)]
    await turns()
    assert len(handler.batches) == 2
    handler.gate.set()
    assert await asyncio.gather(*futures) == [2, 4, 6, 8, 10, 12, 14]


async def test_of_two_runners_the_last_takes_what_little_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first to end leaves it to the other; who ends last leaves nothing."""
    monkeypatch.setattr("ingester.batcher.PATIENCE_SECONDS", 60.0)
    handler = Handler()
    batcher = make(handler, runners=2, enough=2)
    futures = [batcher.submit(1)]
    await turns()
    futures += [batcher.submit(2), batcher.submit(3)]
    await turns()
    futures.append(batcher.submit(4))
    handler.gate.set()
    async with asyncio.timeout(5):
        assert await asyncio.gather(*futures) == [2, 4, 6, 8]
    assert handler.batches == [[1], [2, 3], [4]]


async def test_little_work_does_not_wait_for_a_batch_that_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingester.batcher.PATIENCE_SECONDS", 0.001)
    stuck, free = asyncio.Event(), asyncio.Event()

    async def handle(works: Sequence[int]) -> list[int]:
        await (stuck if 1 in works else free).wait()
        return list(works)

    free.set()
    batcher: Batcher[int, int] = Batcher(handle, weigh=abs, runners=2, most=4, heaviest=100, enough=4)
    first = batcher.submit(1)
    await turns()
    for n in range(2, 5):
        async with asyncio.timeout(5):
            assert await batcher.submit(n) == n
    assert not first.done()
    stuck.set()
    assert await first == 1


async def test_a_failing_batch_tells_its_own_and_the_next_goes_on() -> None:
    handler = Handler()
    batcher = make(handler, most=1)
    bad, good = batcher.submit(-1), batcher.submit(3)
    handler.gate.set()
    with pytest.raises(RuntimeError, match="a bad one"):
        await bad
    assert await good == 6


async def test_a_waiter_that_went_away_does_not_stop_the_others() -> None:
    handler = Handler()
    batcher = make(handler)
    gone, stays = batcher.submit(1), batcher.submit(2)
    gone.cancel()
    handler.gate.set()
    assert await stays == 4


async def test_a_put_in_the_very_step_in_which_a_runner_ends_is_not_left_behind() -> None:
    """The classic hole: the runner has seen an empty queue and is about to go; a put must start another one."""

    async def handle(works: Sequence[int]) -> list[int]:
        return list(works)

    batcher: Batcher[int, int] = Batcher(handle, weigh=abs, runners=1, most=1, heaviest=1)
    for n in range(2000):
        # The callback of the first future runs in the step after the runner set it, while the runner may be ending.
        second: asyncio.Future[asyncio.Future[int]] = asyncio.get_running_loop().create_future()
        first = batcher.submit(n)
        first.add_done_callback(lambda _, n=n, second=second: second.set_result(batcher.submit(n + 1)))  # type: ignore[misc]
        async with asyncio.timeout(5):
            assert await (await second) == n + 1
