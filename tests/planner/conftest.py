from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import tensorflow as tf

from splitop._src.backend import ENVIRONMENT_VARIABLE


@pytest.fixture(autouse=True)
def _no_backend_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)


@pytest.fixture
def graph() -> Iterator[Any]:
    """A TF1 graph to build in."""
    with tf.Graph().as_default() as graph:
        yield graph
