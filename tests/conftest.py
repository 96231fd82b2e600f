"""Of all tests."""

import gc

import pytest


def pytest_collection_finish(session: pytest.Session) -> None:
    """Keeps TensorFlow's modules, and all tests, out of every collection of garbage to come."""
    gc.collect()
    gc.freeze()
