"""Coroutines side by side: as asyncio.gather runs them, without a task for what does not wait."""

import asyncio
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any

import pytest

from ingester.auth.side_by_side import side_by_side

NAME: ContextVar[str] = ContextVar("NAME", default="nobody")


def noted_tasks() -> list[asyncio.Task[Any]]:
    """All tasks that this loop makes from now on, in order."""
    made: list[asyncio.Task[Any]] = []

    def factory(loop: asyncio.AbstractEventLoop, work: Any, context: Any = None) -> asyncio.Task[Any]:
        made.append(asyncio.Task(work, loop=loop, context=context))
        return made[-1]

    asyncio.get_running_loop().set_task_factory(factory)
    return made


async def at_once(value: int) -> int:
    return value


async def after(event: asyncio.Event, value: int) -> int:
    await event.wait()
    return value


async def fails(error: Exception, *waits: asyncio.Event) -> int:
    for event in waits:
        await event.wait()
    raise error


async def test_nothing_that_waits_is_no_task() -> None:
    tasks = noted_tasks()
    assert await side_by_side(at_once(1), at_once(2), at_once(3)) == (1, 2, 3)
    assert await side_by_side() == ()
    assert tasks == []


async def test_what_waits_is_a_task_and_the_results_keep_their_order() -> None:
    tasks = noted_tasks()
    first, second = asyncio.Event(), asyncio.Event()

    async def second_then_first() -> int:
        second.set()
        await asyncio.sleep(0)
        first.set()
        return 0

    assert await side_by_side(after(first, 1), at_once(2), after(second, 3), second_then_first()) == (1, 2, 3, 0)
    assert len(tasks) == 3


async def test_it_waits_again_and_again_for_whatever_can_be_awaited() -> None:
    async def work(name: str) -> str:
        await asyncio.sleep(0)
        await asyncio.wait((asyncio.create_task(asyncio.sleep(0)),), timeout=5)
        await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
        return name + await asyncio.to_thread(str, "!")

    assert await side_by_side(work("a"), work("b")) == ("a!", "b!")


@pytest.mark.parametrize("late", [False, True])
async def test_the_first_exception_is_raised_and_the_others_go_on(late: bool) -> None:
    trouble, go, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def other() -> int:
        await go.wait()
        done.set()
        return 1

    asyncio.get_running_loop().call_soon(trouble.set)
    if late:
        with pytest.raises(ValueError, match="it fails"):
            await side_by_side(other(), fails(ValueError("it fails"), trouble))
        go.set()
    else:
        with pytest.raises(ValueError, match="it fails"):
            await side_by_side(other(), fails(ValueError("it fails")), at_once(1))
        go.set()
    await asyncio.wait_for(done.wait(), 5)


async def test_an_exception_that_is_thrown_in_may_be_handled_inside() -> None:
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    go = asyncio.Event()

    async def handles() -> str:
        try:
            await failed
        except ValueError:
            await go.wait()
            return "handled"
        return "not seen"

    async def throws() -> str:
        failed.set_exception(ValueError())
        await asyncio.sleep(0)
        go.set()
        return "thrown"

    assert await side_by_side(handles(), throws()) == ("handled", "thrown")


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
async def test_a_cancellation_reaches_all_that_wait(turns: int) -> None:
    left: list[str] = []

    async def work(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            left.append(name)

    async def both() -> None:
        await side_by_side(work("a"), work("b"))

    task = asyncio.create_task(both())
    await asyncio.sleep(0)
    for _ in range(turns):  # with none the tasks have not had their first turn
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(left) == ["a", "b"]


async def test_a_cancellation_reaches_what_only_lets_others_go_first() -> None:
    left: list[str] = []

    async def work(name: str) -> None:
        try:
            for _ in range(20):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            left.append(name)
            raise

    async def both() -> None:
        await side_by_side(work("a"), work("b"))

    task = asyncio.create_task(both())
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(left) == ["a", "b"]


async def test_each_has_a_context_of_its_own_and_keeps_it() -> None:
    async def work(name: str, waits: Coroutine[Any, Any, Any]) -> str:
        before = NAME.get()
        NAME.set(name)
        await waits
        return f"{before} {NAME.get()}"

    NAME.set("caller")
    names = await side_by_side(work("a", at_once(1)), work("b", asyncio.sleep(0)), work("c", asyncio.sleep(0)))
    assert names == ("caller a", "caller b", "caller c")
    assert NAME.get() == "caller"
