"""Where the raw bytes of a test lie: each test of the main job runs with them in Postgres, and again in a real S3.

A module asks for it by `pytestmark = pytest.mark.usefixtures("blobs")`. The runs in S3 are of the long tier, those of
tests with the mark `s3` of every day.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.daemon import OF_THIS_TEST
from tests.swift import Swift

PREFIX = "mails"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket of the test's own."""

    server: Swift
    name: str

    @property
    def url(self) -> str:
        return f"s3://{self.name}/{PREFIX}"

    @property
    def settings(self) -> dict[str, str]:
        """As environment variables."""
        return {"INGESTER_BLOBS": self.url, **self.server.settings}

    def urls(self) -> set[str]:
        """What lies in it."""
        return {f"s3://{self.name}/{key}" for key in self.server.keys(self.name)}

    def read(self, url: str) -> bytes:
        """One object, by its URL."""
        parts = urlsplit(url)
        assert parts.netloc == self.name
        return self.server.read(self.name, parts.path.lstrip("/"))


_used: list[Bucket] = []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test of a module that asks for `blobs` runs twice; with `s3(only=True)` in S3 alone."""
    if "blobs" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("s3")
        s3 = pytest.param("s3", marks=() if mark else (pytest.mark.long,))
        places = [s3] if mark and mark.kwargs.get("only") else ["postgres", s3]
        metafunc.parametrize("blobs", places, indirect=True)


@pytest.fixture
def blobs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket | None]:
    """The bucket of this test, which every daemon, command and `load` of it is told of; None with Postgres."""
    if request.param == "postgres":
        yield None
        return
    one: Bucket = request.getfixturevalue("bucket")
    for name, value in one.settings.items():
        monkeypatch.setitem(OF_THIS_TEST, name, value)
    _used.append(one)
    yield one
    _used.pop()


@pytest.fixture
def bucket(swift: Swift) -> Bucket:
    """A bucket of the test's own, which nobody is told of."""
    return Bucket(server=swift, name=swift.make_bucket())


def stored_bytes(row: Mapping[str, Any]) -> bytes:
    """The bytes of a row of `raws` with `data` and `blob_key`, wherever they lie."""
    return bytes(row["data"]) if row["blob_key"] is None else _used[-1].read(row["blob_key"])


def current() -> Bucket | None:
    """The bucket of the test that runs, if it has one."""
    return _used[-1] if _used else None
