"""What the doors count of connections, their TLS and the time that mails take to come."""

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path

from ingester.telemetry.kinds import Metric
from ingester.telemetry.metrics import CONNECTIONS, STAGE_SECONDS, TLS, Metrics
from tests.api.house import running as running_http
from tests.transport.certificates import write_certificate
from tests.transport.stubs import running


def counted(metrics: Metrics, metric: Metric) -> dict[tuple[str, ...], float]:
    """What is not zero, by the values of the labels."""
    name = f"{metric.name}_count" if metric.buckets else metric.name
    samples = [sample for family in metrics.collect() for sample in family.samples]
    labels = [label.name for label in metric.labels]
    return {tuple(one.labels[key] for key in labels): one.value for one in samples if one.name == name and one.value}


async def test_connections_are_counted_when_they_come_and_their_tls_when_they_go(tmp_path: Path) -> None:
    cert, key = write_certificate(tmp_path, "mx.demo.test")
    async with running(smtp__tls_cert=cert, smtp__tls_key=key) as house:
        metrics = house.door.desk.telemetry.metrics
        for version in (None, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3):
            peer = await house.connect()
            await peer.reply()
            await peer.ask("EHLO x.test")
            if version is not None:
                await peer.ask("STARTTLS")
                await peer.start_tls(version)
                await peer.ask("EHLO x.test")
            assert house.door.open_connections == 1
            await peer.ask("QUIT")
            await house.until(lambda: not house.door.open_connections)
        assert counted(metrics, CONNECTIONS) == {("smtp", "taken"): 4}
        told = {("smtp", "none"): 1, ("smtp", "TLSv1.2"): 1, ("smtp", "TLSv1.3"): 2}
        await house.until(lambda: counted(metrics, TLS) == told)


async def test_who_is_turned_away_is_counted() -> None:
    async with running(smtp__max_connections=1) as house:
        await (await house.connect()).reply()
        assert (await (await house.connect()).reply()).startswith("421")
        told = counted(house.door.desk.telemetry.metrics, CONNECTIONS)
    assert told == {("smtp", "taken"): 1, ("smtp", "turned_away"): 1}


async def test_the_time_of_reading_is_counted_once_a_mail() -> None:
    async with running() as house:
        peer = await house.connect()
        await peer.reply()
        await peer.ask("EHLO x.test")
        for _ in range(2):
            await peer.announce("support@demo.test")
            assert (await peer.ask("Subject: x\r\n\r\nx\r\n.")).startswith("250")
        assert counted(house.door.desk.telemetry.metrics, STAGE_SECONDS) == {("read",): 2}


async def test_connections_of_http_are_counted(database_url: str) -> None:
    async with running_http(database_url, http__max_connections=1) as house:
        first, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await first.readline() == b"HTTP/1.1 404 Not Found\r\n"
        second, other = await asyncio.open_connection("127.0.0.1", house.port)
        with suppress(ConnectionError):
            assert await second.read() == b""
        told = counted(house.door._metrics, CONNECTIONS)
        other.close()
        writer.close()
    assert told == {("http", "taken"): 1, ("http", "turned_away"): 1}
