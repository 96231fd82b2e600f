from __future__ import annotations

import pytest

from splitop._src.backend import ENVIRONMENT_VARIABLE


@pytest.fixture(autouse=True)
def _no_backend_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
