"""The listener is tested with the routes of the API behind it."""

from tests.api.conftest import house, pytest_asyncio_loop_factories

__all__ = ["house", "pytest_asyncio_loop_factories"]
