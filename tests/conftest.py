"""What every test can ask for, and the rule on skips: in CI a skip that nobody has allowed is a failure."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests import dns_guard
from tests.blobs import blobs, bucket, lasting_blobs, pytest_generate_tests
from tests.dns_guard import no_real_dns
from tests.ports import free_port
from tests.postgres import database_url, empty_database_url, own_postgres, postgres
from tests.quiet_dns import quiet_dns
from tests.roles import walled
from tests.skips import pytest_addoption, pytest_configure
from tests.swift import session_swift, swift

__all__ = [
    "blobs",
    "bucket",
    "database_url",
    "empty_database_url",
    "lasting_blobs",
    "no_real_dns",
    "own_postgres",
    "postgres",
    "pytest_addoption",
    "pytest_configure",
    "pytest_generate_tests",
    "quiet_dns",
    "session_swift",
    "swift",
    "walled",
]

ROOT = Path(__file__).parent.parent
LONGEST = ("test_pages.py", "test_openapi.py", "test_image.py")
dns_guard.install()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that mostly wait begin first: then others run beside them, and no run ends with waiting for one."""
    items.sort(key=lambda item: (item.path.name not in LONGEST, "e2e" not in item.path.parts))


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The third-party test data, which is never copied into the project."""
    named = os.environ.get("INGESTER_CORPORA")
    path = Path(named) if named else ROOT.parent / "shared" / "corpora"
    if not path.is_dir():
        pytest.skip(f"the corpora are absent: {path} is no directory, set INGESTER_CORPORA")
    return path


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Commands that a test runs in this process set logging up or silence it; the next test must not be deaf."""
    before = structlog.get_config()
    yield
    if structlog.get_config() != before:
        structlog.configure(**before)


@pytest.fixture
def unused_port() -> int:
    """A port that nothing listens on."""
    return free_port()
