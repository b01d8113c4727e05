"""Tests of ingester.auth."""
