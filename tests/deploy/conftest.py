"""The usual town, as in the end-to-end tests."""

from tests.e2e.conftest import acme

__all__ = ["acme"]
