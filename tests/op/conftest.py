"""Fixtures of the op tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.op import chains

Program = chains.SessionProgram | chains.FunctionProgram


@pytest.fixture(params=["session", "function"])
def program(request: pytest.FixtureRequest) -> Iterator[Callable[..., Program]]:
    """Makes programs that run a chain in a TF1 session or in a tf.function."""
    made: list[Program] = []

    def make(chain: chains.Chain, **options: Any) -> Program:
        made.append(chains.PROGRAMS[request.param](chain, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()
