"""Mode `scale`: its figures, who waits for what, and a short run with two daemons on one Postgres."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest
from click.testing import CliRunner

from tests.bench import raws, scale
from tests.bench.__main__ import main
from tests.bench.scale import Measured
from tests.postgres import Cluster

ONE = Measured(
    rate=400.0,
    daemon_ms=2.0,
    postgres_ms=1.0,
    wal_bytes=170_000.0,
    row_bytes=8000.0,
    mails_a_commit=10.0,
    on_cpu=0.8,
    on_disk=0.2,
    on_growth=0.0,
    on_locks=0.0,
)


def test_what_daemons_cost_one_another_is_a_ratio_to_the_first() -> None:
    found = {1: ONE, 4: replace(ONE, daemon_ms=2.4, postgres_ms=1.2)}
    ratios = {one.group: one.value for one in scale.figures(found) if one.name == "CPU to the first"}
    assert ratios == {"1 daemon": 1.0, "4 daemons": pytest.approx(1.2)}


def test_waiting_for_each_other_has_a_bound() -> None:
    problems = [one.problem for one in scale.figures({2: replace(ONE, on_locks=0.2)}) if one.problem]
    assert problems == ["2 daemons waits for each other: 0.200 of samples, more than 0.100"]


def test_a_process_that_waits_for_anothers_row_is_seen(postgres: Cluster) -> None:
    with postgres.clone() as url:
        asyncio.run(_wait_for_a_row(url))


async def _wait_for_a_row(url: str) -> None:
    holder, waiter = await asyncpg.connect(url), await asyncpg.connect(url)
    change = "UPDATE tenants SET name = name"
    try:
        async with holder.transaction():
            await holder.execute(change)
            with scale.watch(url) as waits:
                waiting = asyncio.create_task(waiter.execute(change))
                async with asyncio.timeout(20):
                    while not waits["Lock"]:  # noqa: ASYNC110  (the sampler is a thread)
                        await asyncio.sleep(0.02)
        await waiting
    finally:
        await holder.close()
        await waiter.close()


@pytest.mark.thorough
@pytest.mark.parametrize("kind", raws.KINDS)
def test_two_daemons_lose_nothing_and_meet_in_one_database(tmp_path: Path, kind: str) -> None:
    kept = tmp_path / "scale.json"
    words = ["scale", "--mails", "60", "--warm-up", "10", "--daemons", "1,2", "--connections", "6", "--runs", "1"]
    result = CliRunner().invoke(main, [*words, "--blobs", kind, "--json", str(kept), "--cache", str(tmp_path)])
    sheet = json.loads(kept.read_bytes())
    assert sheet["lost"] == [], result.output
    rates = [one["value"] for one in sheet["figures"] if one["name"] == "rate"]
    assert len(rates) == 2
    assert all(rate > 0 for rate in rates)
