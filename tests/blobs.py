"""Where the raw bytes of a test lie: each test of the main job runs with them in Postgres, in a real S3, in segments.

A module asks for it by `pytestmark = pytest.mark.usefixtures("blobs")`. The runs in S3 and in segments are of the long
tier, those of tests with the mark `s3` of every day.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from ingester.core.ids import SYSTEM_TENANT
from ingester.store.segments.record import Record
from ingester.store.segments.shelf import Shelf, spot_of, url_of
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

    def tenants(self) -> set[UUID]:
        """Whose mails lie in it."""
        return {UUID(url.split("/")[-2]) for url in self.urls()}

    def read(self, url: str) -> bytes:
        """One object, by its URL."""
        parts = urlsplit(url)
        assert parts.netloc == self.name
        return self.server.read(self.name, parts.path.lstrip("/"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """A directory of segments, the test's own."""

    path: Path

    @property
    def url(self) -> str:
        return f"file://{self.path}"

    @property
    def settings(self) -> dict[str, str]:
        """As environment variables."""
        return {"INGESTER_BLOBS": self.url}

    @property
    def shelf(self) -> Shelf:
        return Shelf(self.path)

    def records(self) -> list[tuple[str, Record]]:
        """What lies in it, erased or not, by URL."""
        return [
            (url_of(self.path, segment, one.offset), one)
            for segment in self.shelf.segments()
            for one in self.shelf.walk(segment)
            if isinstance(one, Record)
        ]

    def urls(self) -> set[str]:
        """What lies in it and is not erased."""
        return {url for url, one in self.records() if one.live}

    def tenants(self) -> set[UUID]:
        """Whose mails lie in it."""
        return {one.tenant_id for _, one in self.records() if one.live}

    def read(self, url: str) -> bytes:
        """One record, by its URL."""
        _, spot = spot_of(url, SYSTEM_TENANT, SYSTEM_TENANT)
        file = self.shelf.path(spot.segment)
        state = file.stat()
        one = _records_by_offset(self.path, spot.segment, state.st_mtime_ns, state.st_size)[spot.offset]
        with file.open("rb") as segment:
            segment.seek(one.start)
            return segment.read(one.end - one.start)

    def holds(self, text: bytes) -> bool:
        """Whether any file has these bytes in it."""
        return any(text in path.read_bytes() for path in self.path.iterdir())


@lru_cache(maxsize=256)
def _records_by_offset(directory: Path, segment: UUID, *_: int) -> dict[int, Record]:
    """What lies in a segment in this state of it: an audit of thousands of mails must not walk it for each."""
    return {one.offset: one for one in Shelf(directory).walk(segment) if isinstance(one, Record)}


Place = Bucket | Directory
OUTSIDE = ("s3", "segments")
NewPlace = Callable[[], Mapping[str, str]]
_used: list[Place] = []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test of a module that asks for `blobs` runs thrice; with `s3(only=True)` or `segments(only=True)` once."""
    if "blobs" in metafunc.fixturenames:
        marks = {name: metafunc.definition.get_closest_marker(name) for name in OUTSIDE}
        only = [name for name, mark in marks.items() if mark and mark.kwargs.get("only")]
        rare = () if any(marks.values()) else (pytest.mark.long,)
        outside = [pytest.param(name, marks=rare) for name in only or marks]
        metafunc.parametrize("blobs", outside if only else ["postgres", *outside], indirect=True)


@pytest.fixture
def blobs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Place | None]:
    """The place of this test, which every daemon, command and `load` of it is told of; None with Postgres."""
    if request.param == "postgres":
        yield None
        return
    one: Place = Directory(path=tmp_path / "segments") if request.param == "segments" else _bucket(request)
    for name, value in one.settings.items():
        monkeypatch.setitem(OF_THIS_TEST, name, value)
    _used.append(one)
    yield one
    _used.pop()


@pytest.fixture(scope="module", params=["postgres", *(pytest.param(name, marks=pytest.mark.long) for name in OUTSIDE)])
def lasting_blobs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> NewPlace:
    """The same for daemons that serve a whole module: settings that lead to a fresh place, for each database one."""

    def make() -> Mapping[str, str]:
        if request.param == "s3":
            server: Swift = request.getfixturevalue("session_swift")
            return Bucket(server=server, name=server.make_bucket()).settings
        if request.param == "segments":
            return Directory(path=tmp_path_factory.mktemp("lasting") / "segments").settings
        return {}

    return make


def _bucket(request: pytest.FixtureRequest) -> Bucket:
    found: Bucket = request.getfixturevalue("bucket")
    return found


@pytest.fixture
def bucket(swift: Swift) -> Bucket:
    """A bucket of the test's own, which nobody is told of."""
    return Bucket(server=swift, name=swift.make_bucket())


def stored_bytes(row: Mapping[str, Any]) -> bytes:
    """The bytes of a row of `raws` with `data` and `blob_key`, wherever they lie."""
    return bytes(row["data"]) if row["blob_key"] is None else _used[-1].read(row["blob_key"])


def current() -> Place | None:
    """The place of the test that runs, if it has one outside Postgres."""
    return _used[-1] if _used else None
