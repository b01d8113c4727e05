"""Databases with the usual town in them."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.daemon import Town, town
from tests.postgres import TEMPLATE, Cluster, _migrate, running


@pytest.fixture
def acme(database_url: str) -> Town:
    """A migrated database with acme.test and globex.test."""
    return town(database_url)


@pytest.fixture(scope="module")
def own_server() -> Iterator[Cluster]:
    """A server with fsync on that the tests of a module may stop, freeze and start, if they start it again."""
    with running({}) as cluster:
        cluster.execute(f"create database {TEMPLATE}")
        asyncio.run(_migrate(cluster.url_of(TEMPLATE)))
        yield cluster


@pytest.fixture
def own_town(own_server: Cluster) -> Iterator[Town]:
    """The usual town on that server, which runs again afterwards whatever the test has met with."""
    with own_server.clone() as url:
        yield town(url)
        if own_server.server._process is None:
            own_server.server.start()
