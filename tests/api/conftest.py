"""The door runs on uvloop; so do its tests."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from tests.api.house import House, running


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    async with running(database_url) as one:
        yield one
