"""Waiting work is taken together: under load several mails share a commit, and an idle daemon never waits for more.

There is no sleeping worker and so no window between a put and its sleep: `submit` starts a runner whenever none runs,
and the last runner ends only in the same step in which it saw the queue empty. A further runner begins only with
`enough` to do, for what a batch costs by itself is shared by fewer mails the more batches there are; or where the
others take so long that they may be stuck.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

PATIENCE_SECONDS: Final = 0.1
"""How long little work waits for a batch that is on its way, before it goes beside it. A commit takes 10 to 40 ms."""
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
        enough: int = 1,
    ) -> None:
        """`most` pieces or `heaviest` in weight make a batch; a single piece may be heavier. While a batch is on its
        way, the next one begins where `enough` pieces wait.
        """
        self._handle = handle
        self._weigh = weigh
        self._runners = runners
        self._most = most
        self._heaviest = heaviest
        self._enough = enough
        self._waiting: deque[tuple[Work, asyncio.Future[Result]]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._later: asyncio.TimerHandle | None = None

    def submit(self, work: Work) -> asyncio.Future[Result]:
        """Queue one piece; the future gives its result or the exception that `handle` raised for the batch."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, future))
        if not self._running or len(self._waiting) >= self._enough:
            self._begin()
        else:
            self._begin_later()
        return future

    def _begin(self) -> None:
        if len(self._running) < self._runners:
            self._running.add(asyncio.create_task(self._run(), name="batch"))

    def _begin_later(self) -> None:
        if self._later is None:
            self._later = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self._lose_patience)

    def _lose_patience(self) -> None:
        self._later = None
        if self._waiting:
            self._begin()

    async def _run(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            while self._waiting:
                await self._one(self._take())
                if len(self._running) > 1 and len(self._waiting) < self._enough:
                    self._begin_later()  # another one is on its way, and takes what waits
                    break
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
