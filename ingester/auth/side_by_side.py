"""Coroutines side by side, as asyncio.gather runs them, but a task is made only for what really has to wait.

With a warm cache no check of a mail waits for DNS: four tasks a mail, each with its turn of the loop, would be most of
what the checks cost. Python 3.12's eager tasks do the same; this is for 3.11.
"""

import asyncio
from collections.abc import Coroutine, Generator
from contextvars import copy_context
from types import coroutine
from typing import Any, TypeVar, overload

T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")

Work = Coroutine[Any, Any, T]


@overload
async def side_by_side(one: Work[T1], two: Work[T2], /) -> tuple[T1, T2]: ...
@overload
async def side_by_side(one: Work[T1], two: Work[T2], three: Work[T3], four: Work[T4], /) -> tuple[T1, T2, T3, T4]: ...
@overload
async def side_by_side(*works: Work[T]) -> tuple[T, ...]: ...
async def side_by_side(*works: Work[Any]) -> tuple[Any, ...]:
    """The results, in order. The first exception is raised; what still waits then goes on by itself, as with gather.

    Each runs at once up to its first wait, in a context of its own, but in the task of its caller: until then it must
    not look at the current task, which asyncio.timeout does.
    """
    begun = [_Begun(work) for work in works]
    for one in begun:
        if one.error is not None:
            raise one.error
    waiting = [one.rest for one in begun if one.rest is not None]
    if waiting:
        await asyncio.gather(*waiting)
    return tuple([one.value if one.rest is None else one.rest.result() for one in begun])


class _Begun:
    """A coroutine that has run up to its first wait: it has ended, or its rest is a task."""

    __slots__ = ("error", "rest", "value")

    def __init__(self, work: Work[Any]) -> None:
        self.value: Any = None
        self.error: Exception | None = None
        self.rest: asyncio.Task[Any] | None = None
        context = copy_context()
        try:
            awaited = context.run(work.send, None)
        except StopIteration as end:
            self.value = end.value
        except Exception as error:  # noqa: BLE001  (the others are begun all the same)
            self.error = error
        else:
            self.rest = asyncio.get_running_loop().create_task(_rest(work, awaited), context=context)
            # A task that is cancelled before its first turn never enters its coroutine: this one must be left in order.
            self.rest.add_done_callback(lambda _: work.close())


@coroutine
def _rest(work: Work[T], awaited: Any) -> Generator[Any, Any, T]:
    """What is left of a coroutine that waits already: its wait is handed to the task as if it had begun there."""
    while True:
        thrown: BaseException | None = None
        try:
            sent = yield awaited
        except BaseException as error:  # noqa: BLE001  (whatever is thrown in, a cancellation above all, is for it)
            thrown = error
        try:
            awaited = work.send(sent) if thrown is None else work.throw(thrown)
        except StopIteration as end:
            value: T = end.value
            return value
