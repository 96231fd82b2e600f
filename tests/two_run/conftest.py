from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from splitop._src.backend import ENVIRONMENT_VARIABLE
from tests.two_run.models import Trainer


@pytest.fixture(autouse=True)
def _no_backend_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)


@pytest.fixture
def trainer() -> Iterator[Callable[..., Trainer]]:
    """Makes trainers, and closes their sessions."""
    made: list[Trainer] = []

    def make(*args: Any, **options: Any) -> Trainer:
        made.append(Trainer(*args, **options))
        return made[-1]

    yield make
    for each in made:
        each.session.close()
