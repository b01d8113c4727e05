"""Chores: done again and again, counted when they fail, cut at the end."""

import asyncio
import time

from ingester.chores import Chores
from ingester.telemetry.metrics import Metrics


def lines(metrics: Metrics) -> list[str]:
    return [line for line in metrics.exposition().decode().splitlines() if "_chore_" in line and line[0] != "#"]


async def test_a_chore_that_fails_is_counted_and_done_again() -> None:
    metrics, enough = Metrics(), asyncio.Event()
    done = 0

    async def chore() -> None:
        nonlocal done
        done += 1
        if done <= 2:
            raise ValueError("a bad day")
        enough.set()

    chores = Chores(metrics)
    before = time.time()
    chores.every(0, "cleaning", chore)
    assert lines(metrics) == ['ingester_chore_failures_total{chore="cleaning"} 0.0']
    await asyncio.wait_for(enough.wait(), 30)
    await asyncio.sleep(0)
    await chores.stop()
    failures, success = lines(metrics)
    assert failures == 'ingester_chore_failures_total{chore="cleaning"} 2.0'
    assert before <= float(success.split()[-1]) <= time.time()
    assert chores.names == {"cleaning"}


async def test_what_never_ends_is_cut_at_the_end() -> None:
    begun = asyncio.Event()

    async def for_ever() -> None:
        begun.set()
        await asyncio.Event().wait()

    chores = Chores(Metrics())
    chores.always("waiting", for_ever)
    await asyncio.wait_for(begun.wait(), 30)
    await chores.stop()
    assert all(task.cancelled() for task in chores._tasks)
