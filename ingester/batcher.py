"""Waiting work is taken together: under load several mails share a commit, and an idle daemon never waits for more.

There is no sleeping worker and so no window between a put and its sleep: `submit` starts a runner whenever fewer than
the allowed number run, and a runner ends only in the same step in which it saw the queue empty.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Work = TypeVar("Work")
Result = TypeVar("Result")


class Batcher(Generic[Work, Result]):
    """Hands waiting work to `handle` in batches, at most `runners` of them at once."""

    def __init__(
        self,
        handle: Callable[[Sequence[Work]], Awaitable[Sequence[Result]]],
        *,
        weigh: Callable[[Work], int],
        runners: int,
        most: int,
        heaviest: int,
    ) -> None:
        """`most` pieces or `heaviest` in weight make a batch; a single piece may be heavier."""
        self._handle = handle
        self._weigh = weigh
        self._runners = runners
        self._most = most
        self._heaviest = heaviest
        self._waiting: deque[tuple[Work, asyncio.Future[Result]]] = deque()
        self._running: set[asyncio.Task[None]] = set()

    def submit(self, work: Work) -> asyncio.Future[Result]:
        """Queue one piece; the future gives its result or the exception that `handle` raised for the batch."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, future))
        if len(self._running) < self._runners:
            task = asyncio.create_task(self._run(), name="batch")
            self._running.add(task)
        return future

    async def _run(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            while self._waiting:
                await self._one(self._take())
        finally:
            self._running.discard(task)

    def _take(self) -> list[tuple[Work, asyncio.Future[Result]]]:
        batch = [self._waiting.popleft()]
        weight = self._weigh(batch[0][0])
        while self._waiting and len(batch) < self._most:
            weight += self._weigh(self._waiting[0][0])
            if weight > self._heaviest:
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _one(self, batch: list[tuple[Work, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._handle([work for work, _ in batch])
        except BaseException as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
            if not isinstance(error, Exception):
                raise
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)
