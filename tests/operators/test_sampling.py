"""The gauges: what they say is so, after the next look."""

import asyncio
import platform
import time
from datetime import UTC, datetime
from pathlib import Path
from threading import Semaphore
from typing import Any

import aiohttp
import asyncpg
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from prometheus_client.parser import text_string_to_metric_families

from ingester import __version__
from ingester.app import App
from ingester.auth.server_certificate import read_shown
from ingester.clock import new_id
from ingester.core.ids import SYSTEM_TENANT
from ingester.operators import readiness
from ingester.operators.routes import MetricsDoor
from ingester.settings import Listen, load
from ingester.store.backlog import backlog
from ingester.telemetry.metrics import Metrics
from ingester.transport.sockets import bind
from tests.e2e.certificates import write_pair
from tests.inbound import mail, receiving


def gauges(app: App) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels."""
    families = text_string_to_metric_families(app.telemetry.metrics.exposition().decode())
    samples = [one for family in families for one in family.samples]
    return {(one.name, *(value for _, value in sorted(one.labels.items()))): one.value for one in samples}


async def bury(url: str, *ages: int) -> None:
    """Dead letters of these ages in seconds, and one that is settled."""
    connection = await asyncpg.connect(url)
    for number, age in enumerate((*ages, 10**6)):
        await connection.execute(
            """
            INSERT INTO dead_letters (tenant_id, id, kind, state, reason, detail, envelope, client_prefix, raw_id,
                                      created_at)
            VALUES ($1, $2, 'mail', $3, 'scan_failed', '', '{}', '', $2, now() - make_interval(secs => $4))
            """,
            SYSTEM_TENANT,
            new_id(),
            "dead" if number < len(ages) else "discarded",
            age,
        )
    await connection.close()


async def test_what_is_open_and_used_is_told(database_url: str) -> None:
    async with receiving(database_url, workers=3) as house:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.smtp)
        await reader.readline()
        async with house.session.get(f"http://127.0.0.1:{house.port}/healthz") as answer:
            assert answer.status == 200
        ticket = house.app._flight.open(lambda: None)
        ticket.grow(12345)
        async with house.app.database.connection():
            await house.app._sampling.sample()
            told = gauges(house.app)
        ticket.close()
        writer.close()
    assert told["ingester_connections", "smtp"] == 1
    assert told["ingester_connections", "http"] == 1
    assert told["ingester_bytes_in_flight",] == 12345
    assert told["ingester_bytes_in_flight_limit",] == house.app.settings.max_bytes_in_flight
    assert told["ingester_database_connections", "used"] == 1
    assert told["ingester_database_connections_limit",] == house.app.settings.store.connections
    assert 10e6 < told["ingester_resident_memory_bytes",] < 4e9
    assert told["ingester_open_descriptors",] > 3
    assert told["ingester_build_info", platform.python_version(), __version__] == 1
    assert told["ingester_workers",] == 1
    assert "ingester_certificate_expiry_timestamp_seconds" not in {name for name, *_ in told}


async def test_routes_and_answers_that_are_kept_are_counted(database_url: str) -> None:
    async with receiving(database_url) as house:
        while not len(house.app.directory):  # nothing is kept before the notifications are followed
            assert (await house.post(mail(str(new_id())))).status == 202
        await house.app.resolver.lookup().txt("b.test")
        await house.app._sampling.sample()
        told = gauges(house.app)
    assert told["ingester_directory_entries",] == 1
    assert told["ingester_dns_cache_entries",] >= 1
    assert told["ingester_dns_cache_total", "miss"] >= 1
    assert sum(value for (name, *_), value in told.items() if name == "ingester_dns_questions_total") >= 1


async def test_the_end_of_the_certificate_is_told(database_url: str, tmp_path: Path) -> None:
    pair = write_pair(tmp_path)
    given: dict[str, Any] = {name.removeprefix("INGESTER_").lower(): value for name, value in pair.settings.items()}
    async with receiving(database_url, **given) as house:
        await house.app._sampling.sample()
        told = gauges(house.app)["ingester_certificate_expiry_timestamp_seconds",]
    shown = read_shown(Path(pair.settings["INGESTER_SMTP__TLS_CERT"]).read_bytes())
    assert shown is not None
    assert told == shown.ends.timestamp() > datetime.now(UTC).timestamp()


async def test_readiness_is_told(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "PATIENCE_SECONDS", 30.0)
    async with receiving(database_url) as house:
        assert await house.app.readiness.faults() == ()
        await house.app._sampling.sample()
        assert gauges(house.app)["ingester_ready",] == 1
        house.app.readiness.draining = True
        await house.app._sampling.sample()
        assert gauges(house.app)["ingester_ready",] == 0


async def test_dead_letters_that_wait_are_told(database_url: str) -> None:
    async with receiving(database_url) as house:
        await house.app._sampling.count_dead_letters()
        assert gauges(house.app)["ingester_dead_letters",] == 0
        assert gauges(house.app)["ingester_dead_letters_oldest_seconds",] == 0
        await bury(database_url, 100, 5000, 20)
        await house.app._sampling.count_dead_letters()
        told = gauges(house.app)
    assert told["ingester_dead_letters",] == 3
    assert 5000 <= told["ingester_dead_letters_oldest_seconds",] < 5060


async def test_the_backlog_is_counted_by_an_index_of_those_that_wait(database_url: str) -> None:
    """However many letters there were: the table itself is not walked."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        """
        INSERT INTO dead_letters (tenant_id, id, kind, state, reason, detail, envelope, client_prefix, raw_id,
                                  created_at)
        SELECT gen_random_uuid(), gen_random_uuid(), 'mail', 'redriven', 'scan_failed', '', '{}', '',
               gen_random_uuid(), now()
        FROM generate_series(1, 20000)
        """
    )
    await connection.execute("VACUUM ANALYZE dead_letters")
    begun = time.perf_counter()
    assert (await backlog(connection)).letters == 0
    plan = await connection.fetch("EXPLAIN SELECT count(*), min(created_at) FROM dead_letters WHERE state = 'dead'")
    await connection.close()
    assert "dead_letters_waiting" in "\n".join(row[0] for row in plan)
    assert time.perf_counter() - begun < 5


async def test_a_scrape_tells_prometheus_what_it_is(database_url: str) -> None:
    app = App(load({}, env="development", database_url=database_url, dns__nameservers="127.0.0.1:1"))
    smtp, operators = (bind((Listen(host="127.0.0.1", port=0),), reuse_port=False) for _ in range(2))
    port = operators[0].getsockname()[1]
    await app.start(smtp, metrics=operators)
    async with aiohttp.ClientSession() as session:
        scrapes = [session.get(f"http://127.0.0.1:{port}/metrics") for _ in range(5)]
        for answer in await asyncio.gather(*scrapes):
            assert answer.status == 200
            assert answer.headers["Content-Type"].startswith("text/plain; version=")
            assert "# TYPE ingester_mails_total counter" in await answer.text()
            answer.close()
    await app.drain()


class _Slow(Metrics):
    """Tells how often it was collected, each time when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.over = Semaphore(0), Semaphore(0)
        self.times = 0

    def exposition(self) -> bytes:
        self.times += 1
        told = b"%d" % self.times
        self.begun.release()
        self.over.acquire()
        return told


async def test_nobody_gets_what_was_collected_before_he_asked() -> None:
    """Who asks meanwhile may have read more elsewhere: he waits for the next one, and shares it."""
    metrics = _Slow()
    (route,) = MetricsDoor(metrics).routes()

    async def ask() -> bytes:
        answer = await route.handler(make_mocked_request("GET", "/metrics"))
        assert isinstance(answer, web.Response)
        assert isinstance(answer.body, bytes)
        return answer.body

    first = asyncio.create_task(ask())
    await asyncio.to_thread(metrics.begun.acquire)
    later = [asyncio.create_task(ask()) for _ in range(3)]
    await asyncio.sleep(0)
    metrics.over.release()
    assert await first == b"1"
    metrics.over.release()
    assert await asyncio.gather(*later) == [b"2"] * 3
