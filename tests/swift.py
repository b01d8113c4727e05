"""A real S3 server that checks signatures: OpenStack Swift with its s3api, one process on free loopback ports.

Started by the first test that asks for it, in a second, and once a session; stopped, frozen and started again by tests
that play a store that is away. A bucket is one's own.
"""

import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import S3Store

from ingester.settings import S3
from tests.daemon import ROOT
from tests.ports import free_port

USER, SECRET = "test:ingester", "a-secret-of-the-tests"
"""As `tests.swift_server` has them."""
REGION = "us-east-1"
END_SECONDS = 30.0


@dataclass(slots=True, kw_only=True)
class Swift:
    """A server. `endpoint`, `USER` and `SECRET` are what a client needs."""

    directory: Path
    ports: tuple[int, int, int, int]
    process: subprocess.Popen[bytes] | None = None
    buckets: int = field(default=0)
    clients: dict[str, S3Store] = field(default_factory=dict)
    """By bucket: a client keeps its connections, and a new one for each object takes twice the time."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    @property
    def s3(self) -> S3:
        """The settings of group S3 that lead here."""
        return S3.model_validate(self._said())

    @property
    def settings(self) -> dict[str, str]:
        """The same as environment variables of the daemon."""
        return {f"INGESTER_S3__{name.upper()}": value for name, value in self._said().items()}

    def _said(self) -> dict[str, str]:
        return {
            "endpoint": self.endpoint,
            "region": REGION,
            "access_key_id": USER,
            "secret_access_key": SECRET,
        }

    def make_bucket(self, name: str | None = None) -> str:
        """A new bucket; without a name it gets a fresh one."""
        self.buckets += 1
        name = name or f"bucket-{self.buckets}"
        url = obstore.sign(self.store(name), "PUT", "", timedelta(seconds=60))
        with urllib.request.urlopen(urllib.request.Request(url, method="PUT"), timeout=END_SECONDS) as answer:
            assert answer.status == 200
        return name

    def store(self, bucket: str) -> S3Store:
        """A client of our own, beside the code under test."""
        if bucket not in self.clients:
            options: Any = {**self._said(), "client_options": {"allow_http": True}}
            self.clients[bucket] = S3Store(bucket, **options)
        return self.clients[bucket]

    def keys(self, bucket: str) -> list[str]:
        """All keys of a bucket."""
        return [one["path"] for page in obstore.list(self.store(bucket)) for one in page]

    def read(self, bucket: str, key: str) -> bytes:
        """One object."""
        return obstore.get(self.store(bucket), key).bytes().to_bytes()

    def write(self, bucket: str, key: str, data: bytes) -> None:
        """Put one object there."""
        obstore.put(self.store(bucket), key, data)

    def start(self) -> None:
        """Start; what was stored is there again."""
        words = [sys.executable, "-W", "ignore", "-m", "tests.swift_server", self.directory, *self.ports]
        log = (self.directory / "log").open("wb")
        with log:
            self.process = subprocess.Popen([str(word) for word in words], cwd=ROOT, stdout=subprocess.PIPE, stderr=log)
        assert self.process.stdout is not None
        if self.process.stdout.readline() != b"ready\n":
            self.stop()
            pytest.fail(f"Swift does not start: {(self.directory / 'log').read_text(errors='replace')[-2000:]}")

    def stop(self) -> None:
        """Stop at once: from now on connections are refused."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait(END_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It takes connections and says nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@contextmanager
def running() -> Iterator[Swift]:
    """A server in a directory of its own, which is removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="ingester-swift-"))
    server = Swift(directory=directory, ports=(free_port(), free_port(), free_port(), free_port()))
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def session_swift() -> Iterator[Swift]:
    """The session's server."""
    with running() as server:
        yield server


@pytest.fixture
def swift(session_swift: Swift) -> Iterator[Swift]:
    """The session's server, which runs again afterwards whatever the test has done to it."""
    yield session_swift
    if session_swift.process is None:
        session_swift.start()
