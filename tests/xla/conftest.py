from __future__ import annotations

import pytest

from splitop._src import library
from splitop._src.backend import ENVIRONMENT_VARIABLE

NOT_WANTED = ("SPLITOP_XLA was OFF", "SPLITOP_TENSORFLOW was OFF")


@pytest.fixture(autouse=True)
def _no_backend_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)


@pytest.fixture(scope="package", autouse=True)
def _xla_kernels() -> None:
    """They are missing only where nobody wants them: TensorFlow's wheel has what they need."""
    config = library.build_config()
    if config is not None and config.xla_not_built in NOT_WANTED:
        pytest.skip(f"There are no XLA kernels: {config.xla_not_built}")
    assert library.xla_reason() is None
