from __future__ import annotations

import keras
import pytest
import tensorflow as tf

from splitop._src.backend import ENVIRONMENT_VARIABLE


@pytest.fixture(autouse=True)
def _no_backend_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)


@pytest.fixture(autouse=True)
def _same_weights() -> None:
    keras.utils.set_random_seed(7)
    tf.random.set_seed(None)  # As in most programs: random operations have no seed.
