from __future__ import annotations

import pytest

from splitop._src import library
from splitop._src.backend import ENVIRONMENT_VARIABLE


@pytest.fixture(autouse=True)
def _no_backend_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)


@pytest.fixture(scope="package", autouse=True)
def _xla_kernels() -> None:
    """Tests build all there is: where XLA's headers are missing there is nothing to test."""
    config = library.build_config()
    if config is None or config.xla_not_built is not None:
        pytest.skip("splitop was built without XLA kernels")
    assert library.xla_reason() is None
