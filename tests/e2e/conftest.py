"""Databases with the usual town in them."""

import pytest

from tests.daemon import Town, town
from tests.postgres import Cluster


@pytest.fixture
def acme(database_url: str) -> Town:
    """A migrated database with acme.test and globex.test."""
    return town(database_url)


@pytest.fixture
def own_town(own_postgres: Cluster) -> Town:
    """The same on a server that the test may stop, freeze and start."""
    return town(own_postgres.url)
