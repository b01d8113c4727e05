"""A real Prometheus, installed or fetched, that scrapes a daemon of the test every second and is asked over its API."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.clients import unpack
from tests.ports import free_port

START_SECONDS = 30.0
"""A safety net: it takes a second."""
_CONFIGURATION = """
global: { scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }
scrape_configs:
  - job_name: ingester
    static_configs: [ { targets: ["TARGET"] } ]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prometheus:
    """One that runs."""

    url: str

    def ask(self, expression: str) -> dict[tuple[str, ...], float]:
        """The value of an expression now, by the values of its labels in the order of their names."""
        result = self._get("query", query=expression)["result"]
        return {tuple(value for _, value in sorted(one["metric"].items())): float(one["value"][1]) for one in result}

    def number(self, expression: str) -> float:
        """The value of an expression that has one series; 0 without any."""
        return sum(self.ask(expression).values())

    def wait_for(self, expression: str, seconds: float = START_SECONDS) -> None:
        """Wait until an expression has a value."""
        end = time.monotonic() + seconds
        while not self.ask(expression):
            assert time.monotonic() < end, expression
            time.sleep(0.05)  # nothing tells us when it has scraped

    def wait_scrape(self, seconds: float = START_SECONDS) -> None:
        """Wait for a scrape that begins after this moment and goes well."""
        now, end = time.time(), time.monotonic() + seconds
        while self.number("timestamp(up)") <= now or not self.number("up"):  # of an expression it would be now
            assert time.monotonic() < end, self._get("targets")
            time.sleep(0.05)  # nothing tells us when it has scraped

    def _get(self, path: str, **parameters: str) -> Any:
        answer = requests.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=START_SECONDS).json()
        assert answer["status"] == "success", answer
        return answer["data"]


@contextmanager
def scraping(port: int) -> Iterator[Prometheus]:
    """A Prometheus that scrapes this port of 127.0.0.1. Skips the test where it cannot be had."""
    program = shutil.which("prometheus") or str(unpack(("prometheus",)) / "usr/bin/prometheus")
    directory = Path(tempfile.mkdtemp(prefix="ingester-prometheus-"))
    listen = f"127.0.0.1:{free_port()}"
    (directory / "prometheus.yml").write_text(_CONFIGURATION.replace("TARGET", f"127.0.0.1:{port}"))
    command = [program, f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={listen}"], cwd=directory, stdout=log, stderr=log)
    try:
        _await_answer(process, f"http://{listen}/-/ready", directory / "log")
        yield Prometheus(url=f"http://{listen}")
    finally:
        process.terminate()
        process.wait(timeout=START_SECONDS)
        shutil.rmtree(directory)


def _await_answer(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    """Ask until it is ready."""
    end = time.monotonic() + START_SECONDS
    while True:
        if process.poll() is not None or time.monotonic() > end:
            pytest.fail(f"Prometheus does not start: {log.read_text(errors='replace')[-2000:]}")
        try:
            if requests.get(url, timeout=START_SECONDS).ok:
                return
        except requests.ConnectionError:
            pass
        time.sleep(0.05)  # nothing tells us when it is ready
